"""conversations.* and reactions.*: what an app reads of channels, and how it reacts."""

from __future__ import annotations

from .methods import Arguments, method, page
from .workspace import Channel, Json, SlackError, Workspace

READ = ("channels:history", "groups:history", "im:history")
LIST = ("channels:read", "groups:read", "im:read")


def described(workspace: Workspace, channel: Channel) -> Json:
    """A channel as conversations.info and conversations.list give it."""
    if channel.kind == "im":
        other = next(user for user in channel.members if user != workspace.bot_user_id)
        return {"id": channel.id, "is_im": True, "user": other, "created": channel.created}
    private = channel.kind == "group"
    topic = {"value": "", "creator": "", "last_set": 0}
    names = {"id": channel.id, "name": channel.name, "name_normalized": channel.name}
    kinds = {"is_channel": not private, "is_group": False, "is_im": False, "is_mpim": False}
    state = {"is_private": private, "is_archived": channel.archived, "is_general": False}
    shared = {"is_shared": False, "is_ext_shared": False}
    people = {"is_member": workspace.joined(channel), "num_members": len(channel.members)}
    about = {"created": channel.created, "topic": topic, "purpose": topic}
    return names | kinds | state | shared | people | about


def _readable(workspace: Workspace, args: Arguments) -> Channel:
    channel = workspace.channel(args.required("channel"))
    if not workspace.joined(channel):
        raise SlackError("not_in_channel")
    return channel


def _between(args: Arguments, ts: str) -> bool:
    oldest, latest = args.text("oldest", "0"), args.text("latest") or "9999999999.999999"
    moment, first, last = float(ts), float(oldest), float(latest)
    return first <= moment <= last if args.flag("inclusive") else first < moment < last


@method("conversations.history", *READ)
def history(workspace: Workspace, args: Arguments) -> Json:
    channel = _readable(workspace, args)
    metadata = args.flag("include_all_metadata")
    roots = [
        workspace.shown(channel, message, metadata=metadata)
        for message in channel.messages.values()
        if message.get("thread_ts", message["ts"]) == message["ts"]
        or message.get("subtype") == "thread_broadcast"
    ]
    found = [message for message in roots if _between(args, message["ts"])]
    found.sort(key=lambda message: float(message["ts"]), reverse=True)
    return page(found, args, "messages")


@method("conversations.replies", *READ)
def replies(workspace: Workspace, args: Arguments) -> Json:
    channel = _readable(workspace, args)
    ts = args.required("ts")
    if ts not in channel.messages:
        raise SlackError("thread_not_found")
    root_ts = channel.messages[ts].get("thread_ts", ts)
    metadata = args.flag("include_all_metadata")
    root = workspace.shown(channel, channel.messages[root_ts], metadata=metadata)
    under = [workspace.shown(channel, m, metadata=metadata) for m in channel.replies(root_ts)]
    answer = page([m for m in under if _between(args, m["ts"])], args, "messages", 1000)
    answer["messages"].insert(0, root)  # Slack repeats the root on every page
    return answer


@method("conversations.list", *LIST)
def list_channels(workspace: Workspace, args: Arguments) -> Json:
    names = {"public_channel": "channel", "private_channel": "group", "im": "im"}
    kinds = {names.get(kind.strip()) for kind in args.text("types", "public_channel").split(",")}
    found = [
        described(workspace, channel)
        for channel in workspace.channels.values()
        if channel.kind in kinds
        and (channel.kind == "channel" or workspace.joined(channel))
        and not (channel.archived and args.flag("exclude_archived"))
    ]
    return page(found, args, "channels")


@method("conversations.info", *LIST)
def info(workspace: Workspace, args: Arguments) -> Json:
    return {"channel": described(workspace, workspace.channel(args.required("channel")))}


@method("conversations.members", *LIST)
def members(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.channel(args.required("channel"))
    return page([*channel.members], args, "members")  # type: ignore[list-item]


@method("conversations.open", "im:write")
def open_conversation(workspace: Workspace, args: Arguments) -> Json:
    users = args.required("users").split(",")
    if len(users) > 1:
        raise SlackError("method_not_supported_for_channel_type")
    dm = workspace.open_dm(workspace.user(users[0]).id)
    return {"channel": {"id": dm.id, "is_im": True, "user": users[0], "created": dm.created}}


@method("conversations.join", "channels:join")
def join(workspace: Workspace, args: Arguments) -> Json:
    channel = workspace.channel(args.required("channel"))
    if channel.kind != "channel":
        raise SlackError("method_not_supported_for_channel_type")
    if channel.archived:
        raise SlackError("is_archived")
    if not workspace.joined(channel):
        workspace.join(channel, workspace.bot_user_id)
    return {"channel": described(workspace, channel)}


@method("reactions.add", "reactions:write")
def add_reaction(workspace: Workspace, args: Arguments) -> Json:
    channel, name = _reacted(workspace, args)
    workspace.react(channel, args.required("timestamp"), workspace.bot_user_id, name)
    return {}


@method("reactions.remove", "reactions:write")
def remove_reaction(workspace: Workspace, args: Arguments) -> Json:
    channel, name = _reacted(workspace, args)
    workspace.unreact(channel, args.required("timestamp"), workspace.bot_user_id, name)
    return {}


def _reacted(workspace: Workspace, args: Arguments) -> tuple[Channel, str]:
    channel = _readable(workspace, args)
    if channel.archived:
        raise SlackError("is_archived")
    name = args.required("name")
    if not name.replace("_", "").replace("-", "").replace("+", "").replace(":", "").isalnum():
        raise SlackError("invalid_name")
    return channel, name


@method("reactions.get", "reactions:read")
def get_reactions(workspace: Workspace, args: Arguments) -> Json:
    channel = _readable(workspace, args)
    message = workspace.shown(channel, workspace.message(channel, args.required("timestamp")))
    return {"type": "message", "channel": channel.id, "message": message}
