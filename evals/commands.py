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
    from evals.comparison import Comparison
    from evals.runs import Run

_DATASET = (
    "A JSONL file of questions, or a folder of them, more than once for several; by default the "
    "own questions. Cases from feedback are read with them by --dataset HOME/evals/cases."
)
_OUT = "The folder for the run's files; by default `evals` in the home."
_RUN = "A run's file, or its name in `evals` in the home."
_JUDGE = "The model that grades answers, as provider:model."
_SECOND = "A second judge, to be compared with the first."
_RECORD = "Keep every model call in this folder."
_REPLAY = "Take every model call from this folder: no network, the same run byte for byte."
_HOLD = "Search a question without the thread that it was taken from."

evals_app = typer.Typer(help="Whether a change made answers better.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(evals_app, name="evals")


@evals_app.command()
def run(  # noqa: PLR0917 - Typer's options are parameters
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite.")] = None,
    dataset: Annotated[list[Path] | None, typer.Option(help=_DATASET)] = None,
    trials: Annotated[int, typer.Option(min=1, help="Ask each question so often.")] = 1,
    judge: Annotated[str, typer.Option(help=_JUDGE)] = "",
    second_judge: Annotated[str, typer.Option(help=_SECOND)] = "",
    record: Annotated[Path | None, typer.Option(help=_RECORD)] = None,
    replay: Annotated[Path | None, typer.Option(help=_REPLAY)] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
    hold_out: Annotated[bool, typer.Option(help=_HOLD)] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
) -> None:
    """Put questions to the bot as it is set up here, and print what the suites say of it.

    Nothing is written but the run's files: JSON, and a report as one HTML page. Exits 1 when no
    suite could run, and when what ran falls short: lines that can't be read, gold pages that are
    not in the index, answers that a judge did not grade.
    """
    from evals.session import Order, Session

    order = Order(
        suites=_suites(suite or []),
        datasets=tuple(dataset or ()),
        trials=trials,
        hold_out=hold_out,
        judges=(judge, second_judge),
        record=record,
        replay=replay,
        resume=resume,
        out=out,
    )
    session = Session.opened(order, settings_module.load())
    made, path = session.run()
    _show_run(made, as_json=as_json)
    print(f"run: {path}\nreport: {path.with_suffix('.html')}", file=sys.stderr)
    if not made.results:
        fail("no suite could run", 1)
    if made.shortfalls:
        fail(f"{'; '.join(made.shortfalls)} (each is named in the notices)", 1)


@evals_app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help=_RUN)],
    run_b: Annotated[str, typer.Argument(help=_RUN)],
    as_json: AsJson = False,
) -> None:
    """What changed from RUN_A to RUN_B. Exits 1 when a gated score fell significantly."""
    from evals import comparison, runs

    changed = comparison.compare(runs.load(_run_file(run_a)), runs.load(_run_file(run_b)))
    _show_comparison(changed, as_json=as_json)
    if changed.is_regression:
        fail(f"{', '.join(changed.fallen)} fell significantly", 1)


def _suites(names: Sequence[str]) -> tuple[str, ...]:
    """The suites of these names, without repeats; all of them for no names."""
    from evals.measures import JUDGED, SUITES

    for name in names:
        if name not in (*SUITES, *JUDGED):
            known = ", ".join((*SUITES, *JUDGED))
            raise UsageError(f"--suite {name}: there is no such suite; there are {known}")
    return tuple(dict.fromkeys(names)) or (*SUITES, *JUDGED)


def _run_file(given: str) -> Path:
    path = Path(given)
    if path.exists():
        return path
    folder = settings_module.load().home / "evals"
    kept = folder / given
    return kept if kept.exists() else folder / f"{given}.json"


def _show_run(made: Run, *, as_json: bool) -> None:
    from evals import tables

    if as_json:
        print_json(dataclasses.asdict(made))
    else:
        tables.show_run(made)


def _show_comparison(changed: Comparison, *, as_json: bool) -> None:
    from evals import tables

    if not as_json:
        tables.show_comparison(changed)
        return
    verdicts = {change.score: change.verdict for change in changed.changes}
    print_json({**dataclasses.asdict(changed), "verdicts": verdicts})
