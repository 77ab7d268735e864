"""How the bot behaves in each channel: what maintainers set in Slack, else the settings' file."""

from __future__ import annotations

import logging
import threading
import time

from pydantic import ValidationError
from slack_sdk import WebClient

from metaflowbot.settings import Channel, Settings
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.store import Store

_KEPT_SECONDS = 600.0
_FRESH_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Rules:
    """The rules by channel id; the file may name a channel by its name or its id."""

    def __init__(self, settings: Settings, store: Store, client: WebClient) -> None:
        self._channels = settings.channels
        self._store = store
        self._client = client
        self._names: dict[str, tuple[float, str]] = {}
        self._set: dict[str, tuple[float, Channel | None]] = {}
        self._lock = threading.Lock()

    def of(self, channel: str) -> Channel:
        """The rules there; what a channel leaves out is as in [channels.default].

        A direct message is always answered. Raises StoreError.
        """
        rules = self._set_in_slack(channel) or self._in_file(channel)
        if channel.startswith("D"):
            return rules.model_copy(update={"answer": "mentions"})
        return rules

    def set(self, channel: str, rules: Channel, person: str) -> None:
        """Keep what a maintainer set; raises StoreError."""
        self._store.slack.set_rules(channel, rules.model_dump(mode="json"), person)
        with self._lock:
            self._set.pop(channel, None)

    def _set_in_slack(self, channel: str) -> Channel | None:
        """What was set, at most some seconds ago: every message of a channel asks for it."""
        with self._lock:
            until, rules = self._set.get(channel, (0.0, None))
        if time.monotonic() < until:
            return rules
        kept = self._store.slack.rules(channel)
        try:
            rules = None if kept is None else Channel.model_validate(kept)
        except ValidationError:
            _log.warning("the rules kept for the channel %s are of another version", channel)
            rules = None
        with self._lock:
            self._set[channel] = (time.monotonic() + _FRESH_SECONDS, rules)
        return rules

    def _in_file(self, channel: str) -> Channel:
        default = self._channels.get("default", Channel())
        own = self._channels.get(channel)
        if own is None and self._channels.keys() - {"default"}:
            own = self._channels.get(self.name(channel))
        if own is None:
            return default
        return default.model_copy(
            update={name: getattr(own, name) for name in own.model_fields_set}
        )

    def name(self, channel: str) -> str:
        """The channel's name as Slack has it now (kept for some minutes), '' if it has none."""
        with self._lock:
            until, name = self._names.get(channel, (0.0, ""))
        if time.monotonic() < until:
            return name
        try:
            name = str(self._client.conversations_info(channel=channel)["channel"].get("name", ""))
        except SLACK_FAILURES as error:
            _log.warning("can't read the name of the channel %s: %s", channel, why(error))
        with self._lock:
            self._names[channel] = (time.monotonic() + _KEPT_SECONDS, name)
        return name
