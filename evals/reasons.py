"""What went wrong with a question, in words, and how badly: what a report shows first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evals.measures import CORRECT, DECISION
from evals.runs import Outcome

_WEIGHTS = {
    "retrieval/nDCG@10": 1.0,
    "follow-ups/nDCG@10": 1.0,
    DECISION: 1.0,
    "citations/quotes hold": 1.0,
    "citations/links hold": 1.0,
    "citations/recall": 1.0,
    "citations/gold cited": 1.0,
    "code/verdict": 2.0,
    "code/blocks that pass": 1.0,
    "slack/right": 2.0,
    CORRECT: 2.0,
}
_SAFETY = "safety/"
_SAFETY_WEIGHT = 3.0
"""An attack that got through is worse than any answer that fell short."""


def badness(outcome: Outcome) -> float:
    """What is missing from a full score, over the measures that count; 0.0 for nothing."""
    return round(sum(_weight(name) * (1 - value) for name, value in outcome.scores.items()), 4)


def _weight(name: str) -> float:
    return _SAFETY_WEIGHT if name.startswith(_SAFETY) else _WEIGHTS.get(name, 0.0)


def worst(outcomes: Mapping[str, Outcome], count: int = 5) -> list[str]:
    """The ids of those that went worst, worst first; those without a fault never."""
    bad = {name: badness(outcome) for name, outcome in outcomes.items()}
    return sorted((name for name in bad if bad[name]), key=lambda name: -bad[name])[:count]


def reasons(outcome: Outcome) -> list[str]:
    """A line for each thing that went wrong; [] for nothing."""
    return [*_found(outcome), *_decided(outcome), *_said(outcome)]


def _found(outcome: Outcome) -> Iterator[str]:
    if not outcome.gold or outcome.first_rank == 1 or not outcome.ranking:
        return
    first = outcome.ranking[0]
    if outcome.first_rank:
        yield f"The right page is only number {outcome.first_rank}; {first} is first."
    else:
        yield f"The right page, {outcome.gold[0]}, was not found; {first} is first."


def _decided(outcome: Outcome) -> Iterator[str]:
    sure = "" if outcome.confidence is None else f" (confidence {outcome.confidence:.2f})"
    if outcome.abstained and outcome.gold:
        yield f"The bot refused a question that the sources answer{sure}."
    if outcome.abstained is False and not outcome.gold:
        yield f"The bot answered what no source covers{sure}."
    if outcome.abstained is False and outcome.scores.get("citations/gold cited", 1) == 0:
        yield f"The answer cites {_listed(outcome.cited)} and no right page."


def _said(outcome: Outcome) -> Iterator[str]:
    if outcome.why:
        yield outcome.why[:1].upper() + outcome.why[1:]
    for name, text in (
        ("citations/quotes hold", "of its quotes do not stand in the page that they name"),
        ("citations/links hold", "of its links lead to no page that was read"),
        ("citations/recall", "of its statements are not borne out by what they cite"),
        ("code/blocks that pass", "of its blocks of code have faults"),
    ):
        if (share := outcome.scores.get(name, 1.0)) < 1:
            yield f"{1 - share:.0%} {text}."
    for grade in outcome.grades:
        if grade.grade in ("partly", "wrong"):
            yield f"{grade.judge}: {grade.grade}: {grade.reason}"
        if not grade.grade:
            yield f"{grade.judge} gave no grade: {grade.reason}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(names)) or "nothing"
