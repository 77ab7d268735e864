"""Candidates for eval cases, and what maintainers made of them, in the store's database.

Candidates are answers with a verdict, those in whose place people gave a better one, and
abstentions from a question that found its answer later. Accepted ones are written to a file that
`metaflowbot evals run --dataset` reads:

    <home>/evals/cases/cases.jsonl          the dataset as it is now
    <home>/evals/cases/history/0007.jsonl   as it was after the seventh decision
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from metaflowbot.database import Database
from metaflowbot.disk import replacing
from metaflowbot.domain import Citation, Verdict
from metaflowbot.errors import NotFoundError, UsageError
from metaflowbot.migrations.schema import (
    ANSWERS,
    ESCALATIONS,
    EVAL_CASES,
    FEEDBACK,
    QUESTIONS,
    SEEN_THREADS,
)
from metaflowbot.record import salted

KINDS = ("question", "near-miss", "off-topic")
"""What a case is for: a question that the sources answer, or one from which to abstain."""

_PAGE = 20
_FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,}).*?(?:^[ \t]*\1|\Z)", re.M | re.S)
_writing = threading.Lock()


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """A candidate: an answer with one person's verdict on it, or that fell short.

    `reference` is what a maintainer answered in its place, where the question was handed to
    people; `verdict` is None where nobody gave one besides.
    """

    answer_id: str
    question: str
    answer: str
    verdict: Verdict | None
    reason: str
    citations: tuple[Citation, ...]
    asked_at: datetime
    generation: str
    prompt_version: str
    model: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class EvalCase:
    """A question with what a good answer rests on; `kind` is one of KINDS.

    `gold` are ids of the documents that answer it, () where it is one from which to abstain.
    """

    answer_id: str
    question: str
    kind: str = KINDS[0]
    gold: tuple[str, ...] = ()
    answer_points: tuple[str, ...] = ()

    def checked(self) -> EvalCase:
        """The same, tidied; raises UsageError that says what it lacks."""
        points = tuple(filter(None, (point.strip() for point in self.answer_points)))
        gold = tuple(dict.fromkeys(filter(None, (name.strip() for name in self.gold))))
        if not self.question.strip():
            raise UsageError("the question is empty: write what was asked")
        if self.kind not in KINDS:
            raise UsageError(f"{self.kind!r} is no kind of case: choose one of {', '.join(KINDS)}")
        if self.kind == KINDS[0] and not gold:
            raise UsageError(
                "there is no document: name those that answer it, or choose near-miss or off-topic"
            )
        if self.kind != KINDS[0] and gold:
            raise UsageError(f"a {self.kind} has no document: leave the field empty")
        question = self.question.strip()
        return replace(self, question=question, gold=gold, answer_points=points)

    def line(self) -> str:
        """The case as the evals read it."""
        values: dict[str, object] = {"id": self.answer_id, "question": self.question}
        values |= {"gold": list(self.gold), "kind": self.kind, "origin": "feedback"}
        if self.answer_points:
            values["answer_points"] = list(self.answer_points)
        return json.dumps(values, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer in the queue. `rated` has a line for each verdict; `proposed` is to be edited."""

    rated: tuple[RatedAnswer, ...]
    abstained: bool
    proposed: EvalCase

    @property
    def first(self) -> RatedAnswer:
        return self.rated[0]


