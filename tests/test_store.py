"""The store keeps its promises on SQLite and, where its binaries are found, on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from metaflowbot.domain import Answer, Citation, Feedback, Turn, Usage
from metaflowbot.errors import NotFoundError, SettingsError, StoreError
from metaflowbot.migrations.schema import METADATA
from metaflowbot.store import MAX_ATTEMPTS, Asking, Store

pytest_plugins = ["tests.databases"]

ASKING = Asking("slack:U1", channel="C1", thread="1.0", message="1.0")


def an_answer(
    answer_id: str = "a1", question: str = "How do I branch?", text: str = "Use foreach [1]."
) -> Answer:
    return Answer(
        id=answer_id,
        question=question,
        text=text,
        citations=(Citation(1, "docs/basics.md", "Basics", "https://docs/basics", "foreach"),),
        abstained=False,
        confidence=0.75,
        model="openai:m",
        prompt_version="p1",
        generation="g1",
        timings_ms={"total": 12.5},
        usage=Usage(10, 20, 0.5),
        notice="",
    )


def in_threads(work: Callable[[], None], count: int = 6) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


# Answers and feedback


def test_a_saved_answer_comes_back_whole(store: Store) -> None:
    store.save_answer(an_answer(), ASKING)
    assert store.answer("a1") == an_answer()
    assert store.answer_to(ASKING) == an_answer()


def test_an_unknown_answer_is_none(store: Store) -> None:
    assert store.answer("nowhere") is None
    assert store.answer_to(ASKING) is None
    assert store.conversation("C1", "1.0") == ()


def test_text_that_no_database_takes_is_kept_without_the_characters_in_question(
    store: Store,
) -> None:
    store.save_answer(an_answer(question="nul\0 and half a pair \ud800"), ASKING)
    saved = store.answer("a1")
    assert saved is not None
    assert saved.question == "nul and half a pair ?"


def test_a_conversation_holds_the_turns_of_its_thread_oldest_first(store: Store) -> None:
    store.save_answer(an_answer("a1", "first", "one"), ASKING)
    store.save_answer(an_answer("a2", "elsewhere"), Asking("slack:U1", "C1", "9.0", "9.0"))
    store.save_answer(an_answer("a3", "second", "two"), Asking("slack:U2", "C1", "1.0", "2.0"))
    assert store.conversation("C1", "1.0") == (
        Turn("user", "first"),
        Turn("assistant", "one"),
        Turn("user", "second"),
        Turn("assistant", "two"),
    )


def test_a_second_verdict_of_one_person_replaces_the_first(store: Store) -> None:
    store.save_answer(an_answer(), ASKING)
    store.rate(Feedback("a1", "slack:U1", "up"))
    store.rate(Feedback("a1", "slack:U2", "up"))
    store.rate(Feedback("a1", "slack:U1", "down", "wrong page"))
    assert [(each.verdict, each.reason) for each in store.rated()] == [
        ("up", ""),
        ("down", "wrong page"),
    ]


def test_verdicts_are_kept_while_others_write(store: Store) -> None:
    store.save_answer(an_answer(), ASKING)
    people = iter(range(10_000))
    failures: list[Exception] = []

    def rate_and_go_on() -> None:
        for _ in range(20):
            person = f"slack:U{next(people)}"
            try:
                store.rate(Feedback("a1", person, "up"))
                store.record.log(person, "rated", "a1")
            except StoreError as error:
                failures.append(error)

    in_threads(rate_and_go_on)
    assert failures == []
    assert len(list(store.rated())) == 120


def test_a_verdict_on_an_unknown_answer_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        store.rate(Feedback("nowhere", "web", "up"))


def test_a_rated_answer_carries_what_an_eval_case_needs_with_its_time_in_utc(store: Store) -> None:
    before = datetime.now(UTC)
    store.save_answer(an_answer(), ASKING)
    store.rate(Feedback("a1", "web", "down", "old"))
    (rated,) = store.rated(before)
    assert (rated.answer_id, rated.question, rated.answer) == (
        "a1",
        "How do I branch?",
        "Use foreach [1].",
    )
    assert rated.citations == an_answer().citations
    assert before <= rated.asked_at <= datetime.now(UTC)
    assert rated.asked_at.utcoffset() == timedelta(0)


def test_verdicts_before_the_date_are_left_out(store: Store) -> None:
    store.save_answer(an_answer(), ASKING)
    store.rate(Feedback("a1", "web", "up"))
    assert list(store.rated(datetime.now(UTC) + timedelta(seconds=1))) == []


# The inbox


def test_a_message_that_comes_in_twice_is_kept_once(store: Store) -> None:
    assert store.receive("T/C/1", "mention", {"text": "hi"}) is True
    assert store.receive("T/C/1", "message", {"text": "hi"}) is False
    assert store.health().depth == 1


def test_the_oldest_item_is_claimed_first_and_once(store: Store) -> None:
    for n in range(3):
        store.receive(f"T/C/{n}", "mention", {"n": n})
    claimed = [store.claim(60) for _ in range(4)]
    assert [item and item.payload["n"] for item in claimed] == [0, 1, 2, None]
    assert claimed[0] is not None
    assert (claimed[0].key, claimed[0].kind, claimed[0].attempts) == ("T/C/0", "mention", 1)


def test_a_completed_item_is_never_taken_again_and_its_content_is_gone(
    store: Store, url: str
) -> None:
    store.receive("T/C/1", "mention", {"text": "private words"})
    store.claim(0)
    store.complete("T/C/1")
    assert store.claim(0) is None
    assert store.receive("T/C/1", "mention", {}) is False
    assert store.health().depth == 0


def test_an_item_whose_lease_ran_out_is_claimed_again(store: Store) -> None:
    store.receive("T/C/1", "mention", {})
    store.claim(0)
    again = store.claim(60)
    assert again is not None
    assert again.attempts == 2


def test_a_renewed_lease_keeps_the_item(store: Store) -> None:
    store.receive("T/C/1", "mention", {})
    store.claim(0)
    store.renew("T/C/1", 60)
    assert store.claim(60) is None


def test_a_released_item_waits_for_its_turn(store: Store) -> None:
    store.receive("later", "mention", {})
    store.claim(60)
    store.release("later", error="ratelimited", retry_in=60)
    assert store.claim(60) is None
    store.release("later", error="ratelimited", retry_in=0)
    assert store.claim(60) is not None


def test_an_item_put_off_by_a_clock_that_was_ahead_comes_in_its_turn(store: Store) -> None:
    store.receive("k", "mention", {})
    store.claim(60)
    store.release("k", error="Slack was busy", retry_in=3600)
    claimed = store.claim(60)
    assert claimed is not None
    store.release("k", error="Slack was busy", retry_in=512)
    assert store.claim(60) is None


def test_an_item_that_failed_too_often_is_dead_kept_and_visible(store: Store) -> None:
    store.receive("T/C/1", "mention", {})
    for _ in range(MAX_ATTEMPTS):
        item = store.claim(60)
        assert item is not None
        assert not item.dead
        store.release(item.key, error="channel_not_found", retry_in=0)
    last = store.claim(60)
    assert last is not None
    assert last.dead
    assert store.claim(0) is None
    assert (store.health().depth, store.health().dead) == (0, 1)


def test_an_item_that_kills_its_workers_comes_back_dead_a_last_time(store: Store) -> None:
    store.receive("T/C/1", "mention", {})
    claims = [store.claim(0) for _ in range(MAX_ATTEMPTS + 2)]
    assert [item and item.dead for item in claims] == [False] * MAX_ATTEMPTS + [True, None]


def test_many_workers_and_processes_never_share_an_item(store: Store, url: str) -> None:
    for n in range(40):
        store.receive(f"T/C/{n:02}", "mention", {})
    taken: list[str] = []
    other = Store.open(url)

    def work() -> None:
        for place in (store, other) * 40:
            if item := place.claim(60):
                taken.append(item.key)

    in_threads(work)
    other.close()
    assert sorted(taken) == [f"T/C/{n:02}" for n in range(40)]


def test_many_senders_of_one_key_put_in_one_item(store: Store) -> None:
    new: list[bool] = []
    in_threads(lambda: new.append(store.receive("T/C/1", "mention", {})))
    assert sorted(new) == [False] * 5 + [True]


def test_health_tells_the_age_of_the_oldest_open_item(store: Store) -> None:
    assert store.health().oldest_seconds == 0.0
    store.receive("T/C/1", "mention", {})
    assert 0 <= store.health().oldest_seconds < 30


# Forgetting


def test_forgetting_a_person_erases_their_rows_everywhere_and_no_one_elses(store: Store) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.save_answer(an_answer("a2"), Asking("slack:U2"))
    store.rate(Feedback("a1", "slack:U2", "up"))
    store.rate(Feedback("a2", "slack:U1", "down"))
    store.rate(Feedback("a2", "slack:U2", "up"))
    store.receive("T/C/1", "mention", {}, person="slack:U1")
    store.receive("T/C/2", "mention", {}, person="slack:U2")
    counts = store.forget("slack:U1")
    erased = {what: count for what, count in counts.items() if count}
    assert erased == {"answers": 1, "feedback": 2, "inbox": 1}
    assert store.answer("a1") is None
    assert [each.answer_id for each in store.rated()] == ["a2"]
    assert store.health().depth == 1


def test_nothing_of_a_forgotten_person_is_left_in_the_files(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    store.save_answer(an_answer(question="a very private question"), ASKING)
    store.receive("T/C/1", "mention", {"text": "a very private question"}, person="slack:U1")
    store.forget("slack:U1")
    assert not any(b"very private" in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


# Opening


def test_the_migrations_make_the_tables_that_the_store_speaks_of(store: Store, url: str) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_a_database_is_opened_again_with_what_it_held(store: Store, url: str) -> None:
    store.save_answer(an_answer(), ASKING)
    again = Store.open(url)
    again.ping()
    assert again.answer("a1") == an_answer()
    again.close()


def test_many_processes_may_open_a_new_database_at_once(url: str) -> None:
    opened: list[Store] = []
    in_threads(lambda: opened.append(Store.open(url)), count=4)
    assert len(opened) == 4
    for store in opened:
        store.ping()
        store.close()


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    Store.open(f"sqlite:///{tmp_path}/deep/down/bot.db").close()
    assert (tmp_path / "deep/down/bot.db").exists()


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"not a database at all " * 100)
    with pytest.raises(StoreError, match="not a database") as caught:
        Store.open(f"sqlite:///{tmp_path}/bot.db")
    assert "\n" not in str(caught.value)


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    Store.open(url).close()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreError, match=r"newer .*schema is 9999, this one knows 0"):
        Store.open(url)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match="METAFLOWBOT_DATABASE_URL") as caught:
        Store.open("postgres://bot:hunter2@127.0.0.1:1/bot")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["not a url", "sqlite://", "sqlite:///:memory:", "mysql://h/d"])
def test_a_url_of_another_kind_is_refused_with_what_it_may_be(url: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///PATH"):
        Store.open(url)


def test_a_database_that_went_away_is_a_store_error_without_anybodys_text(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    store.save_answer(an_answer(), ASKING)
    with pytest.raises(StoreError) as caught:
        store.save_answer(an_answer(question="secret words"), ASKING)
    assert "secret words" not in str(caught.value) + str(caught.value.__cause__)
    store.close()
    (tmp_path / "bot.db").write_bytes(b"\xff" * 8192)
    for leftover in ("bot.db-wal", "bot.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    with pytest.raises(StoreError):
        store.ping()
    store.close()
