"""A database of any earlier version is brought up to date, with what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from metaflowbot.migrations.schema import METADATA
from metaflowbot.store import Store

pytest_plugins = ["tests.databases"]

CONFIG = Config()
CONFIG.set_main_option(
    "script_location", str(Path(__file__).parent.parent / "metaflowbot" / "migrations")
)
VERSIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()]


def database_of(version: str, url: str) -> sa.Engine:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, version)
        connection.exec_driver_sql(
            "INSERT INTO answers (id, asked_at, person, channel, thread, message, question, text,"
            " citations, abstained, confidence, model, prompt_version, generation, timings_ms,"
            " usage, notice) VALUES ('a1', '2026-01-01', 'cli', '', '', '', 'why?', 'so', '[]',"
            " false, 0.9, 'none', 'p', 'g', '{}', '{}', '')"
        )
    return engine


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_an_earlier_version_keeps_its_answers(version: str, url: str) -> None:
    engine = database_of(version, url)
    store = Store.open(url)
    kept = store.answer("a1")
    store.close()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()
    assert kept is not None
    assert kept.text == "so"
