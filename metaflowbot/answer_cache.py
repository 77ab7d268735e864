"""Answers that may be given again, and what answers have cost, in the store's database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from metaflowbot.database import Database
from metaflowbot.embedding import Vectors
from metaflowbot.migrations.schema import ANSWER_CACHE, ANSWERS, FEEDBACK

# Cosine of two ways to put one question: below it the words may be the same and the sense is not.
_SAME = 0.95


@dataclass(frozen=True, slots=True)
class Kept:
    """The id of an answer that may be given again, and when it was given first."""

    answer_id: str
    asked_at: datetime


class AnswerCache:
    """The cache's part of a database. Made by the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, answer_id: str, key: str, vector: Vectors, first_id: str = "") -> None:
        """An answer that is stored may be given again; `first_id` is what it was given again for.

        `key` says for which question, index, prompts and model; `vector` is the question's.
        """
        row = {
            "answer_id": answer_id,
            "first_id": first_id or answer_id,
            "key": key,
            "vector": vector.astype(np.float32).tobytes(),
        }
        with self._database.writing() as connection:
            connection.execute(sa.insert(ANSWER_CACHE), row)

    def find(self, key: str, vector: Vectors) -> Kept | None:
        """The latest answer to the same question, None where there is none, or one was disliked.

        A verdict against an answer, or against any time it was given again, takes it out.
        """
        given = ANSWER_CACHE.alias()
        disliked = (
            sa.select(FEEDBACK.c.answer_id)
            .join(given, given.c.answer_id == FEEDBACK.c.answer_id)
            .where(given.c.first_id == ANSWER_CACHE.c.answer_id, FEEDBACK.c.verdict == "down")
        )
        rows = (
            sa.select(ANSWERS.c.id, ANSWERS.c.asked_at, ANSWER_CACHE.c.vector)
            .join_from(ANSWER_CACHE, ANSWERS, ANSWERS.c.id == ANSWER_CACHE.c.answer_id)
            .where(ANSWER_CACHE.c.key == key, ANSWER_CACHE.c.first_id == ANSWER_CACHE.c.answer_id)
            .where(~disliked.exists())
            .order_by(ANSWERS.c.asked_at.desc())
        )
        with self._database.reading() as connection:
            found = connection.execute(rows).all()
        same = (row for row in found if _is_same(row.vector, vector))
        return next((Kept(row.id, row.asked_at) for row in same), None)

    def spent(self, since: datetime, person: str = "") -> float:
        """US dollars that answers have cost since then, of one person or ('') of all."""
        cost = sa.func.sum(ANSWERS.c.usage["cost_usd"].as_float())
        paid = sa.select(cost).where(ANSWERS.c.asked_at >= since)
        if person:
            paid = paid.where(ANSWERS.c.person == person)
        with self._database.reading() as connection:
            return float(connection.execute(paid).scalar() or 0.0)


def _is_same(data: bytes, vector: Vectors) -> bool:
    kept = np.frombuffer(data, dtype=np.float32)
    return kept.shape == vector.shape and float(kept @ vector) >= _SAME
