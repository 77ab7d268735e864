"""What every listener and handler of this room works with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from metaflowbot.bot import Vitals
from metaflowbot.domain import Answer, AnswerEvent, Feedback, Question
from metaflowbot.escalation import Escalation, Session, Solution
from metaflowbot.settings import Settings, Trenches
from metaflowbot.slack.clients import Clients, Identity
from metaflowbot.slack.people import People
from metaflowbot.slack.rules import Rules
from metaflowbot.store import Asking, InboxItem, Store


class Bot(Protocol):
    """What this room needs of the bot."""

    def stream(self, question: Question, asking: Asking) -> Iterator[AnswerEvent]: ...

    def rate(self, feedback: Feedback) -> None: ...

    def unrate(self, feedback: Feedback) -> None: ...

    def escalate(self, asking: Asking, answer_id: str, person: str) -> Escalation: ...

    def escalate_due(
        self, rules: Trenches, is_watched: Callable[[str], bool]
    ) -> tuple[Escalation, ...]: ...

    def asked_alike(self, escalation: Escalation) -> tuple[int, int]: ...

    def claim(self, identity: str, person: str) -> Escalation: ...

    def schedule(self, identity: str, session: Session, person: str) -> Escalation: ...

    def solve(self, identity: str, solution: Solution, person: str) -> Escalation: ...

    def decline(self, identity: str, reason: str, person: str) -> Escalation: ...

    def publish(self, identity: str, url: str, person: str) -> Escalation: ...

    def allow_quotes(self, identity: str, person: str, *, given: bool) -> Escalation: ...

    def resolve(self, channel: str, thread: str, answer: str, person: str) -> None: ...

    def forget(self, person: str) -> Mapping[str, int]: ...

    def opt_out(self, person: str) -> None: ...

    def opt_in(self, person: str) -> None: ...

    def vitals(self) -> Vitals: ...

    def outdated(self, answers: Iterable[Answer]) -> frozenset[str]: ...

    def generation(self) -> str: ...


# Works off one item of the inbox; what it raises brings the item back later.
Handler = Callable[[InboxItem], None]
Errand = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts that the listeners and handlers share; `received` wakes the workers.

    `soon` runs an errand beside the listener that gave it: Slack waits three seconds for the
    listener, and itself may take longer than that for what an errand asks of it.
    """

    settings: Settings
    bot: Bot
    store: Store
    identity: Identity
    clients: Clients
    people: People
    rules: Rules
    received: Callable[[], None]
    soon: Callable[[Errand], None]

    def receive(
        self, key: str, kind: str, payload: Mapping[str, object], *, person: str = ""
    ) -> bool:
        """Put something into the inbox and wake a worker; False when it was there already."""
        new = self.store.receive(key, kind, payload, person=person)
        if new:
            self.received()
        return new
