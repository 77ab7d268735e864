"""Summaries of the record: sums, quantiles and names, with nothing in them and with much."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from metaflowbot.insights import names, periods, quantile, summed
from metaflowbot.record import TIME_BUCKETS, Day

NONE = (0,) * (len(TIME_BUCKETS) + 1)


def a_day(number: int, asked: int = 10, up: int = 0, down: int = 0) -> Day:
    times = (asked, *NONE[1:])
    day = date(2026, 1, 1) + timedelta(days=number)
    return Day(day, asked, asked // 5, up, down, asked * 0.01, times)


def test_a_period_sums_its_days_and_weighs_all_verdicts_alike() -> None:
    period = summed([a_day(0, 10, up=1), a_day(1, 20, up=2, down=1)])
    assert (period.asked, period.abstained, period.days) == (30, 6, 2)
    assert period.helpful == 0.75
    assert period.cost_usd == pytest.approx(0.3)


def test_a_quiet_period_has_no_rate_and_no_times() -> None:
    period = summed([Day(date(2026, 1, 1), 0, 0, 0, 0, 0.0, NONE)])
    assert (period.helpful, period.median_ms, period.p95_ms) == (None, None, None)


def test_no_days_are_no_periods() -> None:
    assert periods([]) == ()
    with pytest.raises(ValueError, match="one day"):
        summed([])


def test_many_days_become_weeks_of_which_the_last_is_whole() -> None:
    made = periods([a_day(n) for n in range(90)])
    assert [made[0].days, made[1].days, made[-1].days] == [6, 7, 7]
    assert sum(period.asked for period in made) == 900
    assert [period.days for period in periods([a_day(n) for n in range(30)])] == [1] * 30


def test_a_quantile_lies_within_its_bucket() -> None:
    counts = (0, 0, 0, 50, 50, 0, 0, 0, 0, 0)
    assert quantile(counts, 0.5) == 500.0
    assert quantile(counts, 0.25) == 350.0
    assert quantile(counts, 0.95) == 950.0


def test_a_quantile_beyond_all_bounds_is_the_last_one_and_of_nothing_none() -> None:
    assert quantile((*NONE[:-1], 3), 0.5) == TIME_BUCKETS[-1]
    assert quantile(NONE, 0.5) is None


def test_groups_are_named_by_the_words_that_tell_them_apart() -> None:
    first, second = names(
        [
            ["How do I request a GPU on Kubernetes?", "Kubernetes gpus for my flow"],
            ["Why is my conda environment slow?", "@conda environments resolve slowly in my flow"],
        ]
    )
    assert {"kubernetes", "gpu"} & set(first.split(" · "))
    assert "flow" not in first.split(" · ")[:2]
    assert {"environment", "environments"} & set(second.split(" · "))


def test_groups_without_words_have_no_name() -> None:
    assert names([]) == ()
    assert names([[], ["?!"], ["how do I"]]) == ("", "", "")
