"""Which messages are questions for us: listeners that put them into the inbox, no more."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from slack_bolt import App, BoltRequest

from metaflowbot.settings import Channel
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.listening import Heard, is_question, is_trouble
from metaflowbot.slack.markdown import escape
from metaflowbot.slack.replies import Asked
from metaflowbot.slack.signs import Signs
from metaflowbot.slack.writing import Place
from metaflowbot.store import InboxItem

# How a question came to us: said to us, said on in a thread of ours, or said to the channel.
How = Literal["asked", "follow_up", "overheard"]
REFUSALS = {
    "off": "I am switched off in this channel. A maintainer can switch me on; you can also write "
    "to me directly.",
    "people": "In this channel I answer only the people whom its maintainers named. You can write "
    "to me directly.",
    "person": "You asked a lot in the last hour: please give me a break, and ask again a little "
    "later. The pages at https://docs.metaflow.org may help until then.",
    "channel": "This channel asked a lot in the last hour: please ask again a little later, or "
    "write to me directly.",
}
_NOT_TAKEN_IN = (
    "I can't take in your question just now. Slack gives it to me again in a minute, and in five: "
    "if I have not answered by then, please ask again."
)
# What is not acknowledged by then Slack sends again.
_SLACK_WAITS_SECONDS = 3.0
_log = logging.getLogger(__name__)


def listen(app: App, desk: Desk, signs: Signs) -> None:
    """A mention comes as two events, and Slack repeats what it thinks was lost: one key each."""
    taken = _Taken()

    def take(event: dict[str, Any], body: dict[str, Any], request: BoltRequest) -> None:
        heard = Heard.of(event, desk.identity.user_id)
        if heard is None:
            if not event.get("channel"):
                _log.warning("an event of kind %s without a channel", event.get("type"))
            return
        team = str(body.get("team_id") or desk.identity.team_id)
        key = f"{team}/{heard.channel}/{heard.ts}"
        place = Place(team, heard.channel, heard.thread, heard.ts, heard.user, key)
        if not (heard.is_direct or heard.mentions(desk.identity.user_id)):
            _take(desk, signs, heard, place)  # a mention may be edited in: that comes anew
            return
        try:
            with taken.once(key) as is_new:
                if is_new:
                    _take(desk, signs, heard, place)
        except Exception:
            first_again = request.headers.get("x-slack-retry-num") == ["1"]
            if first_again and (heard.is_direct or event["type"] == "app_mention"):
                _tell(desk, place, _NOT_TAKEN_IN)
            raise  # Slack sends it again

    app.event("app_mention")(take)
    app.event({"type": "message", "subtype": None})(take)
    app.event({"type": "message", "subtype": "file_share"})(take)
    app.event({"type": "message", "subtype": "thread_broadcast"})(take)


class _Taken:
    """The keys of the latest messages: what comes again is known without asking the database."""

    def __init__(self, most: int = 10_000) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()
        self._in_hand: dict[str, threading.Lock] = {}

    @contextmanager
    def once(self, key: str) -> Iterator[bool]:
        """Whether a message is new; who comes with the same one meanwhile waits for the outcome.

        It counts as taken once the block ends without an error, and no sooner: what is not stored
        must not be acknowledged. Nobody waits for longer than Slack does: then both store it, which
        the database does once.
        """
        with self._lock:
            turn = self._in_hand.setdefault(key, threading.Lock())
        is_my_turn = turn.acquire(timeout=_SLACK_WAITS_SECONDS)
        try:
            is_new = key not in self._keys
            yield is_new
            if is_new:
                self._add(key)
        finally:
            if is_my_turn:
                turn.release()
            with self._lock:
                self._in_hand.pop(key, None)

    def _add(self, key: str) -> None:
        with self._lock:
            self._keys[key] = None
            if len(self._keys) > self._most:
                self._keys.popitem(last=False)


def _take(desk: Desk, signs: Signs, heard: Heard, place: Place) -> None:
    """Put a message into the inbox where it concerns us."""
    rules = desk.rules.of(heard.channel)
    how = _how(desk, heard, rules)
    if how is None:
        return
    key = place.key
    refusal = refusal_of(desk, heard.channel, heard.user, place.team)
    person, asked = f"slack:{heard.user}", Asked(place, heard.text, how, heard.files)
    if refusal and how == "asked":
        desk.receive(key, "declined", {**asked.payload, "why": refusal}, person=person)
    elif not refusal:
        new = desk.receive(key, "question", asked.payload, person=person)
        if new and how == "asked":
            signs.show(place)


def _how(desk: Desk, heard: Heard, rules: Channel) -> How | None:
    """How a message concerns us; None for what people say to each other."""
    if heard.is_direct or heard.mentions(desk.identity.user_id):
        return "asked"
    if rules.answer == "off" or heard.addresses_people:
        return None
    asks = is_question(heard.text)
    if heard.in_thread and (asks or is_trouble(heard.text)):
        ours = rules.follow_ups and desk.store.slack.posts_in(heard.channel, heard.thread)
        return "follow_up" if ours else None
    is_wanted = asks and not heard.in_thread and rules.answer in ("questions", "suggest")
    return "overheard" if is_wanted else None


def refusal_of(desk: Desk, channel: str, user: str, team: str) -> str:
    """Why we do not answer that person there, a key of REFUSALS; '' if we do."""
    rules = desk.rules.of(channel)
    if rules.answer == "off":
        return "off"
    if rules.people and not desk.people.is_among(user, rules.people):
        return "people"
    limits = desk.settings.limits
    by_person, in_channel = desk.store.slack.asked_lately(f"slack:{user}", f"{team}/{channel}/")
    if limits.person and by_person >= limits.person:
        return "person"
    if limits.channel and in_channel >= limits.channel and not channel.startswith("D"):
        return "channel"
    return ""


def handlers(desk: Desk) -> Mapping[str, Handler]:
    """What becomes of questions that are not answered: a kind line for the person alone."""

    def decline(item: InboxItem) -> None:
        _tell(desk, Asked.of(item).place, escape(REFUSALS[item.payload["why"]]))

    return {"declined": decline}


def _tell(desk: Desk, place: Place, line: str) -> None:
    """Tell the person alone; raises SLACK_FAILURES."""
    if place.channel.startswith("D"):
        desk.clients.posting.chat_postMessage(
            channel=place.channel, thread_ts=place.thread, text=line, unfurl_links=False
        )
        return
    desk.clients.posting.chat_postEphemeral(
        channel=place.channel,
        user=place.user,
        thread_ts=place.thread if place.thread != place.message else None,
        text=line,
    )
