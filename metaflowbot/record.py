"""The record: every question as it is listed and counted, and who changed what.

Part of the store's database. Questions are listed from a narrow table beside the answers, so that
a page over a hundred thousand of them reads little.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from metaflowbot.database import Database
from metaflowbot.domain import Verdict
from metaflowbot.errors import NotFoundError
from metaflowbot.lexical import terms
from metaflowbot.migrations.schema import (
    ANSWERS,
    AUDIT,
    FEEDBACK,
    QUESTIONS,
    SALTS,
    SEEN_THREADS,
)

PAGE = 50
_LISTED_CHARS = 500  # with four bytes for each it still fits into an index of PostgreSQL
# Upper bounds in milliseconds; the last bucket has none. Rows are kept by them, so they stay.
TIME_BUCKETS = (50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 30000.0)

Outcome = Literal["", "answered", "abstained"]
Rated = Literal["", "up", "down", "none"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which questions to list; '' and None leave a field open.

    `text` is looked for in the question, without regard to case. Days are in UTC, both included.
    """

    text: str = ""
    since: date | None = None
    until: date | None = None
    channel: str | None = None
    outcome: Outcome = ""
    verdict: Rated = ""
    model: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A question in a list. `text` is its beginning; `up` and `down` count verdicts."""

    answer_id: str
    asked_at: datetime
    channel: str
    text: str
    abstained: bool
    confidence: float
    model: str
    total_ms: float
    cost_usd: float
    up: int = 0
    down: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `number` counts from 1, `total` is over all pages."""

    questions: tuple[Listed, ...]
    number: int
    total: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE))


