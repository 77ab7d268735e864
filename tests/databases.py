"""Fixtures: a database of either kind, empty, for each test.

A module that wants them says `pytest_plugins = ["tests.databases"]`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from metaflowbot.store import Store


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A throw-away PostgreSQL server that listens on a Unix socket alone; yields its folder."""
    pg_ctl = _pg_ctl()
    home = tmp_path_factory.mktemp("pg")
    as_root = os.geteuid() == 0
    if as_root:  # the server refuses to run as root
        shutil.chown(home, "postgres")
        for folder in (home, *list(home.parents)[:3]):
            folder.chmod(folder.stat().st_mode | 0o055)

    def run(command: str) -> None:
        words = ["su", "postgres", "-c", command] if as_root else ["sh", "-c", command]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    run(f"{pg_ctl} initdb -s -D {home}/data -o '-A trust -U bot --no-sync'")
    options = f"-k {home} -c listen_addresses= -c fsync=off"
    run(f"{pg_ctl} start -s -w -D {home}/data -l {home}/log -o '{options}'")
    yield str(home)
    run(f"{pg_ctl} stop -s -m immediate -D {home}/data")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bot.db"
    home = request.getfixturevalue("postgres")
    name = f"t{abs(hash(tmp_path))}"
    admin = sa.create_engine(f"postgresql+psycopg://bot@/postgres?host={home}")
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return f"postgresql://bot@/{name}?host={home}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    yield store
    store.close()


def _pg_ctl() -> str:
    """Debian keeps a version's programs in a folder of their own, which no PATH names."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = [each for each in (place / "pg_ctl" for place in places) if each.exists()]
    program = str(found[0]) if found else shutil.which("pg_ctl")
    if program is None:
        pytest.skip("PostgreSQL is not installed")
    return program
