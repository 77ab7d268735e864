"""The escalations in the store's database, with what Slack shows of them.

Every change leaves, in its own transaction, an item in the inbox that brings Slack up to date: a
process that dies after the change leaves the item to the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from metaflowbot.database import Database, insert
from metaflowbot.errors import NotFoundError
from metaflowbot.escalation import (
    Escalation,
    Facts,
    Handed,
    Session,
    Solution,
    State,
    Step,
)
from metaflowbot.migrations.schema import ANSWERS, ESCALATION_POSTS, ESCALATIONS, FEEDBACK

INBOX_KIND = "escalation"
_COLUMNS = tuple(Escalation.__dataclass_fields__)


class Keep(Protocol):
    """Puts an item into the inbox, within a transaction; False when its key is known."""

    def __call__(
        self, connection: sa.Connection, key: str, kind: str, payload: Mapping[str, object]
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class Post:
    """A message because of an escalation.

    `channel` and `ts` are '' while nobody knows whether it was posted.
    """

    name: str
    channel: str
    ts: str
    begun_at: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """A thread that nobody escalated, by the newest answer in it."""

    asked: Handed
    facts: Facts


class Escalations:
    """The escalations' part of a database. Made by the store."""

    def __init__(self, database: Database, keep: Keep) -> None:
        self._database = database
        self._keep = keep

    def open(self, fresh: Escalation) -> Escalation:
        """Keep a new escalation; where its thread has one already, that one comes back."""
        row = {**_to_row(fresh), "shown": 0, "holder": ""}
        with self._database.writing() as connection:
            statement = insert(connection, ESCALATIONS).values(row).on_conflict_do_nothing()
            if connection.execute(statement.returning(ESCALATIONS.c.id)).first() is not None:
                self._announce(connection, fresh.id, fresh.version)
        return self.get(fresh.id)

    def save(self, after: Escalation) -> bool:
        """Keep a step in place of the version before it; False where that is not the present one.

        Of two who make a step from the same version one is taken.
        """
        mine = (ESCALATIONS.c.id == after.id) & (ESCALATIONS.c.version == after.version - 1)
        statement = sa.update(ESCALATIONS).where(mine).values(_to_row(after))
        with self._database.writing() as connection:
            if connection.execute(statement).rowcount == 0:
                return False
            self._announce(connection, after.id, after.version)
        return True

    def get(self, identity: str) -> Escalation:
        """The escalation of that id; raises NotFoundError."""
        with self._database.reading() as connection:
            found = sa.select(ESCALATIONS).where(ESCALATIONS.c.id == identity)
            row = connection.execute(found).first()
        if row is None:
            raise NotFoundError(
                f"there is no escalation {identity!r}: `metaflowbot trenches list` names them"
            )
        return _to_escalation(row)

    def of_answer(self, answer_id: str) -> Escalation | None:
        """The escalation of that answer itself; None where there is none."""
        found = sa.select(ESCALATIONS).where(ESCALATIONS.c.answer_id == answer_id)
        with self._database.reading() as connection:
            row = connection.execute(found).first()
        return _to_escalation(row) if row else None

    def unpublished(self, person: str) -> frozenset[str]:
        """The ids of what a person asked that has no published page."""
        theirs = (ESCALATIONS.c.asker == person) & (ESCALATIONS.c.state != "published")
        with self._database.reading() as connection:
            found = connection.execute(sa.select(ESCALATIONS.c.id).where(theirs))
            return frozenset(found.scalars())

    def asked(self, answer_id: str) -> Handed:
        """The question of an answer, with who asked it and where; raises NotFoundError."""
        found = sa.select(ANSWERS).where(ANSWERS.c.id == answer_id)
        with self._database.reading() as connection:
            row = connection.execute(found).first()
        if row is None:
            raise NotFoundError(f"there is no answer {answer_id!r}")
        return _to_handed(row)

    def all(self, states: tuple[State, ...] = ()) -> tuple[Escalation, ...]:
        """The escalations in these states (() means in any), oldest first."""
        wanted = sa.select(ESCALATIONS)
        if states:
            wanted = wanted.where(ESCALATIONS.c.state.in_(states))
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return tuple(sorted(map(_to_escalation, rows), key=lambda each: each.opened_at))

    def counts(self) -> dict[State, int]:
        """How many there are in each state that any is in."""
        each = sa.select(ESCALATIONS.c.state, sa.func.count()).group_by(ESCALATIONS.c.state)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(each)}

    # What Slack shows

    def hold(self, identity: str, holder: str, seconds: float) -> Escalation | None:
        """The escalation, for `holder` alone to show for that long; None while another does.

        Who held it before gets it again, so a holder that died takes up its own work.
        """
        free = ESCALATIONS.c.holder.in_(("", holder)) | (ESCALATIONS.c.held_until < _now())
        until = _now() + timedelta(seconds=seconds)
        take = sa.update(ESCALATIONS).where((ESCALATIONS.c.id == identity) & free)
        with self._database.writing() as connection:
            taken = take.values(holder=holder, held_until=until).returning(ESCALATIONS)
            row = connection.execute(taken).first()
        return _to_escalation(row) if row else None

    def shown(self, escalation: Escalation, holder: str) -> bool:
        """Slack shows this version, and it is held no more.

        False, and it is still held, where there is a newer version by now: that is to be shown.
        """
        mine = (ESCALATIONS.c.id == escalation.id) & (ESCALATIONS.c.holder == holder)
        present = ESCALATIONS.c.version == escalation.version
        done = sa.update(ESCALATIONS).where(mine & present)
        values = {"shown": escalation.version, "holder": "", "held_until": None}
        with self._database.writing() as connection:
            return connection.execute(done.values(values)).rowcount > 0

    def announce_unshown(self, mark: str) -> int:
        """Put those whose present state Slack does not show into the inbox again.

        `mark` keeps it from being done twice for one moment; the number of new items comes back.
        """
        behind = sa.select(ESCALATIONS.c.id, ESCALATIONS.c.version).where(
            (ESCALATIONS.c.shown < ESCALATIONS.c.version)
            & ((ESCALATIONS.c.holder == "") | (ESCALATIONS.c.held_until < _now()))
        )
        with self._database.writing() as connection:
            rows = connection.execute(behind).all()
            return sum(self._announce(connection, row.id, row.version, f"/{mark}") for row in rows)

    def begin_post(self, identity: str, name: str) -> Post | None:
        """Note that a message is going to be posted; what was noted of it before, None for new."""
        row = {"escalation": identity, "name": name, "channel": "", "ts": "", "begun_at": _now()}
        with self._database.writing() as connection:
            fresh = insert(connection, ESCALATION_POSTS).values(row).on_conflict_do_nothing()
            if connection.execute(fresh.returning(ESCALATION_POSTS.c.name)).first():
                return None
        return self.post(identity, name)

    def posted(self, identity: str, name: str, channel: str, ts: str) -> None:
        """The message was posted in that channel, and has this timestamp."""
        same = (ESCALATION_POSTS.c.escalation == identity) & (ESCALATION_POSTS.c.name == name)
        with self._database.writing() as connection:
            connection.execute(
                sa.update(ESCALATION_POSTS).where(same).values(channel=channel, ts=ts)
            )

    def post(self, identity: str, name: str) -> Post | None:
        """What is noted of a message of an escalation; None where it was never begun."""
        same = (ESCALATION_POSTS.c.escalation == identity) & (ESCALATION_POSTS.c.name == name)
        with self._database.reading() as connection:
            row = connection.execute(sa.select(ESCALATION_POSTS).where(same)).first()
        return Post(row.name, row.channel, row.ts, row.begun_at) if row else None

    def answers(self) -> dict[tuple[str, str], str]:
        """Who wrote the answers that were posted in askers' threads, by channel and ts.

        Slack's ids of people; for who answered from elsewhere e.g. 'cli:anna'.
        """
        named = ESCALATION_POSTS.c.name.startswith("solved-") & (ESCALATION_POSTS.c.ts != "")
        both = sa.select(ESCALATION_POSTS, ESCALATIONS.c.history, ESCALATIONS.c.solution)
        with self._database.reading() as connection:
            rows = connection.execute(both.join_from(ESCALATION_POSTS, ESCALATIONS).where(named))
            written = [row for row in rows if row.solution and not row.solution["message"]]
        steps = (step for row in written for step in row.history)
        people = [step["person"] for step in steps if step["state"] == "solved"]
        return {
            (row.channel, row.ts): person.removeprefix("slack:")
            for row, person in zip(written, people, strict=True)
        }

    # What the policy looks at

    def candidates(self, since: datetime) -> tuple[Candidate, ...]:
        """Threads asked in at `since` or later that have no escalation, by their newest answer.

        `watched` and `times_asked` of their facts are left for who knows them.
        """
        newest = (
            sa.select(sa.func.max(ANSWERS.c.asked_at))
            .where((ANSWERS.c.channel != "") & (ANSWERS.c.asked_at >= since))
            .group_by(ANSWERS.c.channel, ANSWERS.c.thread)
        )
        escalated = sa.select(ESCALATIONS.c.channel + "/" + ESCALATIONS.c.thread)
        rows = (
            sa.select(ANSWERS, FEEDBACK.c.verdict)
            .join_from(
                ANSWERS,
                FEEDBACK,
                (FEEDBACK.c.answer_id == ANSWERS.c.id) & FEEDBACK.c.by_asker,
                isouter=True,
            )
            .where(ANSWERS.c.asked_at.in_(newest))
            .where((ANSWERS.c.channel + "/" + ANSWERS.c.thread).not_in(escalated))
        )
        with self._database.reading() as connection:
            return tuple(map(_to_candidate, connection.execute(rows)))

    def down_voted(self, answer_id: str) -> bool:
        """Whether who asked said that the answer did not help."""
        theirs = (FEEDBACK.c.answer_id == answer_id) & FEEDBACK.c.by_asker
        with self._database.reading() as connection:
            verdict = connection.execute(sa.select(FEEDBACK.c.verdict).where(theirs)).scalar()
        return bool(verdict == "down")

    def questions(self, since: datetime, limit: int = 5000) -> tuple[tuple[str, str], ...]:
        """Who asked what at `since` or later, newest first, `limit` at most."""
        asked = sa.select(ANSWERS.c.person, ANSWERS.c.question).where(ANSWERS.c.asked_at >= since)
        with self._database.reading() as connection:
            rows = connection.execute(asked.order_by(ANSWERS.c.asked_at.desc()).limit(limit)).all()
        return tuple((row.person, row.question) for row in rows)

    def forget(self, connection: sa.Connection, person: str) -> int:
        """Erase what a person asked, and take their name off the rest; the number erased."""
        theirs = sa.delete(ESCALATIONS).where(ESCALATIONS.c.asker == person)
        erased = connection.execute(theirs).rowcount
        for row in connection.execute(sa.select(ESCALATIONS)).all():
            before = _to_escalation(row)
            if (after := before.without(person)) != before:
                same = ESCALATIONS.c.id == after.id
                connection.execute(sa.update(ESCALATIONS).where(same).values(_to_row(after)))
        return erased

    def _announce(
        self, connection: sa.Connection, identity: str, version: int, mark: str = ""
    ) -> bool:
        key = f"{INBOX_KIND}/{identity}/{version}{mark}"
        return self._keep(connection, key, INBOX_KIND, {"escalation": identity})


