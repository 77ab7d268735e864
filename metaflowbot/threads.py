"""What was seen of Slack's threads, what changed in them, and what people ruled on them.

Ingest writes what it saw; what people change, mark or rule takes effect when it reads the thread
the next time. So the loop from a thread to the index closes through these tables alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from metaflowbot.database import Database, insert
from metaflowbot.errors import NotFoundError
from metaflowbot.migrations.schema import (
    ANSWERS,
    OPT_OUTS,
    SEEN_THREADS,
    THREAD_CHANGES,
    THREAD_MARKS,
    THREAD_REVIEWS,
)

ThreadState = Literal["quarantined", "unresolved", "resolved"]
ReviewVerdict = Literal["approved", "rejected"]

_ERASED = "This answer was erased: somebody whom it quoted asked for that."


@dataclass(frozen=True, slots=True)
class SeenThread:
    """A thread as it was read last, judged by its evidence alone.

    `key` is the channel's name, '/', and the root's ts. `title` is scrubbed and names nobody.
    `confidence` (0 to 1) is that it was resolved, `evidence` the kinds that speak for it,
    strongest first; `why` says in a few words why it is not resolved, '' where it is. A `private`
    channel's text may be shown in that channel alone. `people` are those who wrote in it, e.g.
    'slack:U1', () where that is not known: by them `forget` finds it, and they are shown to nobody.
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
    people: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """What a maintainer ruled. `person` is e.g. 'cli:anna', '' once that person was forgotten."""

    key: str
    verdict: ReviewVerdict
    person: str
    reviewed_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed in the thread with the message at `thread` (a ts) in a channel (its id).

    With both '' somebody withdrew what they wrote: everything is to be judged anew, and older
    generations of the index still hold it. `since` is when the first change was noted that is not
    yet in the index, `changed_at` when the last was.
    """

    channel: str
    thread: str
    since: datetime
    changed_at: datetime

    @property
    def withdrawal(self) -> bool:
        return not self.channel


@dataclass(frozen=True, slots=True)
class Mark:
    """Somebody marked a thread as resolved, by the message at `answer` ('': by the whole of it).

    `channel` is an id, `thread` and `answer` are ts, `person` is e.g. 'slack:U1'.
    """

    channel: str
    thread: str
    answer: str
    person: str


class OptedOut:
    """The Slack ids of the people nothing of whom may be read: known by their hashes alone."""

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        self._hashes = frozenset(hashes)

    def __contains__(self, slack_id: object) -> bool:
        return bool(self._hashes) and _hashed(f"slack:{slack_id}") in self._hashes


class Threads:
    """The threads' part of a database. Made by the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What was seen

    def note(
        self,
        seen: Iterable[SeenThread],
        changes: Iterable[Change] = (),
        unread: Collection[str] = (),
    ) -> None:
        """Keep these in place of all that was seen before: what is gone from Slack goes here.

        Of several with one key the last counts. What was seen of the channels `unread` (ids),
        which could not be read now, stays. `changes` are those that the reading has in it.
        """
        rows = {thread.key: asdict(thread) for thread in seen}
        with self._database.writing() as connection:
            kept = set(unread) - {row["channel_id"] for row in rows.values()}
            stale = SEEN_THREADS.c.channel_id.not_in(kept)
            connection.execute(sa.delete(SEEN_THREADS).where(stale))
            if rows:
                connection.execute(sa.insert(SEEN_THREADS), list(rows.values()))
            for change in changes:
                this = _is_at(change) & (THREAD_CHANGES.c.changed_at == change.changed_at)
                read = sa.update(THREAD_CHANGES).where(this).values(read_at=change.changed_at)
                connection.execute(read)

    def seen(self) -> tuple[SeenThread, ...]:
        """All threads by key; () before the first reading."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(SEEN_THREADS).order_by(SEEN_THREADS.c.key)).all()
        return tuple(map(_to_thread, rows))

    def thread(self, key: str) -> SeenThread:
        """The thread of that key; raises NotFoundError."""
        with self._database.reading() as connection:
            return _to_thread(_row(connection, key))

    # What maintainers ruled

    def review(self, key: str, verdict: ReviewVerdict, person: str) -> Review:
        """Rule on a thread, in place of an earlier ruling; NotFoundError: it was never seen."""
        made = Review(key, verdict, person, datetime.now(UTC))
        with self._database.writing() as connection:
            _row(connection, key)
            connection.execute(sa.delete(THREAD_REVIEWS).where(THREAD_REVIEWS.c.key == key))
            connection.execute(sa.insert(THREAD_REVIEWS), asdict(made))
        return made

    def reviews(self) -> dict[str, Review]:
        """All rulings, by the thread's key."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(THREAD_REVIEWS)).all()
        return {row.key: Review(**row._mapping) for row in rows}

    # What changed

    def changed(self, channel: str, thread: str) -> None:
        """Note that the thread with the message at `thread` (a ts) is to be read again."""
        with self._database.writing(urgent=True) as connection:
            _note_change(connection, channel, thread)

    def changes(self) -> tuple[Change, ...]:
        """What is noted and not yet in the index, the oldest first; () for nothing."""
        columns = [THREAD_CHANGES.c[name] for name in Change.__dataclass_fields__]
        noted = sa.select(*columns).order_by(THREAD_CHANGES.c.since)
        with self._database.reading() as connection:
            return tuple(Change(*row) for row in connection.execute(noted))

    def settle(self, *, unread: bool = False) -> None:
        """What was read is in the index now: drop its changes but those noted again meanwhile.

        Withdrawals go `unread` where nobody reads threads any more: the files hold nothing of them.
        """
        done = THREAD_CHANGES.c.read_at == THREAD_CHANGES.c.changed_at
        if unread:
            done |= THREAD_CHANGES.c.channel == ""
        with self._database.writing() as connection:
            connection.execute(sa.delete(THREAD_CHANGES).where(done))

    def documents(self) -> frozenset[str]:
        """The ids of the documents of all threads that were seen, resolved or not."""
        with self._database.reading() as connection:
            return _documents(connection)

    # What people mark, and who takes no part

    def mark(self, mark: Mark) -> None:
        """Keep a mark and note the change; the same mark twice is one."""
        row = {**asdict(mark), "marked_at": datetime.now(UTC)}
        with self._database.writing() as connection:
            connection.execute(
                insert(connection, THREAD_MARKS).values(row).on_conflict_do_nothing()
            )
            _note_change(connection, mark.channel, mark.thread)

    def marks(self) -> tuple[Mark, ...]:
        """All marks, the oldest first; () for none."""
        columns = [THREAD_MARKS.c[name] for name in Mark.__dataclass_fields__]
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*columns).order_by(THREAD_MARKS.c.marked_at)).all()
        return tuple(Mark(*row) for row in rows)

    def opt_out(self, person: str) -> None:
        """Let nothing of that person ('slack:U1') be read from now on; only a hash is kept.

        Their threads are seen no more, and to be judged anew.
        """
        with self._database.writing() as connection:
            _keep_out(connection, person)

    def opt_in(self, person: str) -> None:
        """Take an opt-out back; nothing where there was none."""
        theirs = OPT_OUTS.c.person_hash == _hashed(person)
        with self._database.writing() as connection:
            connection.execute(sa.delete(OPT_OUTS).where(theirs))

    def opted_out(self) -> OptedOut:
        """Who opted out, as Slack ids."""
        with self._database.reading() as connection:
            return OptedOut(connection.execute(sa.select(OPT_OUTS.c.person_hash)).scalars())


