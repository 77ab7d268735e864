"""Hard questions handed to people: when that is due, and what may become of one. Pure.

    open → claimed → scheduled → solved → published
      └───────┴──────────┴──→ declined

A step gives a new Escalation with a version one higher; the store takes it only in place of the
version that it was made from, so of two who act at once one is told what the other did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Literal
from urllib.parse import urlsplit

from metaflowbot.errors import MetaflowbotError, UsageError
from metaflowbot.lexical import terms
from metaflowbot.settings import Trenches

State = Literal["open", "claimed", "scheduled", "solved", "published", "declined"]
Consent = Literal["", "given", "refused"]

LOW_CONFIDENCE = 0.65
"""An answer less sure than this fell short (see confidence.py: it is calibrated, 0 to 1)."""

_ALIKE = 0.5  # the share of common terms from which two questions are one
_FROM: dict[State, frozenset[State]] = {
    "claimed": frozenset({"open"}),
    "scheduled": frozenset({"claimed", "scheduled"}),
    "solved": frozenset({"claimed", "scheduled"}),
    "published": frozenset({"solved"}),
    "declined": frozenset({"open", "claimed", "scheduled"}),
}
_WHAT_IS_NEXT: dict[State, str] = {
    "open": "somebody has to claim it first",
    "claimed": "next it is scheduled or solved",
    "scheduled": "next it is solved",
    "solved": "next its write-up is published",
    "published": "that is its end",
    "declined": "that is its end",
}


class EscalationError(MetaflowbotError):
    """The step can't be taken in the state that the escalation is in; the text names the state."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the history. `person` is e.g. 'slack:U1', '' once that person was forgotten."""

    state: State
    person: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A meeting with the asker. `people` are as in Step; `recording` is a URL, '' before it."""

    day: date
    people: tuple[str, ...] = ()
    recording: str = ""


@dataclass(frozen=True, slots=True)
class Solution:
    """What helped, as Markdown.

    `message` is the timestamp of the message in the asker's thread that says it, '' where a
    maintainer wrote it down apart from the thread.
    """

    text: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Escalation:
    """A question of one thread that people look at, with all that became of it.

    `answer_id` is the answer that fell short. `channel`, `thread` and `message` are as in Asking.
    `reasons` say why it was opened, as words for people. `owner` claimed it, '' before that.
    `url` is the published page. `consent` is the asker's, to be quoted in public. `history` has a
    step for every change of the state, oldest first.
    """

    id: str
    version: int
    state: State
    answer_id: str
    question: str
    asker: str
    channel: str
    thread: str
    message: str
    reasons: tuple[str, ...]
    history: tuple[Step, ...]
    owner: str = ""
    session: Session | None = None
    solution: Solution | None = None
    url: str = ""
    consent: Consent = ""

    @property
    def opened_by(self) -> str:
        """Who asked for people: a person as in Step, or 'policy'."""
        return self.history[0].person

    @property
    def opened_at(self) -> datetime:
        return self.history[0].at

    @property
    def changed_at(self) -> datetime:
        """When the state changed last."""
        return self.history[-1].at

    @property
    def is_over(self) -> bool:
        """Whether nobody has to do anything more."""
        return self.state in ("published", "declined")

    def claim(self, person: str, at: datetime) -> Escalation:
        """Somebody takes it on; EscalationError where it is not open any more."""
        return replace(self._step("claimed", person, at), owner=person)

    def schedule(self, session: Session, person: str, at: datetime) -> Escalation:
        """A session is set, or a set one changed (its day, or its recording is there now)."""
        if session.recording and not is_web_address(session.recording):
            raise UsageError("the recording's link is not an http(s) URL: paste it whole")
        after = self._step("scheduled", person, at, session.day.isoformat())
        return replace(after, session=session)

    def solve(self, solution: Solution, person: str, at: datetime) -> Escalation:
        """It was answered; UsageError for an empty solution."""
        if not solution.text.strip():
            raise UsageError("the solution is empty: choose the message that helped, or write one")
        return replace(self._step("solved", person, at), solution=solution)

    def decline(self, reason: str, person: str, at: datetime) -> Escalation:
        """It is not taken on, for a reason that the asker is told; UsageError without one."""
        if not reason.strip():
            raise UsageError("the reason is empty: tell the asker why")
        return self._step("declined", person, at, reason.strip())

    def publish(self, url: str, person: str, at: datetime) -> Escalation:
        """Its write-up stands at `url`; UsageError where that is no address of a page."""
        if not is_web_address(url):
            raise UsageError(f"{url!r} is not an http(s) URL: give the address of the page")
        return replace(self._step("published", person, at), url=url)

    def allow_quotes(self, *, given: bool) -> Escalation:
        """The asker agrees to be quoted, or does not; either may be said at any time."""
        return replace(self, version=self.version + 1, consent="given" if given else "refused")

    def without(self, person: str) -> Escalation:
        """The same without that person's name."""
        history = tuple(
            replace(step, person="") if step.person == person else step for step in self.history
        )
        session = self.session
        if session:
            people = tuple(each for each in session.people if each != person)
            session = replace(session, people=people)
        owner = "" if self.owner == person else self.owner
        return replace(self, history=history, session=session, owner=owner)

    def _step(self, state: State, person: str, at: datetime, note: str = "") -> Escalation:
        if self.state not in _FROM[state]:
            since = f"{self.changed_at:%Y-%m-%d %H:%M} UTC"
            now = f"it is {self.state} since {since}, {_WHAT_IS_NEXT[self.state]}"
            raise EscalationError(f"it can't be {state}: {now}")
        step = Step(state, person, at, note)
        return replace(self, version=self.version + 1, state=state, history=(*self.history, step))


