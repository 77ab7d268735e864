"""What changed from one run to another: by score, and question by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evals import figures, significance
from evals.figures import Figure
from evals.measures import CORRECT, EXACT, GATED
from evals.runs import Outcome, Run
from metaflowbot.errors import UsageError

Verdict = Literal["better", "worse", "tie"]

_Values = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Change:
    """One score in two runs, over the questions that both have; `change` is after - before.

    `p` is the chance of a change as large if nothing changed, `p_fall` that of a fall as deep,
    adjusted for the number of gated scores that have chance in them (1.0 for others).
    `detectable` is the fall that would be noticed four times in five. `moved` counts questions
    that fell and that rose.
    """

    score: str
    before: Figure
    after: Figure
    change: Figure
    gated: bool
    p: float
    p_fall: float
    detectable: float
    moved: tuple[int, int]

    @property
    def verdict(self) -> Verdict:
        """A tie unless so much would hardly change by chance."""
        chance = self.p >= significance.LEVEL and self.score not in EXACT
        if chance or not self.change.value:
            return "tie"
        return "better" if self.change.value > 0 else "worse"

    @property
    def is_regression(self) -> bool:
        """Whether a gated score fell, and more than chance makes of so many gated scores."""
        return self.gated and _is_fall(self.score, self.p_fall, self.moved[0])


@dataclass(frozen=True, slots=True)
class Moved:
    """One question whose scores changed: the score that moved most, and both outcomes."""

    id: str
    score: str
    change: float
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one run to another; `moved` begins with what fell most."""

    changes: tuple[Change, ...]
    moved: tuple[Moved, ...]
    notices: tuple[str, ...]

    @property
    def fallen(self) -> tuple[str, ...]:
        """The gated scores that fell significantly."""
        return tuple(change.score for change in self.changes if change.is_regression)

    @property
    def is_regression(self) -> bool:
        """Whether a gated score fell significantly."""
        return bool(self.fallen)


def compare(before: Run, after: Run) -> Comparison:
    """Pair the questions of two runs; raises UsageError where they have no score in common."""
    pairs = _pairs(before, after)
    changes = tuple(_changes(pairs, _gated(before, after)))
    if not changes:
        raise UsageError("the two runs have no scored question in common")
    moved = (item for name, pair in pairs.items() for item in _moved(name, *pair))
    return Comparison(
        changes,
        tuple(sorted(moved, key=lambda item: item.change)),
        tuple(_differences(before, after)),
    )


def regressions(before: Run, after: Run) -> tuple[str, ...]:
    """The gated scores that fell significantly: what `compare` finds, without what it tells."""
    both = _paired(_pairs(before, after))
    gated = [name for name in _gated(before, after) if name in both]
    p_falls = _p_falls(both, gated)
    fell = {name: sum(new < old for old, new in zip(*both[name], strict=True)) for name in gated}
    return tuple(name for name in gated if _is_fall(name, p_falls.get(name, 1.0), fell[name]))


def _is_fall(score: str, p_fall: float, fell: int) -> bool:
    """Where there is no chance in a score any question that fell makes a fall."""
    return fell > 0 if score in EXACT else p_fall < significance.LEVEL


def _pairs(before: Run, after: Run) -> dict[str, tuple[Outcome, Outcome]]:
    return {
        name: (before.questions[name], after.questions[name])
        for name in before.questions
        if name in after.questions
    }


def _gated(before: Run, after: Run) -> tuple[str, ...]:
    """The scores that stop a change; grades only of one judge that is trusted in both runs."""
    is_one = before.subject.judges[:1] == after.subject.judges[:1]
    judged = is_one and before.judge_is_trusted and after.judge_is_trusted
    return GATED + (CORRECT,) * judged


def _p_falls(both: Mapping[str, _Values], gated: Sequence[str]) -> dict[str, float]:
    """The p-value of each gated score's fall, adjusted for how many have chance in them."""
    tested = [name for name in gated if name in both and name not in EXACT]
    falls = significance.holm([significance.p_fall(*both[name]) for name in tested])
    return dict(zip(tested, falls, strict=True))


def _changes(
    pairs: Mapping[str, tuple[Outcome, Outcome]], gated: tuple[str, ...]
) -> Iterator[Change]:
    both = _paired(pairs)
    adjusted = _p_falls(both, gated)
    for name, (earlier, later) in both.items():
        steps = [new - old for old, new in zip(earlier, later, strict=True)]
        yield Change(
            score=name,
            before=figures.mean(earlier),
            after=figures.mean(later),
            change=figures.difference(earlier, later),
            gated=name in gated,
            p=round(significance.p_change(earlier, later), 6),
            p_fall=round(adjusted.get(name, 1.0), 6),
            detectable=_detectable(name, earlier, later, len(adjusted)),
            moved=(sum(step < 0 for step in steps), sum(step > 0 for step in steps)),
        )


def _detectable(name: str, before: Sequence[float], after: Sequence[float], tests: int) -> float:
    """The fall that would be noticed; of a score without chance in it a single case."""
    if name in EXACT:
        return round(1 / len(before), 4)
    return significance.detectable(before, after, tests)


def _paired(pairs: Mapping[str, tuple[Outcome, Outcome]]) -> dict[str, _Values]:
    """The values of each score in both runs, over the questions that have it in both."""
    both: dict[str, _Values] = {}
    for old, new in pairs.values():
        for name in old.scores:
            if name in new.scores:
                earlier, later = both.setdefault(name, ([], []))
                earlier.append(old.scores[name])
                later.append(new.scores[name])
    return both


def _moved(name: str, old: Outcome, new: Outcome) -> Iterator[Moved]:
    changes = {
        score: new.scores[score] - value
        for score, value in old.scores.items()
        if score in new.scores
    }
    if any(changes.values()):
        most = max(changes, key=lambda score: abs(changes[score]))
        yield Moved(name, most, round(changes[most], 4), old, new)


def _differences(before: Run, after: Run) -> Iterator[str]:
    if before.subject.dataset_sha256 != after.subject.dataset_sha256:
        yield "the datasets differ: only questions of the same id are compared"
    if before.subject.judges != after.subject.judges:
        names = [", ".join(run.subject.judges) or "none" for run in (before, after)]
        yield f"the judges differ ({names[0]}; {names[1]}): grades are not gated"
    alone = before.questions.keys() ^ after.questions.keys()
    if alone:
        yield f"{len(alone)} questions are in one run only: {', '.join(sorted(alone)[:5])}"
