"""The refresher: it reads when something changed, tells what went wrong, and ends with the bot."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metaflowbot import refresh
from metaflowbot.errors import MetaflowbotError
from metaflowbot.refresh import Refresher
from metaflowbot.store import Store


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The database of a home whose Slack export does not exist: every ingest of it fails."""
    config = tmp_path / "metaflowbot.toml"
    config.write_text(f'[sources.slack]\nlocation = "{tmp_path}/nowhere"\n')
    monkeypatch.setenv("METAFLOWBOT_HOME", str(tmp_path))
    monkeypatch.setenv("METAFLOWBOT_CONFIG", str(config))
    store = Store.open(f"sqlite:///{tmp_path}/metaflowbot.db")
    yield store
    store.close()


def refresher(store: Store, *, built: bool = True, quiet: float = 0.0) -> Refresher:
    return Refresher(store.threads, lambda: built, quiet=quiet, patience=3600.0)


def test_an_ingest_that_fails_is_told_in_one_line_and_the_changes_stay(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.threads.changed("C1", "1.0")
    running = refresher(store)
    running.start()
    until(lambda: "could not be read again" in caplog.text)
    running.stop()
    (line,) = [it.message for it in caplog.records if it.name == "metaflowbot.refresh"]
    assert "nowhere does not exist: name a Slack export" in line
    assert "next try in 30 s" in line
    assert len(store.threads.changes()) == 1


def test_another_ingest_on_the_home_is_waited_for_and_is_no_error(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "index").mkdir()
    store.threads.changed("C1", "1.0")
    running = refresher(store)
    with (tmp_path / "index" / "ingest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another ingest is running" in refresh._Ingest().complaint()
        with caplog.at_level(logging.INFO):
            running.start()
            until(lambda: running._ingest and running._ingest._process.returncode == 1)
            assert "could not" not in caplog.text
    until(lambda: "could not be read again" in caplog.text)  # its turn came, and it was read
    running.stop()


def test_it_waits_until_nothing_changed_for_a_while(store: Store) -> None:
    store.threads.changed("C1", "1.0")
    assert refresher(store)._is_due()
    assert not refresher(store, quiet=3600)._is_due()
    patient = Refresher(store.threads, lambda: True, quiet=3600, patience=0.0)
    assert patient._is_due()


def test_without_changes_or_an_index_nothing_is_read(store: Store) -> None:
    assert not refresher(store)._is_due()
    store.threads.changed("C1", "1.0")
    assert not refresher(store, built=False)._is_due()


def test_after_a_time_without_listening_everything_is_read_once(store: Store) -> None:
    running = Refresher(store.threads, lambda: True, catch_up=True)
    assert running._is_due()
    running._succeed()
    assert not running._is_due()


def test_each_further_failure_waits_longer_up_to_a_limit(store: Store) -> None:
    running = refresher(store)
    assert [running._fail("no") for _ in range(7)] == [30, 60, 120, 240, 480, 900, 900]
    running._succeed()
    assert running._fail("no") == 30


def test_stopping_ends_the_ingest_and_tells_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.threads.changed("C1", "1.0")
    running = refresher(store)
    running.start()
    until(lambda: running._ingest)
    running.stop()
    assert running._ingest
    assert running._ingest._process.returncode is not None
    assert not running._thread.is_alive()
    assert caplog.text == ""


def test_a_database_that_does_not_answer_is_told_and_does_not_end_it(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.close()
    for path in tmp_path.glob("metaflowbot.db*"):
        path.unlink()
    running = refresher(store)
    running.start()
    until(lambda: "can't be kept up to date" in caplog.text)
    assert running._thread.is_alive()
    running.stop()


def test_reading_now_raises_with_the_reason(store: Store) -> None:
    with pytest.raises(MetaflowbotError, match="nowhere does not exist"):
        refresh.ingest_now()
