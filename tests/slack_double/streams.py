"""chat.startStream and its kin, and the loading state of assistant threads and agent sessions.

A stream ends five minutes after its start whatever happens in it; after that, appending and
stopping are refused and only chat.update can still change the message.
"""

from __future__ import annotations

from typing import Any

from .chat import metadata_of, own_message, with_ids
from .limits import LOADING_MESSAGES, MARKDOWN_TEXT, PROMPTS, check_blocks, check_chunks, refuse
from .methods import Arguments, method
from .workspace import Channel, Json, SlackError, Status, Stream, Workspace

STREAM_SECONDS = 300.0
STATUS_SECONDS = 120.0
DISPLAY_MODES = {"", "timeline", "plan", "dense"}
SESSION_STATES = {"active", "processing", "suspended", "closed"}


@method("chat.startStream", "chat:write")
def start(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel"))
    thread_ts = args.required("thread_ts")
    workspace.thread_root(channel, thread_ts)
    _check_recipient(workspace, channel, args)
    if args.text("task_display_mode") not in DISPLAY_MODES:
        raise SlackError("invalid_arguments")
    stream = Stream(channel.id, workspace.new_ts(), workspace.clock.now() + STREAM_SECONDS)
    _add(stream, args)
    shown = _rendered(stream) | workspace.by_bot() | {"ts": stream.ts}
    workspace.streams[channel.id, stream.ts] = stream
    workspace.statuses.pop((channel.id, thread_ts), None)
    workspace.post(channel, shown, thread_ts)
    return {"channel": channel.id, "ts": stream.ts}


@method("chat.appendStream", "chat:write")
def append(workspace: Workspace, args: Arguments) -> Json:
    channel, stream = _open_stream(workspace, args)
    if not (args.has("markdown_text") or args.has("chunks")):
        raise SlackError("no_text")
    _add(stream, args)
    channel.messages[stream.ts].update(_rendered(stream))
    return {"channel": channel.id, "ts": stream.ts}


@method("chat.stopStream", "chat:write")
def stop(workspace: Workspace, args: Arguments) -> Json:
    channel, stream = _open_stream(workspace, args)
    blocks = args.structure("blocks") or []
    if blocks:
        check_blocks(blocks)
    status = args.text("session_status", "active")
    if status not in SESSION_STATES:
        raise SlackError("invalid_arguments")
    metadata = metadata_of(args)
    _add(stream, args)
    stream.ended = "stopped"
    stream.blocks += with_ids(blocks)
    message = workspace.replace(channel, stream.ts, _rendered(stream) | metadata)
    _move_session(workspace, channel.id, message["thread_ts"], status)
    return {"channel": channel.id, "ts": stream.ts, "message": message}


def _check_recipient(workspace: Workspace, channel: Channel, args: Arguments) -> None:
    if channel.kind == "im":
        return
    for name in ("recipient_user_id", "recipient_team_id"):
        if not args.has(name):
            raise SlackError(f"missing_{name}")
    if args.text("recipient_team_id") != workspace.team_id:
        raise SlackError("team_not_found")
    workspace.user(args.text("recipient_user_id"))


def _open_stream(workspace: Workspace, args: Arguments) -> tuple[Channel, Stream]:
    channel = workspace.writable(args.required("channel"))
    ts = args.required("ts")
    own_message(workspace, channel, ts, "message_not_owned_by_app")
    stream = workspace.streams.get((channel.id, ts))
    if stream and stream.ended == "stopped_by_user":
        raise SlackError("stopped_by_user")
    if stream is None or stream.ended or workspace.clock.now() >= stream.until:
        raise SlackError("message_not_in_streaming_state")
    return channel, stream


def _add(stream: Stream, args: Arguments) -> None:
    markdown, chunks = args.text("markdown_text"), args.structure("chunks") or []
    if markdown and chunks:
        raise SlackError("cannot_provide_both_markdown_text_and_chunks")
    mode = "markdown_text" if markdown else "chunks" if chunks else ""
    if mode and stream.mode and mode != stream.mode:
        raise SlackError("streaming_mode_mismatch")
    if len(markdown) > MARKDOWN_TEXT:
        raise SlackError("msg_too_long")
    check_chunks(chunks)
    stream.mode = stream.mode or mode
    stream.text += markdown
    for chunk in chunks:
        _add_chunk(stream, chunk)


def _add_chunk(stream: Stream, chunk: Json) -> None:
    match chunk["type"]:
        case "markdown_text":
            stream.text += chunk["text"]
        case "plan_update":
            stream.plan = chunk["title"]
        case "blocks":
            stream.blocks += with_ids(chunk["blocks"])
        case "task_update":
            task = stream.tasks.setdefault(chunk["id"], {"details": ""})
            details = task["details"] + chunk.get("details", "")  # the one field that grows
            task.update(chunk | {"details": details})


def _rendered(stream: Stream) -> Json:
    text: list[Json] = [{"type": "markdown", "text": stream.text}] if stream.text else []
    tasks = [_task_card(task) for task in stream.tasks.values()]
    if stream.plan:
        tasks = [{"type": "plan", "title": stream.plan, "tasks": tasks}]
    return {"text": stream.text, "blocks": with_ids([*tasks, *text]) + stream.blocks}


def _task_card(task: Json) -> Json:
    kept = {name: task[name] for name in ("title", "status", "sources") if name in task}
    rich = {name: _rich(task[name]) for name in ("details", "output") if task.get(name)}
    return {"type": "task_card", "task_id": task["id"]} | kept | rich


def _rich(text: str) -> Json:
    line = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}
    return {"type": "rich_text", "elements": [line]}