class Cases:
    """The candidates' part of a database. Made by the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def candidates(self, since: datetime | None = None) -> Iterator[RatedAnswer]:
        """The candidates of `since` or later (None: all), oldest first.

        They count as of the verdict; without one, of when the question was asked.
        """
        counted_at = sa.func.coalesce(FEEDBACK.c.rated_at, ANSWERS.c.asked_at)
        rows = _rated().where(_is_candidate()).order_by(counted_at)
        if since is not None:
            rows = rows.where(counted_at >= since)
        with self._database.reading() as connection:
            yield from map(_to_rated, connection.execute(rows))

    def queue(self, number: int = 1) -> tuple[tuple[Candidate, ...], int]:
        """A page of what nobody decided on, newest first, and how many there are in all."""
        left = _waiting().subquery()
        newest = (
            sa.select(QUESTIONS.c.answer_id)
            .join(left, left.c.answer_id == QUESTIONS.c.answer_id)
            .order_by(QUESTIONS.c.asked_at.desc())
            .limit(_PAGE)
            .offset((number - 1) * _PAGE)
        )
        with self._database.reading() as connection:
            wanted = list(connection.execute(newest).scalars())
            found = tuple(_candidate(connection, answer_id) for answer_id in wanted)
        return found, self.waiting()

    def waiting(self) -> int:
        """How many candidates nobody decided on."""
        count = sa.select(sa.func.count()).select_from(_waiting().subquery())
        with self._database.reading() as connection:
            return connection.execute(count).scalar_one()

    def candidate(self, answer_id: str) -> Candidate:
        """One candidate; raises NotFoundError, also where it was decided on."""
        with self._database.reading() as connection:
            decided = sa.select(EVAL_CASES).where(EVAL_CASES.c.answer_id == answer_id)
            known = sa.select(ANSWERS.c.id).where(ANSWERS.c.id == answer_id, _is_candidate())
            if connection.execute(decided).first() or not connection.execute(known).first():
                raise NotFoundError(f"{answer_id} waits for no decision: reload the queue")
            return _candidate(connection, answer_id)

    def accept(self, case: EvalCase) -> None:
        """Take a candidate as a case, as edited; raises UsageError, NotFoundError."""
        self._decide(case.checked(), "accepted")

    def reject(self, answer_id: str) -> None:
        """Take a candidate out of the queue; raises NotFoundError."""
        self._decide(EvalCase(answer_id, "", ""), "rejected")

    def accepted(self) -> tuple[EvalCase, ...]:
        """All cases, oldest decision first."""
        with self._database.reading() as connection:
            return _accepted(connection)

    def write(self, home: Path) -> Path:
        """Write the dataset's file; where it is. Raises MetaflowbotError where it can't be."""
        folder = home / "evals" / "cases"
        with _writing:
            with self._database.reading() as connection:
                cases = _accepted(connection)
                decisions = sa.select(sa.func.count()).select_from(EVAL_CASES)
                version = connection.execute(decisions).scalar_one()
            text = "".join(case.line() + "\n" for case in cases)
            for name in ("cases.jsonl", f"history/{version:04}.jsonl"):
                with replacing(folder / name) as file:
                    file.write(text)
        return folder / "cases.jsonl"

    def forget(self, connection: sa.Connection, person: str) -> int:
        """Erase the cases made of what a person (a salted hash) asked; the number of them."""
        theirs = sa.delete(EVAL_CASES).where(EVAL_CASES.c.person == person)
        return connection.execute(theirs).rowcount

    def _decide(self, case: EvalCase, verdict: str) -> None:
        self.candidate(case.answer_id)
        with self._database.writing() as connection:
            asker = sa.select(ANSWERS.c.person).where(ANSWERS.c.id == case.answer_id)
            row = {
                **asdict(case),
                "verdict": verdict,
                "person": salted(connection, connection.execute(asker).scalar_one()),
                "decided_at": datetime.now(UTC),
            }
            connection.execute(sa.insert(EVAL_CASES), row)


def rewrite(home: Path, cases: Cases) -> None:
    """Write the dataset anew, and drop all of its history: something in it was erased."""
    for old in (home / "evals" / "cases" / "history").glob("*.jsonl"):
        old.unlink(missing_ok=True)
    cases.write(home)


def _accepted(connection: sa.Connection) -> tuple[EvalCase, ...]:
    columns = [EVAL_CASES.c[name] for name in EvalCase.__dataclass_fields__]
    taken = sa.select(*columns).where(EVAL_CASES.c.verdict == "accepted")
    rows = connection.execute(taken.order_by(EVAL_CASES.c.decided_at)).all()
    return tuple(
        EvalCase(row.answer_id, row.question, row.kind, tuple(row.gold), tuple(row.answer_points))
        for row in rows
    )


def _rated() -> sa.Select[Any]:
    return (
        sa.select(ANSWERS, FEEDBACK.c.verdict, FEEDBACK.c.reason, ESCALATIONS.c.solution)
        .join_from(ANSWERS, FEEDBACK, isouter=True)
        .outerjoin(ESCALATIONS, ESCALATIONS.c.answer_id == ANSWERS.c.id)
    )


def _all() -> sa.CompoundSelect[Any]:
    solved = sa.select(ESCALATIONS.c.answer_id).where(ESCALATIONS.c.solution.is_not(sa.null()))
    return sa.union(sa.select(FEEDBACK.c.answer_id), solved, _answered_later())


def _waiting() -> sa.CompoundSelect[Any]:
    ids = sa.select(_all().subquery().c.answer_id)
    return ids.except_(sa.select(EVAL_CASES.c.answer_id))


def _is_candidate() -> sa.ColumnElement[bool]:
    return ANSWERS.c.id.in_(sa.select(_all().subquery().c.answer_id))


def _answered_later() -> sa.Select[Any]:
    """Abstentions whose question was answered since, by the bot or in a thread now resolved."""
    later = QUESTIONS.alias()
    again = (
        sa.select(later.c.answer_id)
        .where(later.c.topic == QUESTIONS.c.topic, later.c.asked_at > QUESTIONS.c.asked_at)
        .where(~later.c.abstained, later.c.topic != "")
    )
    resolved = (
        sa.select(ANSWERS.c.id)
        .join(
            SEEN_THREADS,
            (SEEN_THREADS.c.channel_id == ANSWERS.c.channel)
            & (SEEN_THREADS.c.key == SEEN_THREADS.c.channel + "/" + ANSWERS.c.thread),
        )
        .where(ANSWERS.c.id == QUESTIONS.c.answer_id, SEEN_THREADS.c.state == "resolved")
    )
    short = sa.select(QUESTIONS.c.answer_id).where(QUESTIONS.c.abstained)
    return short.where(again.exists() | resolved.exists())


def _to_rated(row: sa.Row[Any]) -> RatedAnswer:
    names = ("question", "verdict", "asked_at", "generation", "prompt_version", "model")
    return RatedAnswer(
        answer_id=row.id,
        answer=row.text,
        citations=tuple(Citation(**each) for each in row.citations),
        reason=row.reason or "",
        reference=row.solution["text"] if row.solution else None,
        **{name: getattr(row, name) for name in names},
    )


def _candidate(connection: sa.Connection, answer_id: str) -> Candidate:
    rows = connection.execute(_rated().where(ANSWERS.c.id == answer_id)).all()
    first = rows[0]
    cited = dict.fromkeys(each["document_id"] for each in first.citations)
    gold = tuple(_threads(connection, first) or cited)
    if first.abstained and not first.solution:
        gold = tuple(_threads(connection, first))
    kind = "near-miss" if first.abstained and not gold else "question"
    points = _points(first.solution["text"]) if first.solution else ()
    proposed = EvalCase(answer_id, first.question, kind, gold, points)
    return Candidate(tuple(map(_to_rated, rows)), first.abstained, proposed)


def _points(reference: str) -> tuple[str, ...]:
    """What a human answered, a point a line: to be edited. Code is no point."""
    lines = _FENCED.sub("", reference).splitlines()
    return tuple(filter(None, (line.strip(" \t-*>#") for line in lines)))


def _threads(connection: sa.Connection, answer: sa.Row[Any]) -> Sequence[str]:
    """The document of the resolved thread in which it was asked, if there is one."""
    if not answer.thread:
        return ()
    key = SEEN_THREADS.c.channel + "/" + answer.thread
    found = sa.select(SEEN_THREADS.c.key).where(
        SEEN_THREADS.c.channel_id == answer.channel,
        SEEN_THREADS.c.key == key,
        SEEN_THREADS.c.state == "resolved",
    )
    return [f"slack:{each}" for each in connection.execute(found).scalars()]
