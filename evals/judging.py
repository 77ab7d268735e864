"""Judge models: answers graded against reference points, and the judges held against people.

A judge reads the question, the points and the answer through prompts/grade_answer.md and says
right, partly or wrong, with the reason. What it says that can't be read as a grade, or does not
say at all, is ungraded: it is reported and counts neither way.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from evals import figures
from evals.agreement import Agreement, Label, Labelled, agreement
from evals.figures import Figure
from evals.observing import Advance, Journal, Observation
from metaflowbot.domain import Turn
from metaflowbot.errors import ModelError
from metaflowbot.llm import ChatModel
from metaflowbot.prompts import Prompt

WORTH: Mapping[str, float] = {"right": 1.0, "partly": 0.5, "wrong": 0.0}

_OBJECT = re.compile(r"\{.*\}", re.S)
_ASKED = "Grade the answer."
_LONGEST_ANSWER = 20_000
_PATIENCE = 5
"""A judge that failed so often in a row is not asked any more: it is down, or over its limit."""


@dataclass(frozen=True, slots=True)
class Grade:
    """What a judge said of one answer; `grade` is '' where it could not be had, with the reason.

    `points` are the grades of the answer points, vital ones first, in the case's order.
    """

    case_id: str
    trial: int
    judge: str
    grade: Label | Literal[""]
    reason: str
    points: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Grades:
    """All grades of a run, those of the first judge first. `vital` counts each case's points."""

    grades: tuple[Grade, ...]
    judges: tuple[str, ...]
    agreements: Mapping[str, Agreement]
    vital: Mapping[str, int]

    @property
    def is_trusted(self) -> bool:
        """Whether the first judge's grades may stop a change."""
        return self.agreements[self.judges[0]].is_trusted

    @property
    def ungraded(self) -> list[Grade]:
        return [grade for grade in self.grades if not grade.grade]

    @property
    def notices(self) -> Iterator[str]:
        """A line for what fell short."""
        for grade in self.ungraded:
            yield f"{grade.case_id}: {grade.judge} gave no grade: {grade.reason}"
        for name, found in self.agreements.items():
            if not found.is_trusted:
                low = "unknown" if found.kappa.low is None else f"{found.kappa.low:.2f} at worst"
                yield f"{name} is no gate: its agreement with people (kappa) is {low}"

    def values(self, suite: str) -> Iterator[tuple[str, str, float]]:
        """Each question's scores by the first judge."""
        for grade in self.grades:
            if grade.judge != self.judges[0] or not grade.grade:
                continue
            yield grade.case_id, f"{suite}/correct", WORTH[grade.grade]
            vital = self.vital[grade.case_id]
            for name, points in (("vital", grade.points[:vital]), ("okay", grade.points[vital:])):
                if points:
                    worth = figures.average([WORTH[point] for point in points])
                    yield grade.case_id, f"{suite}/{name} points", worth

    def figures(self) -> dict[str, Figure]:
        """How many answers have no grade, how far judges agree with people, and with each other."""
        found = {"ungraded": Figure(float(len(self.ungraded)), None, None, len(self.grades))}
        for name, held in self.agreements.items():
            found[f"kappa of {name}"] = held.kappa
        for other in self.judges[1:]:
            first, second = self._both(self.judges[0], other)
            found[f"{other} minus {self.judges[0]}"] = figures.difference(first, second)
        return found

    def _both(self, first: str, second: str) -> tuple[list[float], list[float]]:
        """The worth of what both have graded."""
        by_judge: dict[str, dict[tuple[str, int], float]] = {first: {}, second: {}}
        for grade in self.grades:
            if grade.grade and grade.judge in by_judge:
                by_judge[grade.judge][grade.case_id, grade.trial] = WORTH[grade.grade]
        common = [key for key in by_judge[first] if key in by_judge[second]]
        return [by_judge[first][key] for key in common], [by_judge[second][key] for key in common]


class _Point(BaseModel):
    n: int
    grade: Label


class _Verdict(BaseModel):
    grade: Label
    reason: str = ""
    points: list[_Point] = []


