"""Runs: what an evaluation gave, kept as a JSON file."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from evals.cases import Dataset
from evals.drilling import Probe
from evals.judging import Grade
from evals.observing import Observation
from evals.suites import Evaluation, Result
from metaflowbot.answer import Answerer
from metaflowbot.errors import UsageError

FORMAT = 2
_DRILLED = ("code/verdict", "safety/", "slack/")
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated, so that a run can be told from another and repeated.

    `documents` is a hash over the indexed documents: two generations of the same documents have
    the same one. `code` is the commit, with a plus where files are changed, or the version that is
    installed; `prompts` a hash over all prompts, those of the judges among them.
    """

    dataset: str
    dataset_sha256: str
    generation: str
    documents: str
    embedding_model: str
    prompt_version: str
    model: str
    code: str = ""
    prompts: str = ""
    trials: int = 1
    hold_out: bool = False
    judges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question or drill of a run. `first_rank` is that of the first gold page, 0 for none.

    `ranking` holds the ids of the documents found, best first; `gold` one id for each gold page;
    `cited` the ids of the documents that the answer cites. Of several trials the first is kept.
    `why` says what a drill found wrong; `grades` are those of all judges and trials; `history` is
    what was said before the question.
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
    cited: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    why: str = ""
    grades: tuple[Grade, ...] = ()
    history: tuple[str, ...] = ()

    @property
    def is_drill(self) -> bool:
        """Whether it is a drill of one part, not a question to the whole bot."""
        return any(name.startswith(_DRILLED) for name in self.scores) and not self.gold


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run; `started_at` is ISO 8601 in UTC.

    `judge_is_trusted` says whether grades by a judge may stop a change; `shortfalls` sum up the
    notices that make the figures worth less.
    """

    format: int
    started_at: str
    subject: Subject
    results: dict[str, Result]
    questions: dict[str, Outcome]
    skipped: dict[str, str]
    notices: tuple[str, ...]
    judge_is_trusted: bool = False
    shortfalls: tuple[str, ...] = ()


_JSON = TypeAdapter(Run)


@dataclass(frozen=True, slots=True)
class Made:
    """How a run was made, besides what came of it; `started_at` is '' for now."""

    trials: int = 1
    hold_out: bool = False
    started_at: str = ""


def record(
    answerer: Answerer, dataset: Dataset, evaluation: Evaluation, made: Made = Made()
) -> Run:
    """The run of an evaluation that has just ended."""
    grades = evaluation.seen.grades
    return Run(
        format=FORMAT,
        started_at=made.started_at or datetime.now(UTC).isoformat(timespec="seconds"),
        subject=subject(answerer, dataset, made, grades.judges if grades else ()),
        results=evaluation.results,
        questions=dict(_outcomes(evaluation)),
        skipped=evaluation.skipped,
        notices=evaluation.notices,
        judge_is_trusted=grades is not None and grades.is_trusted,
        shortfalls=evaluation.shortfalls,
    )


def subject(
    answerer: Answerer, dataset: Dataset, made: Made, judges: tuple[str, ...] = ()
) -> Subject:
    """What is evaluated."""
    manifest = answerer.retriever.generation.manifest
    documents = "\n".join(f"{name} {digest}" for name, digest in sorted(manifest.documents.items()))
    prompts = b"".join(path.read_bytes() for path in sorted((_ROOT / "prompts").glob("*.md")))
    return Subject(
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        generation=manifest.id,
        documents=hashlib.sha256(documents.encode()).hexdigest(),
        embedding_model=manifest.embedding_model,
        prompt_version=answerer.prompt_version,
        model=answerer.model.name if answerer.model else "none",
        code=_code(),
        prompts=hashlib.sha256(prompts).hexdigest(),
        trials=made.trials,
        hold_out=made.hold_out,
        judges=judges,
    )


def _code() -> str:
    """The commit of a checkout, else the version of the package."""
    if (_ROOT / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            return _git("rev-parse", "--short=12", "HEAD") + "+" * bool(
                _git("status", "--porcelain", "--untracked-files=no")
            )
    return metadata.version("metaflowbot")


def _git(*words: str) -> str:
    command = ["git", "-C", str(_ROOT), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _outcomes(evaluation: Evaluation) -> Iterator[tuple[str, Outcome]]:
    seen = evaluation.seen
    graded: dict[str, list[Grade]] = {}
    for grade in seen.grades.grades if seen.grades else ():
        graded.setdefault(grade.case_id, []).append(grade)
    for item in seen.observations:
        if not item.trial:
            name = item.case.id
            scores = evaluation.scores.get(name, {})
            yield name, _outcome(item, scores, tuple(graded.get(name, ())))
    probes: dict[str, list[Probe]] = {}
    for probe in seen.probes:
        probes.setdefault(probe.id, []).append(probe)
    for name, given in probes.items():
        yield name, _drilled(given, evaluation.scores[name])


def _outcome(item: Observation, scores: dict[str, float], grades: tuple[Grade, ...]) -> Outcome:
    answer = item.answer
    return Outcome(
        question=item.case.question,
        kind=item.case.kind,
        gold=item.judged.relevant,
        ranking=item.ranking,
        first_rank=item.judged.first_rank,
        scores=scores,
        text=answer.text if answer else "",
        abstained=answer.abstained if answer else None,
        confidence=answer.confidence if answer else None,
        cited=tuple(it.document_id for it in answer.citations) if answer else (),
        checks=answer.checks if answer else (),
        grades=grades,
        history=tuple(f"{turn.role}: {turn.content}" for turn in item.case.history),
    )


def _drilled(probes: Sequence[Probe], scores: dict[str, float]) -> Outcome:
    """One drill: what was shown where it did worst."""
    worst = min(probes, key=lambda probe: probe.score)
    why = "; ".join(_told(probe) for probe in probes if probe.why)
    return Outcome(
        question=worst.asked,
        kind=worst.kind,
        gold=(),
        ranking=(),
        first_rank=0,
        scores=scores,
        text=worst.shown,
        why=why,
    )


def _told(probe: Probe) -> str:
    """What went wrong, for an attack with whom."""
    _, comma, bot = probe.measure.partition(", ")
    return f"with {bot}: {probe.why}" if comma else probe.why


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


def history(folder: Path, count: int) -> list[Run]:
    """The last runs in a folder, oldest first; files that are no runs of this format are passed."""
    found = []
    for path in sorted(folder.glob("*Z.json"))[-count:]:
        with suppress(UsageError):
            found.append(load(path))
    return found