def _now() -> datetime:
    return datetime.now(UTC)


def _to_row(escalation: Escalation) -> dict[str, Any]:
    """The columns; dates and times within JSON are written in ISO 8601."""
    row = asdict(escalation)
    row["history"] = [{**step, "at": step["at"].isoformat()} for step in row["history"]]
    if row["session"]:
        row["session"]["day"] = row["session"]["day"].isoformat()
    return row


def _to_escalation(row: sa.Row[Any]) -> Escalation:
    values = {name: getattr(row, name) for name in _COLUMNS}
    values["reasons"] = tuple(row.reasons)
    values["history"] = tuple(
        Step(**{**step, "at": datetime.fromisoformat(step["at"])}) for step in row.history
    )
    if held := row.session:
        day, people = date.fromisoformat(held["day"]), tuple(held["people"])
        values["session"] = Session(**{**held, "day": day, "people": people})
    if row.solution:
        values["solution"] = Solution(**row.solution)
    return Escalation(**values)


def _to_candidate(row: sa.Row[Any]) -> Candidate:
    facts = Facts(
        abstained=row.abstained,
        confidence=row.confidence,
        down_voted=row.verdict == "down",
        hours=(_now() - row.asked_at).total_seconds() / 3600,
    )
    return Candidate(_to_handed(row), facts)


def _to_handed(row: sa.Row[Any]) -> Handed:
    """Of a row of ANSWERS."""
    return Handed(row.id, row.question, row.person, row.channel, row.thread, row.message)
