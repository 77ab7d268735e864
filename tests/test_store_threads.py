"""Promises of what the store keeps of Slack's threads and of the reviews of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metaflowbot.errors import NotFoundError
from metaflowbot.store import Store
from metaflowbot.threads import SeenThread

THREAD = SeenThread(
    key="ask/1.0",
    title="Why does my step fail?",
    url="https://garden.slack.com/archives/C1/p10",
    state="unresolved",
    confidence=0.35,
    evidence=("maintainer-answer-open",),
    why="nothing shows that it was resolved",
    channel="ask",
    channel_id="C1",
    private=False,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    yield store
    store.close()


def test_a_thread_comes_back_as_it_was_noted(store: Store) -> None:
    store.threads.note([THREAD])
    assert store.threads.seen() == (THREAD,)
    assert store.threads.thread("ask/1.0") == THREAD


def test_nothing_was_seen_before_the_first_reading(store: Store) -> None:
    assert store.threads.seen() == ()
    assert store.threads.reviews() == {}


def test_a_new_reading_takes_the_place_of_the_one_before(store: Store) -> None:
    store.threads.note([THREAD, replace(THREAD, key="ask/2.0")])
    store.threads.note([replace(THREAD, state="resolved")])
    assert store.threads.seen() == (replace(THREAD, state="resolved"),)
    store.threads.note([])
    assert store.threads.seen() == ()


def test_two_threads_with_one_key_do_not_stop_a_reading(store: Store) -> None:
    store.threads.note([THREAD, replace(THREAD, title="The later one")])
    assert [thread.title for thread in store.threads.seen()] == ["The later one"]


def test_a_second_review_takes_the_place_of_the_first(store: Store) -> None:
    store.threads.note([THREAD])
    store.threads.review("ask/1.0", "approved", "cli:anna")
    second = store.threads.review("ask/1.0", "rejected", "cli:bert")
    assert store.threads.reviews() == {"ask/1.0": second}


def test_a_review_holds_on_when_its_thread_is_read_again_or_not_at_all(store: Store) -> None:
    store.threads.note([THREAD])
    made = store.threads.review("ask/1.0", "approved", "cli:anna")
    store.threads.note([])
    assert store.threads.reviews() == {"ask/1.0": made}


def test_a_thread_that_was_never_seen_can_neither_be_shown_nor_reviewed(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no thread 'ask/9\\.0' was seen"):
        store.threads.thread("ask/9.0")
    with pytest.raises(NotFoundError):
        store.threads.review("ask/9.0", "approved", "cli:anna")
    assert store.threads.reviews() == {}


def test_who_is_forgotten_leaves_the_review_without_a_name(store: Store, tmp_path: Path) -> None:
    store.threads.note([THREAD])
    store.threads.review("ask/1.0", "approved", "cli:anna")
    store.forget("cli:anna")
    review = store.threads.reviews()["ask/1.0"]
    assert (review.verdict, review.person) == ("approved", "")
    assert not any(b"cli:anna" in path.read_bytes() for path in tmp_path.iterdir())
