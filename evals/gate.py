"""The gate of `make check`: `python -m evals.gate`, exit 1 below the baseline.

It puts the own questions to an index of the installed API reference alone, in a temporary home, so
that it asks for neither a network nor a key. The baseline is an accepted run without the answers'
texts; `--accept` writes it anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evals import cases, runs, tables
from evals.cases import OWN
from evals.runs import Run
from evals.suites import ABSTENTION, RETRIEVAL, Advance, evaluate
from evals.workbench import Workbench
from metaflowbot import bootstrap
from metaflowbot.errors import MetaflowbotError, UsageError

BASELINE = OWN / "baseline.json"


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
        dataset = cases.read(OWN).within(answerer.retriever.generation.manifest.documents)
        evaluation = evaluate(answerer, dataset, [RETRIEVAL, ABSTENTION], advance)
        return runs.record(answerer, dataset, evaluation)


def hold(made: Run, accepted: Run) -> int:
    """Print what changed since the accepted run; 1 when a gated score fell significantly."""
    comparison = runs.compare(accepted, made)
    tables.show_comparison(comparison)
    if comparison.is_regression:
        print("gate: a gated score fell significantly below the baseline", file=sys.stderr)
    return int(comparison.is_regression)


def accept(made: Run, baseline: Path = BASELINE) -> None:
    """Make the run the baseline; raises UsageError where the file can't be written."""
    questions = {name: replace(outcome, text="") for name, outcome in made.questions.items()}
    try:
        baseline.write_text(runs.dump(replace(made, questions=questions)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the baseline {baseline} can't be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
