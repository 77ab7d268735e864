"""Promises of the evals' statistics: exact tests, their correction, and what a set can show."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from evals import comparison, figures, gate, runs, significance
from evals.measures import EXACT, GATED
from evals.runs import Run


def test_mcnemar_equals_the_binomial_worked_out_by_hand() -> None:
    assert significance.mcnemar(0, 0) == 1.0
    assert significance.mcnemar(5, 0) == 1 / 32
    assert significance.mcnemar(4, 1) == (comb(5, 4) + 1) / 32
    assert significance.mcnemar(0, 5) == 1.0


def test_right_and_wrong_answers_are_held_against_each_other_by_mcnemar() -> None:
    before, after = [1, 1, 1, 1, 0, 1], [0, 0, 0, 1, 1, 1]
    assert significance.p_fall(before, after) == significance.mcnemar(3, 1)
    assert significance.p_change(before, after) == 2 * significance.mcnemar(3, 1)


def test_other_scores_are_held_against_each_other_by_flipping_signs() -> None:
    before, after = [0.5, 0.9, 0.8], [0.4, 0.7, 0.9]
    # Of the eight sums of ±0.1 ±0.2 ±0.1, those of -0.2 and below: -0.4, -0.2, -0.2.
    assert significance.p_fall(before, after) == 3 / 8


def test_nothing_that_moved_and_no_questions_are_no_fall() -> None:
    assert significance.p_fall([1.0, 0.5], [1.0, 0.5]) == 1.0
    assert significance.p_change([], []) == 1.0
    assert np.isnan(significance.detectable([], [], 3))


def test_holm_equals_the_adjustment_worked_out_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.5, 0.9]) == [1.0, 1.0]
    assert significance.holm([]) == []


def test_kappa_equals_that_worked_out_by_hand() -> None:
    ours = ["right"] * 4 + ["wrong"] * 4 + ["partly"] * 2
    theirs = ["right"] * 3 + ["wrong"] * 5 + ["partly"] * 2
    chance = 0.4 * 0.3 + 0.4 * 0.5 + 0.2 * 0.2
    found = figures.kappa(ours, theirs)
    assert found.value == pytest.approx((0.9 - chance) / (1 - chance), abs=1e-4)
    assert found.low is not None and found.low < found.value <= 1.0  # type: ignore[operator]


def test_kappa_is_not_defined_without_items_or_with_one_label_for_all() -> None:
    assert figures.kappa([], []).value is None
    assert figures.kappa(["right"] * 3, ["right"] * 3).value is None
    assert figures.kappa(["right", "wrong"], ["wrong", "right"]).value == -1.0


# What the gate catches, on the set that comes with Metaflowbot


@pytest.fixture(scope="module")
def accepted() -> Run:
    return runs.load(gate.BASELINE)


def noisy(run: Run, random: np.random.Generator, share: float = 0.05) -> Run:
    """The run made again by a bot that varies: that share of the scores is drawn anew.

    Those that have no chance in them stay.
    """
    pools: dict[str, list[float]] = {}
    for outcome in run.questions.values():
        for name, value in outcome.scores.items():
            pools.setdefault(name, []).append(value)

    def again(name: str, value: float) -> float:
        varies = name not in EXACT and random.random() < share
        return float(random.choice(pools[name])) if varies else value

    drawn = {
        key: replace(item, scores={name: again(name, it) for name, it in item.scores.items()})
        for key, item in run.questions.items()
    }
    return replace(run, questions=drawn)


def fallen(run: Run, names: tuple[str, ...], points: float, random: np.random.Generator) -> Run:
    """The run with that much taken off the mean of some scores, on questions drawn at random."""
    questions = dict(run.questions)
    for name in names:
        have = [key for key, item in questions.items() if item.scores.get(name, 0) > 0]
        total = points * sum(name in item.scores for item in questions.values())
        for key in random.permutation(have):
            if total <= 0:
                break
            total -= questions[key].scores[name]
            scores = questions[key].scores | {name: 0.0}
            questions[key] = replace(questions[key], scores=scores)
    return replace(run, questions=questions)


def test_two_runs_of_the_same_bot_are_hardly_ever_a_regression(accepted: Run) -> None:
    random = np.random.default_rng(11)
    alarms = sum(
        comparison.compare(noisy(accepted, random), noisy(accepted, random)).is_regression
        for _ in range(100)
    )
    assert alarms <= 5


@pytest.mark.parametrize("name", ["abstention/right decision", "retrieval/nDCG@10"])
def test_a_planted_fall_of_ten_points_is_mostly_caught(accepted: Run, name: str) -> None:
    random = np.random.default_rng(12)
    caught = sum(
        comparison.compare(
            accepted, noisy(fallen(accepted, (name,), 0.1, random), random, 0.01)
        ).is_regression
        for _ in range(50)
    )
    assert caught >= 40


@pytest.mark.parametrize("name", EXACT)
def test_a_single_case_that_does_not_hold_any_more_is_a_regression_where_nothing_varies(
    accepted: Run, name: str
) -> None:
    key = next(key for key, item in accepted.questions.items() if item.scores.get(name) == 1)
    item = accepted.questions[key]
    broken = {key: replace(item, scores=item.scores | {name: 0.0})}
    fell = comparison.compare(accepted, replace(accepted, questions=accepted.questions | broken))
    assert [change.score for change in fell.changes if change.is_regression] == [name]


def test_every_gated_score_is_in_the_shipped_baseline(accepted: Run) -> None:
    have = {name for outcome in accepted.questions.values() for name in outcome.scores}
    assert set(GATED) <= have
