"""The gate of `make check`: `python -m evals.gate`, exit 1 below the baseline.

It runs every suite that needs neither a key nor a clock over an index of the installed API
reference alone, in a temporary home. The baseline is an accepted run without the answers' texts;
`--accept` writes it anew, which is a commit of its own, with the report that it prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evals import cases, comparison, runs, tables
from evals.cases import OWN
from evals.measures import COST, LATENCY, SUITES
from evals.observing import Advance
from evals.runs import Run
from evals.suites import Plan, evaluate
from evals.workbench import Workbench
from metaflowbot import bootstrap
from metaflowbot.errors import MetaflowbotError, UsageError

BASELINE = OWN / "baseline.json"
GUARDED = tuple(suite for suite in SUITES if suite not in (LATENCY, COST))
"""The suites that the gate runs."""
_ACCEPTED = (
    "A baseline is a commit of its own: commit evals/data/baseline.json alone, with this report "
    "and the reason for the change in the message."
)

_FELL = (
    "fell significantly below the baseline. The questions that fell are listed first: mend what "
    "they show, or, where the new answers are right, accept them with `python -m evals.gate "
    "--accept`"
)


def main(words: Sequence[str] | None = None, baseline: Path = BASELINE) -> int:
    """Run the gate and return its exit code: 0 passed, 1 fell or failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m evals.gate", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="make this run the new baseline")
    accepts = parser.parse_args(words).accept
    try:
        accepted = None if accepts else runs.load(baseline)
        print("indexing the API reference of the installed Metaflow", file=sys.stderr)
        made = run(tables.progress)
        if accepted is None:
            accept(made, baseline)
            tables.show_run(made)
            print(f"\n{_ACCEPTED}")
            return 0
        return hold(made, accepted)
    except MetaflowbotError as error:
        print(f"gate: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def run(advance: Advance = iter) -> Run:
    """The own questions put to an index of the API reference; raises MetaflowbotError."""
    with Workbench.temporary() as bench:
        bench.ingest()
        answerer = bootstrap.answerers(bench.settings)()
        dataset = cases.read(OWN).whole().within(answerer.retriever.generation.manifest.documents)
        evaluation = evaluate(answerer, dataset, Plan(GUARDED), advance)
        return runs.record(answerer, dataset, evaluation)


def hold(made: Run, accepted: Run) -> int:
    """Print what changed since the accepted run; 1 when a gated score fell significantly."""
    changed = comparison.compare(accepted, made)
    tables.show_comparison(changed)
    if changed.is_regression:
        print(f"gate: {', '.join(changed.fallen)}: {_FELL}", file=sys.stderr)
    return int(changed.is_regression)


def accept(made: Run, baseline: Path = BASELINE) -> None:
    """Make the run the baseline; raises UsageError where the file can't be written."""
    questions = {name: replace(outcome, text="") for name, outcome in made.questions.items()}
    try:
        baseline.write_text(runs.dump(replace(made, questions=questions)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the baseline {baseline} can't be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
