"""Runs: what an evaluation gave, kept as a JSON file, and what changed between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from evals import figures
from evals.cases import Dataset
from evals.figures import Figure
from evals.suites import GATED, Evaluation, Observation, Result
from metaflowbot.answer import Answerer
from metaflowbot.errors import UsageError

FORMAT = 1

Verdict = Literal["better", "worse", "tie"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated, so that a run can be told from another and repeated.

    `documents` is a hash over the indexed documents: two generations of the same documents have
    the same one.
    """

    dataset: str
    dataset_sha256: str
    generation: str
    documents: str
    embedding_model: str
    prompt_version: str
    model: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question of a run. `first_rank` is that of the first gold page, 0 for none.

    `ranking` holds the ids of the documents found, best first; `gold` one id for each gold page.
    """

    question: str
    kind: str
    gold: tuple[str, ...]
    ranking: tuple[str, ...]
    first_rank: int
    scores: dict[str, float]
    text: str = ""
    abstained: bool | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run; `started_at` is ISO 8601 in UTC."""

    format: int
    started_at: str
    subject: Subject
    results: dict[str, Result]
    questions: dict[str, Outcome]
    skipped: dict[str, str]
    notices: tuple[str, ...]


_JSON = TypeAdapter(Run)


def record(answerer: Answerer, dataset: Dataset, evaluation: Evaluation) -> Run:
    """The run of an evaluation that has just ended."""
    manifest = answerer.retriever.generation.manifest
    documents = "\n".join(f"{name} {digest}" for name, digest in sorted(manifest.documents.items()))
    return Run(
        format=FORMAT,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        subject=Subject(
            dataset=dataset.name,
            dataset_sha256=dataset.sha256,
            generation=manifest.id,
            documents=hashlib.sha256(documents.encode()).hexdigest(),
            embedding_model=manifest.embedding_model,
            prompt_version=answerer.prompt.version,
            model=answerer.model.name if answerer.model else "none",
        ),
        results=evaluation.results,
        questions={
            item.case.id: _outcome(item, evaluation.scores.get(item.case.id, {}))
            for item in evaluation.observations
        },
        skipped=evaluation.skipped,
        notices=evaluation.notices,
    )


def _outcome(item: Observation, scores: dict[str, float]) -> Outcome:
    answer = item.answer
    return Outcome(
        question=item.case.question,
        kind=item.case.kind,
        gold=item.judged.relevant,
        ranking=tuple(hit.best.document_id for hit in item.search.hits),
        first_rank=item.judged.first_rank,
        scores=scores,
        text=answer.text if answer else "",
        abstained=answer.abstained if answer else None,
        confidence=answer.confidence if answer else None,
    )


def dump(run: Run) -> str:
    """The run as JSON."""
    return _JSON.dump_json(run, indent=1).decode() + "\n"


def write(run: Run, folder: Path) -> Path:
    """Write the run into a file named by its time; raises UsageError where that can't be done."""
    stamp = run.started_at.partition("+")[0].replace("-", "").replace(":", "")
    path = folder / f"{stamp}Z.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(run), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {folder} can't be written: {error.strerror}") from None
    return path


def load(path: Path) -> Run:
    """Read a run file; raises UsageError where it is missing or is no run."""
    try:
        run = _JSON.validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"the run {path} can't be read: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        raise UsageError(f"{path} is not a run: {place}: {fault['msg']}") from None
    if run.format != FORMAT:
        raise UsageError(f"{path} has format {run.format}, not {FORMAT}: run the evals again")
    return run


@dataclass(frozen=True, slots=True)
class Change:
    """One score in two runs, over the questions that both have; `change` is after - before."""

    score: str
    before: Figure
    after: Figure
    change: Figure
    gated: bool

    @property
    def verdict(self) -> Verdict:
        """A tie unless the interval of the change leaves out zero."""
        if self.change.low is not None and self.change.low > 0:
            return "better"
        if self.change.high is not None and self.change.high < 0:
            return "worse"
        return "tie"


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
    def is_regression(self) -> bool:
        """Whether a gated score fell significantly."""
        return any(change.gated and change.verdict == "worse" for change in self.changes)


def compare(before: Run, after: Run) -> Comparison:
    """Pair the questions of two runs; raises UsageError where they have no score in common."""
    pairs = {
        name: (before.questions[name], after.questions[name])
        for name in before.questions
        if name in after.questions
    }
    changes = tuple(_changes(pairs))
    if not changes:
        raise UsageError("the two runs have no scored question in common")
    moved = (item for name, pair in pairs.items() for item in _moved(name, *pair))
    return Comparison(
        changes,
        tuple(sorted(moved, key=lambda item: item.change)),
        tuple(_differences(before, after)),
    )


def _changes(pairs: Mapping[str, tuple[Outcome, Outcome]]) -> Iterator[Change]:
    names = dict.fromkeys(name for old, _ in pairs.values() for name in old.scores)
    for name in names:
        both = [
            (old.scores[name], new.scores[name])
            for old, new in pairs.values()
            if name in old.scores and name in new.scores
        ]
        if both:
            earlier, later = zip(*both, strict=True)
            yield Change(
                name,
                figures.mean(earlier),
                figures.mean(later),
                figures.difference(earlier, later),
                name in GATED,
            )


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
    alone = before.questions.keys() ^ after.questions.keys()
    if alone:
        yield f"{len(alone)} questions are in one run only: {', '.join(sorted(alone)[:5])}"
