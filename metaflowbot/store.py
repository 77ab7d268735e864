"""The database: answers, the feedback on them, and the inbox of what Slack sent.

SQLite (one file, write-ahead log) or PostgreSQL. Times are UTC. Every method raises StoreError
when the database does not answer; no message text ever reaches a log or an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from metaflowbot.answer_cache import AnswerCache
from metaflowbot.cases import Cases, RatedAnswer
from metaflowbot.database import Database, insert
from metaflowbot.domain import Answer, Citation, Feedback, Retrieved, Turn, Usage
from metaflowbot.escalations import Escalations
from metaflowbot.gaps import Gaps
from metaflowbot.migrations.schema import ANSWERS, AUDIT, FEEDBACK, INBOX, QUESTIONS
from metaflowbot.record import Record, question_row, salted
from metaflowbot.slack_records import SlackRecords, without_person
from metaflowbot.threads import Threads, forget_in_threads

# With the pauses between attempts an hour and more; and a process that is killed again and again
# does not use them up at once.
MAX_ATTEMPTS = 12
# Slack sends an event again for minutes, and nobody misses what was given up on a month ago.
_INBOX_DAYS = 30
# No lease and no pause between attempts is as long: a turn further off was set by a clock that has
# since been put back.
_LONGEST_WAIT = timedelta(seconds=900)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asked, and where. `person` is e.g. 'slack:U1', 'web' or 'cli'.

    `channel`, `thread` and `message` are Slack's ids of the place and timestamps of the thread's
    root and of the question itself, '' outside Slack.
    """

    person: str
    channel: str = ""
    thread: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A claimed item. `attempts` counts this claim too.

    `dead` says that MAX_ATTEMPTS claims have failed before: tell the person and let it be. It is
    kept, counted by `health`, and may be put back in turn by `retry`.
    """

    key: str
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    dead: bool


@dataclass(frozen=True, slots=True)
class DeadItem:
    """An item that was given up on, and why: `error` holds nobody's text."""

    key: str
    kind: str
    error: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class InboxHealth:
    """`depth` items wait or are being worked on, the oldest for `oldest_seconds` (0.0 if none)."""

    depth: int
    oldest_seconds: float
    dead: int