@dataclass(frozen=True)
class Jury:
    """The judges, first the one whose grades count, and what they are held against."""

    judges: tuple[ChatModel, ...]
    prompt: Prompt
    labelled: tuple[Labelled, ...]
    _failures: Counter[str] = field(default_factory=Counter)

    def grade(
        self, seen: Sequence[Observation], journal: Journal, advance: Advance = iter
    ) -> Grades:
        """Grade every answer that has points; an abstention is wrong without being asked."""
        wanted = [item for item in seen if item.answer is not None and item.case.answer_points]
        self._failures.clear()
        asked = [(judge, item) for judge in self.judges for item in wanted]
        grades = tuple(self._graded(judge, item, journal) for judge, item in advance(asked))
        labelled = [(judge, item) for judge in self.judges for item in self.labelled]
        pairs: dict[str, list[tuple[Label, str]]] = {judge.name: [] for judge in self.judges}
        for judge, item in advance(labelled):
            pairs[judge.name].append((item.label, self._labelled(judge, item, journal)))
        return Grades(
            grades,
            tuple(judge.name for judge in self.judges),
            {name: agreement(given) for name, given in pairs.items()},
            {item.case.id: len(item.case.answer_points) for item in wanted},
        )

    def _graded(self, judge: ChatModel, item: Observation, journal: Journal) -> Grade:
        case, answer = item.case, item.answer
        assert answer is not None, "only answers are graded"
        key = f"grade {judge.name} {case.id} {item.trial}"
        if answer.abstained or not answer.text.strip():
            wrong: Label = "wrong"
            points = tuple(wrong for _ in case.answer_points + case.okay_points)
            return Grade(case.id, item.trial, judge.name, "wrong", "the bot abstained", points)
        sheet = Sheet(case.question, case.answer_points, case.okay_points, answer.text)
        ask = partial(self._ask, judge, case.id, item.trial, sheet)
        return journal.step(key, self._kind, ask, _is_graded)

    def _labelled(self, judge: ChatModel, item: Labelled, journal: Journal) -> str:
        sheet = Sheet(item.question, item.answer_points, (), item.answer)
        key = f"label {judge.name} {item.id}"
        ask = partial(self._ask, judge, item.id, 0, sheet)
        return journal.step(key, self._kind, ask, _is_graded).grade

    @cached_property
    def _kind(self) -> TypeAdapter[Grade]:
        return TypeAdapter(Grade)

    def _ask(self, judge: ChatModel, case_id: str, trial: int, sheet: Sheet) -> Grade:
        if self._failures[judge.name] >= _PATIENCE:
            why = f"not asked, since it failed {_PATIENCE} times in a row"
            return Grade(case_id, trial, judge.name, "", why)
        try:
            pieces = judge.stream(sheet.filled(self.prompt), [Turn("user", _ASKED)])
            text = "".join(piece for piece in pieces if isinstance(piece, str))
        except ModelError as error:
            self._failures[judge.name] += 1
            return Grade(case_id, trial, judge.name, "", str(error))
        self._failures[judge.name] = 0
        verdict = _read(text)
        if verdict is None:
            said = " ".join(text.split())[:120]
            return Grade(case_id, trial, judge.name, "", f"its reply is no grade: {said}")
        points = _points(verdict, len(sheet.vital) + len(sheet.okay))
        return Grade(case_id, trial, judge.name, verdict.grade, verdict.reason, points)


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a judge gets to see."""

    question: str
    vital: tuple[str, ...]
    okay: tuple[str, ...]
    answer: str

    def filled(self, prompt: Prompt) -> str:
        """The prompt with all of it; an answer is cut at 20,000 characters."""
        points = [*self.vital, *(f"{point} (okay)" for point in self.okay)]
        listed = "\n".join(f"{n}. {point}" for n, point in enumerate(points, 1))
        return prompt.fill(
            question=self.question, points=listed, answer=self.answer[:_LONGEST_ANSWER]
        )


def _is_graded(grade: Grade) -> bool:
    return bool(grade.grade)


def _read(text: str) -> _Verdict | None:
    """The verdict in a judge's reply, whatever stands around it; None where there is none."""
    found = _OBJECT.search(text)
    if found is None:
        return None
    try:
        return _Verdict.model_validate(json.loads(found[0]))
    except (ValidationError, ValueError):
        return None


def _points(verdict: _Verdict, count: int) -> tuple[Label, ...]:
    """The grades of the points in order; () where not each of them has exactly one."""
    given = {point.n: point.grade for point in verdict.points}
    if len(verdict.points) != count or given.keys() != set(range(1, count + 1)):
        return ()
    return tuple(given[n] for n in range(1, count + 1))