def forget_in_threads(connection: sa.Connection, person: str) -> dict[str, int]:
    """Erase what is known of a person's threads, and their marks; rulings lose the name alone.

    A person of Slack's ('slack:U1') is opted out as well, and other people's answers lose what
    they quote of these threads. Returns the number of rows by kind.
    """
    rulings = THREAD_REVIEWS.c.person == person
    connection.execute(sa.update(THREAD_REVIEWS).where(rulings).values(person=""))
    marks = connection.execute(sa.delete(THREAD_MARKS).where(THREAD_MARKS.c.person == person))
    if not person.startswith("slack:"):
        return {"marks": marks.rowcount}
    threads = _keep_out(connection, person)
    quotes = _forget_quotes(connection)
    return {"marks": marks.rowcount, "threads": threads, "quoting answers": quotes}


def _forget_quotes(connection: sa.Connection) -> int:
    """Take out of all answers what stems from threads that are not known; how many had any."""
    known = _documents(connection)
    sources = (ANSWERS.c.citations, ANSWERS.c.retrieved)
    of_threads = sa.or_(*(sa.cast(it, sa.Text).contains("slack:") for it in sources))
    rows = connection.execute(sa.select(ANSWERS.c.id, *sources).where(of_threads)).all()
    count = 0
    for answer_id, citations, retrieved in rows:
        kept = [it for it in retrieved if not _is_lost(it, known)]
        values: dict[str, object] = {"retrieved": kept}
        if any(_is_lost(it, known) for it in citations):
            values |= {"text": _ERASED, "citations": [], "checks": []}
        if len(values) > 1 or len(kept) < len(retrieved):
            this = sa.update(ANSWERS).where(ANSWERS.c.id == answer_id)
            connection.execute(this.values(values))
            count += 1
    return count


