"""Resolved threads of a live workspace, read through Slack's Web API with the bot's token.

The history is read backwards by time rather than by Slack's cursors: a time means the same after
a stop of any length, and pages whose cursor is missing end nothing early. A later run reads again
what is newer than the newest message that was seen less a week, so that late replies, edits,
reactions and deletions of that week are seen. Of the older ones those are read again in which
Slack's events named a change; the others stay as they were read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ingest.sources import Item, Omission
from ingest.sources.slack_archive import Archive, Kept, Span, scrubbed
from ingest.sources.slack_messages import SlackMessage, threads
from ingest.sources.slack_reading import Conversation, Known, Note, Reading, no_message
from ingest.sources.slack_web import SlackRefusalError, WebApi
from ingest.threads import Message
from metaflowbot.settings import Settings

_WINDOW = 7 * 24 * 3600.0
_SCOPES = {"private_channel": "groups:read", "mpim": "mpim:read", "im": "im:read"}
# Why one channel can't be read while the others can.
_CLOSED = {
    "not_in_channel": "the bot is not in this channel: invite it",
    "channel_not_found": "there is no such channel for the bot: invite it",
    "missing_scope": "the bot's token lacks the scope to read it (groups:history, im:history …)",
}


@dataclass(frozen=True, slots=True)
class SlackApi:
    """The threads of the bot's channels that were resolved: the same documents as an export's.

    `cache` is the folder for what was read, a file a channel. `channels` names what to read, by
    name or id; empty means every public channel that the bot is in. Private channels and direct
    messages are read only when named, and may be shown only there. `maintainers`, `known` and
    `note` are as for SlackExport. With `noted_only` just the threads are read that `known` names
    as changed, where all others have been read before.
    """

    settings: Settings
    cache: Path
    maintainers: tuple[str, ...] = ()
    known: Callable[[], Known] = Known
    note: Note | None = None
    noted_only: bool = False
    name: str = "slack"

    def read(self) -> Iterator[Item]:
        """Yield a Document for each resolved thread and an Omission for each that was left out.

        Raises SourceError when Slack refuses the token or does not answer; what was read until
        then is kept, and the next run goes on from there.
        """
        reading = Reading(self.known())
        api = WebApi(self.settings)
        workspace = _workspace(api)
        for channel in self._channels(api, reading):
            channel.read(whole=not (self.noted_only and channel.archive.newest))
        yield from reading.documents(self.maintainers, workspace, self.note)

    def lay_over(self, reading: Reading) -> str:
        """Put the threads in place that were named as changed, now or before, and nothing else.

        Returns the base of permalinks, '' where there are no such threads: Slack is not asked
        then. Raises as `read`.
        """
        if not (reading.known.changes or any(self.cache.glob("*.jsonl"))):
            return ""
        api = WebApi(self.settings)
        workspace = _workspace(api)
        before = len(reading.omissions)
        channels = list(self._channels(api, reading))
        # What the bot is not in was read from elsewhere.
        del reading.omissions[before:]
        for channel in channels:
            channel.read(whole=False)
        return workspace

    def _channels(self, api: WebApi, reading: Reading) -> Iterator[_Channel]:
        """What is to be read; what was kept of others is deleted."""
        for entry in api.pages("users.list", "members", limit=1000):
            reading.meet(entry)
        chosen = list(_chosen(api, self.settings.sources.slack.channels, reading))
        _sweep(self.cache, {conversation.id for conversation in chosen})
        for conversation in chosen:
            path = self.cache / f"{conversation.id}.jsonl"
            yield _Channel(api, conversation, reading, Archive(path, reading.known.opted_out))


def _workspace(api: WebApi) -> str:
    """The base of permalinks; raises SourceError where the token is refused."""
    return str(api.call("auth.test").get("url") or "").rstrip("/")


class _Listed(BaseModel):
    """A conversation as conversations.list gives it."""

    id: str = Field(pattern=r"^\w+$")
    name: str | None = None
    is_private: bool = False
    is_im: bool = False
    is_mpim: bool = False
    is_member: bool = False

    def conversation(self) -> Conversation:
        public = not (self.is_private or self.is_im or self.is_mpim)
        return Conversation(self.id, self.name or self.id, public)


def _chosen(api: WebApi, channels: tuple[str, ...], reading: Reading) -> Iterator[Conversation]:
    """The conversations to read; what is named and not to be had becomes an omission."""
    missing = set(channels)
    for listed in _listed(api, "public_channel"):
        conversation = listed.conversation()
        names = {name for name in missing if conversation.is_named([name])}
        missing -= names
        if names or not channels:
            if listed.is_member:
                yield conversation
            else:
                reading.omissions.append(Omission(conversation.name, _CLOSED["not_in_channel"]))
    why = "there is no such channel for the bot: correct the name, or invite the bot"
    for kind, scope in _SCOPES.items():
        try:
            for conversation in (it.conversation() for it in _listed(api, kind) if missing):
                names = {name for name in missing if conversation.is_named([name])}
                missing -= names
                if names:
                    yield conversation
        except SlackRefusalError as error:
            if error.code != "missing_scope":
                raise
            why += f"; with the scope {scope} it would be looked for among more"
    reading.omissions += [Omission(name, why) for name in sorted(missing)]


def _listed(api: WebApi, kind: str) -> Iterator[_Listed]:
    for entry in api.pages("conversations.list", "channels", types=kind, limit=200):
        try:
            yield _Listed.model_validate(entry)
        except ValidationError:
            continue


def _sweep(folder: Path, channels: set[str]) -> None:
    """Delete what was kept of channels that are not to be read any more."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in folder.iterdir():
        if path.suffix in (".jsonl", ".partial") and path.stem not in channels:
            path.unlink()


