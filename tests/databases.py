"""Fixtures: a database of either kind, empty, for each test.

A module that wants them says `pytest_plugins = ["tests.databases"]`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from metaflowbot.store import Store


class PostgresServer:
    """A throw-away PostgreSQL server that listens on a Unix socket alone, in the folder `home`."""

    def __init__(self, programs: Path) -> None:
        self._pg_ctl = programs / "pg_ctl"
        # Not in pytest's folder, which is closed to the user that the server runs as.
        self.home = tempfile.mkdtemp(prefix="metaflowbot-pg-")
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(self.home, "postgres")
        self._run(f"initdb -s -D {self.home}/data -o '-A trust -U bot --no-sync'")

    def _run(self, command: str) -> None:
        line = f"{self._pg_ctl} {command}"
        words = ["su", "postgres", "-c", line] if os.geteuid() == 0 else ["sh", "-c", line]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    def start(self) -> None:
        options = f"-k {self.home} -c listen_addresses= -c fsync=off"
        self._run(f"start -s -w -D {self.home}/data -l {self.home}/log -o '{options}'")

    def stop(self) -> None:
        """Stop it at once, whoever is connected; what it holds stays for the next start."""
        self._run(f"stop -s -m immediate -D {self.home}/data")

    def create(self, name: str) -> str:
        """The URL of a new, empty database."""
        admin = sa.create_engine(f"postgresql+psycopg://bot@/postgres?host={self.home}")
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        return f"postgresql://bot@/{name}?host={self.home}"


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs are; Debian keeps them in a folder that no PATH names."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    program = str(found[0]) if found else shutil.which("pg_ctl")
    return Path(program).parent if program else None


@contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """A running server, gone with all it held when the block ends."""
    server = PostgresServer(programs)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(server.home)


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    programs = postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    return programs


@pytest.fixture(scope="session")
def postgres(postgres_programs: Path) -> Iterator[PostgresServer]:
    with postgres_server(postgres_programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bot.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def postgres_url(postgres: PostgresServer, tmp_path: Path) -> str:
    """An empty database on the server."""
    return postgres.create(f"t{abs(hash(tmp_path))}")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()
