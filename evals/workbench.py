"""A Metaflowbot in a temporary home, driven by its command line, as its users drive it.

It needs no key: whatever the environment says of models, Slack and tokens is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaflowbot.errors import MetaflowbotError
from metaflowbot.settings import Settings

_MAIN = "from metaflowbot.cli import main; main()"
_OURS = ("METAFLOWBOT_", "SLACK_", "OPENAI_", "CHROMA_")
_ADDRESS = re.compile(r"ask at (http://\S+?)/?$", re.MULTILINE)
_READY = re.compile(r"(?<!not )\bready: ")
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one ingest did. `seconds` is from the command's start to its end.

    `cpu_seconds` is what it took of all cores, which others on the machine hardly change.
    `embedded` counts the passages whose vectors were not yet known.
    """

    seconds: float
    cpu_seconds: float
    stages: dict[str, float]
    documents: int
    passages: int
    embedded: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running `metaflowbot serve`."""

    url: str
    pid: int

    @property
    def resident_mb(self) -> float | None:
        """The memory that the process holds (MiB), None where the system has no /proc."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return None
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        return round(int(found[1]) / 1024, 1) if found else None


@dataclass(frozen=True, slots=True)
class Workbench:
    """A home for one bot and the commands that work on it."""

    home: Path

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Workbench]:
        """A home that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="metaflowbot-evals-") as folder:
            yield cls(Path(folder))

    @property
    def settings(self) -> Settings:
        """What the commands here go by."""
        return Settings(home=self.home, chat_model="none", embedding_model="local")

    def copied(self, docs: Path) -> Path:
        """A copy of the docs in this home, which may be edited."""
        return Path(shutil.copytree(docs, self.home / "docs" / docs.absolute().name))

    def ingest(self, docs: Path | None = None) -> Ingested:
        """Index the installed API reference, and the docs where they are given.

        Raises MetaflowbotError with what the command said when it failed.
        """
        sources = ["--only", "api"]
        if docs is not None:
            sources += ["--only", "docs", "--docs", str(docs.absolute())]
        started, spent = time.perf_counter(), _children_seconds()
        done = subprocess.run(
            self._command("ingest", *sources, "--json"),
            env=self._environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = round(time.perf_counter() - started, 2)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise MetaflowbotError(f"`metaflowbot ingest` failed: {said}")
        summary = json.loads(done.stdout)
        return Ingested(
            seconds=seconds,
            cpu_seconds=round(_children_seconds() - spent, 2),
            stages=summary["seconds"],
            documents=int(summary["documents"]),
            passages=int(summary["passages"]),
            embedded=int(summary["embedded"]),
        )

    @contextmanager
    def serve(self) -> Iterator[Server]:
        """Serve this home on a free port; raises MetaflowbotError where it does not start."""
        log = self.home / "serve.log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                self._command("serve", "--port", "0"),
                env=self._environment(),
                cwd=self.home,
                stderr=output,
                stdout=output,
            )
        try:
            yield Server(_address(process, log), process.pid)
        finally:
            process.terminate()
            process.wait()

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-c", _MAIN, *words]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return kept | {"METAFLOWBOT_HOME": str(self.home), "METAFLOWBOT_CHAT_MODEL": "none"}


def _children_seconds() -> float:
    """The CPU time of the processes that this one started and that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address, once the log tells it and that the index is loaded."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        said = log.read_text(encoding="utf-8")
        address = _ADDRESS.search(said)
        if address and _READY.search(said):
            return address[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    last = (log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
    raise MetaflowbotError(f"`metaflowbot serve` did not start: {last}")
