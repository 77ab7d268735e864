"""Keeps the index in step with Slack's threads: when they change, an ingest runs beside the bot.

    events, marks -> Threads.changes() -> `metaflowbot ingest --only slack` -> a new generation

The ingest is a process of its own, with a low priority: it never holds up an answer, and what it
builds is served as any other generation is. Only one runs on a home at a time, so any number of
replicas may refresh it.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from metaflowbot.errors import MetaflowbotError, StoreError
from metaflowbot.threads import Threads

_PROGRAM = "import os; os.nice(5); from metaflowbot.cli import main; main()"
# How an ingest says that it has to wait for another one.
_BUSY = "another ingest is running"
_LOOK_SECONDS = 1.0
_BUSY_SECONDS = 3.0
_REST_SECONDS = 15.0  # after each refresh, so that a busy channel does not keep a core at work
_RETRY_SECONDS = 30.0  # after the first failure; twice as long after each further one
_LONGEST_SECONDS = 900.0
_STOP_SECONDS = 10.0
_log = logging.getLogger(__name__)


class _Ingest:
    """One `metaflowbot ingest --only slack`, begun."""

    def __init__(self, *options: str) -> None:
        # -P: the folder in which the bot was started must not lend the child its modules.
        program = [sys.executable, "-P", "-c", _PROGRAM, "ingest", "--only", "slack", *options]
        self._process = subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def complaint(self) -> str:
        """The last line that it said, once it has failed; '' once it has succeeded."""
        _, said = self._process.communicate()
        if self._process.returncode == 0:
            return ""
        lines = said.strip().splitlines() or [f"it ended with {self._process.returncode}"]
        return lines[-1].removeprefix("metaflowbot: ")

    def stop(self) -> None:
        self._process.terminate()


def ingest_now(patience: timedelta = timedelta(minutes=10)) -> None:
    """Read Slack's threads and build the index anew; waits for an ingest that is running.

    Raises MetaflowbotError with the reason where that fails.
    """
    deadline = datetime.now(UTC) + patience
    pause = threading.Event()
    while complaint := _Ingest().complaint():
        if _BUSY not in complaint or datetime.now(UTC) > deadline:
            raise MetaflowbotError(complaint)
        pause.wait(_BUSY_SECONDS)


class Refresher:
    """A thread that refreshes the index when changes are noted, from `start` to `stop`.

    It waits until `quiet` seconds went by without a further change, and no longer than `patience`
    seconds after the first. With `catch_up` it begins with a whole reading: of what was written
    while nobody listened. `is_built` says whether there is an index to refresh.
    """

    def __init__(
        self,
        threads: Threads,
        is_built: Callable[[], bool],
        *,
        catch_up: bool = False,
        quiet: float = 3.0,
        patience: float = 15.0,
    ) -> None:
        self._threads = threads
        self._is_built = is_built
        self._is_behind = catch_up
        self._quiet = timedelta(seconds=quiet)
        self._patience = timedelta(seconds=patience)
        self._failures = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._ingest: _Ingest | None = None
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)

    def start(self) -> None:
        """Begin, with what was noted before."""
        self._thread.start()

    def stop(self) -> None:
        """End; an ingest that is running is stopped, and what it was to read stays noted."""
        with self._lock:
            self._stopping.set()
            if self._ingest is not None:
                self._ingest.stop()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        pause = _LOOK_SECONDS
        while not self._stopping.wait(pause):
            try:
                pause = self._refresh() if self._is_due() else _LOOK_SECONDS
            except (StoreError, OSError) as error:
                _log.error("Slack's threads can't be kept up to date: %s", error)
                pause = _RETRY_SECONDS

    def _is_due(self) -> bool:
        changes = self._threads.changes()
        if not (changes or self._is_behind) or not self._is_built():
            return False
        now = datetime.now(UTC)
        is_quiet = all(now - change.changed_at >= self._quiet for change in changes)
        return is_quiet or any(now - change.since >= self._patience for change in changes)

    def _refresh(self) -> float:
        """Run an ingest to its end; the seconds to wait after it."""
        with self._lock:
            if self._stopping.is_set():
                return 0.0
            self._ingest = _Ingest(*([] if self._is_behind else ["--noted"]))
        complaint = self._ingest.complaint()
        if self._stopping.is_set():
            return 0.0
        if _BUSY in complaint:
            return _BUSY_SECONDS
        return self._fail(complaint) if complaint else self._succeed()

    def _succeed(self) -> float:
        self._is_behind = False
        self._failures = 0
        _log.info("what changed in Slack's threads is in the index")
        return _REST_SECONDS

    def _fail(self, complaint: str) -> float:
        wait = min(_RETRY_SECONDS * 2.0**self._failures, _LONGEST_SECONDS)
        self._failures += 1
        _log.error("Slack's threads could not be read again: %s; next try in %d s", complaint, wait)
        return wait