# -- loading states, prompts, sessions


@method("assistant.threads.setStatus", "assistant:write", "chat:write")
def set_status(workspace: Workspace, args: Arguments) -> Json:
    channel, thread_ts = _thread(workspace, args)
    if "status" not in args.given:
        raise SlackError("invalid_arguments")
    lines = args.structure("loading_messages") or []
    refuse("invalid_arguments", list(LOADING_MESSAGES.faults(lines, "/loading_messages")))
    workspace.statuses.pop((channel.id, thread_ts), None)
    if args.has("status"):
        until = workspace.clock.now() + STATUS_SECONDS
        workspace.statuses[channel.id, thread_ts] = Status(args.text("status"), lines, until)
    return {}


@method("assistant.threads.setTitle", "assistant:write")
def set_title(workspace: Workspace, args: Arguments) -> Json:
    channel, thread_ts = _thread(workspace, args)
    _session(workspace, channel.id, thread_ts)["title"] = args.required("title")
    return {}


@method("assistant.threads.setSuggestedPrompts", "assistant:write")
def set_prompts(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel_id"))
    prompts: Any = args.structure("prompts")
    refuse("invalid_arguments", list(PROMPTS.faults(prompts, "/prompts")))
    workspace.prompts[channel.id, args.text("thread_ts")] = prompts
    return {}


@method("agents.sessions.setStatus", "assistant:write")
def set_session_status(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel_id"))
    status = args.required("status")
    if status not in SESSION_STATES:
        raise SlackError("invalid_arguments")
    session = _session(workspace, channel.id, args.text("thread_ts"))
    session["status"] = status
    if args.has("title"):
        session["title"] = args.text("title")
    return {}


@method("agents.sessions.rename", "assistant:write")
def rename_session(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel_id"))
    _session(workspace, channel.id, args.text("thread_ts"))["title"] = args.required("title")
    return {}


def _thread(workspace: Workspace, args: Arguments) -> tuple[Channel, str]:
    channel = workspace.writable(args.required("channel_id"))
    thread_ts = args.required("thread_ts")
    if thread_ts not in channel.messages:
        raise SlackError("invalid_thread_ts")
    return channel, thread_ts


def _session(workspace: Workspace, channel: str, thread_ts: str) -> Json:
    return workspace.sessions.setdefault((channel, thread_ts), {"status": "active", "title": ""})


def _move_session(workspace: Workspace, channel: str, thread_ts: str, status: str) -> None:
    if (channel, thread_ts) in workspace.sessions:
        workspace.sessions[channel, thread_ts]["status"] = status
