"""What was seen of Slack's threads, and what maintainers ruled on them, in the store's database.

Ingest writes what it saw; a review takes effect when it reads the thread the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from metaflowbot.errors import NotFoundError
from metaflowbot.migrations.schema import SEEN_THREADS, THREAD_REVIEWS

ThreadState = Literal["quarantined", "unresolved", "resolved"]
ReviewVerdict = Literal["approved", "rejected"]


@dataclass(frozen=True, slots=True)
class SeenThread:
    """A thread as it was read last, judged by its evidence alone.

    `key` is the channel's name, '/', and the root's ts. `title` is scrubbed and names nobody.
    `confidence` (0 to 1) is that it was resolved, `evidence` the kinds that speak for it,
    strongest first; `why` says in a few words why it is not resolved, '' where it is. A `private`
    channel's text may be shown in that channel alone.
    """

    key: str
    title: str
    url: str
    state: ThreadState
    confidence: float
    evidence: tuple[str, ...]
    why: str
    channel: str
    channel_id: str
    private: bool


@dataclass(frozen=True, slots=True)
class Review:
    """What a maintainer ruled. `person` is e.g. 'cli:anna', '' once that person was forgotten."""

    key: str
    verdict: ReviewVerdict
    person: str
    reviewed_at: datetime


class Threads:
    """The threads' part of a database; `begin` opens a transaction. Made by the store."""

    def __init__(self, begin: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._begin = begin

    def note(self, seen: Iterable[SeenThread]) -> None:
        """Keep these in place of all that was seen before: what is gone from Slack goes here.

        Of several with one key the last counts.
        """
        rows = {thread.key: asdict(thread) for thread in seen}
        with self._begin() as connection:
            connection.execute(sa.delete(SEEN_THREADS))
            if rows:
                connection.execute(sa.insert(SEEN_THREADS), list(rows.values()))

    def seen(self) -> tuple[SeenThread, ...]:
        """All threads by key; () before the first reading."""
        with self._begin() as connection:
            rows = connection.execute(sa.select(SEEN_THREADS).order_by(SEEN_THREADS.c.key)).all()
        return tuple(map(_to_thread, rows))

    def thread(self, key: str) -> SeenThread:
        """The thread of that key; raises NotFoundError."""
        with self._begin() as connection:
            return _to_thread(_row(connection, key))

    def review(self, key: str, verdict: ReviewVerdict, person: str) -> Review:
        """Rule on a thread, in place of an earlier ruling; NotFoundError: it was never seen."""
        made = Review(key, verdict, person, datetime.now(UTC))
        with self._begin() as connection:
            _row(connection, key)
            connection.execute(sa.delete(THREAD_REVIEWS).where(THREAD_REVIEWS.c.key == key))
            connection.execute(sa.insert(THREAD_REVIEWS), asdict(made))
        return made

    def reviews(self) -> dict[str, Review]:
        """All rulings, by the thread's key."""
        with self._begin() as connection:
            rows = connection.execute(sa.select(THREAD_REVIEWS)).all()
        return {row.key: Review(**row._mapping) for row in rows}


def without_name(person: str) -> sa.Update:
    """The statement that takes a person's name off their rulings, which stay."""
    theirs = THREAD_REVIEWS.c.person == person
    return sa.update(THREAD_REVIEWS).where(theirs).values(person="")


def _row(connection: sa.Connection, key: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(SEEN_THREADS).where(SEEN_THREADS.c.key == key)).first()
    if row is None:
        raise NotFoundError(
            f"no thread {key!r} was seen: `metaflowbot threads list` names those that were"
        )
    return row


def _to_thread(row: sa.Row[Any]) -> SeenThread:
    values = {**row._mapping, "evidence": tuple(row.evidence)}
    return SeenThread(**values)
