"""chat.*: posting, changing and deleting messages."""

from __future__ import annotations

import re
import secrets
from typing import Any

from .limits import MARKDOWN_TEXT, TEXT_KEPT, UPDATE_TEXT, check_blocks, check_metadata
from .methods import Arguments, method
from .workspace import TEAM_DOMAIN, Channel, Ephemeral, Json, SlackError, Workspace


def content(args: Arguments) -> Json:
    """A message's text, blocks and the rest from a call's arguments, validated."""
    markdown = args.text("markdown_text")
    blocks = args.structure("blocks") or []
    if markdown and (args.has("text") or blocks):
        raise SlackError("markdown_text_conflict")
    if len(markdown) > MARKDOWN_TEXT:
        raise SlackError("msg_too_long")
    if markdown:
        blocks = [{"type": "markdown", "text": markdown}]
    if blocks:
        check_blocks(blocks)
    attachments = args.structure("attachments") or []
    text = args.text("text") or markdown
    if not (text or blocks or attachments):
        raise SlackError("no_text")
    found: Json = {"text": text[:TEXT_KEPT], "blocks": with_ids(blocks)}
    if attachments:
        found["attachments"] = attachments
    return found | metadata_of(args)


def metadata_of(args: Arguments) -> Json:
    """{"metadata": …} when the call carries message metadata, else {}."""
    metadata = args.structure("metadata")
    if not metadata:
        return {}
    check_metadata(metadata)
    return {"metadata": metadata}


def with_ids(blocks: list[Json]) -> list[Json]:
    """The blocks as Slack keeps them: each has a block_id, and each element an action_id."""
    return [{"block_id": secrets.token_hex(3)} | _named(block) for block in blocks]


def _named(block: Json) -> Json:
    if block.get("type") in {"actions", "context_actions"}:
        return block | {"elements": [_with_action_id(element) for element in block["elements"]]}
    single = "element" if block.get("type") == "input" else "accessory"
    return block | {single: _with_action_id(block[single])} if single in block else block


def _with_action_id(element: Json) -> Json:
    return element if element["type"] == "image" else {"action_id": secrets.token_hex(3)} | element


def own_message(workspace: Workspace, channel: Channel, ts: str, refusal: str) -> Json:
    """The app's own message at `ts`; the refusal when another wrote it."""
    message = workspace.message(channel, ts)
    if message.get("bot_id") != workspace.bot_id:
        raise SlackError(refusal)
    return message


@method("chat.postMessage", "chat:write")
def post_message(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel"))
    look = {name: args.text(name) for name in ("username", "icon_emoji") if args.has(name)}
    fresh = content(args) | workspace.by_bot() | look
    thread_ts = args.text("thread_ts") or None
    if thread_ts:
        workspace.thread_root(channel, thread_ts)
        workspace.statuses.pop((channel.id, thread_ts), None)
    if args.flag("reply_broadcast") and thread_ts:
        fresh["subtype"] = "thread_broadcast"
    message = workspace.post(channel, fresh, thread_ts)
    return {"channel": channel.id, "ts": message["ts"], "message": message}


@method("chat.postEphemeral", "chat:write")
def post_ephemeral(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel"))
    user = args.required("user")
    if user not in channel.members:
        raise SlackError("user_not_in_channel")
    message = content(args) | {"ts": workspace.new_ts(), "thread_ts": args.text("thread_ts")}
    workspace.ephemerals.append(Ephemeral(channel.id, user, message | workspace.by_bot()))
    return {"message_ts": message["ts"]}


@method("chat.update", "chat:write")
def update(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel"))
    ts = args.required("ts")
    own_message(workspace, channel, ts, "cant_update_message")
    stream = workspace.streams.get((channel.id, ts))
    if stream and not stream.ended and workspace.clock.now() < stream.until:
        raise SlackError("streaming_state_conflict")
    changes = content(args)
    if len(args.text("text")) > UPDATE_TEXT:
        raise SlackError("msg_too_long")
    message = workspace.edit(channel, ts, changes, workspace.bot_user_id)
    return {"channel": channel.id, "ts": ts, "text": message["text"], "message": message}


@method("chat.delete", "chat:write")
def delete(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.writable(args.required("channel"))
    ts = args.required("ts")
    own_message(workspace, channel, ts, "cant_delete_message")
    workspace.delete(channel, ts)
    return {"channel": channel.id, "ts": ts}


@method("chat.getPermalink")
def get_permalink(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.channel(args.required("channel"))
    message = workspace.message(channel, args.required("message_ts"))
    return {"channel": channel.id, "permalink": permalink(channel, message)}


def permalink(channel: Channel, message: Json) -> str:
    """The message's address in a browser; a reply's names its thread."""
    link = f"https://{TEAM_DOMAIN}.slack.com/archives/{channel.id}/p{_digits(message['ts'])}"
    thread_ts = message.get("thread_ts", message["ts"])
    if thread_ts == message["ts"]:
        return link
    return f"{link}?thread_ts={thread_ts}&cid={channel.id}"


def _digits(ts: Any) -> str:
    return str(ts).replace(".", "")


def rich_text(text: str) -> list[Json]:
    """The blocks Slack's client makes of what a person types, mentions as elements."""
    parts = [part for part in re.split(r"(<[@#!][^>]+>)", text) if part]
    elements = [_element(part) for part in parts]
    section = {"type": "rich_text_section", "elements": elements}
    return [{"type": "rich_text", "block_id": "user", "elements": [section]}]


def _element(part: str) -> Json:
    mark, name = part[:2], part[2:-1].split("|", maxsplit=1)[0]
    kinds = {
        "<@": ("user", "user_id"),
        "<#": ("channel", "channel_id"),
        "<!": ("broadcast", "range"),
    }
    if mark not in kinds:
        plain = part.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        return {"type": "text", "text": plain}
    kind, key = kinds[mark]
    return {"type": kind, key: name}