@dataclass(frozen=True, slots=True)
class Handed:
    """A question that is handed to people: the fields of an Escalation that never change."""

    answer_id: str
    question: str
    asker: str
    channel: str = ""
    thread: str = ""
    message: str = ""

    def escalation(self, person: str, reasons: tuple[str, ...], at: datetime) -> Escalation:
        """The escalation that `person` ('policy' for a rule) opens.

        Its id is made from the thread, or outside Slack from the answer: there is one for each.
        """
        place = f"{self.channel}/{self.thread}" if self.channel else self.answer_id
        identity = hashlib.sha256(place.encode()).hexdigest()[:8]
        history = (Step("open", person, at),)
        kept = asdict(self)
        return Escalation(identity, 1, "open", reasons=reasons, history=history, **kept)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is stored of a question and of the newest answer to it.

    `confidence` is the answer's, 0 to 1. `down_voted` is the asker's own verdict. `resolved` says
    that the thread has its answer. `hours` went by since the answer. `watched` says that the
    place is one where the bot is to see to it that people get an answer. `times_asked` counts
    this time too.
    """

    abstained: bool = False
    confidence: float = 1.0
    down_voted: bool = False
    resolved: bool = False
    hours: float = 0.0
    watched: bool = False
    times_asked: int = 1


def shortcomings(facts: Facts) -> tuple[str, ...]:
    """Why the answer fell short, in words for a maintainer; () where it did not."""
    found = {
        "the bot found no answer": facts.abstained,
        "the bot was not sure of its answer": (
            not facts.abstained and facts.confidence < LOW_CONFIDENCE
        ),
        "the asker said that the answer did not help": facts.down_voted,
    }
    return tuple(reason for reason, holds in found.items() if holds)


def due(facts: Facts, rules: Trenches) -> tuple[str, ...]:
    """Why the question is to be handed to people without anybody asking for it; () if it is not.

    Only a question whose answer fell short is, only where it is watched, and only by a rule that
    the settings turn on.
    """
    short = shortcomings(facts)
    if not short or facts.resolved or not facts.watched:
        return ()
    waited = 0 < rules.after_hours <= facts.hours
    repeated = 0 < rules.times_asked <= facts.times_asked
    reasons = [f"unanswered for {facts.hours:.0f} hours"] * waited
    reasons += [f"asked {facts.times_asked} times"] * repeated
    return (*reasons, *short) if reasons else ()


def topic(question: str) -> frozenset[str]:
    """The terms of a question, by which questions are compared."""
    return frozenset(terms(question))


def alike(one: frozenset[str], others: Iterable[frozenset[str]]) -> int:
    """How many of the other topics are the same one: by the share of terms in common."""
    return sum(_overlap(one, other) >= _ALIKE for other in others)


def is_web_address(url: str) -> bool:
    """Whether the text is an http(s) URL with a host, and nothing else."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    is_plain = not any(character.isspace() or character in "<>|\"'" for character in url)
    return is_plain and parts.scheme in ("http", "https") and ("." in host or host == "localhost")


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard's index, 0 to 1; 0 where both are empty."""
    return len(one & other) / len(one | other) if one or other else 0.0
