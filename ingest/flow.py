r"""The scheduled ingest: what `metaflowbot ingest` does, as a Metaflow flow with a card.

    start -> read (a task for each source) -> split -> embed -> build -> check -> activate
          -> report (the card) -> end

    python ingest/flow.py run
    python ingest/flow.py card view report

It reads the settings that `metaflowbot` reads, and its parameters are the options of
`metaflowbot ingest`: a source that can't be read keeps what it gave before, unless one of them
names it. A run whose check stopped the switch fails at its end, so that the scheduler tells
somebody; its card is there all the same.

Each task is a process of its own, and all work on METAFLOWBOT_HOME: passages and vectors stay
there, and the datastore gets names and counts alone. Elsewhere than on one machine the home is
therefore a volume that the tasks and the bot share (ReadWriteMany), beside the object store that
Metaflow asks for:

    python ingest/flow.py --datastore=s3 \
      --with 'kubernetes:image=IMAGE,persistent_volume_claims={"CLAIM": "/var/lib/metaflowbot"}' \
      argo-workflows create

IMAGE holds Python 3.11 or newer, git, Metaflowbot with all of requirements.lock installed, and
METAFLOWBOT_HOME=/var/lib/metaflowbot in its environment; other settings come from its environment,
or from a Kubernetes secret by `@kubernetes(secrets=…)`. Metaflow itself is in the lock.

Embedding is one task: the local model uses every core of its machine, and a task more costs as
much as some fifty passages.
"""

# Metaflow's stubs leave constructors and a few functions untyped.
# mypy: allow-untyped-calls
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metaflow import FlowSpec, Parameter, card, current, schedule, step
from metaflow.exception import MetaflowException
from metaflow.util import get_username

from ingest.check import MAX_SHRINK
from ingest.commands import compose, say, shown_progress
from ingest.pipeline import Ingest, SourceReport, Summary
from metaflowbot import settings
from metaflowbot.errors import MetaflowbotError


class IngestError(MetaflowException):
    """What stops a task, in the one line that Metaflow prints of it."""

    headline = "Ingest stopped"


@schedule(daily=True)
class IngestFlow(FlowSpec):
    """Builds the next index generation, and makes it the live one if it passes the check."""

    docs = Parameter("docs", default="", help="The docs: a git URL or a path. Then required.")
    labs = Parameter("labs", default="", help="Metaflowlabs: a URL or a path. Then required.")
    slack_export = Parameter(
        "slack-export", default="", help="A Slack export: a ZIP file or a folder. Then required."
    )
    only = Parameter(
        "only", default="", help="Read only these sources, separated by commas. Then required."
    )
    max_shrink = Parameter(
        "max-shrink",
        default=MAX_SHRINK,
        type=float,
        help="The share (0 to 1) of a source that may go at once.",
    )

    @step
    def start(self) -> None:
        """Name the sources."""
        with _ingest(self) as job:
            self.names = [source.name for source in job.sources]
        self.next(self.read, foreach="names")

    @step
    def read(self) -> None:
        """Put what one source says now into the library."""
        with _ingest(self) as job:
            self.reading = job.read(str(self.input))
        self.next(self.split)

    @step
    def split(self, inputs: Any) -> None:
        """Bring the sources together and count their passages."""
        reports: list[SourceReport] = [branch.reading for branch in inputs]
        self.summary = Summary(reports, seconds={"read": max(it.seconds for it in reports)})
        with _ingest(self) as job:
            job.split(self.summary)
        self.next(self.embed)

    @step
    def embed(self) -> None:
        """Compute the vectors that are not known yet."""
        with _ingest(self) as job, job.alone(), shown_progress() as progress:
            job.embed(job.split(self.summary), self.summary, progress)
        self.next(self.build)

    @step
    def build(self) -> None:
        """Write the new generation."""
        with _ingest(self) as job, job.alone():
            job.build(job.split(self.summary), self.summary)
        self.next(self.check)

    @step
    def check(self) -> None:
        """Compare it with the live one."""
        with _ingest(self) as job:
            job.check(self.summary)
        self.next(self.activate)

    @step
    def activate(self) -> None:
        """Switch to it unless the check says no."""
        with _ingest(self) as job, job.alone():
            job.activate(self.summary)
        self.next(self.report)

    @card(type="blank")
    @step
    def report(self) -> None:
        """Show on a card what was done."""
        from ingest.card import components

        for component in components(self.summary):
            current.card.append(component)
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say how it ended; fail where the new generation is not live."""
        if self.summary.stopped:
            raise IngestError(self.summary.verdict())
        say(self.summary.verdict())


@contextmanager
def _ingest(flow: IngestFlow) -> Iterator[Ingest]:
    """The ingest that the settings and the run's parameters describe."""
    locations = {"metaflow-docs": flow.docs, "labs": flow.labs, "slack": flow.slack_export}
    try:
        yield compose(
            settings.load(),
            {name: str(location) for name, location in locations.items() if location},
            [name.strip() for name in str(flow.only).split(",") if name.strip()],
            max_shrink=float(str(flow.max_shrink)),
        )
    except MetaflowbotError as error:
        raise IngestError(str(error)) from None


if __name__ == "__main__":
    if get_username() is None:
        sys.exit("metaflowbot: Metaflow needs a user's name: set USERNAME (not to 'root')")
    IngestFlow()
