"""Whether a change between two runs is more than chance, question by question.

Scores that are right or wrong are held against each other by McNemar's exact test: of the
questions that changed, how many went which way? (McNemar 1947; exact by the binomial.) Other
scores by a sign-flip test: were the runs alike, each question's difference might as well have had
the other sign (Fisher 1935). Several scores are gated at once, so their p-values are adjusted
(Holm 1979): the chance that any of them falls by chance alone stays below LEVEL.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
POWER = 0.8
_FLIPS = 20_000
# Standard normal quantiles of 1 - LEVEL and of POWER.
_Z_LEVEL, _Z_POWER = 1.645, 0.842


def p_fall(before: Sequence[float], after: Sequence[float]) -> float:
    """The chance of a fall at least as deep if nothing changed; 1.0 where no question changed."""
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    moved = change[change != 0]
    if not moved.size:
        return 1.0
    if np.abs(moved).min() == np.abs(moved).max():
        return mcnemar(int((moved < 0).sum()), int((moved > 0).sum()))
    return _sign_flip(moved)


def p_change(before: Sequence[float], after: Sequence[float]) -> float:
    """The same for a change in either direction: twice the smaller of the two, at most 1."""
    return min(1.0, 2 * min(p_fall(before, after), p_fall(after, before)))


def mcnemar(fell: int, rose: int) -> float:
    """The one-sided exact p-value that so many fell; 1.0 where nothing moved."""
    moved = fell + rose
    return float(sum(comb(moved, k) for k in range(fell, moved + 1)) / 2**moved)


def _sign_flip(moved: NDArray[np.float64]) -> float:
    """Exact for up to 14 questions, else by _FLIPS draws with a fixed seed."""
    signs = _signs(moved.size)
    sums = signs @ np.abs(moved)
    at_most = int((sums <= moved.sum() + 1e-12).sum())
    if moved.size <= 14:
        return at_most / len(sums)
    return (at_most + 1) / (len(sums) + 1)


@lru_cache(maxsize=32)
def _signs(n: int) -> NDArray[np.int8]:
    if n <= 14:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return (2 * bits - 1).astype(np.int8)
    drawn = np.random.default_rng(0).integers(0, 2, size=(_FLIPS, n), dtype=np.int8)
    return (2 * drawn - 1).astype(np.int8)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for how many there are, in the order given; [] for none."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def detectable(before: Sequence[float], after: Sequence[float], tests: int) -> float:
    """The smallest fall of the mean that would be caught POWER of the time, as one of `tests`.

    By the normal approximation with the spread of these differences; never less than what the
    exact test needs when every question that moves falls by a whole point. NaN for no questions.
    """
    n = len(before)
    if not n:
        return float("nan")
    fewest = 1
    while 0.5**fewest > LEVEL / max(tests, 1):
        fewest += 1
    spread = float(np.std(np.asarray(after, float) - np.asarray(before, float)))
    return round(min(1.0, max(fewest / n, (_Z_LEVEL + _Z_POWER) * spread / sqrt(n))), 4)
