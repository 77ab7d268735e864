"""Questions without a good answer, grouped by meaning, in the store's database.

A question joins the group whose first question is nearest in meaning, or begins one of its own
(leader clustering), so that a new question costs one comparison with each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from metaflowbot.database import Database
from metaflowbot.embedding import Vectors
from metaflowbot.migrations.schema import FEEDBACK, GAPS, QUESTIONS

# Cosine to a group's first question from which a question belongs to it.
_SAME_SUBJECT = 0.5
_SAMPLE = 40


@dataclass(frozen=True, slots=True)
class Gap:
    """Questions that mean much the same: `size` of them, the newest `questions` as (id, text)."""

    leader: str
    size: int
    last_asked_at: datetime
    questions: tuple[tuple[str, str], ...]


class Gaps:
    """The gaps' part of a database. Made by the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ungrouped(self, model: str, limit: int) -> tuple[tuple[str, str], ...]:
        """Ids and texts of questions without a good answer that are in no group yet.

        Groups of vectors of another embedding model than `model` do not count.
        """
        grouped = sa.select(GAPS.c.answer_id).where(GAPS.c.model == model)
        wanted = (
            sa.select(QUESTIONS.c.answer_id, QUESTIONS.c.text)
            .where(_fell_short(), QUESTIONS.c.answer_id.not_in(grouped))
            .order_by(QUESTIONS.c.asked_at)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return tuple((row[0], row[1]) for row in connection.execute(wanted))

    def waiting(self) -> int:
        """How many questions are in no group yet."""
        short = sa.select(QUESTIONS.c.answer_id).where(QUESTIONS.c.abstained).union(_disliked())
        ids = sa.select(short.subquery().c.answer_id)
        left = ids.except_(sa.select(GAPS.c.answer_id)).subquery()
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(left)).scalar_one()

    def group(self, model: str, answer_ids: Sequence[str], vectors: Vectors) -> None:
        """Put questions into groups by their unit vectors (n x dim)."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(GAPS).where(GAPS.c.model != model))
            connection.execute(sa.delete(GAPS).where(GAPS.c.answer_id.in_(answer_ids)))
            leading = sa.select(GAPS.c.answer_id, GAPS.c.vector)
            first = connection.execute(leading.where(GAPS.c.leader == GAPS.c.answer_id)).all()
            leaders = [row.answer_id for row in first]
            known = [np.frombuffer(row.vector, dtype=np.float32) for row in first]
            rows = [
                {
                    "answer_id": answer_id,
                    "leader": _join(answer_id, vector, leaders, known),
                    "model": model,
                    "vector": vector.astype(np.float32).tobytes(),
                }
                for answer_id, vector in zip(answer_ids, vectors, strict=True)
            ]
            connection.execute(sa.insert(GAPS), rows)

    def largest(self, since: datetime, limit: int = 20) -> tuple[Gap, ...]:
        """The groups with most questions asked at `since` or later, largest first."""
        size, last = sa.func.count().label("size"), sa.func.max(QUESTIONS.c.asked_at)
        both = GAPS.c.answer_id == QUESTIONS.c.answer_id
        groups = (
            sa.select(GAPS.c.leader, size, last)
            .join_from(GAPS, QUESTIONS, both)
            .where(_fell_short(), QUESTIONS.c.asked_at >= since)
            .group_by(GAPS.c.leader)
            .order_by(size.desc(), last.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            found = connection.execute(groups).all()
            return tuple(
                Gap(row[0], row[1], row[2], _sample(connection, row[0], since)) for row in found
            )


def _sample(connection: sa.Connection, leader: str, since: datetime) -> tuple[tuple[str, str], ...]:
    newest = (
        sa.select(QUESTIONS.c.answer_id, QUESTIONS.c.text)
        .join_from(GAPS, QUESTIONS, GAPS.c.answer_id == QUESTIONS.c.answer_id)
        .where(GAPS.c.leader == leader, _fell_short(), QUESTIONS.c.asked_at >= since)
        .order_by(QUESTIONS.c.asked_at.desc())
        .limit(_SAMPLE)
    )
    return tuple((row[0], row[1]) for row in connection.execute(newest))


def _disliked() -> sa.Select[Any]:
    return sa.select(FEEDBACK.c.answer_id).where(FEEDBACK.c.verdict == "down")


def _fell_short() -> sa.ColumnElement[bool]:
    return QUESTIONS.c.abstained | QUESTIONS.c.answer_id.in_(_disliked())


def _join(answer_id: str, vector: Vectors, leaders: list[str], known: list[Vectors]) -> str:
    """The group that a question belongs to; it begins one where none is near."""
    if known:
        closeness = np.stack(known) @ vector
        best = int(closeness.argmax())
        if closeness[best] >= _SAME_SUBJECT:
            return leaders[best]
    leaders.append(answer_id)
    known.append(np.asarray(vector, dtype=np.float32))
    return answer_id
