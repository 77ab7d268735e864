"""Transactions on SQLite and, where its binaries are found, on PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from metaflowbot import database as database_room
from metaflowbot.database import Database
from metaflowbot.errors import StoreError
from metaflowbot.migrations.schema import SLACK_CHANNELS
from tests.slack_world import until

pytest_plugins = ["tests.databases"]


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url)) as database:
        yield database


def add(connection: sa.Connection, channel: str) -> None:
    row = {"channel": channel, "rules": {}, "person": "", "changed_at": datetime.now(UTC)}
    connection.execute(sa.insert(SLACK_CHANNELS).values(row))


def channels(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(SLACK_CHANNELS.c.channel)).scalars())


def test_what_was_written_is_read_by_others(database: Database) -> None:
    with database.writing() as connection:
        add(connection, "C1")
    assert channels(database) == ["C1"]


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ValueError, match="too bad"), database.writing() as connection:
        add(connection, "C1")
        raise ValueError("too bad")
    assert channels(database) == []


def test_who_only_reads_can_not_write(database: Database) -> None:
    with database.reading() as connection:
        add(connection, "C1")
    assert channels(database) == []


def test_many_threads_write_at_once_and_nothing_is_lost(database: Database) -> None:
    def write(number: int) -> None:
        for n in range(10):
            with database.writing(lasting=n % 2 == 0, urgent=n % 3 == 0) as connection:
                add(connection, f"C{number}-{n}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(channels(database))) == 200


class Turn:
    """A lock that counts who asked for it."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = threading.Lock()

    def acquire(self, timeout: float) -> bool:
        self.asked += 1
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def test_an_urgent_writer_competes_with_one_of_those_who_may_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, which has one writer at a time."""
    turn = Turn()
    written: list[bool] = []
    with closing(Database(f"sqlite:///{tmp_path}/bot.db")) as database:
        monkeypatch.setattr(database, "_turn", turn)

        def write(urgent: bool) -> None:
            with database.writing(urgent=urgent):
                written.append(urgent)

        writers = [
            threading.Thread(target=write, args=(urgent,)) for urgent in (*[False] * 5, True)
        ]
        with database.writing(urgent=True):
            for each in writers:
                each.start()
            until(lambda: turn.asked == 3)
            writers[0].join(0.2)  # whoever asks for a turn without waiting for it does so at once
            assert turn.asked == 3
        for each in writers:
            each.join()
    assert sorted(written) == [False] * 5 + [True]


def test_a_database_that_stays_locked_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_room, "_BUSY_SECONDS", 0.05)
    complaints: list[str] = []
    with closing(Database(f"sqlite:///{tmp_path}/bot.db")) as database:

        def write() -> None:
            with pytest.raises(StoreError) as error, database.writing():
                pass
            complaints.append(str(error.value))

        other = sqlite3.connect(tmp_path / "bot.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        other.close()
        with database.writing() as connection:
            add(connection, "C1")
        assert channels(database) == ["C1"]
    assert len(complaints) == 3
    assert all("does not answer (database is locked)" in each for each in complaints)
