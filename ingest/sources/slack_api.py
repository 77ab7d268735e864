"""Resolved threads of a live workspace, read through Slack's Web API with the bot's token.

The history is read backwards by time rather than by Slack's cursors: a time means the same after
a stop of any length, and pages whose cursor is missing end nothing early. A later run reads again
what is newer than the newest message that was seen less a week, so that late replies, edits,
reactions and deletions of that week are seen; older threads stay as they were read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from ingest.sources import Item, Omission
from ingest.sources.slack_archive import Archive, Kept, Span, scrubbed
from ingest.sources.slack_messages import SlackMessage, threads
from ingest.sources.slack_reading import Conversation, Note, Reading, no_message
from metaflowbot.errors import SourceError
from metaflowbot.settings import Settings
from metaflowbot.threads import ReviewVerdict

_WINDOW = 7 * 24 * 3600.0
_PATIENCE = 60.0  # seconds that one call may wait for Slack, all its tries together
_TRIES = 3  # of a call that fails on the way, or at Slack's own fault
_SCOPES = {"private_channel": "groups:read", "mpim": "mpim:read", "im": "im:read"}
_OWN_FAULTS = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_TOKEN_FAULTS = frozenset(
    "invalid_auth not_authed account_inactive token_revoked token_expired "
    "not_allowed_token_type org_login_required team_access_not_granted".split()
)
# Why one channel can't be read while the others can.
_CLOSED = {
    "not_in_channel": "the bot is not in this channel: invite it",
    "channel_not_found": "there is no such channel for the bot: invite it",
    "missing_scope": "the bot's token lacks the scope to read it (groups:history, im:history …)",
}


class SlackRefusalError(SourceError):
    """Slack answered a call with an error; `code` is Slack's own."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class SlackApi:
    """The threads of the bot's channels that were resolved: the same documents as an export's.

    `cache` is the folder for what was read, a file a channel. `channels` names what to read, by
    name or id; empty means every public channel that the bot is in. Private channels and direct
    messages are read only when named, and may be shown only there. `maintainers`, `opted_out`,
    `reviews` and `note` are as for SlackExport.
    """

    settings: Settings
    cache: Path
    maintainers: tuple[str, ...] = ()
    opted_out: tuple[str, ...] = ()
    reviews: Mapping[str, ReviewVerdict] = field(default_factory=dict)
    note: Note | None = None
    name: str = "slack"

    def read(self) -> Iterator[Item]:
        """Yield a Document for each resolved thread and an Omission for each that was left out.

        Raises SourceError when Slack refuses the token or does not answer; what was read until
        then is kept, and the next run goes on from there.
        """
        api = _WebApi(self.settings)
        workspace = str(api.call("auth.test").get("url") or "").rstrip("/")
        reading = Reading(frozenset(self.opted_out))
        for entry in api.pages("users.list", "members"):
            reading.meet(entry)
        chosen = list(_chosen(api, self.settings.sources.slack.channels, reading))
        _sweep(self.cache, {conversation.id for conversation in chosen})
        for conversation in chosen:
            path = self.cache / f"{conversation.id}.jsonl"
            _Channel(api, conversation, reading, Archive(path, reading.opted_out)).read()
        yield from reading.documents(self.maintainers, workspace, self.reviews, self.note)


class _WebApi:
    """Slack's Web API as far as reading goes; each call raises SlackRefusalError or SourceError."""

    def __init__(self, settings: Settings) -> None:
        from metaflowbot.slack.app import web_client

        self._client = web_client(settings)
        # The client's own retries honour a wait of any length: here one place counts the minute.
        self._client.retry_handlers.clear()

    def call(self, method: str, **arguments: str | int) -> Mapping[str, Any]:
        """The answer's fields, after waiting for a minute in all where Slack asks for that."""
        from metaflowbot.slack.replies import SLACK_FAILURES

        waited, tries = 0.0, 1
        while True:
            try:
                answer = self._client.api_call(method, http_verb="GET", params=arguments).data
                return answer if isinstance(answer, dict) else {}
            except SLACK_FAILURES as error:
                wait = _wait(error, tries)
                if wait is None or waited + wait > _PATIENCE:
                    raise self._translated(method, error) from None
            time.sleep(wait)
            waited, tries = waited + wait, tries + 1

    def pages(self, method: str, key: str, **arguments: str | int) -> Iterator[Any]:
        """Every entry of a list that Slack gives in pages, by its cursors.

        Raises SlackRefusalError 'ended_early' after the last where Slack says that there are more.
        """
        cursor: dict[str, str] = {}
        while True:
            answer = self.call(method, **arguments, **cursor)
            yield from answer.get(key) or ()
            following = (answer.get("response_metadata") or {}).get("next_cursor")
            if not following and answer.get("has_more"):
                raise SlackRefusalError("ended_early", f"Slack's pages of {method} ended early")
            if not following:
                return
            cursor = {"cursor": following}

    def _translated(self, method: str, error: BaseException) -> SourceError:
        from metaflowbot.slack.app import refused
        from metaflowbot.slack.replies import why

        code = why(error)
        if not hasattr(error, "response") or code in _TOKEN_FAULTS:
            return SourceError(str(refused("SLACK_BOT_TOKEN", error, self._client.base_url)))
        if code == "ratelimited":
            return SourceError(
                "Slack asks to wait for more than a minute: what was read is kept; try again later"
            )
        if code == "missing_scope":
            scope = getattr(error, "response", {}).get("needed")
            text = f"SLACK_BOT_TOKEN lacks the scope {scope}: add it to the app and install it anew"
            return SlackRefusalError(code, text)
        return SlackRefusalError(code, f"Slack refuses {method} ({code})")


def _wait(error: BaseException, tries: int) -> float | None:
    """Seconds until a call is worth another try, None where it never is."""
    from metaflowbot.slack.replies import why

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if status == 429 or why(error) == "ratelimited":
        named = {name.lower(): value for name, value in getattr(response, "headers", {}).items()}
        seconds = str(named.get("retry-after", ""))
        return max(1.0, float(seconds)) if seconds.isdigit() else 1.0
    passing = response is None or status >= 500 or why(error) in _OWN_FAULTS
    return 1.0 if passing and tries < _TRIES else None


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


def _chosen(api: _WebApi, channels: tuple[str, ...], reading: Reading) -> Iterator[Conversation]:
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


def _listed(api: _WebApi, kind: str) -> Iterator[_Listed]:
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

    api: _WebApi
    conversation: Conversation
    reading: Reading
    archive: Archive

    def read(self) -> None:
        self.archive.save()
        try:
            self._update()
        except SlackRefusalError as error:
            if error.code not in _CLOSED:
                raise
            self.reading.omissions.append(Omission(self.conversation.name, _CLOSED[error.code]))
            return
        self.archive.save()
        self._hand_over()

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
                whole = self._replies(sent) if sent.thread_ts else [sent]
                fresh[sent.root_ts] = list(map(self._kept, whole))
        return fresh

    def _replies(self, sent: SlackMessage) -> list[SlackMessage]:
        """The whole thread of a message, its root first; by itself where the root is gone."""
        where = {"channel": self.conversation.id, "ts": sent.root_ts}
        entries = []
        try:
            for entry in self.api.pages("conversations.replies", "messages", **where, limit=999):
                entries.append(entry)
        except SlackRefusalError as error:
            if error.code == "thread_not_found":
                return [sent]
            if error.code != "ended_early":
                raise
            key = f"{self.conversation.name}/{sent.root_ts}"
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
