"""Promises of the evals' statistics: exact tests, their correction, and what a set can show."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from evals import comparison, figures, gate, runs, significance
from evals.measures import EXACT, GATED
from evals.power import Trials, fallen, varied
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


def test_two_runs_of_the_same_bot_are_hardly_ever_a_regression(accepted: Run) -> None:
    assert Trials(accepted, np.random.default_rng(11)).false_alarms() <= 5


def test_two_real_runs_are_told_apart_by_what_differs_between_them_alone(accepted: Run) -> None:
    random = np.random.default_rng(11)
    assert Trials(accepted, random, 5).false_alarms(accepted) == 0
    again = varied(accepted, random, 0.05)
    assert Trials(accepted, random, 40).false_alarms(again) <= 2


@pytest.mark.parametrize("name", [name for name in GATED if name not in EXACT])
def test_a_planted_fall_of_ten_points_is_mostly_caught(accepted: Run, name: str) -> None:
    assert Trials(accepted, np.random.default_rng(12), 25).caught(name, 0.1) >= 20


def test_a_planted_fall_takes_off_as_many_points_as_it_says(accepted: Run) -> None:
    name = "retrieval/nDCG@10"
    lower = fallen(accepted, name, 0.1, np.random.default_rng(13))
    (change,) = [it for it in comparison.compare(accepted, lower).changes if it.score == name]
    assert change.change.value == pytest.approx(-0.1, abs=1e-4)
    assert comparison.regressions(accepted, lower) == (name,)


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
