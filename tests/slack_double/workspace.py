"""One Slack workspace: people, channels, messages, and what hangs on them.

Everything is kept as Slack's own JSON, so that what an app reads is what was stored. A change of
state returns nothing to the app by itself: it publishes events, and whoever set `publish` delivers
them. Methods raise `SlackError` with Slack's error code.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .clock import Clock

Json = dict[str, Any]
Kind = Literal["channel", "group", "im"]
TEAM_DOMAIN = "double"


class SlackError(Exception):
    """An error answer of the Web API: its code, and further fields of the body."""

    def __init__(self, code: str, **extra: Any) -> None:
        super().__init__(code)
        self.body: Json = {"ok": False, "error": code, **extra}


@dataclass
class User:
    id: str
    name: str
    is_bot: bool = False
    deleted: bool = False
    email: str = ""


@dataclass
class Channel:
    id: str
    name: str
    kind: Kind
    members: list[str]
    created: int
    archived: bool = False
    messages: dict[str, Json] = field(default_factory=dict)

    def replies(self, root_ts: str) -> list[Json]:
        """The replies under a root, oldest first."""
        found = [m for m in self.messages.values() if m.get("thread_ts") == root_ts != m["ts"]]
        return sorted(found, key=lambda message: str(message["ts"]))


@dataclass
class Ephemeral:
    """A message that one user alone sees; `message` is as it was posted."""

    channel: str
    user: str
    message: Json

    @property
    def text(self) -> str:
        return str(self.message.get("text", ""))


@dataclass
class Status:
    """The loading state under a thread; it is gone after two minutes or with the next post."""

    text: str
    loading_messages: list[str]
    until: float


@dataclass
class Trigger:
    """A trigger_id: good for one view within three seconds."""

    user: str
    until: float
    used: bool = False
    view: str = ""


@dataclass
class ResponseUrl:
    """Where an app may answer an interaction, five times within half an hour."""

    channel: str
    user: str
    message_ts: str
    ephemeral: bool
    thread_ts: str
    until: float
    uses: int = 0


@dataclass
class Stream:
    """A message that is being streamed; `mode` is what it was started with."""

    channel: str
    ts: str
    until: float
    mode: str = ""
    text: str = ""
    blocks: list[Json] = field(default_factory=list)
    tasks: dict[str, Json] = field(default_factory=dict)
    plan: str = ""
    ended: str = ""


class Workspace:
    """The state of one workspace with one app installed in it."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.clock = clock
        self.name = name
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._last_ts = 0
        self.team_id, self.app_id = self.new_id("T"), self.new_id("A")
        self.bot_id = self.new_id("B")
        self.users: dict[str, User] = {}
        self.bot_user_id = self.add_user("metaflowbot", is_bot=True)
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, list[str]] = {}
        self.ephemerals: list[Ephemeral] = []
        self.statuses: dict[tuple[str, str], Status] = {}
        self.prompts: dict[tuple[str, str], list[Json]] = {}
        self.sessions: dict[tuple[str, str], Json] = {}
        self.streams: dict[tuple[str, str], Stream] = {}
        self.views: dict[str, Json] = {}
        self.modals: dict[str, list[str]] = {}
        self.homes: dict[str, str] = {}
        self.triggers: dict[str, Trigger] = {}
        self.response_urls: dict[str, ResponseUrl] = {}
        self.snippets: dict[str, str] = {}
        self.base_url = ""
        self.socket_tickets: set[str] = set()
        self.publish: Callable[[list[Json]], None] = lambda _: None

    # -- ids and times

    def new_id(self, prefix: str) -> str:
        """An id in Slack's shape, unique in this workspace."""
        number = next(self._numbers)
        digest = hashlib.sha256(f"{self.name}/{prefix}/{number}".encode()).hexdigest()[:6].upper()
        return f"{prefix}0{digest}{number:04d}"

    def new_ts(self, at: float | None = None) -> str:
        """A message's ts, later than every ts before it unless `at` (epoch seconds) is given."""
        if at is not None:
            return f"{int(at)}.{next(self._numbers) % 1_000_000:06d}"
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    # -- people and channels

    def add_user(self, name: str, *, is_bot: bool = False) -> str:
        user = User(self.new_id("U"), name, is_bot, email="" if is_bot else f"{name}@example.com")
        self.users[user.id] = user
        return user.id

    def add_channel(self, name: str, members: list[str], kind: Kind = "channel") -> Channel:
        prefix = {"channel": "C", "group": "C", "im": "D"}[kind]
        channel = Channel(self.new_id(prefix), name, kind, list(members), int(time.time()))
        self.channels[channel.id] = channel
        return channel

    def open_dm(self, user: str) -> Channel:
        """The direct-message channel of the bot and `user`, made when there is none."""
        for channel in self.channels.values():
            if channel.kind == "im" and user in channel.members:
                return channel
        return self.add_channel("", [user, self.bot_user_id], "im")

    def user(self, user_id: str) -> User:
        if user_id not in self.users:
            raise SlackError("user_not_found")
        return self.users[user_id]

    def channel(self, channel_id: str) -> Channel:
        """A channel the app may know of: private ones only as a member."""
        channel = self.channels.get(channel_id)
        if channel is None or (channel.kind != "channel" and not self.joined(channel)):
            raise SlackError("channel_not_found")
        return channel

    def joined(self, channel: Channel) -> bool:
        return self.bot_user_id in channel.members

    def writable(self, channel_id: str) -> Channel:
        """The channel, when the app may post in it. A user's id means the DM with that user."""
        with self.lock:
            channel = self._addressed(channel_id)
            if channel.archived:
                raise SlackError("is_archived")
            if not self.joined(channel):
                raise SlackError("not_in_channel")
            return channel

    def _addressed(self, address: str) -> Channel:
        if address in self.users and address != self.bot_user_id:
            return self.open_dm(address)
        named = [c.id for c in self.channels.values() if c.name and c.name == address.lstrip("#")]
        return self.channel(named[0] if named else address)

    def add_snippet(self, name: str, text: str) -> Json:
        """A new text file as messages carry it: what it begins with, and where the rest is."""
        key = self.new_id("F")
        self.snippets[key] = text
        about = {"id": key, "name": name, "mimetype": "text/plain", "mode": "snippet"}
        preview = "\n".join(text.splitlines()[:5])
        size = len(text.encode())
        where = {"url_private": f"{self.base_url}/files/{key}", "size": size}
        return about | where | {"preview": preview, "preview_is_truncated": preview != text}

    # -- messages

    def message(self, channel: Channel, ts: str) -> Json:
        if ts not in channel.messages or channel.messages[ts].get("subtype") == "tombstone":
            raise SlackError("message_not_found")
        return channel.messages[ts]

    def thread_root(self, channel: Channel, thread_ts: str) -> Json:
        """The message replies go under; an error for a reply's ts or an unknown one."""
        root = channel.messages.get(thread_ts)
        if root is None:
            raise SlackError("thread_not_found")
        if root.get("thread_ts", thread_ts) != thread_ts:
            raise SlackError("cannot_reply_to_message")
        return root

    def post(self, channel: Channel, message: Json, thread_ts: str | None = None) -> Json:
        """Stores a new message (with author and text) and publishes its events."""
        with self.lock:
            message = {"type": "message", "ts": self.new_ts(), "team": self.team_id} | message
            if thread_ts:
                root = self.thread_root(channel, thread_ts)
                root["thread_ts"] = thread_ts
                parent: Json = {"thread_ts": thread_ts, "parent_user_id": root.get("user")}
                message |= parent
            channel.messages[message["ts"]] = message
            self._tell(channel, self._events_of(channel, message))
            return message

    def by_bot(self) -> Json:
        """The fields that mark a message as the app's own."""
        bot = self.users[self.bot_user_id]
        profile = {"id": self.bot_id, "app_id": self.app_id, "name": bot.name, "deleted": False}
        profile |= {"team_id": self.team_id, "updated": 0, "icons": {}}
        own: Json = {"user": bot.id, "bot_id": self.bot_id, "app_id": self.app_id}
        return own | {"bot_profile": profile}

    def edit(self, channel: Channel, ts: str, changes: Json, editor: str) -> Json:
        """Changes a message and marks it as edited; a mention edited in is a mention."""
        with self.lock:
            named_before = self._mentions(self.message(channel, ts))
            edited = {"edited": {"user": editor, "ts": self.new_ts()}}
            message = self.replace(channel, ts, changes | edited)
            if not named_before:
                self._tell(channel, self._mention_events(channel, message))
            return message

    def replace(self, channel: Channel, ts: str, changes: Json) -> Json:
        """Changes a message's fields and publishes the change."""
        with self.lock:
            message = self.message(channel, ts)
            before = copy.deepcopy(message)
            message.update(changes)
            self._tell(channel, [self._changed(channel, message, before)])
            return message

    def delete(self, channel: Channel, ts: str) -> None:
        """Deletes a message. A root with replies stays behind as a tombstone, as in Slack."""
        with self.lock:
            before = self.message(channel, ts)
            if channel.replies(ts):
                grave = {"text": "This message was deleted.", "user": "USLACKBOT", "hidden": True}
                stays = {"type": "message", "subtype": "tombstone", "ts": ts, "thread_ts": ts}
                channel.messages[ts] = stays | grave
                self._tell(channel, [self._changed(channel, channel.messages[ts], before)])
                return
            del channel.messages[ts]
            gone = {"subtype": "message_deleted", "hidden": True, "deleted_ts": ts}
            self._tell(channel, [self._about(channel, gone | {"previous_message": before})])

    def react(self, channel: Channel, ts: str, user: str, name: str) -> None:
        with self.lock:
            message = self.message(channel, ts)
            reactions = message.setdefault("reactions", [])
            found = next((r for r in reactions if r["name"] == name), None)
            if found is None:
                found = {"name": name, "users": [], "count": 0}
                reactions.append(found)
            if user in found["users"]:
                raise SlackError("already_reacted")
            found["users"].append(user)
            found["count"] = len(found["users"])
            self._publish_reaction("reaction_added", channel, message, user, name)

    def unreact(self, channel: Channel, ts: str, user: str, name: str) -> None:
        with self.lock:
            message = self.message(channel, ts)
            reactions = message.get("reactions", [])
            found = next((r for r in reactions if r["name"] == name and user in r["users"]), None)
            if found is None:
                raise SlackError("no_reaction")
            found["users"].remove(user)
            found["count"] = len(found["users"])
            message["reactions"] = [r for r in reactions if r["count"]]
            if not message["reactions"]:
                del message["reactions"]
            self._publish_reaction("reaction_removed", channel, message, user, name)

    def join(self, channel: Channel, user: str) -> None:
        with self.lock:
            channel.members.append(user)
            joined = {"type": "member_joined_channel", "user": user, "channel": channel.id}
            kind = "C" if channel.kind == "channel" else "G"
            ts = self.new_ts()
            more = {"channel_type": kind, "team": self.team_id, "event_ts": ts}
            self._tell(channel, [joined | more])

    # -- reading

    def shown(self, channel: Channel, message: Json, *, metadata: bool = False) -> Json:
        """A message as the read methods give it: a root carries its reply counts."""
        seen = copy.deepcopy(message)
        if not metadata:
            seen.pop("metadata", None)
        replies = channel.replies(message["ts"])
        if replies:
            people = list(dict.fromkeys(reply.get("user") for reply in replies))
            seen |= {"thread_ts": message["ts"], "reply_count": len(replies)}
            seen |= {"reply_users": people, "reply_users_count": len(people)}
            seen |= {"latest_reply": replies[-1]["ts"], "is_locked": False, "subscribed": False}
        elif seen.get("thread_ts") == seen["ts"]:
            del seen["thread_ts"]
        return seen

    def thread(self, channel: Channel, ts: str) -> list[Json]:
        """Root and replies, oldest first; [] when there is no such message."""
        with self.lock:
            if ts not in channel.messages:
                return []
            found = [channel.messages[ts], *channel.replies(ts)]
            return [self.shown(channel, message, metadata=True) for message in found]

    # -- events

    def _tell(self, channel: Channel, events: list[Json]) -> None:
        if self.joined(channel) and events:
            self.publish(events)

    def _events_of(self, channel: Channel, message: Json) -> list[Json]:
        """What a new message sets off: a message event, and for a mention an app_mention first."""
        hidden = {"metadata", "reactions"}
        plain = {k: copy.deepcopy(v) for k, v in message.items() if k not in hidden}
        where = {"channel": channel.id, "event_ts": message["ts"], "channel_type": channel.kind}
        return [*self._mention_events(channel, message), plain | where]

    def _mentions(self, message: Json) -> bool:
        named = f"<@{self.bot_user_id}" in str(message.get("text", ""))
        return named and "bot_id" not in message

    def _mention_events(self, channel: Channel, message: Json) -> list[Json]:
        if channel.kind == "im" or not self._mentions(message):
            return []
        kept = {"user", "text", "ts", "client_msg_id", "team", "blocks", "thread_ts", "edited"}
        kept |= {"parent_user_id", "files"}
        mention = {k: copy.deepcopy(v) for k, v in message.items() if k in kept}
        where = {"type": "app_mention", "channel": channel.id, "event_ts": message["ts"]}
        return [mention | where]

    def _about(self, channel: Channel, event: Json) -> Json:
        ts = self.new_ts()
        where = {"channel": channel.id, "channel_type": channel.kind, "ts": ts, "event_ts": ts}
        return copy.deepcopy({"type": "message"} | event | where)

    def _changed(self, channel: Channel, message: Json, before: Json) -> Json:
        change = {"subtype": "message_changed", "hidden": True, "message": message}
        return self._about(channel, change | {"previous_message": before})

    def _publish_reaction(
        self, kind: str, channel: Channel, message: Json, user: str, name: str
    ) -> None:
        item = {"type": "message", "channel": channel.id, "ts": message["ts"]}
        event: Json = {"type": kind, "user": user, "reaction": name, "item": item}
        event |= {"item_user": message.get("user"), "event_ts": self.new_ts()}
        self._tell(channel, [event])
