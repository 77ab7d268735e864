"""Ingests on a schedule: again and again, past failures, until it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.pipeline import SourceReport, Summary
from ingest.schedule import recorded
from metaflowbot.index import Index
from metaflowbot.ingest_run import IngestRun
from tests.openai_double import OpenAIDouble

SECONDS = 60.0


class Scheduler:
    """A running `metaflowbot schedule` on a home of its own."""

    def __init__(self, home: Path, server: OpenAIDouble, toml: str, *options: str) -> None:
        self.home = home
        every = "0.0001"
        (home / "metaflowbot.toml").write_text(toml)
        line = [sys.executable, "-c", "from metaflowbot.cli import main; main()"]
        names = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "METAFLOWBOT_HOME": str(home),
            "METAFLOWBOT_EMBEDDING_MODEL": "openai:text-embedding-3-small",
            "METAFLOWBOT_CHAT_MODEL": "none",
            "OPENAI_API_KEY": server.key,
            "OPENAI_BASE_URL": server.url,
        }
        with (home / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*line, "schedule", "--every", every, "--", *options],
                cwd=home,
                env=names,
                stdout=log,
                stderr=log,
            )

    @property
    def said(self) -> str:
        return (self.home / "log").read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)


Start = Callable[..., Scheduler]


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, server: OpenAIDouble) -> Iterator[Start]:
    started: list[Scheduler] = []

    def begin(toml: str, *options: str) -> Scheduler:
        started.append(Scheduler(tmp_path, server, toml, *options))
        return started[-1]

    yield begin
    for scheduler in started:
        scheduler.process.kill()
        scheduler.process.wait()


def test_it_ingests_now_and_again_until_it_is_stopped(
    start: Start, tmp_path: Path, corpus: Path
) -> None:
    scheduler = start(f'[sources.docs]\nlocation = "{corpus}"', "--only", "docs")
    scheduler.until(lambda: scheduler.said.count("ingest done; the next one in") >= 2)
    assert Index(tmp_path).active_id()
    scheduler.process.send_signal(signal.SIGTERM)
    assert scheduler.process.wait(SECONDS) == 0


def test_one_that_fails_is_recorded_and_tried_again(
    start: Start, tmp_path: Path, server: OpenAIDouble
) -> None:
    server.fail(401, times=99)
    scheduler = start('[sources.docs]\nlocation = "/nowhere"')
    scheduler.until(lambda: scheduler.said.count("failed with 1; the next one in") >= 2)
    run = IngestRun.last(tmp_path)
    assert run is not None
    assert not run.succeeded


def test_wrong_settings_end_it_with_their_name(start: Start) -> None:
    scheduler = start("colour = 1")
    assert scheduler.process.wait(SECONDS) == 2
    assert "unknown key 'colour'" in scheduler.said


def test_what_an_ingest_came_to_is_kept_with_the_sources_it_could_not_read(tmp_path: Path) -> None:
    unread = SourceReport("labs", error="it can't be reached")
    summary = Summary([SourceReport("metaflow-docs", 7), unread], generation="g1", built="g1")
    assert recorded(tmp_path, lambda: summary) is summary
    run = IngestRun.last(tmp_path)
    assert run is not None
    assert (run.succeeded, run.unread, run.outcome) == (True, ("labs",), "active: g1")
