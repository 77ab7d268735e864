"""What the statistics catch, tried out: `python -m evals.power [RUN [AGAIN]]`.

Two runs of the same thing must not be told apart (A/A), and a planted fall must be. Both are tried
on runs made of one that there is, by default the accepted baseline:

A/A with one run    both sides are the run with some of its scores drawn anew (`--noise`), as from
                    a bot whose answers vary
A/A with two runs   the questions are drawn with replacement, and each one's two outcomes are put
                    on sides at random: the noise is that of the runs
a planted fall      that many points of the mean are taken off one score alone, on questions drawn
                    at random; the other side and the rest vary as above
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evals import comparison, gate, runs, significance, tables
from evals.measures import EXACT, GATED
from evals.runs import Run
from metaflowbot.errors import UsageError

_FALLS = (0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4)


@dataclass(frozen=True, slots=True)
class Trials:
    """So many tries with one run, of which the share `noise` of the scores varies."""

    run: Run
    random: np.random.Generator
    count: int = 100
    noise: float = 0.05

    def false_alarms(self, again: Run | None = None) -> int:
        """How many pairs of runs of the same thing are a regression."""
        return sum(bool(comparison.regressions(*self._alike(again))) for _ in range(self.count))

    def _alike(self, again: Run | None) -> tuple[Run, Run]:
        if again is None:
            return self._varied(self.run), self._varied(self.run)
        return resampled(self.run, again, self.random)

    def caught(self, name: str, points: float) -> int:
        """How many falls of a score's mean are told as a regression of that score."""
        return sum(
            name in comparison.regressions(*self._apart(name, points)) for _ in range(self.count)
        )

    def _apart(self, name: str, points: float) -> tuple[Run, Run]:
        lower = fallen(self.run, name, points, self.random)
        return self._varied(self.run), self._varied(lower)

    def _varied(self, run: Run) -> Run:
        return varied(run, self.random, self.noise)


def main(words: Sequence[str] | None = None) -> int:
    """Print both; 0 where at most 5 % are false alarms, 1 where more are, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m evals.power")
    parser.add_argument("run", nargs="?", type=Path, default=gate.BASELINE, help="a run's file")
    parser.add_argument("again", nargs="?", type=Path, help="another run of the same thing")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.05, help="the share that is drawn anew")
    given = parser.parse_args(words)
    try:
        run = runs.load(given.run)
        again = runs.load(given.again) if given.again else None
    except UsageError as error:
        print(f"power: {error}", file=sys.stderr)
        return 2
    trials = Trials(run, np.random.default_rng(given.seed), given.trials, given.noise)
    alarms = trials.false_alarms(again)
    print(f"A/A: {alarms} false alarms in {given.trials} pairs of runs of the same thing\n")
    made = tables.table("% caught of a fall of", "n", *(f"{fall:.0%}" for fall in _FALLS))
    for name in GATED:
        n = sum(name in item.scores for item in run.questions.values())
        found = [100 * trials.caught(name, fall) / given.trials for fall in _FALLS]
        made.add_row(name, str(n), *(f"{share:.0f}" for share in found))
    tables.console().print(made)
    return int(alarms > significance.LEVEL * given.trials)


def varied(run: Run, random: np.random.Generator, share: float) -> Run:
    """The run made again by a bot that varies: that share of the scores is drawn anew.

    Each is drawn from those of all questions; those that have no chance in them stay.
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


def fallen(run: Run, name: str, points: float, random: np.random.Generator) -> Run:
    """The run with that much taken off the mean of a score, from whole questions and a rest."""
    questions = dict(run.questions)
    left = points * sum(name in item.scores for item in questions.values())
    have = [key for key, item in questions.items() if item.scores.get(name, 0) > 0]
    for key in random.permutation(have):
        if left < 1e-9:
            break
        item = questions[key]
        off = min(left, item.scores[name])
        left -= off
        questions[key] = replace(item, scores=item.scores | {name: item.scores[name] - off})
    return replace(run, questions=questions)


def resampled(run: Run, again: Run, random: np.random.Generator) -> tuple[Run, Run]:
    """Two runs over questions drawn with replacement, each with its outcomes on either side."""
    both = [name for name in run.questions if name in again.questions]
    left, right = {}, {}
    for place, name in enumerate(random.choice(both, size=len(both))):
        sides = [run.questions[name], again.questions[name]]
        first = int(random.integers(2))
        left[f"{place}"], right[f"{place}"] = sides[first], sides[1 - first]
    return replace(run, questions=left), replace(again, questions=right)


if __name__ == "__main__":
    sys.exit(main())
