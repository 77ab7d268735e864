"""Promises of what the store keeps of Slack's threads and of the reviews of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metaflowbot.domain import Answer, Citation, Retrieved
from metaflowbot.errors import NotFoundError
from metaflowbot.store import Asking, Store
from metaflowbot.threads import Mark, SeenThread

pytest_plugins = ["tests.databases"]

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


# What changed


def test_a_change_is_noted_once_with_its_first_and_its_last_time(store: Store) -> None:
    store.threads.changed("C1", "1.0")
    (first,) = store.threads.changes()
    store.threads.changed("C1", "1.0")
    (again,) = store.threads.changes()
    assert (again.channel, again.thread, again.since) == ("C1", "1.0", first.since)
    assert again.changed_at > first.changed_at


def test_a_change_stays_noted_until_what_was_read_is_settled(store: Store) -> None:
    store.threads.changed("C1", "1.0")
    store.threads.changed("C1", "2.0")
    changes = store.threads.changes()
    store.threads.settle()
    assert store.threads.changes() == changes
    store.threads.note([THREAD], changes[:1])
    assert store.threads.changes() == changes
    store.threads.settle()
    assert store.threads.changes() == changes[1:]


def test_what_changed_again_after_it_was_read_stays_noted(store: Store) -> None:
    store.threads.changed("C1", "1.0")
    store.threads.note([THREAD], store.threads.changes())
    store.threads.changed("C1", "1.0")
    store.threads.settle()
    assert [change.thread for change in store.threads.changes()] == ["1.0"]


def test_what_was_read_before_it_changed_again_takes_nothing_away(store: Store) -> None:
    store.threads.changed("C1", "1.0")
    stale = store.threads.changes()
    store.threads.changed("C1", "1.0")
    store.threads.note([THREAD], stale)
    store.threads.settle()
    assert len(store.threads.changes()) == 1


def test_a_reading_without_a_channel_keeps_what_was_seen_of_it(store: Store) -> None:
    other = replace(THREAD, key="dev/1.0", channel="dev", channel_id="C2")
    store.threads.note([THREAD, other])
    store.threads.note([replace(THREAD, key="ask/2.0")], unread={"C2"})
    assert [thread.key for thread in store.threads.seen()] == ["ask/2.0", "dev/1.0"]
    store.threads.note([other], unread={"C2"})
    assert [thread.key for thread in store.threads.seen()] == ["dev/1.0"]


# Marks, and who takes no part


def test_a_mark_is_kept_once_and_notes_the_change(store: Store) -> None:
    mark = Mark("C1", "1.0", "1.1", "slack:U1")
    store.threads.mark(mark)
    store.threads.mark(mark)
    assert store.threads.marks() == (mark,)
    assert [change.thread for change in store.threads.changes()] == ["1.0"]


def test_of_who_opted_out_only_a_hash_is_kept(store: Store, tmp_path: Path) -> None:
    store.threads.opt_out("slack:U1SECRET")
    assert "U1SECRET" in store.threads.opted_out()
    assert "U2" not in store.threads.opted_out()
    assert [change.withdrawal for change in store.threads.changes()] == [True]
    assert not any(b"U1SECRET" in path.read_bytes() for path in tmp_path.iterdir())
    store.threads.opt_in("slack:U1SECRET")
    assert "U1SECRET" not in store.threads.opted_out()


def test_who_opts_out_has_no_threads_that_were_seen(store: Store) -> None:
    theirs, others = (replace(THREAD, key=key, people=(f"slack:{key}",)) for key in ("U1", "U2"))
    store.threads.note([theirs, others])
    store.threads.opt_out("slack:U1")
    assert store.threads.seen() == (others,)


def test_a_withdrawal_is_settled_unread_only_where_nobody_reads(store: Store) -> None:
    store.threads.changed("C1", "1.0")
    store.threads.opt_out("slack:U1")
    store.threads.settle()
    assert [change.withdrawal for change in store.threads.changes()] == [False, True]
    store.threads.settle(unread=True)
    assert [change.withdrawal for change in store.threads.changes()] == [False]


def test_forgetting_takes_a_persons_threads_and_marks_and_opts_them_out(store: Store) -> None:
    theirs = replace(THREAD, people=("slack:U1", "slack:U2"))
    others = replace(THREAD, key="ask/2.0", people=("slack:U2",))
    unknown = replace(THREAD, key="ask/3.0")
    store.threads.note([theirs, others, unknown])
    store.threads.mark(Mark("C1", "2.0", "", "slack:U1"))
    counts = store.forget("slack:U1")
    assert (counts["threads"], counts["marks"]) == (2, 1)
    assert store.threads.seen() == (others,)
    assert store.threads.documents() == {"slack:ask/2.0"}
    assert store.threads.marks() == ()
    assert "U1" in store.threads.opted_out()


def test_other_peoples_answers_lose_what_they_quote_of_a_forgotten_persons_threads(
    store: Store,
) -> None:
    store.threads.note(
        [
            replace(THREAD, people=("slack:U1",)),
            replace(THREAD, key="ask/2.0", people=("slack:U2",)),
        ]
    )
    for key in ("ask/1.0", "ask/2.0"):
        store.save_answer(quoting(f"slack:{key}"), Asking("slack:U3"))
    assert store.forget("slack:U1")["quoting answers"] == 1
    erased, kept = store.answer("to slack:ask/1.0"), store.answer("to slack:ask/2.0")
    assert erased and kept
    assert "planted" not in str((erased.text, erased.citations, erased.retrieved))
    assert kept == quoting("slack:ask/2.0")


def quoting(document: str) -> Answer:
    citation = Citation(1, document, "planted title", "https://x.example", "planted quote")
    return Answer(
        id=f"to {document}",
        question="why?",
        text="planted answer [1]",
        citations=(citation,),
        abstained=False,
        confidence=0.9,
        model="none",
        prompt_version="p",
        generation="g",
        retrieved=(Retrieved(document, "planted title", "https://x.example", 1.0),),
    )
