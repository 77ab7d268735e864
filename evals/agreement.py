"""Answers with a person's label: what a judge model is itself judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from evals import figures
from evals.figures import Figure

Label = Literal["right", "partly", "wrong"]

TRUSTED_FROM = 0.6
"""A judge is trusted when its kappa with people is surely (the interval's lower end) as high.

Landis & Koch (1977) call agreement from 0.61 on substantial.
"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer to a question, with the label that a person gave it."""

    id: str
    question: str
    answer_points: tuple[str, ...]
    answer: str
    label: Label


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a judge agrees with people: `kappa` over what it graded, without `ungraded`."""

    kappa: Figure
    ungraded: int

    @property
    def is_trusted(self) -> bool:
        """Whether its grades may stop a change."""
        return self.kappa.low is not None and self.kappa.low >= TRUSTED_FROM


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1)
    question: str
    answer_points: tuple[str, ...]
    answer: str
    label: Label
    why: str = ""
    origin: str = Field(default="", alias="from")


def is_labelled(values: object) -> bool:
    """Whether a line of a file is such an answer."""
    return isinstance(values, dict) and "label" in values


def labelled(values: dict[str, Any]) -> Labelled:
    """The answer of such a line; raises pydantic's ValidationError."""
    line = _Line.model_validate(values)
    return Labelled(line.id, line.question, line.answer_points, line.answer, line.label)


def agreement(pairs: list[tuple[Label, str]]) -> Agreement:
    """Of people's labels with a judge's, '' for what it did not grade. No pairs: kappa is None."""
    graded = [(ours, theirs) for ours, theirs in pairs if theirs]
    kappa = figures.kappa([ours for ours, _ in graded], [theirs for _, theirs in graded])
    return Agreement(kappa, len(pairs) - len(graded))
