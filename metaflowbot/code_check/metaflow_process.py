"""Metaflow itself, in a process of its own: what it knows of command lines and of graphs."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaflowbot.code_check.flows import Flow

log = logging.getLogger(__name__)

_SCRIPT = Path(__file__).with_name("metaflow_child.py")
# Seconds: Metaflow is loaded within one, a usual flow is judged within a millisecond; but a machine
# may be busy with other things. One that would not start is tried again after a pause.
_START_LIMIT = 60.0
_ANSWER_LIMIT = 5.0
_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command.

    `parameter` is what it is called in Python, `values` how many words follow it, `choices` what
    they may be, () for any.
    """

    names: tuple[str, ...]
    parameter: str
    values: int
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its options by name; one that `takes_parameters` takes a flow's, too."""

    options: Mapping[str, Option]
    commands: Mapping[str, Command]
    takes_parameters: bool


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """What Metaflow says of a flow's graph; `line` counts from 1, 0 if it concerns the whole."""

    message: str
    line: int


class MetaflowProcess:
    """Starts with the first question, and again after a flow that it could not judge in time.

    Thread-safe. While Metaflow can't be started nothing is known: there are no commands and no
    broken rules.
    """

    def __init__(self, site: Path) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._commands: Mapping[str, Command] = {}
        self._paused_until = 0.0
        self._end: Any = None

    def commands(self) -> Mapping[str, Command]:
        """The command line of a flow, as 'flow', and that of 'metaflow'; {} if unknown."""
        with self._lock:
            if not self._commands:
                self._start()
            return self._commands

    def broken_rule(self, flow: Flow) -> BrokenRule | None:
        """The first of Metaflow's rules that the flow's graph breaks; None if it breaks none."""
        with self._lock:
            if self._child is None:
                self._start()
            if self._child is None or self._child.stdin is None:
                return None
            question = json.dumps([dataclasses.asdict(step) for step in flow.steps])
            try:
                self._child.stdin.write(question.encode() + b"\n")
                self._child.stdin.flush()
                said = _line(self._child, _ANSWER_LIMIT)
            except (OSError, ValueError) as error:
                log.warning("a flow could not be judged by Metaflow's rules: %s", error)
                self._stop()
                return None
            return BrokenRule(said["message"], said["line"]) if said else None

    def close(self) -> None:
        """End the process; a later question starts it again."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        if time.monotonic() < self._paused_until:
            return
        with tempfile.TemporaryDirectory() as home:
            # No user's configuration, no credentials, no proxy.
            environment = {"HOME": home, "METAFLOW_HOME": home, "METAFLOW_USER": "metaflowbot"}
            child = subprocess.Popen(
                [sys.executable, "-I", str(_SCRIPT), str(self._site)],
                cwd=home,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._child = child
            self._end = weakref.finalize(self, _kill, child)
            try:
                said = _line(child, _START_LIMIT)
            except (OSError, ValueError) as error:
                log.warning("Metaflow could not be started: %s", error)
                self._stop()
                self._paused_until = time.monotonic() + _PAUSE
                return
        self._commands = {name: _command(item) for name, item in said.items()}

    def _stop(self) -> None:
        if self._child is not None:
            self._end.detach()
            _kill(self._child)
            self._child = None


def _kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def _line(child: subprocess.Popen[bytes], limit: float) -> Any:
    """The next line that the child says, as JSON; raises OSError or ValueError if none comes."""
    assert child.stdout is not None
    deadline, said = time.monotonic() + limit, b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while not said.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError(f"no answer within {limit:g} s")
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                raise BrokenPipeError("it ended")
            said += piece
    return json.loads(said)


def _command(said: Mapping[str, Any]) -> Command:
    options = [
        Option(tuple(item["names"]), item["parameter"], item["values"], tuple(item["choices"]))
        for item in said["options"]
    ]
    return Command(
        {name: option for option in options for name in option.names},
        {name: _command(item) for name, item in said["commands"].items()},
        said["takes_parameters"],
    )
