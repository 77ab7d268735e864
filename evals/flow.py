r"""The evals as a Metaflow flow: what `metaflowbot evals run` does, its questions in shards.

    start -> watch (a task for each shard) -> conclude (grades, figures, the card) -> end

    python evals/flow.py run --shards 4
    python evals/flow.py card view conclude

It reads the settings that `metaflowbot` reads, and writes the run's files into `evals` in the home
as the command does; the card is the same page. Elsewhere than on one machine the home is a volume
that the tasks share, as it is for ingest/flow.py. In one process the same run is quicker: a shard
loads the models anew.
"""

# Metaflow's stubs leave constructors and a few functions untyped.
# mypy: allow-untyped-calls
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.cards import Markdown
from metaflow.exception import MetaflowException
from metaflow.util import get_username

from evals import report, runs
from evals.measures import JUDGED, SUITES
from evals.observing import Journal
from evals.session import Order, Session
from evals.suites import Seen
from metaflowbot import settings
from metaflowbot.errors import MetaflowbotError


class EvalError(MetaflowException):
    """What stops a task, in the one line that Metaflow prints of it."""

    headline = "Evals stopped"


class EvalFlow(FlowSpec):
    """Puts the questions to the bot as it is set up here."""

    shards = Parameter("shards", default=2, type=int, help="So many tasks share the questions.")
    suite = Parameter("suite", default="", help="Only these suites, separated by commas.")
    dataset = Parameter("dataset", default="", help="A JSONL file, or a folder; else the own ones.")
    judge = Parameter("judge", default="", help="The model that grades, as provider:model.")

    @step
    def start(self) -> None:
        """Number the shards."""
        with _session(self):
            self.places = list(range(max(1, int(str(self.shards)))))
        self.next(self.watch, foreach="places")

    @step
    def watch(self) -> None:
        """Put one shard to the bot."""
        with _session(self) as session:
            part = session.bench.part(int(str(self.input)), len(self.places))
            self.seen = part.observed(Journal())
        self.next(self.conclude)

    @card(type="blank")
    @step
    def conclude(self, inputs: Any) -> None:
        """Bring the shards together; grade, compute, and show it."""
        with _session(self) as session:
            seen = sum((branch.seen for branch in inputs), Seen())
            run, path = session.kept(session.bench.graded(seen, Journal()))
            page = report.page(run, runs.history(path.parent, report.HISTORY))
            current.card.append(Markdown(_framed(page)))
            self.run_file, self.shortfalls = str(path), run.shortfalls
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say where the run is; fails where what ran falls short, as the command does."""
        print(f"run: {self.run_file}")
        if self.shortfalls:
            raise EvalError(f"{'; '.join(self.shortfalls)} (each is named on the card)")


def _framed(page: str) -> str:
    """A page of its own within a card; one line, as a blank one would end it in Markdown."""
    inner = escape(page).replace("\n", "&#10;")
    return f'<iframe srcdoc="{inner}" style="width: 100%; height: 90vh; border: 0"></iframe>'


@contextmanager
def _session(flow: EvalFlow) -> Iterator[Session]:
    """The run that the settings and the parameters describe."""
    names = [name.strip() for name in str(flow.suite).split(",") if name.strip()]
    path = str(flow.dataset)
    order = Order(
        suites=tuple(names) or (*SUITES, *JUDGED),
        datasets=(Path(path),) if path else (),
        judges=(str(flow.judge), ""),
    )
    try:
        yield Session.opened(order, settings.load(), keeps_steps=False)
    except MetaflowbotError as error:
        raise EvalError(str(error)) from None


if __name__ == "__main__":
    if get_username() is None:
        sys.exit("metaflowbot: Metaflow needs a user's name: set USERNAME (not to 'root')")
    EvalFlow()
