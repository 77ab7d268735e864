"""Runs and comparisons as plain tables for a terminal or a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.progress import track
from rich.table import Table

from evals.cases import Case
from evals.figures import Figure
from evals.runs import Change, Comparison, Moved, Run
from evals.suites import Result

_WIDTH = 150
_SHOWN = 20
_QUESTION_CHARS = 70


def console() -> Console:
    """Stdout: as wide as the terminal, or wide enough for a log."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def progress(cases: Sequence[Case]) -> Iterable[Case]:
    """Hand the cases on one by one, with a bar on stderr."""
    return track(cases, "questions", console=Console(stderr=True))


def number(figure: Figure) -> str:
    """'0.812 [0.71, 0.90]', without the interval where there is none, '–' for not defined."""
    if figure.value is None:
        return "–"
    value = f"{figure.value:.3f}" if abs(figure.value) < 10 else f"{figure.value:.1f}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} [{figure.low:.2f}, {figure.high:.2f}]"


def table(*columns: str) -> Table:
    """An empty table whose first column holds names."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for place, name in enumerate(columns):
        made.add_column(name, justify="right" if place else "left")
    return made


def show_run(run: Run) -> None:
    """Print every suite of a run, what was skipped, and the notices."""
    out = console()
    subject = run.subject
    out.print(
        f"dataset {subject.dataset} ({subject.dataset_sha256[:12]}), index {subject.generation}, "
        f"prompt {subject.prompt_version}, model {subject.model}; 95 % intervals over questions",
        markup=False,
    )
    for name, result in run.results.items():
        out.print(f"\n{name}", style="bold")
        out.print(_figures(result))
    for suite, why in run.skipped.items():
        out.print(f"\n{suite}: skipped: {why}", markup=False)
    for line in run.notices:
        out.print(line, markup=False)


def _figures(result: Result) -> Table:
    made = table("", "n", *result.figures)
    made.add_row("all", *_row(result.figures, result.figures))
    for group, figures in result.groups.items():
        made.add_row(group, *_row(result.figures, figures))
    if result.curve:
        made.add_section()
        for point in result.curve:
            made.add_row(f"risk at {point.coverage:.0%} coverage", "", f"{point.risk:.3f}")
    return made


def _row(columns: Mapping[str, Figure], figures: Mapping[str, Figure]) -> list[str]:
    n = max(figure.n for figure in figures.values())
    cells = (number(figures[name]) if name in figures else "" for name in columns)
    return [str(n), *cells]


def show_comparison(comparison: Comparison) -> None:
    """Print each score's change and, fallen first, the questions that moved."""
    out = console()
    made = table("score", "before", "after", "change", "n", "")
    for change in comparison.changes:
        made.add_row(*_change(change))
    out.print(made)
    for item in comparison.moved[:_SHOWN]:
        out.print(_moved(item), markup=False)
    if len(comparison.moved) > _SHOWN:
        out.print(f"\nand {len(comparison.moved) - _SHOWN} more questions moved (see --json)")
    for line in comparison.notices:
        out.print(line, markup=False)


def _change(change: Change) -> tuple[str, ...]:
    gate = " (gated)" if change.gated else ""
    return (
        change.score + gate,
        number(change.before),
        number(change.after),
        number(change.change),
        str(change.change.n),
        change.verdict,
    )


def _moved(item: Moved) -> str:
    question = item.before.question.replace("\n", " ")
    if len(question) > _QUESTION_CHARS:
        question = question[:_QUESTION_CHARS] + "…"
    lines = [f"\n{item.id}  {item.score} {item.change:+.3f}  {question}"]
    for when, outcome in (("before", item.before), ("after", item.after)):
        rank = f"gold at {outcome.first_rank}" if outcome.first_rank else "no gold"
        said = {True: ", abstained", False: ", answered", None: ""}[outcome.abstained]
        lines.append(f"  {when:6}  {rank}{said}; {', '.join(outcome.ranking[:3])}")
    return "\n".join(lines)
