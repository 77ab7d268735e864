"""A real `metaflowbot` as a process of its own: what it says, what it holds, how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

MAIN = "from metaflowbot.cli import main; main()"
# Generous: the machine may be running other tests. Alone, a start takes a few seconds.
SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds: resident memory in MB, threads, open file handles."""

    memory_mb: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """As Linux tells it; ProcessLookupError or FileNotFoundError where there is none."""
        folder = Path("/proc", str(pid))
        status = dict(re.findall(r"^(\w+):\s*(\d+)", (folder / "status").read_text(), re.M))
        files = sum(1 for _ in (folder / "fd").iterdir())
        return cls(int(status["VmRSS"]) / 1024, int(status["Threads"]), files)


class Process:
    """A running `metaflowbot` and what it has said so far."""

    def __init__(
        self,
        home: Path,
        arguments: tuple[str, ...],
        environment: Mapping[str, str],
        main: str = MAIN,
    ) -> None:
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ
        }
        names = {**kept, "HOME": str(home), "USERNAME": "tester", "METAFLOWBOT_HOME": str(home)}
        self.lines: list[str] = []
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", main, *arguments],
            cwd=home,
            env={**names, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def until(self, condition: Callable[[], Any], *, pause: float = 0.02) -> Any:
        """The first truthy value of the condition, while the process lives; `pause` in seconds."""
        deadline = time.monotonic() + SECONDS
        while not (value := condition()):
            assert self._process.poll() is None, f"it ended:\n{self.said}"
            assert time.monotonic() < deadline, f"not in time:\n{self.said}"
            time.sleep(pause)
        return value

    def line(self, part: str) -> str:
        """The first line with this part, once it was said."""
        found: str = self.until(lambda: next((line for line in self.lines if part in line), ""))
        return found

    @property
    def address(self) -> str:
        return re.findall(r"ask at (http://[^/]+)/", self.line("ask at "))[0]

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.address, timeout=SECONDS, trust_env=False, headers=headers
        )

    @property
    def footprint(self) -> Footprint:
        return Footprint.of(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> int:
        """Ask it to end, and wait for that; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """The exit code, once it has ended by itself."""
        code = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
