"""Fixtures: a database of either kind, empty, for each test.

A module that wants them says `pytest_plugins = ["tests.databases"]`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from metaflowbot.store import Store


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """Where PostgreSQL's programs are; Debian keeps them in a folder that no PATH names."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    program = str(found[0]) if found else shutil.which("pg_ctl")
    if program is None:
        pytest.skip("PostgreSQL is not installed")
    return Path(program).parent


@pytest.fixture(scope="session")
def postgres(postgres_programs: Path) -> Iterator[str]:
    """A throw-away PostgreSQL server that listens on a Unix socket alone; yields its folder."""
    pg_ctl = postgres_programs / "pg_ctl"
    # Not in pytest's folder, which is closed to the user that the server runs as.
    home = tempfile.mkdtemp(prefix="metaflowbot-pg-")
    as_root = os.geteuid() == 0
    if as_root:  # the server refuses to run as root
        shutil.chown(home, "postgres")

    def run(command: str) -> None:
        words = ["su", "postgres", "-c", command] if as_root else ["sh", "-c", command]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    run(f"{pg_ctl} initdb -s -D {home}/data -o '-A trust -U bot --no-sync'")
    options = f"-k {home} -c listen_addresses= -c fsync=off"
    run(f"{pg_ctl} start -s -w -D {home}/data -l {home}/log -o '{options}'")
    yield home
    run(f"{pg_ctl} stop -s -m immediate -D {home}/data")
    shutil.rmtree(home)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bot.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def postgres_url(postgres: str, tmp_path: Path) -> str:
    """An empty database on the server."""
    name = f"t{abs(hash(tmp_path))}"
    admin = sa.create_engine(f"postgresql+psycopg://bot@/postgres?host={postgres}")
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return f"postgresql://bot@/{name}?host={postgres}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()