def _is_lost(source: Mapping[str, Any], known: Collection[str]) -> bool:
    """Whether a citation or a retrieved document is a thread that is not in `known`."""
    document = str(source["document_id"])
    return document.startswith("slack:") and document not in known


def _documents(connection: sa.Connection) -> frozenset[str]:
    """The ids of the documents of threads that were seen; once a person was forgotten, of other
    people's alone.
    """
    keys = connection.execute(sa.select(SEEN_THREADS.c.key)).scalars()
    return frozenset(f"slack:{key}" for key in keys)


def _hashed(person: str) -> str:
    return hashlib.sha256(f"opted out: {person}".encode(errors="replace")).hexdigest()


def _keep_out(connection: sa.Connection, person: str) -> int:
    """Opt a person out; the number of threads that they wrote in, of which nothing is kept."""
    row = {"person_hash": _hashed(person), "since": datetime.now(UTC)}
    connection.execute(insert(connection, OPT_OUTS).values(row).on_conflict_do_nothing())
    _note_change(connection, "", "")
    known = connection.execute(sa.select(SEEN_THREADS.c.key, SEEN_THREADS.c.people)).all()
    # Of a thread that was read before people were noted, nobody knows who wrote in it.
    theirs = [{"theirs": key} for key, wrote in known if person in wrote or not wrote]
    if theirs:
        by_key = SEEN_THREADS.c.key == sa.bindparam("theirs")
        connection.execute(sa.delete(SEEN_THREADS).where(by_key), theirs)
    return len(theirs)


def _note_change(connection: sa.Connection, channel: str, thread: str) -> None:
    now = datetime.now(UTC)
    row = {"channel": channel, "thread": thread, "since": now, "changed_at": now, "read_at": None}
    statement = insert(connection, THREAD_CHANGES).values(row)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["channel", "thread"], set_={"changed_at": now}
        )
    )


def _is_at(change: Change) -> sa.ColumnElement[bool]:
    columns = THREAD_CHANGES.c
    return (columns.channel == change.channel) & (columns.thread == change.thread)


def _row(connection: sa.Connection, key: str) -> sa.Row[Any]:
    row = connection.execute(sa.select(SEEN_THREADS).where(SEEN_THREADS.c.key == key)).first()
    if row is None:
        raise NotFoundError(
            f"no thread {key!r} was seen: `metaflowbot threads list` names those that were"
        )
    return row


def _to_thread(row: sa.Row[Any]) -> SeenThread:
    values = {**row._mapping, "evidence": tuple(row.evidence), "people": tuple(row.people)}
    return SeenThread(**values)
