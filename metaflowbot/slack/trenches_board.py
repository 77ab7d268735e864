"""Keeps Slack in step with the escalations: the card, the lines to the asker, the reminders.

The state comes first, Slack after it, by way of the inbox: whatever ends this process between the
two, the item is worked off again, and what was posted by then is found rather than posted twice.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from metaflowbot.domain import Answer
from metaflowbot.errors import MetaflowbotError
from metaflowbot.escalation import Escalation
from metaflowbot.escalations import INBOX_KIND, Post
from metaflowbot.slack import trenches_card as cards
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.desk import Desk
from metaflowbot.store import InboxItem

EVENT_TYPE = "metaflowbot_escalation"
CARD, CONSENT = "card", "consent"
_HOLD_SECONDS = 60.0
_TICK_SECONDS = 60.0
_KEPT_SECONDS = 600.0
# A message whose arrival is not known is looked for from a little before it was begun.
_CLOCKS_DIFFER = 120.0
_ID = re.compile(r"[CGD][A-Z0-9]{6,}")
# Where a thread, or our place in it, is gone for good: trying again would change nothing.
_GONE = frozenset(
    "thread_not_found message_not_found channel_not_found not_in_channel is_archived"
    " cannot_reply_to_message restricted_action user_not_in_channel".split()
)
_UNREADABLE = frozenset("missing_scope not_in_channel channel_not_found thread_not_found".split())
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    channel: str
    thread: str = ""


class Board:
    """Shows escalations in Slack; called with their inbox items, from several threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bot = desk.bot
        self._escalations = desk.store.escalations
        self._posting = desk.clients.posting
        self._patient = desk.clients.patient
        self._settings = desk.settings.trenches
        self._channel = ""
        self._private: dict[str, tuple[float, bool]] = {}

    def __call__(self, item: InboxItem) -> None:
        """Bring Slack up to date; raises one of SLACK_FAILURES where it does not answer."""
        if "reminder" in item.payload:
            self._remind(item.payload["escalation"], int(item.payload["reminder"]))
            return
        while escalation := self._escalations.hold(
            item.payload["escalation"], item.key, _HOLD_SECONDS
        ):
            self._show(escalation)
            if self._escalations.shown(escalation, item.key):
                return

    def tick(self, now: datetime) -> None:
        """What time brings: rules that hand questions on, reminders, and what was left undone."""
        if self._settings.channel:
            self._bot.escalate_due(self._settings, self._is_watched)
        self._escalations.announce_unshown(f"{now:%Y%m%dT%H}")
        for escalation, count in self._overdue(now):
            key = f"{INBOX_KIND}/{escalation.id}/{escalation.version}/reminder/{count}"
            payload = {"escalation": escalation.id, "reminder": count}
            self._desk.receive(key, INBOX_KIND, payload)

    def messages_of(self, escalation: Escalation) -> list[Mapping[str, Any]]:
        """What people wrote in the asker's thread; [] where it can't be read, or not by all."""
        if not escalation.thread or self._is_discreet(escalation):
            return []
        try:
            said = self._patient.conversations_replies(
                channel=escalation.channel, ts=escalation.thread, limit=200
            )
        except SLACK_FAILURES as error:
            _log.info("can't read the thread of %s: %s", escalation.id, why(error))
            return []
        messages: list[Mapping[str, Any]] = said["messages"]
        by_people = [each for each in messages if not each.get("bot_id") and not each.get("hidden")]
        return [each for each in by_people if each["ts"] != escalation.message]

    # Showing

    def _show(self, escalation: Escalation) -> None:
        answer = self._desk.store.answer(escalation.answer_id)
        if escalation.thread:
            self._tell(escalation)
        if self._settings.channel:
            self._show_card(escalation, answer)

    def _show_card(self, escalation: Escalation, answer: Answer | None) -> None:
        shown = cards.card(escalation, self._surroundings(escalation, answer))
        if not self._update(escalation, CARD, shown):
            self._once(escalation, CARD, _Place(self._trenches()), shown)

    def _update(self, escalation: Escalation, name: str, shown: cards.Shown) -> bool:
        """Show this in the message that stands; False where none does yet."""
        standing = self._escalations.post(escalation.id, name)
        if not (standing and standing.ts):
            return False
        self._patient.chat_update(
            channel=standing.channel, ts=standing.ts, text=shown.text, blocks=shown.blocks
        )
        return True

    def _surroundings(self, escalation: Escalation, answer: Answer | None) -> cards.Surroundings:
        retrieved = answer.retrieved if answer else ()
        if escalation.channel and self._is_private(escalation.channel):
            retrieved = tuple(
                each for each in retrieved if not each.document_id.startswith("slack:")
            )
        return cards.Surroundings(
            asked=self._bot.asked_alike(escalation),
            retrieved=retrieved,
            confidence=answer.confidence if answer else 0.0,
            permalink=self._permalink(escalation),
            discreet=self._is_discreet(escalation),
        )

    def _is_discreet(self, escalation: Escalation) -> bool:
        """Whether its words stay where they are: the place is private, and who asked there did
        not hand the question on themselves.
        """
        own = escalation.opened_by == escalation.asker
        return bool(escalation.channel) and not own and self._is_private(escalation.channel)

    def _tell(self, escalation: Escalation) -> None:
        """The asker's lines, one a step, and what follows from a solution."""
        for n, step in enumerate(escalation.history):
            shown = cards.told(escalation, step)
            ts = self._in_thread(escalation, f"{step.state}-{n}", shown) if shown else ""
            if step.state == "solved" and escalation.solution:
                answer = escalation.solution.message or ts
                self._bot.resolve(escalation.channel, escalation.thread, answer, step.person)
        if escalation.solution:
            self._ask_for_consent(escalation)

    def _ask_for_consent(self, escalation: Escalation) -> None:
        shown = cards.consent(escalation)
        if not (escalation.consent and self._update(escalation, CONSENT, shown)):
            self._in_thread(escalation, CONSENT, shown)

    def _in_thread(self, escalation: Escalation, name: str, shown: cards.Shown) -> str:
        """Post once in the asker's thread; '' where that is gone."""
        place = _Place(escalation.channel, escalation.thread)
        try:
            return self._once(escalation, name, place, shown)
        except SlackApiError as error:
            if why(error) not in _GONE:
                raise
            _log.warning("can't tell the asker of %s: %s", escalation.id, why(error))
            return ""

    def _once(self, escalation: Escalation, name: str, place: _Place, shown: cards.Shown) -> str:
        """The timestamp of the message of that name: posted now, unless it was before."""
        begun = self._escalations.begin_post(escalation.id, name)
        if begun and begun.ts:
            return begun.ts
        channel, ts = place.channel, self._find(escalation, begun, place) if begun else ""
        if not ts:
            said = self._posting.chat_postMessage(
                channel=channel,
                thread_ts=place.thread or None,
                text=shown.text,
                blocks=shown.blocks or None,
                metadata={"event_type": EVENT_TYPE, "event_payload": _mark(escalation, name)},
                unfurl_links=False,
                unfurl_media=False,
            )
            channel, ts = str(said["channel"]), str(said["ts"])
        self._escalations.posted(escalation.id, name, channel, ts)
        return ts

    def _find(self, escalation: Escalation, begun: Post, place: _Place) -> str:
        """Where the message stands that an earlier attempt began; '' where it does not."""
        oldest = str(begun.begun_at.timestamp() - _CLOCKS_DIFFER)
        common: dict[str, Any] = {"channel": place.channel, "oldest": oldest, "limit": 200}
        common["include_all_metadata"] = True
        try:
            if place.thread:
                pages = self._patient.conversations_replies(ts=place.thread, **common)
            else:
                pages = self._patient.conversations_history(**common)
            messages = [each for page in pages for each in page["messages"]]
        except SlackApiError as error:
            if why(error) not in _UNREADABLE:
                raise
            _log.warning("can't look for what was posted of %s: %s", escalation.id, why(error))
            return ""
        mark = _mark(escalation, begun.name)
        ours = (each for each in messages if each.get("metadata", {}).get("event_payload") == mark)
        return next((str(each["ts"]) for each in ours), "")

    # Reminders

    def _overdue(self, now: datetime) -> list[tuple[Escalation, int]]:
        """What nobody moved for `remind_hours`, and how many times that long it is by now."""
        if not (self._settings.remind_hours and self._settings.channel):
            return []
        found = []
        for escalation in self._escalations.all(("open", "claimed", "scheduled")):
            since = escalation.changed_at
            if held := escalation.session:
                since = max(
                    since, datetime(held.day.year, held.day.month, held.day.day, tzinfo=UTC)
                )
            hours = (now - since).total_seconds() / 3600
            if count := int(max(hours, 0) // self._settings.remind_hours):
                found.append((escalation, count))
        return found

    def _remind(self, identity: str, count: int) -> None:
        escalation = self._escalations.get(identity)
        card = self._escalations.post(identity, CARD)
        if escalation.is_over or escalation.state == "solved" or not (card and card.ts):
            return
        days = int(count * self._settings.remind_hours // 24)
        name = f"reminder-{escalation.version}-{count}"
        shown = cards.Shown(cards.reminder(escalation, days))
        self._once(escalation, name, _Place(card.channel, card.ts), shown)

    # What Slack knows

    def _is_watched(self, channel: str) -> bool:
        """Whether questions there are to get an answer, for everybody to see."""
        off = channel.startswith("D") or self._desk.rules.of(channel).answer == "off"
        return not off and not self._is_private(channel)

    def _trenches(self) -> str:
        """The id of the trenches channel; its name where Slack does not tell."""
        named = self._settings.channel.lstrip("#")
        if _ID.fullmatch(named):
            return named
        self._channel = self._channel or self._id_of(named)
        return self._channel or named

    def _id_of(self, name: str) -> str:
        for kind in ("public_channel", "private_channel"):
            try:
                pages = self._patient.conversations_list(types=kind, limit=200)
                channels = (each for page in pages for each in page["channels"])
                found = next((each for each in channels if each.get("name") == name), None)
            except SLACK_FAILURES as error:
                _log.warning("can't look for the channel %s: %s", name, why(error))
                continue
            if found:
                return str(found["id"])
        return ""

    def _is_private(self, channel: str) -> bool:
        """Whether only some may read the channel; so it is where Slack does not tell."""
        until, private = self._private.get(channel, (0.0, True))
        if time.monotonic() < until:
            return private
        try:
            about = self._patient.conversations_info(channel=channel)["channel"]
        except SLACK_FAILURES as error:
            _log.warning("can't tell whether %s is private: %s", channel, why(error))
            return True
        private = any(about.get(kind) for kind in ("is_private", "is_im", "is_mpim"))
        self._private[channel] = (time.monotonic() + _KEPT_SECONDS, private)
        return private

    def _permalink(self, escalation: Escalation) -> str:
        """The address of the question, '' where there is none (any more)."""
        if not escalation.channel:
            return ""
        try:
            return str(
                self._patient.chat_getPermalink(
                    channel=escalation.channel, message_ts=escalation.message
                )["permalink"]
            )
        except SlackApiError as error:
            if why(error) not in _GONE:
                raise
            return ""


class Clock:
    """Lets a board tick once a minute, from `start` to `stop`."""

    def __init__(self, desk: Desk) -> None:
        self._board = Board(desk)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trenches-clock", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tick no more; what is being done now ends with its thread."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            try:
                self._board.tick(datetime.now(UTC))
            except (MetaflowbotError, *SLACK_FAILURES) as error:
                _log.warning("the escalations were not looked at: %s", type(error).__name__)


def names_in_thread(client: WebClient, escalation: Escalation) -> frozenset[str]:
    """The names under which people of the asker's thread go; empty where Slack does not tell."""
    names: set[str] = set()
    try:
        said = client.conversations_replies(
            channel=escalation.channel, ts=escalation.thread, limit=200
        )
        for user in {each["user"] for each in said["messages"] if each.get("user")}:
            about = client.users_info(user=user)["user"]
            profile = about.get("profile", {})
            fields = ("real_name", "display_name", "first_name", "last_name")
            names |= {about.get("name", ""), *(profile.get(field, "") for field in fields)}
    except SLACK_FAILURES as error:
        _log.warning("can't read the names in the thread of %s: %s", escalation.id, why(error))
    return frozenset(filter(None, names))


def _mark(escalation: Escalation, name: str) -> dict[str, str]:
    """What a message's metadata holds, so that it is known again."""
    return {"escalation": escalation.id, "name": name}
