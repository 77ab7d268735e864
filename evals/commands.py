"""The commands `evals …`, which join the command line by an entry point."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaflowbot import settings as settings_module
from metaflowbot.cli import AsJson, fail, print_json
from metaflowbot.errors import UsageError

if TYPE_CHECKING:
    from evals.runs import Comparison, Run

_DATASET = "A JSONL file of questions, or a folder of them; by default the own questions."
_OUT = "The folder for the run's file; by default `evals` in the home."
_RUN = "A run's file, or its name in `evals` in the home."

evals_app = typer.Typer(help="Whether a change made answers better.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(evals_app, name="evals")


@evals_app.command()
def run(
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite.")] = None,
    dataset: Annotated[Path | None, typer.Option(help=_DATASET)] = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
) -> None:
    """Put questions to the bot as it is set up here, and print what the suites say of it.

    Nothing is written but the run's file. Exits 1 when no suite could run.
    """
    from evals import cases, runs, suites, tables
    from metaflowbot import bootstrap

    chosen = _suites(suite or [*suites.SUITES, *suites.JUDGED])
    questions = cases.read(dataset or cases.OWN)
    settings = settings_module.load()
    answerer = bootstrap.answerers(settings)()
    evaluation = suites.evaluate(answerer, questions, chosen, tables.progress)
    made = runs.record(answerer, questions, evaluation)
    path = runs.write(made, out or settings.home / "evals")
    _show_run(made, as_json=as_json)
    print(f"run: {path}", file=sys.stderr)
    if not made.results:
        fail("no suite could run", 1)


@evals_app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help=_RUN)],
    run_b: Annotated[str, typer.Argument(help=_RUN)],
    as_json: AsJson = False,
) -> None:
    """What changed from RUN_A to RUN_B. Exits 1 when a gated score fell significantly."""
    from evals import runs

    comparison = runs.compare(runs.load(_run_file(run_a)), runs.load(_run_file(run_b)))
    _show_comparison(comparison, as_json=as_json)
    if comparison.is_regression:
        fail("a gated score fell significantly", 1)


def _suites(names: Sequence[str]) -> list[str]:
    from evals.suites import JUDGED, SUITES

    for name in names:
        if name not in (*SUITES, *JUDGED):
            known = ", ".join((*SUITES, *JUDGED))
            raise UsageError(f"--suite {name}: there is no such suite; there are {known}")
    return list(dict.fromkeys(names))


def _run_file(given: str) -> Path:
    path = Path(given)
    if path.exists():
        return path
    kept = settings_module.load().home / "evals" / given
    return kept if kept.exists() else kept.with_name(f"{given}.json")


def _show_run(made: Run, *, as_json: bool) -> None:
    from evals import tables

    if as_json:
        print_json(dataclasses.asdict(made))
    else:
        tables.show_run(made)


def _show_comparison(comparison: Comparison, *, as_json: bool) -> None:
    from evals import tables

    if not as_json:
        tables.show_comparison(comparison)
        return
    verdicts = {change.score: change.verdict for change in comparison.changes}
    print_json({**dataclasses.asdict(comparison), "verdicts": verdicts})
