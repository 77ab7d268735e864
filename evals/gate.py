"""The gate: a keyless run over the installed API reference must not fall below the baseline.

It indexes the API reference alone, in a temporary home, so that it asks for neither a network nor
a key. The baseline is an accepted run, without the answers' texts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evals import cases, runs
from evals.cases import OWN
from evals.runs import Comparison, Run
from evals.suites import ABSTENTION, RETRIEVAL, Advance, connect, evaluate
from evals.workbench import Workbench
from metaflowbot.errors import UsageError

BASELINE = OWN / "baseline.json"


def run(advance: Advance = iter) -> Run:
    """The own questions put to an index of the API reference; raises MetaflowbotError."""
    dataset = cases.read(OWN)
    with Workbench.temporary() as bench:
        bench.ingest()
        answerer = connect(bench.settings)
        evaluation = evaluate(answerer, dataset, [RETRIEVAL, ABSTENTION], advance)
        return runs.record(answerer, dataset, evaluation)


def hold(made: Run, baseline: Path = BASELINE) -> Comparison:
    """The run against the baseline; raises UsageError where that can't be read."""
    return runs.compare(runs.load(baseline), made)


def accept(made: Run, baseline: Path = BASELINE) -> None:
    """Make the run the baseline; raises UsageError where the file can't be written."""
    questions = {name: replace(outcome, text="") for name, outcome in made.questions.items()}
    try:
        baseline.write_text(runs.dump(replace(made, questions=questions)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the baseline {baseline} can't be written: {error.strerror}") from None
