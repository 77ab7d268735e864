"""What happens in channels that are read is noted, so that their threads are read again.

Every event passes here before its listener: of a message only the place is looked at, never what
it says, and nothing is kept but the channel's id and the thread's ts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from slack_bolt import App, BoltResponse
from slack_sdk import WebClient

from metaflowbot.errors import StoreError
from metaflowbot.settings import Settings
from metaflowbot.slack.clients import SLACK_FAILURES, Identity, why
from metaflowbot.threads import Threads

# What may change what a thread says; every other subtype is a notice of the channel's.
_CHANGES = {
    None,
    "file_share",
    "thread_broadcast",
    "me_message",
    "message_changed",
    "message_deleted",
}
_log = logging.getLogger(__name__)


class _Message(BaseModel):
    """A message event, or the message that one is about."""

    ts: str
    channel: str = ""
    thread_ts: str | None = None
    subtype: str | None = None
    user: str | None = None
    bot_id: str | None = None
    message: _Message | None = None
    previous_message: _Message | None = None

    @property
    def subject(self) -> _Message:
        """The message that was changed or deleted, as it was before, else the message itself."""
        return self.previous_message or self.message or self


class _Reacted(BaseModel):
    ts: str = ""
    channel: str = ""


class _Reaction(BaseModel):
    """A reaction that was added or removed; `item` is a message where it has a ts."""

    user: str
    item: _Reacted


def listen(
    app: App, settings: Settings, identity: Identity, client: WebClient, to: Threads
) -> None:
    """Note the changes in threads that the app hears of; does nothing where none are to be read.

    `client` is asked, once a channel, whether it is to be read.
    """
    if not settings.reads_live_threads:
        return
    listener = _Listener(to, _Channels(client, settings.sources.slack.channels), identity)

    def pass_on(body: dict[str, Any], next: Callable[[], BoltResponse]) -> BoltResponse:  # noqa: A002
        listener.hear(body.get("event") or {})
        return next()

    # Of listeners Bolt calls the first that matches alone; a middleware hears every event.
    app.use(pass_on)


class _Listener:
    """Notes where something changed; never raises, so that Slack's event goes on its way."""

    def __init__(self, threads: Threads, channels: _Channels, identity: Identity) -> None:
        self._threads = threads
        self._channels = channels
        self._identity = identity

    def hear(self, event: Mapping[str, Any]) -> None:
        try:
            channel, thread = self._place(event)
            if channel and thread and self._channels.is_read(channel):
                self._threads.changed(channel, thread)
        except ValidationError:
            _log.warning("an event of the kind %s has no place", event.get("type"))
        except StoreError as error:
            _log.error("a change in a thread could not be noted: %s", error)

    def _place(self, event: Mapping[str, Any]) -> tuple[str, str]:
        """Channel and thread of what changed, or a message of it; ('', '') for nothing."""
        match event.get("type"):
            case "message" | "app_mention":
                sent = _Message.model_validate(event)
                subject = sent.subject
                by_bot = subject.bot_id or subject.user == self._identity.user_id
                if sent.subtype in _CHANGES and not by_bot:
                    return sent.channel, subject.thread_ts or subject.ts
            case "reaction_added" | "reaction_removed":
                reaction = _Reaction.model_validate(event)
                if reaction.user != self._identity.user_id:
                    return reaction.item.channel, reaction.item.ts
        return "", ""


class _Channels:
    """Which channels are read: those named by name or id, else every public one."""

    def __init__(self, client: WebClient, named: tuple[str, ...]) -> None:
        self._client = client
        self._named = {name.lstrip("#") for name in named}
        self._known: dict[str, bool] = {}

    def is_read(self, channel: str) -> bool:
        """Where Slack does not say now, yes: the reading itself takes only what it should."""
        if channel not in self._known:
            try:
                found = self._client.conversations_info(channel=channel)["channel"]
            except SLACK_FAILURES as error:
                _log.warning("can't learn what %s is: %s", channel, why(error))
                return True
            self._known[channel] = self._is_wanted(channel, found)
        return self._known[channel]

    def _is_wanted(self, channel: str, found: Mapping[str, Any]) -> bool:
        if self._named:
            return bool({channel, found.get("name")} & self._named)
        return not any(found.get(kind) for kind in ("is_private", "is_im", "is_mpim"))