class Store:
    """One database, safe to share between threads. `Store.open` makes it, `close` ends it.

    `threads` is what was seen of Slack's threads, with the reviews of them; `slack` is what the bot
    posted in Slack; `escalations` are the questions that people look at; `record`, `cases` and
    `gaps` are what maintainers look at.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.cache = AnswerCache(database)
        self.threads = Threads(database)
        self.escalations = Escalations(database, self._keep)
        self.slack = SlackRecords(database)
        self.record = Record(database)
        self.cases = Cases(database)
        self.gaps = Gaps(database)

    @classmethod
    def open(cls, url: str) -> Store:
        """Connect and bring the schema up to date; StoreError says in one line why it can't.

        SettingsError where the URL is none.

        `url` is 'sqlite:///PATH' (the folder is made when missing) or 'postgresql://…'.
        """
        return cls(Database(url))

    def ping(self) -> None:
        """Read from the database, or raise StoreError."""
        with self._database.reading() as connection:
            connection.execute(sa.select(INBOX.c.key).limit(1)).first()

    def close(self) -> None:
        """Give back all connections."""
        self._database.close()

    # Answers and feedback

    def save_answer(self, answer: Answer, asking: Asking) -> None:
        """Keep an answer; a second one of the same id is a StoreError."""
        row = {**asdict(answer), **asdict(asking), "asked_at": _now()}
        with self._database.writing() as connection:
            connection.execute(sa.insert(ANSWERS), row)
            connection.execute(sa.insert(QUESTIONS), question_row(row))

    def answer(self, answer_id: str) -> Answer | None:
        """The answer of that id, or None."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(ANSWERS).where(ANSWERS.c.id == answer_id)).first()
        return _to_answer(row) if row else None

    def answer_to(self, asking: Asking) -> Answer | None:
        """The latest answer to that message, or None: what a crash kept from being posted."""
        at = (ANSWERS.c.channel == asking.channel) & (ANSWERS.c.message == asking.message)
        newest = sa.select(ANSWERS).where(at).order_by(ANSWERS.c.asked_at.desc()).limit(1)
        with self._database.reading() as connection:
            row = connection.execute(newest).first()
        return _to_answer(row) if row else None

    def conversation(
        self, channel: str, thread: str = "", *, before: str = "", since: datetime | None = None
    ) -> tuple[Turn, ...]:
        """The questions and answers of a thread, '' for all of a channel's; () for none.

        Oldest first. Only those of messages `before` that ts count, and those given `since` then.
        """
        there = ANSWERS.c.channel == channel
        if thread:
            there &= ANSWERS.c.thread == thread
        if before:
            there &= ANSWERS.c.message < before
        if since:
            there &= ANSWERS.c.asked_at >= since
        turns = sa.select(ANSWERS.c.question, ANSWERS.c.text).where(there)
        with self._database.reading() as connection:
            rows = connection.execute(turns.order_by(ANSWERS.c.asked_at)).all()
        return tuple(
            turn for row in rows for turn in (Turn("user", row[0]), Turn("assistant", row[1]))
        )

    def rate(self, feedback: Feedback) -> None:
        """Keep a verdict, in place of that person's earlier one; NotFoundError: no such answer."""
        missing = f"there is no answer {feedback.answer_id!r}"
        with self._database.writing(missing, urgent=True) as connection:
            asked = sa.select(ANSWERS.c.person).where(ANSWERS.c.id == feedback.answer_id)
            row = {
                **asdict(feedback),
                "person": salted(connection, feedback.person),
                "by_asker": connection.execute(asked).scalar() == feedback.person,
                "rated_at": _now(),
            }
            statement = insert(connection, FEEDBACK).values(row)
            new = statement.excluded
            # The same verdict once more, without a reason, takes no reason back.
            again = (new.verdict == FEEDBACK.c.verdict) & (new.reason == "")
            reason = sa.case((again, FEEDBACK.c.reason), else_=new.reason)
            statement = statement.on_conflict_do_update(
                index_elements=["answer_id", "person"],
                set_={"verdict": new.verdict, "reason": reason, "rated_at": new.rated_at},
            )
            connection.execute(statement)

    def unrate(self, feedback: Feedback) -> None:
        """Take this verdict of that person back; another one of theirs stays."""
        with self._database.writing(urgent=True) as connection:
            same = (
                (FEEDBACK.c.answer_id == feedback.answer_id)
                & (FEEDBACK.c.person == salted(connection, feedback.person))
                & (FEEDBACK.c.verdict == feedback.verdict)
            )
            connection.execute(sa.delete(FEEDBACK).where(same))

    def rated(self, since: datetime | None = None) -> Iterator[RatedAnswer]:
        """Candidates for eval cases, oldest first; see Cases.candidates."""
        return self.cases.candidates(since)

    def forget(self, person: str) -> Mapping[str, int]:
        """Erase one person's rows everywhere, and other people's verdicts on their answers.

        Returns the number of erased rows by table. Reviews of threads stay, without their name.
        """
        theirs = sa.select(ANSWERS.c.id).where(ANSWERS.c.person == person)
        with self._database.reading() as connection:
            hashed = salted(connection, person)
        erase = {
            "feedback": sa.delete(FEEDBACK).where(
                (FEEDBACK.c.person == hashed) | FEEDBACK.c.answer_id.in_(theirs)
            ),
            "answers": sa.delete(ANSWERS).where(ANSWERS.c.person == person),
            "inbox": sa.delete(INBOX).where(INBOX.c.person == person),
        }
        with self._database.writing() as connection:
            counts = {table: connection.execute(rows).rowcount for table, rows in erase.items()}
            counts["escalations"] = self.escalations.forget(connection, person)
            counts["eval cases"] = self.cases.forget(connection, hashed)
            connection.execute(sa.update(AUDIT).where(AUDIT.c.person == hashed).values(person=""))
            counts |= forget_in_threads(connection, person)
            for erase_more in without_person(person):
                connection.execute(erase_more)
        self._database.empty_the_log()
        return counts

    def expire(self, days: int) -> Mapping[str, int]:
        """Erase answers older than `days` with the verdicts on them, 0: none; and old inbox keys.

        Those are of items done or given up on 30 days ago. Returns the number of rows by table.
        """
        settled = (INBOX.c.state != "open") & (INBOX.c.received_at < _days_ago(_INBOX_DAYS))
        erase = {"inbox": sa.delete(INBOX).where(settled)}
        if days:
            erase["answers"] = sa.delete(ANSWERS).where(ANSWERS.c.asked_at < _days_ago(days))
        with self._database.writing() as connection:
            counts = {table: connection.execute(rows).rowcount for table, rows in erase.items()}
        if any(counts.values()):
            self._database.empty_the_log()
        return counts

    # The inbox

    def receive(
        self, key: str, kind: str, payload: Mapping[str, object], *, person: str = ""
    ) -> bool:
        """Keep what came in under its natural key; False when that key is known already.

        `payload` is plain JSON. `person` is whom `forget` erases it for.
        """
        with self._database.writing(urgent=True) as connection:
            return self._keep(connection, key, kind, payload, person)

    def _keep(
        self,
        connection: sa.Connection,
        key: str,
        kind: str,
        payload: Mapping[str, object],
        person: str = "",
    ) -> bool:
        now = _now()
        row = {
            "key": key,
            "kind": kind,
            "person": person,
            "payload": dict(payload),
            "state": "open",
            "attempts": 0,
            "error": "",
            "received_at": now,
            "due_at": now,
        }
        statement = insert(connection, INBOX).values(row).on_conflict_do_nothing()
        return connection.execute(statement.returning(INBOX.c.key)).first() is not None

    def claim(self, lease_seconds: float) -> InboxItem | None:
        """Take the oldest item whose turn has come, for that long; None when there is none.

        One statement, so no two workers get the same item, in one process or in several. Each
        claim is an attempt; the one after the last comes back `dead` and is never claimed again.
        """
        now = _now()
        due = (INBOX.c.due_at <= now) | (INBOX.c.due_at > now + _LONGEST_WAIT)
        turn = (INBOX.c.state == "open") & due
        oldest = sa.select(INBOX.c.key).where(turn).order_by(INBOX.c.received_at).limit(1)
        spent = INBOX.c.attempts >= MAX_ATTEMPTS
        take = (
            sa.update(INBOX)
            .where(INBOX.c.key == oldest.with_for_update(skip_locked=True).scalar_subquery())
            .values(
                state=sa.case((spent, "dead"), else_="open"),
                attempts=INBOX.c.attempts + 1,
                due_at=now + timedelta(seconds=lease_seconds),
            )
            .returning(INBOX)
        )
        with self._database.reading() as connection:
            if connection.execute(oldest).first() is None:
                return None  # an idle worker takes no write lock
        with self._database.writing(lasting=False) as connection:
            row = connection.execute(take).first()
        if row is None:
            return None
        return InboxItem(row.key, row.kind, row.payload, row.attempts, row.state == "dead")

    def renew(self, key: str, lease_seconds: float) -> None:
        """Keep a claimed item for that long from now on."""
        self._change(key, urgent=True, due_at=_now() + timedelta(seconds=lease_seconds))

    def complete(self, key: str) -> None:
        """The item is done: its key stays, so it is never taken twice; its content goes."""
        self._change(key, state="done", payload={})

    def release(self, key: str, *, error: str, retry_in: float) -> None:
        """The attempt failed with `error` (a line without anybody's text).

        Its turn comes again in `retry_in` seconds; after MAX_ATTEMPTS as `dead`.
        """
        self._change(key, error=error, due_at=_now() + timedelta(seconds=retry_in))

    def health(self) -> InboxHealth:
        """How much the inbox holds, and for how long."""
        opened = INBOX.c.state == "open"
        counts = sa.select(
            sa.func.count().filter(opened),
            sa.func.min(INBOX.c.received_at).filter(opened),
            sa.func.count().filter(INBOX.c.state == "dead"),
        )
        with self._database.reading() as connection:
            depth, oldest, dead = connection.execute(counts).one()
        return InboxHealth(depth, (_now() - oldest).total_seconds() if oldest else 0.0, dead)

    def dead(self) -> tuple[DeadItem, ...]:
        """What was given up on, oldest first."""
        columns = (INBOX.c.key, INBOX.c.kind, INBOX.c.error, INBOX.c.received_at)
        given_up = sa.select(*columns).where(INBOX.c.state == "dead")
        with self._database.reading() as connection:
            rows = connection.execute(given_up.order_by(INBOX.c.received_at)).all()
        return tuple(DeadItem(*row) for row in rows)

    def retry(self, key: str = "") -> int:
        """Put an item that was given up on back in turn, '' all of them; how many that were.

        Its next attempt counts as the second, so it first looks whether it was answered before.
        """
        given_up = INBOX.c.state == "dead"
        if key:
            given_up &= INBOX.c.key == key
        again = sa.update(INBOX).where(given_up).values(state="open", attempts=1, due_at=_now())
        with self._database.writing() as connection:
            return connection.execute(again).rowcount

    def _change(self, key: str, *, urgent: bool = False, **values: object) -> None:
        with self._database.writing(lasting=False, urgent=urgent) as connection:
            connection.execute(sa.update(INBOX).where(INBOX.c.key == key).values(**values))


def _now() -> datetime:
    return datetime.now(UTC)


def _days_ago(days: int) -> datetime:
    return _now() - timedelta(days=days)


def _to_answer(row: sa.Row[Any]) -> Answer:
    values = {name: getattr(row, name) for name in Answer.__dataclass_fields__}
    values["citations"] = tuple(Citation(**each) for each in row.citations)
    values["usage"] = Usage(**row.usage)
    values["retrieved"] = tuple(Retrieved(**each) for each in row.retrieved)
    values["checks"] = tuple(row.checks)
    return Answer(**values)