@dataclass(frozen=True, slots=True)
class Given:
    """A verdict on an answer; `person` is a salted hash."""

    verdict: Verdict
    reason: str
    person: str
    by_asker: bool
    rated_at: datetime


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and by whom (a salted hash) a question was asked; `thread_url` is '' where unknown."""

    person: str
    channel: str
    thread: str
    message: str
    asked_at: datetime
    thread_url: str


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on a day. `times` counts answers by TIME_BUCKETS, and the slower ones last."""

    day: date
    asked: int
    abstained: int
    up: int
    down: int
    cost_usd: float
    times: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """Questions of the same terms: how many, the newest one, and when it was asked."""

    topic: str
    times: int
    text: str
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A change that a maintainer made; `person` is a salted hash, '' once forgotten."""

    at: datetime
    person: str
    action: str
    subject: str


class Record:
    """The record's part of a database. Made by the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Questions

    def page(self, wanted: Filter, number: int = 1) -> Page:
        """A page of the questions that match, newest first; an empty one past the last."""
        matching = _conditions(wanted)
        newest = (
            sa.select(*_listed_columns())
            .where(*matching)
            .order_by(QUESTIONS.c.asked_at.desc(), QUESTIONS.c.answer_id.desc())
            .limit(PAGE)
            .offset((number - 1) * PAGE)
        )
        count = sa.select(sa.func.count()).select_from(QUESTIONS).where(*matching)
        with self._database.reading() as connection:
            rows = connection.execute(newest).all()
            is_last = 0 < len(rows) < PAGE or (not rows and number == 1)
            before = (number - 1) * PAGE
            total = before + len(rows) if is_last else connection.execute(count).scalar_one()
        return Page(tuple(Listed(*row) for row in rows), number, total)

    def choices(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The channels and the models that questions have, in order: what a filter offers."""
        both = sa.select(QUESTIONS.c.channel, QUESTIONS.c.model).distinct()
        with self._database.reading() as connection:
            rows = connection.execute(both).all()
        return tuple(sorted({row[0] for row in rows})), tuple(sorted({row[1] for row in rows}))

    def origin(self, answer_id: str) -> Origin:
        """Where an answer's question came from; raises NotFoundError."""
        same_thread = (SEEN_THREADS.c.channel_id == ANSWERS.c.channel) & (
            SEEN_THREADS.c.key == SEEN_THREADS.c.channel + "/" + ANSWERS.c.thread
        )
        names = ("person", "channel", "thread", "message", "asked_at")
        found = (
            sa.select(*(ANSWERS.c[name] for name in names), SEEN_THREADS.c.url)
            .join_from(ANSWERS, SEEN_THREADS, same_thread, isouter=True)
            .where(ANSWERS.c.id == answer_id)
        )
        with self._database.reading() as connection:
            row = connection.execute(found).first()
            if row is None:
                raise NotFoundError(f"there is no answer {answer_id!r}")
            person = salted(connection, row.person)
        return Origin(person, *row[1:5], thread_url=row.url or "")

    def verdicts(self, answer_id: str) -> tuple[Given, ...]:
        """All verdicts on an answer, oldest first."""
        columns = [FEEDBACK.c[name] for name in Given.__dataclass_fields__]
        given = sa.select(*columns).where(FEEDBACK.c.answer_id == answer_id)
        with self._database.reading() as connection:
            rows = connection.execute(given.order_by(FEEDBACK.c.rated_at)).all()
        return tuple(Given(*row) for row in rows)

    def may_be_shared(self, answer_id: str) -> bool:
        """Whether an answer may be shown outside the place it was given in.

        It may where that was outside Slack, or in a thread of a channel that is known as public.
        """
        public = sa.select(SEEN_THREADS.c.channel_id).where(~SEEN_THREADS.c.private)
        in_public = (ANSWERS.c.thread != "") & ANSWERS.c.channel.in_(public)
        shown = sa.select(ANSWERS.c.id).where(
            ANSWERS.c.id == answer_id, (ANSWERS.c.channel == "") | in_public
        )
        with self._database.reading() as connection:
            return connection.execute(shown).first() is not None

    # Sums

    def days(self, since: date) -> tuple[Day, ...]:
        """What happened on each day from `since` to today, in order, quiet days too."""
        day, first = QUESTIONS.c.day, since.isoformat()
        parts = (day, QUESTIONS.c.abstained, QUESTIONS.c.bucket)
        counts = (
            sa.select(*parts, sa.func.count(), sa.func.sum(QUESTIONS.c.cost_usd))
            .where(day >= first)
            .group_by(*parts)
        )
        rated = (
            sa.select(day, FEEDBACK.c.verdict, sa.func.count())
            .join_from(FEEDBACK, QUESTIONS, QUESTIONS.c.answer_id == FEEDBACK.c.answer_id)
            .where(FEEDBACK.c.rated_at >= _midnight(since))
            .group_by(day, FEEDBACK.c.verdict)
        )
        with self._database.reading() as connection:
            asked: dict[str, list[tuple[Any, ...]]] = {}
            for row in connection.execute(counts):
                asked.setdefault(row[0], []).append(tuple(row))
            given = {(row[0], row[1]): row[2] for row in connection.execute(rated)}
        span = (datetime.now(UTC).date() - since).days + 1
        return tuple(_to_day(since + timedelta(days=n), asked, given) for n in range(span))

    def repeated(self, since: date, limit: int = 20) -> tuple[Repeated, ...]:
        """Questions that were asked more than once since then, the most frequent first."""
        times = sa.func.count().label("times")
        most = (
            sa.select(QUESTIONS.c.topic, times, sa.func.max(QUESTIONS.c.asked_at).label("last"))
            .where(QUESTIONS.c.topic != "", QUESTIONS.c.asked_at >= _midnight(since))
            .group_by(QUESTIONS.c.topic)
            .having(sa.func.count() > 1)
            .order_by(times.desc(), sa.desc("last"))
            .limit(limit)
            .subquery()
        )
        newest = (
            sa.select(most.c.topic, most.c.times, QUESTIONS.c.text, most.c.last)
            .join(
                QUESTIONS,
                (QUESTIONS.c.topic == most.c.topic) & (QUESTIONS.c.asked_at == most.c.last),
            )
            .order_by(most.c.times.desc(), most.c.last.desc())
        )
        with self._database.reading() as connection:
            rows = connection.execute(newest).all()
        return tuple({row.topic: Repeated(*row) for row in rows}.values())

    # Who changed what

    def log(self, person: str, action: str, subject: str) -> None:
        """Keep that `person` (e.g. 'web:…') did this; `subject` is an id, nobody's text."""
        with self._database.writing() as connection:
            who = salted(connection, person)
            row = {"at": datetime.now(UTC), "person": who, "action": action, "subject": subject}
            connection.execute(sa.insert(AUDIT), row)

    def entries(self, limit: int = 200) -> tuple[Entry, ...]:
        """The latest changes, newest first."""
        columns = [AUDIT.c[name] for name in Entry.__dataclass_fields__]
        with self._database.reading() as connection:
            newest = sa.select(*columns).order_by(AUDIT.c.id.desc()).limit(limit)
            return tuple(Entry(*row) for row in connection.execute(newest))


def question_row(answer: Mapping[Any, Any]) -> dict[str, Any]:
    """The row of QUESTIONS for a row of ANSWERS."""
    text, total_ms = answer["question"][:_LISTED_CHARS], answer["timings_ms"].get("total", 0.0)
    copied = ("asked_at", "channel", "abstained", "confidence", "model")
    return {
        **{name: answer[name] for name in copied},
        "answer_id": answer["id"],
        "day": answer["asked_at"].astimezone(UTC).date().isoformat(),
        "text": text,
        "folded": text.casefold()[:_LISTED_CHARS],
        "topic": topic(answer["question"]),
        "total_ms": float(total_ms),
        "bucket": bisect_left(TIME_BUCKETS, total_ms),
        "cost_usd": float(answer["usage"].get("cost_usd", 0.0)),
    }


def topic(question: str) -> str:
    """The same for questions of the same terms, in any order; '' for a question without any."""
    found = sorted(set(terms(question)))
    return hashlib.sha256(" ".join(found).encode()).hexdigest()[:16] if found else ""


def person_hash(salt: str, person: str) -> str:
    """A person as a hash that only who has the salt can find again."""
    digest = hmac.new(salt.encode(), person.encode(errors="replace"), hashlib.sha256)
    return digest.hexdigest()[:32]


def salted(connection: sa.Connection, person: str) -> str:
    """A person as this database writes them; '' stays ''."""
    if not person:
        return ""
    salt = sa.select(SALTS.c.salt).where(SALTS.c.name == "people")
    return person_hash(connection.execute(salt).scalar_one(), person)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _listed_columns() -> Iterable[Any]:
    names = [name for name in Listed.__dataclass_fields__ if name not in ("up", "down")]
    yield from (QUESTIONS.c[name] for name in names)
    for verdict in ("up", "down"):
        yield (
            sa.select(sa.func.count())
            .where(FEEDBACK.c.answer_id == QUESTIONS.c.answer_id, FEEDBACK.c.verdict == verdict)
            .scalar_subquery()
        )


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    columns, words = QUESTIONS.c, wanted.text.casefold()
    until = wanted.until if wanted.until != date.max else None
    day_after = until and _midnight(until) + timedelta(days=1)
    given: list[tuple[bool, Callable[[], sa.ColumnElement[bool]]]] = [
        (bool(words), lambda: columns.folded.contains(words, autoescape=True)),
        (wanted.since is not None, lambda: columns.asked_at >= _midnight(wanted.since or date.min)),
        (day_after is not None, lambda: columns.asked_at < day_after),
        (wanted.channel is not None, lambda: columns.channel == wanted.channel),
        (bool(wanted.outcome), lambda: columns.abstained == (wanted.outcome == "abstained")),
        (bool(wanted.verdict), lambda: _has_verdict(wanted.verdict)),
        (bool(wanted.model), lambda: columns.model == wanted.model),
        (bool(wanted.topic), lambda: columns.topic == wanted.topic),
    ]
    return [condition() for is_given, condition in given if is_given]


def _has_verdict(verdict: Rated) -> sa.ColumnElement[bool]:
    rated = sa.select(FEEDBACK.c.answer_id)
    if verdict == "none":
        return QUESTIONS.c.answer_id.not_in(rated)
    return QUESTIONS.c.answer_id.in_(rated.where(FEEDBACK.c.verdict == verdict))


def _to_day(
    day: date, asked: Mapping[str, list[tuple[Any, ...]]], given: Mapping[tuple[str, str], int]
) -> Day:
    rows = asked.get(day.isoformat(), [])
    times = [0] * (len(TIME_BUCKETS) + 1)
    for _, _, bucket, count, _ in rows:
        times[bucket] += count
    up, down = (given.get((day.isoformat(), verdict), 0) for verdict in ("up", "down"))
    abstained, cost = sum(row[3] for row in rows if row[1]), sum(row[4] for row in rows)
    return Day(day, sum(times), abstained, up, down, float(cost), tuple(times))
