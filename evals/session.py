"""One run from its order to its files: the bot, the judges, the tape and the journal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from evals import cases, report, runs, tables
from evals.cases import Dataset
from evals.judging import Jury
from evals.measures import ANSWERS
from evals.observing import Journal, measured
from evals.recording import Tape
from evals.runs import Made, Run
from evals.suites import Bench, Plan, Seen
from metaflowbot import bootstrap, prompts
from metaflowbot.answer import Answerer
from metaflowbot.code_check import CodeChecker
from metaflowbot.errors import UsageError
from metaflowbot.judgement import installed
from metaflowbot.llm import ChatModel
from metaflowbot.settings import Settings

_UNFINISHED = "unfinished.jsonl"
_ROLES = ("judge", "second judge")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for; `judges` are names of models, '' for none."""

    suites: tuple[str, ...]
    datasets: tuple[Path, ...] = ()
    trials: int = 1
    hold_out: bool = False
    judges: tuple[str, str] = ("", "")
    record: Path | None = None
    replay: Path | None = None
    resume: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Session:
    """All that one run works with."""

    bench: Bench
    tape: Tape | None
    journal: Journal
    made: Made
    out: Path

    @classmethod
    def opened(cls, order: Order, settings: Settings, *, keeps_steps: bool = True) -> Session:
        """Raises UsageError and what the parts raise where a run is not possible.

        With `keeps_steps` the steps that are done are kept in the folder of the run.
        """
        if order.record and order.replay:
            raise UsageError("--record and --replay can't be had at once: leave one of them out")
        if order.judges[1] and not order.judges[0]:
            raise UsageError("--second-judge needs a first one: name it with --judge")
        tape = _tape(order)
        answerer = _answerer(settings, tape)
        dataset = cases.read(*order.datasets)
        jury = _jury(order, settings, tape, dataset)
        plan = Plan(order.suites, order.trials, order.hold_out, jury)
        made = Made(order.trials, order.hold_out, tape.started_at if tape else "")
        out = order.out or settings.home / "evals"
        identity = _identity(answerer, dataset, plan, made)
        path = out / _UNFINISHED if keeps_steps else None
        journal = Journal(path, identity, resume=order.resume)
        return cls(Bench.of(answerer, dataset, plan), tape, journal, made, out)

    def run(self) -> tuple[Run, Path]:
        """Run the suites; returns the run and its file, beside which its report stands."""
        bench = self.bench
        if len(self.journal):
            tables.note(f"going on after {len(self.journal)} steps that were done before")
        timer = self.tape.timer if self.tape else measured
        return self.kept(bench.seen(self.journal, tables.progress, timer))

    def kept(self, seen: Seen) -> tuple[Run, Path]:
        """Write what came of it into the run's files.

        The steps are kept where grades are missing: with `resume` those alone are asked for.
        """
        bench = self.bench
        run = runs.record(bench.answerer, bench.dataset, bench.concluded(seen), self.made)
        path = runs.write(run, self.out)
        report.write(run, path)
        if seen.grades is not None and seen.grades.ungraded:
            tables.note(
                "answers without a grade are graded alone by the same command with --resume"
            )
        else:
            self.journal.remove()
        return run, path


def _tape(order: Order) -> Tape | None:
    folder = order.record or order.replay
    if folder is None:
        return None
    return Tape(folder, replay=order.replay is not None, resume=order.resume)


def _answerer(settings: Settings, tape: Tape | None) -> Answerer:
    """The bot as it is set up; from a tape it needs no key, and has no second model."""
    if tape is None:
        return bootstrap.answerers(settings)()
    if not tape.is_replay:
        answerer = bootstrap.answerers(settings)()
        fallback = tape.model("fallback", answerer.fallback)
        return replace(answerer, model=tape.model("chat", answerer.model), fallback=fallback)
    keyless = settings.model_copy(update={"chat_model": "none", "fallback_model": ""})
    answerer = bootstrap.answerers(keyless)()
    model = tape.model("chat", None)
    checker = CodeChecker(installed()) if model else None
    return replace(answerer, model=model, checker=checker, fallback=tape.model("fallback", None))


def _jury(order: Order, settings: Settings, tape: Tape | None, dataset: Dataset) -> Jury | None:
    judges = [
        _judge(role, name, settings, tape) for role, name in zip(_ROLES, order.judges, strict=True)
    ]
    found = tuple(judge for judge in judges if judge is not None)
    if not found or ANSWERS not in order.suites:
        return None
    prompt = prompts.load("grade_answer", "question", "points", "answer", folder=settings.prompts)
    return Jury(found, prompt, dataset.labelled or cases.read().labelled)


def _judge(role: str, name: str, settings: Settings, tape: Tape | None) -> ChatModel | None:
    if tape is not None and tape.is_replay:
        return tape.model(role, None)
    if not name:
        return None
    if not all(name.partition(":")):
        raise UsageError(f"--judge {name}: must be 'provider:model', e.g. 'openai:gpt-5-mini'")
    if name.startswith("openai:") and not settings.openai_api_key.get_secret_value():
        raise UsageError(f"--judge {name}: OPENAI_API_KEY is not set")
    model = ChatModel(settings, name)
    return tape.model(role, model) if tape else model


def _identity(answerer: Answerer, dataset: Dataset, plan: Plan, made: Made) -> str:
    """Two runs with the same one may share their steps."""
    judges = tuple(judge.name for judge in plan.jury.judges) if plan.jury else ()
    subject = runs.subject(answerer, dataset, made, judges)
    return hashlib.sha256(repr((subject, plan.suites)).encode()).hexdigest()
