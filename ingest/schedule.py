"""Ingests on a schedule, without cron; and the record of the last one, which metrics show."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from metaflowbot import settings as settings_module
from metaflowbot.errors import MetaflowbotError
from metaflowbot.ingest_run import IngestRun

if TYPE_CHECKING:
    from ingest.pipeline import Summary

# -P: the folder in which this was started must not lend the child its modules.
_INGEST = [sys.executable, "-P", "-c", "from metaflowbot.cli import main; main()", "ingest"]
_RETRY_SECONDS = 600.0


def schedule(
    options: Annotated[
        list[str] | None, typer.Argument(help="What `ingest` is given: -- --only docs", metavar="…")
    ] = None,
    every: Annotated[float, typer.Option(help="Hours from one ingest to the next.", min=0)] = 24.0,
) -> None:
    """Run `metaflowbot ingest` now, and again after so many hours, until it is stopped.

    One that fails is tried again after ten minutes; wrong settings end it. Each is a process of its
    own, so that between two of them almost no memory is held.
    """
    home = settings_module.load().home
    signal.signal(signal.SIGTERM, _leave)
    while True:
        started = time.monotonic()
        # Ends the child when it is left.
        code = subprocess.run([*_INGEST, *(options or [])], check=False).returncode
        if code == 2:
            raise typer.Exit(2)
        if code < 0:
            name = signal.Signals(-code).name
            _keep(home, started, succeeded=False, outcome=f"it was ended by {name}")
        wait = every * 3600 if code == 0 else min(every * 3600, _RETRY_SECONDS)
        say = "done" if code == 0 else f"failed with {code}"
        print(f"ingest {say}; the next one in {wait / 3600:.2g} h", file=sys.stderr, flush=True)
        time.sleep(wait)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def recorded(home: Path, work: Callable[[], Summary]) -> Summary:
    """Do an ingest, and keep what it came to; raises what it raises."""
    started = time.monotonic()
    try:
        summary = work()
    except MetaflowbotError as error:
        _keep(home, started, succeeded=False, outcome=str(error))
        raise
    unread = tuple(report.name for report in summary.sources if report.error)
    is_live = summary.generation is not None
    _keep(home, started, succeeded=is_live, outcome=summary.verdict(), unread=unread)
    return summary


def _keep(
    home: Path, started: float, *, succeeded: bool, outcome: str, unread: tuple[str, ...] = ()
) -> None:
    seconds = round(time.monotonic() - started, 1)
    try:
        IngestRun(datetime.now(UTC), seconds, succeeded, outcome, unread).keep(home)
    except OSError as error:
        print(f"the record of this ingest can't be kept: {error}", file=sys.stderr)
