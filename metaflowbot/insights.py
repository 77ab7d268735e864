"""Pure summaries of the record: rates, times, and names for groups of questions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from metaflowbot.lexical import terms
from metaflowbot.record import TIME_BUCKETS, Day

_WORD = re.compile(r"@?\w+(?:[._]\w+)*")
_NAME_WORDS = 4
_EVERYWHERE = "metaflow"  # tells no group of questions from another


@dataclass(frozen=True, slots=True)
class Period:
    """Consecutive days as one: `start` is the first of them, `days` their number.

    `helpful` is the share (0 to 1) of verdicts that are up, None where there are none. `median_ms`
    and `p95_ms` are of the time to the whole answer, None where nothing was asked.
    """

    start: date
    days: int
    asked: int
    abstained: int
    up: int
    down: int
    cost_usd: float
    helpful: float | None
    median_ms: float | None
    p95_ms: float | None


def summed(days: Sequence[Day]) -> Period:
    """Days in a row as one period; raises ValueError for none."""
    if not days:
        raise ValueError("a period has at least one day")
    up, down = sum(day.up for day in days), sum(day.down for day in days)
    times = [sum(counts) for counts in zip(*(day.times for day in days), strict=True)]
    return Period(
        start=days[0].day,
        days=len(days),
        asked=sum(day.asked for day in days),
        abstained=sum(day.abstained for day in days),
        up=up,
        down=down,
        cost_usd=sum(day.cost_usd for day in days),
        helpful=up / (up + down) if up + down else None,
        median_ms=quantile(times, 0.5),
        p95_ms=quantile(times, 0.95),
    )


def periods(days: Sequence[Day], most: int = 45) -> tuple[Period, ...]:
    """The days, joined to weeks where they are more than `most`; () for none.

    Weeks are counted back from the last day, so that the last one is whole.
    """
    step = 1 if len(days) <= most else 7
    offset = len(days) % step
    starts = [0] * bool(offset) + list(range(offset, len(days), step))
    return tuple(summed(days[start:end]) for start, end in pairwise((*starts, len(days))))


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The time (ms) that this share (0 to 1) of answers did not exceed; None where there are none.

    `counts` are by TIME_BUCKETS. Within a bucket the times are taken to lie evenly, as Prometheus'
    histogram_quantile does; beyond the last bound it is that bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    lower = 0.0
    for count, upper in zip(counts, TIME_BUCKETS, strict=False):
        if count and rank <= count:
            return lower + (upper - lower) * rank / count
        rank -= count
        lower = upper
    return TIME_BUCKETS[-1]


def names(groups: Sequence[Iterable[str]]) -> tuple[str, ...]:
    """A name for each group of questions, of the words that tell it from the others.

    '' for a group without words. A word counts by the share of the group's questions that have it,
    and by how few groups do (tf-idf, with groups as documents).
    """
    counted = [_counts(list(questions)) for questions in groups]
    having = Counter(term for counts, _ in counted for term in counts)
    return tuple(
        " · ".join(_best(counts, words, having, len(counted))) for counts, words in counted
    )


def _counts(questions: list[str]) -> tuple[Counter[str], dict[str, str]]:
    """How many questions have each term, and the word that it is written as most often."""
    counts: Counter[str] = Counter()
    written: dict[str, Counter[str]] = {}
    for question in questions:
        stems = {}
        for word in _WORD.findall(question):
            found = terms(word)
            if found and len(word) > 1 and word.lower() != _EVERYWHERE:
                stems[found[0]] = word if word.isupper() or word[0] == "@" else word.lower()
        counts.update(stems.keys())
        for stem, word in stems.items():
            written.setdefault(stem, Counter())[word] += 1
    return counts, {stem: words.most_common(1)[0][0] for stem, words in written.items()}


def _best(
    counts: Counter[str], words: dict[str, str], having: Counter[str], groups: int
) -> list[str]:
    def weight(term: str) -> float:
        return counts[term] * math.log(1 + groups / having[term])

    best = sorted(counts, key=lambda term: (-weight(term), term))
    return [words[term] for term in best[:_NAME_WORDS]]
