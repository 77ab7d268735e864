"""Figures with their uncertainty: means, differences and the quality of a confidence.

Intervals are 95 % percentile bootstrap intervals over questions (Efron & Tibshirani 1993, ch. 13)
with a fixed seed, so that the same values give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 2000
_LEVELS = (2.5, 97.5)
_BINS = 10

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number over `n` questions with its interval; all None where it is not defined.

    `low` and `high` are None as well for a figure that has no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Point:
    """The share of wrong answers (`risk`) when only the `coverage` most confident are given."""

    coverage: float
    risk: float


def mean(values: Sequence[float]) -> Figure:
    """The mean; not defined for no values."""
    return _bootstrap(np.asarray(values, dtype=float))


def average(values: Sequence[float]) -> float:
    """The plain mean of at least one value."""
    return float(np.mean(np.asarray(values, dtype=float)))


def difference(before: Sequence[float], after: Sequence[float]) -> Figure:
    """The mean of `after` - `before`, question by question; not defined for no values."""
    return _bootstrap(np.asarray(after, dtype=float) - np.asarray(before, dtype=float))


def percentile(values: Sequence[float], percent: float) -> Figure:
    """A percentile (0 to 100) without an interval; not defined for no values."""
    if not values:
        return Figure(None, None, None, 0)
    return Figure(_rounded(np.percentile(values, percent)), None, None, len(values))


def auroc(right: Sequence[float], wrong: Sequence[float]) -> Figure:
    """The chance that a score out of `right` is above one out of `wrong`; a tie counts half.

    0.5 is no better than guessing. Not defined where either is empty. The interval resamples each
    side by itself.
    """
    above, below = np.asarray(right, dtype=float), np.asarray(wrong, dtype=float)
    if not above.size or not below.size:
        return Figure(None, None, None, above.size + below.size)
    order = np.greater.outer(above, below) + 0.5 * np.equal.outer(above, below)
    samples = [
        order[np.ix_(rows, columns)].mean()
        for rows, columns in zip(_rows(above.size), _rows(below.size, seed=1), strict=True)
    ]
    return _figure(order.mean(), np.asarray(samples), above.size + below.size)


def calibration_error(confidences: Sequence[float], outcomes: Sequence[bool]) -> Figure:
    """Expected calibration error over ten bins of equal width (Guo et al. 2017), 0 is best.

    The mean distance between a bin's confidence and its share of good outcomes, weighted by the
    bin's size. Not defined for no values.
    """
    claimed, came = np.asarray(confidences, dtype=float), np.asarray(outcomes, dtype=float)
    if not claimed.size:
        return Figure(None, None, None, 0)
    bins = np.minimum((claimed * _BINS).astype(int), _BINS - 1)

    def error(rows: Rows) -> float:
        gaps = np.bincount(bins[rows], weights=(claimed - came)[rows], minlength=_BINS)
        return float(np.abs(gaps).sum() / rows.size)

    return _resampled(error, claimed.size)


def kappa(first: Sequence[str], second: Sequence[str]) -> Figure:
    """Cohen's kappa of two raters' labels of the same items (Cohen 1960), item by item.

    1 is agreement everywhere, 0 what chance alone gives. Not defined for no items, and where both
    give all items one label: then chance agrees everywhere as well. Resamples in which that
    happens are left out of the interval.
    """
    ours, theirs = np.asarray(first), np.asarray(second)
    if not ours.size:
        return Figure(None, None, None, 0)
    labels = np.unique(np.r_[ours, theirs])

    def agreement(rows: Rows) -> float:
        a, b = ours[rows], theirs[rows]
        chance = sum(float((a == label).mean() * (b == label).mean()) for label in labels)
        return float("nan") if chance == 1 else (float((a == b).mean()) - chance) / (1 - chance)

    whole = agreement(np.arange(ours.size))
    if np.isnan(whole):
        return Figure(None, None, None, ours.size)
    samples = np.asarray([agreement(rows) for rows in _rows(ours.size)])
    return _figure(whole, samples[~np.isnan(samples)], ours.size)


def risk_coverage(confidences: Sequence[float], outcomes: Sequence[bool]) -> tuple[Point, ...]:
    """The curve at every tenth of coverage, rising; () for no values.

    Among equal confidences the bad outcomes count first, so that ties never flatter.
    """
    n = len(confidences)
    ranked = sorted(zip(confidences, outcomes, strict=True), key=lambda pair: (-pair[0], pair[1]))
    bad = np.cumsum([not outcome for _, outcome in ranked])
    sizes = sorted({max(1, round(n * tenth / 10)) for tenth in range(1, 11)}) if n else []
    return tuple(Point(round(size / n, 4), _rounded(bad[size - 1] / size)) for size in sizes)


def _bootstrap(values: Values) -> Figure:
    if not values.size:
        return Figure(None, None, None, 0)
    return _figure(values.mean(), values[_rows(values.size)].mean(axis=1), values.size)


def _resampled(statistic: Callable[[Rows], float], n: int) -> Figure:
    samples = np.asarray([statistic(rows) for rows in _rows(n)])
    return _figure(statistic(np.arange(n)), samples, n)


def _figure(value: float, samples: Values, n: int) -> Figure:
    low, high = np.percentile(samples, _LEVELS)
    return Figure(_rounded(value), _rounded(low), _rounded(high), n)


@lru_cache(maxsize=64)
def _rows(n: int, seed: int = 0) -> Rows:
    """The rows of each resample (_SAMPLES x n)."""
    return np.random.default_rng(seed).integers(0, n, size=(_SAMPLES, n))


def _rounded(value: float) -> float:
    return round(float(value), 4)
