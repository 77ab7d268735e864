"""Old rows go; what was given up on can be tried again; a migration is done whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.command import upgrade
from alembic.config import Config
from alembic.migration import MigrationContext

from metaflowbot.domain import Answer, Feedback
from metaflowbot.errors import StoreError
from metaflowbot.store import MAX_ATTEMPTS, Asking, Store

pytest_plugins = ["tests.databases"]

ROOT = Path(__file__).parent.parent
MIGRATIONS = ROOT / "metaflowbot" / "migrations"


def keep(store: Store, answer_id: str, question: str = "why?") -> None:
    answer = Answer(answer_id, question, "so", (), False, 0.9, "none", "p1", "g1")
    store.save_answer(answer, Asking("slack:U1", "C1", "1.0", "1.0"))
    store.rate(Feedback(answer_id, "slack:U2", "up"))


def give_up_on(store: Store, key: str, error: str = "channel_not_found") -> None:
    store.receive(key, "mention", {"text": "hi"})
    for _ in range(MAX_ATTEMPTS):
        item = store.claim(0)
        assert item is not None
        store.release(item.key, error=error, retry_in=0)
    store.claim(0)


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def execute(url: str, statement: str, **values: object) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


# Expiry


def test_answers_older_than_asked_for_go_with_the_verdicts_on_them(store: Store, url: str) -> None:
    keep(store, "old")
    keep(store, "new")
    execute(url, "UPDATE answers SET asked_at = :at WHERE id = 'old'", at=days_ago(91))
    assert store.expire(90) == {"answers": 1, "inbox": 0}
    assert store.answer("old") is None
    assert [each.answer_id for each in store.rated()] == ["new"]


def test_answers_are_kept_for_good_unless_days_are_set(store: Store, url: str) -> None:
    keep(store, "old")
    execute(url, "UPDATE answers SET asked_at = :at", at=days_ago(5000))
    assert store.expire(0) == {"inbox": 0}
    assert store.answer("old") is not None


def test_inbox_keys_go_a_month_after_they_were_settled_and_open_ones_stay(
    store: Store, url: str
) -> None:
    for key in ("done", "recent", "waiting"):
        store.receive(key, "mention", {})
    store.complete("done")
    store.complete("recent")
    execute(url, "UPDATE inbox SET received_at = :at WHERE key <> 'recent'", at=days_ago(31))
    assert store.expire(0) == {"inbox": 1}
    assert store.receive("recent", "mention", {}) is False
    assert store.receive("done", "mention", {}) is True
    assert store.health().depth == 2


def test_nothing_of_an_expired_question_is_left_in_the_files(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bot.db"
    store = Store.open(url)
    keep(store, "old", "a very private question")
    execute(url, "UPDATE answers SET asked_at = :at", at=days_ago(2))
    store.expire(1)
    assert not any(b"very private" in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


# What was given up on


def test_what_was_given_up_on_is_listed_with_its_reason(store: Store) -> None:
    give_up_on(store, "T/C/1")
    (item,) = store.dead()
    assert (item.key, item.kind, item.error) == ("T/C/1", "mention", "channel_not_found")
    assert item.received_at.utcoffset() == timedelta(0)


def test_what_was_given_up_on_is_tried_again_and_looks_for_an_earlier_answer(store: Store) -> None:
    give_up_on(store, "T/C/1")
    give_up_on(store, "T/C/2")
    assert store.retry("T/C/2") == 1
    item = store.claim(60)
    assert item is not None
    assert (item.key, item.payload, item.dead) == ("T/C/2", {"text": "hi"}, False)
    assert item.attempts == 2  # from the second attempt on, workers look before they post
    assert store.retry() == 1
    assert store.dead() == ()


def test_only_what_was_given_up_on_is_put_back_in_turn(store: Store) -> None:
    store.receive("open", "mention", {})
    store.claim(60)
    store.receive("done", "mention", {})
    store.complete("done")
    assert (store.retry(), store.retry("done"), store.retry("nowhere")) == (0, 0, 0)
    assert store.claim(60) is None


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from metaflowbot.cli import main; main()", *arguments]
    names = {"PATH": os.environ["PATH"], "HOME": str(home), "METAFLOWBOT_HOME": str(home)}
    return subprocess.run(
        line, cwd=home, env=names, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_lists_and_retries_what_was_given_up_on(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/metaflowbot.db")
    give_up_on(store, "T/C/1")
    listed = json.loads(command(tmp_path, "inbox", "list", "--json").stdout)
    assert [(item["key"], item["error"]) for item in listed["dead"]] == [
        ("T/C/1", "channel_not_found")
    ]
    missing = command(tmp_path, "inbox", "retry", "T/C/9")
    assert (missing.returncode, "T/C/9 was not given up on" in missing.stderr) == (1, True)
    done = command(tmp_path, "inbox", "retry")
    assert (done.returncode, done.stdout) == (0, "put back in turn: 1\n")
    assert store.claim(60) is not None
    store.close()


# Migrations that fail half-way


def test_a_migration_that_fails_is_rolled_back_and_done_once_its_cause_is_gone(url: str) -> None:
    engine = engine_of(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        upgrade(config, "0002")
        # 0003 adds `retrieved` first, then meets a column that is there already.
        connection.exec_driver_sql("ALTER TABLE answers ADD COLUMN checks TEXT")
    with pytest.raises(StoreError, match="checks"):
        Store.open(url)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "0002"
        assert "retrieved" not in {c["name"] for c in sa.inspect(connection).get_columns("answers")}
    engine.dispose()
    execute(url, "ALTER TABLE answers DROP COLUMN checks")
    store = Store.open(url)
    keep(store, "a1")
    store.close()
