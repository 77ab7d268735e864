"""Runs and comparisons as plain tables for a terminal or a log."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from evals.comparison import Change, Comparison, Moved
from evals.figures import Figure
from evals.runs import Outcome, Run
from evals.suites import Result

_WIDTH = 150
_SHOWN = 20
_QUESTION_CHARS = 70
_ANSWER_CHARS = 400
_EXPLAINED = (
    "p: chance of a change as large without any. can show: the fall that would be noticed four "
    "times in five. regression: a gated score fell, after Holm's correction at 5 %."
)


def console() -> Console:
    """Stdout: as wide as the terminal, or wide enough for a log."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


def progress(cases: Sequence[Any]) -> Iterable[Any]:
    """Hand the cases on one by one, with a bar on stderr."""
    return track(cases, "cases", console=Console(stderr=True)) if cases else ()


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
    """Print every suite of a run (n is that of its first column), what was skipped, and notices."""
    out = console()
    subject = run.subject
    out.print(
        f"dataset {subject.dataset} ({subject.dataset_sha256[:12]}), index {subject.generation}, "
        f"prompt {subject.prompt_version}, model {subject.model}, code {subject.code}; "
        "95 % intervals over questions",
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
    n = next(figure.n for figure in figures.values())
    cells = (number(figures[name]) if name in figures else "" for name in columns)
    return [str(n), *cells]


def show_comparison(comparison: Comparison) -> None:
    """Print each score's change and, fallen first, the questions that moved."""
    out = console()
    made = table("score", "before", "after", "change", "n", "fell", "rose", "p", "can show", "")
    for change in comparison.changes:
        made.add_row(*_change(change))
    out.print(made)
    out.print(_EXPLAINED, markup=False)
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
        str(change.moved[0]),
        str(change.moved[1]),
        f"{change.p:.3f}",
        f"{change.detectable:.2f}",
        change.verdict + ": regression" * change.is_regression,
    )


def _moved(item: Moved) -> str:
    question = item.before.question.replace("\n", " ")
    if len(question) > _QUESTION_CHARS:
        question = question[:_QUESTION_CHARS] + "…"
    lines = [f"\n{item.id}  {item.score} {item.change:+.3f}  {question}"]
    for when, outcome in (("before", item.before), ("after", item.after)):
        lines.append(f"  {when:6}  {_did(outcome)}")
    if item.before.text != item.after.text:
        lines += [*_beside(item.before.text, item.after.text)]
    return "\n".join(lines)


def _did(outcome: Outcome) -> str:
    if not outcome.gold and not outcome.ranking:
        return outcome.why or "right"
    rank = f"gold at {outcome.first_rank}" if outcome.first_rank else "no gold"
    said = {True: ", abstained", False: ", answered", None: ""}[outcome.abstained]
    return f"{rank}{said}; {', '.join(outcome.ranking[:3])}"


def _beside(before: str, after: str) -> Iterator[str]:
    """Both answers side by side, cut to what a terminal can show."""
    width = _WIDTH // 2 - 4
    columns = [
        textwrap.wrap(" ".join(text.split())[:_ANSWER_CHARS], width) or ["–"]
        for text in (before, after)
    ]
    for left, right in zip_longest(*columns, fillvalue=""):
        yield f"  {left:<{width}} | {right}"


def note(line: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True, highlight=False).print(line, markup=False)