@dataclass(frozen=True, slots=True)
class _Channel:
    """Brings one conversation's archive up to date and its threads into `reading`."""

    api: WebApi
    conversation: Conversation
    reading: Reading
    archive: Archive
    seen_now: set[str] = field(default_factory=set)

    def read(self, *, whole: bool) -> None:
        """Read what is new and what may have changed, or else the threads named as changed."""
        self.archive.save()
        try:
            if whole:
                self._update()
            self._read_noted()
        except SlackRefusalError as error:
            if error.code not in _CLOSED:
                raise
            self.reading.omissions.append(Omission(self.conversation.name, _CLOSED[error.code]))
            self.reading.unread.add(self.conversation.id)
            return
        self.archive.save()
        self._hand_over()

    def _read_noted(self) -> None:
        """Read again what was named as changed; of a thread that is gone, that it is."""
        changes = self.reading.known.changes
        noted = {it.thread for it in changes if it.channel == self.conversation.id}
        for root_ts in sorted({self.archive.root_of(ts) for ts in noted} - self.seen_now):
            found = self._noted(root_ts)
            gone = Kept(Message(root_ts, "", "", {}, deleted=True), {})
            top = found[0].root_ts if found else root_ts
            self.archive.put(top, list(map(self._kept, found)) or [gone])

    def _noted(self, ts: str) -> list[SlackMessage]:
        """The whole thread in which the message at `ts` stands; [] where there is none."""
        found = self._thread(ts)
        if found and found[0].root_ts not in [sent.ts for sent in found]:
            # Of a reply Slack gives the reply alone.
            return self._thread(found[0].root_ts) or found
        return found

    def _update(self) -> None:
        """Finish a pass that was stopped, then make one over what is new or may have changed."""
        if self.archive.span and not self._pass(self.archive.span):
            return
        since = max(float(self.archive.newest or 0) - _WINDOW, 0.0)
        # Named, and ahead of any clock: with `oldest` alone Slack may begin at the old end.
        now = time.time() + 24 * 3600
        self._pass(Span("", f"{since:.6f}", f"{now:.6f}"))

    def _pass(self, span: Span) -> bool:
        """Go back to the span's end page by page; whether it came there."""
        while True:
            answer = self._history(span)
            found = self._messages(answer)
            low = min((sent.ts for sent in found), key=float, default=span.since)
            if more := bool(answer.get("has_more")):
                if not found:
                    why = "Slack's pages ended early: what is missing is read by the next run"
                    self.reading.omissions.append(Omission(self.conversation.name, why))
                    return False
            else:
                low = span.since
            top = span.top or max((sent.ts for sent in found), key=float, default="")
            fresh = self._threads(found)
            gone = [ts for ts in self.archive.threads if _within(ts, low, span) and ts not in fresh]
            span = Span(top, span.since, low)
            newest = self.archive.newest
            self.archive.add(fresh, gone, newest if more else top or newest, span if more else None)
            if not more:
                return True

    def _history(self, span: Span) -> Mapping[str, Any]:
        channel = self.conversation.id
        return self.api.call(
            "conversations.history", channel=channel, oldest=span.since, latest=span.upto, limit=100
        )

    def _threads(self, found: list[SlackMessage]) -> dict[str, list[Kept]]:
        """The page's threads; a reply that was shown to the channel as well brings in its own."""
        fresh: dict[str, list[Kept]] = {}
        for sent in found:
            if sent.root_ts not in fresh:
                # By itself where its root is gone.
                whole = (self._thread(sent.root_ts) if sent.thread_ts else []) or [sent]
                fresh[sent.root_ts] = list(map(self._kept, whole))
        self.seen_now.update(fresh)
        return fresh

    def _thread(self, ts: str) -> list[SlackMessage]:
        """The whole thread of a root, which comes first; [] where there is no such message."""
        where = {"channel": self.conversation.id, "ts": ts}
        entries = []
        try:
            for entry in self.api.pages("conversations.replies", "messages", **where, limit=999):
                entries.append(entry)
        except SlackRefusalError as error:
            if error.code == "thread_not_found":
                return []
            if error.code != "ended_early":
                raise
            key = f"{self.conversation.name}/{ts}"
            self.reading.omissions.append(Omission(key, "Slack's pages of replies ended early"))
        whole = self._messages({"messages": entries})
        return list({message.ts: message for message in whole}.values())

    def _messages(self, answer: Mapping[str, Any]) -> list[SlackMessage]:
        found = []
        for entry in answer.get("messages") or ():
            try:
                found.append(SlackMessage.model_validate(entry))
            except ValidationError as error:
                self.reading.omissions.append(no_message(self.conversation.name, error))
        return found

    def _kept(self, sent: SlackMessage) -> Kept:
        stranger = sent.user_profile and sent.user not in self.reading.names
        names = sent.user_profile.names() if stranger and sent.user_profile else frozenset()
        return scrubbed(sent.message(self.reading.bots), names)

    def _hand_over(self) -> None:
        root_of = {
            kept.message.ts: root
            for root, messages in self.archive.threads.items()
            for kept in messages
        }
        everything = [kept for messages in self.archive.threads.values() for kept in messages]
        for kept in everything:
            self.reading.removed.update(kept.removed)
            if kept.names:
                self.reading.names[kept.message.author] = kept.names
        messages = [kept.message for kept in everything]
        found = threads(self.conversation.id, self.conversation.name, messages, root_of)
        self.reading.keep(self.conversation, found)


def _within(ts: str, low: str, span: Span) -> bool:
    """Whether a page that came down to `low` would have shown the root at `ts`."""
    return float(span.since) < float(ts) < float(span.upto) and float(ts) >= float(low)
