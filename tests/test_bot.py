"""The use cases: ask, search, rate; always from the active generation that can be read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metaflowbot import prompts
from metaflowbot.answer import Answerer
from metaflowbot.bot import MAX_HITS, MAX_QUESTION_CHARS, Bot
from metaflowbot.domain import Answer, Delta, Feedback, Passage, Question, Turn
from metaflowbot.errors import (
    IndexUnavailableError,
    NotFoundError,
    QuestionError,
    StoreError,
)
from metaflowbot.index import Index
from metaflowbot.judgement import installed
from metaflowbot.retrieve import Retriever
from metaflowbot.store import Asking, Store
from tests.conftest import WordEmbedding
from tests.small_index import PASSAGES, RETRY, publish

CLI = Asking("cli")
OTHER = replace(
    PASSAGES[0], id="docs/other.md#0", document_id="docs/other.md", text="Another page entirely."
)


class Desk:
    """A bot over a home, and what an operator does to that home while the bot runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.index = Index(home)
        self.store = Store.open(f"sqlite:///{home}/metaflowbot.db")
        self.embedding = WordEmbedding()
        self.loads = 0
        self.bot = Bot(self.store, self.index.active_id, self._answerer)

    def _answerer(self) -> Answerer:
        self.loads += 1
        retriever = Retriever.over(self.index.load(), self.embedding)
        return Answerer(retriever, None, prompts.load("answer", "sources"))

    def publish(self, *further: Passage) -> str:
        return publish(self.home, self.embedding, (*PASSAGES, *further)).id

    def point_to(self, identity: str) -> None:
        (self.home / "index" / "current").write_text(identity)

    def break_active(self) -> None:
        folder = self.home / "index" / "generations" / str(self.index.active_id())
        (folder / "passages.jsonl").write_text("{")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


@pytest.fixture
def desk(empty: Desk) -> Desk:
    empty.publish()
    return empty


# Asking


def test_an_answer_is_kept_with_who_asked(desk: Desk) -> None:
    answer = desk.bot.ask(Question(RETRY), Asking("slack:U1", "C1", "1.0", "2.0"))
    assert desk.store.answer(answer.id) == answer
    assert desk.store.answer_to(Asking("slack:U1", "C1", "1.0", "2.0")) == answer


def test_the_stream_ends_with_the_answer_which_is_kept_by_then(desk: Desk) -> None:
    *before, answer = desk.bot.stream(Question(RETRY), CLI)
    assert isinstance(answer, Answer)
    assert not any(isinstance(event, Answer) for event in before)
    assert desk.store.answer(answer.id) == answer
    assert "".join(e.text for e in before if isinstance(e, Delta)) in ("", answer.text)


def test_a_reader_who_leaves_early_leaves_nothing_behind(desk: Desk) -> None:
    events = desk.bot.stream(Question(RETRY), Asking("web", "C", "1", "1"))
    next(events)
    assert hasattr(events, "close")
    events.close()
    assert desk.store.answer_to(Asking("web", "C", "1", "1")) is None


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\0"])
def test_an_empty_question_is_refused_in_one_line(desk: Desk, text: str) -> None:
    with pytest.raises(QuestionError, match="the question is empty"):
        desk.bot.ask(Question(text), CLI)
    with pytest.raises(QuestionError, match="the question is empty"):
        desk.bot.search(text)


def test_a_question_of_20000_characters_is_refused_and_says_what_to_do(desk: Desk) -> None:
    with pytest.raises(QuestionError, match=r"20,000 characters: shorten it to 16,000"):
        desk.bot.ask(Question("x" * 20_000), CLI)


def test_a_question_of_the_longest_length_is_answered(desk: Desk) -> None:
    assert desk.bot.ask(Question("retry " * (MAX_QUESTION_CHARS // 6)), CLI).text


def test_space_around_a_question_does_not_count(desk: Desk) -> None:
    assert desk.bot.ask(Question(f"\n  {RETRY}  "), CLI).question == RETRY


def test_halves_of_characters_in_a_question_or_its_history_do_no_harm(desk: Desk) -> None:
    question = Question("retry \ud83d a step", (Turn("user", "\udce4\0"),))
    answer = desk.bot.ask(question, CLI)
    assert answer.question == "retry ? a step"
    assert desk.store.answer(answer.id) == answer


def test_an_answer_is_outdated_when_a_quote_of_it_is_gone(desk: Desk) -> None:
    answer = desk.bot.ask(Question(RETRY), CLI)
    assert answer.citations
    assert desk.bot.outdated([answer]) == frozenset()
    cited = replace(answer.citations[0], quote="It was so once.")
    assert desk.bot.outdated([replace(answer, citations=(cited,))]) == {answer.id}


@pytest.mark.parametrize("k", [0, -1, MAX_HITS + 1])
def test_a_search_for_too_few_or_too_many_hits_is_refused(desk: Desk, k: int) -> None:
    with pytest.raises(QuestionError, match=f"k is {k}: ask for 1 to {MAX_HITS} hits"):
        desk.bot.search(RETRY, k)


def test_a_search_is_limited_to_sources(desk: Desk) -> None:
    search = desk.bot.search("retry", 3, frozenset({"metaflow-api"}))
    assert {hit.best.source for hit in search.hits} == {"metaflow-api"}


# Rating


def test_a_second_verdict_of_one_person_replaces_the_first(desk: Desk) -> None:
    answer = desk.bot.ask(Question(RETRY), CLI)
    desk.bot.rate(Feedback(answer.id, "web:1", "up"))
    desk.bot.rate(Feedback(answer.id, "web:1", "down", "wrong page"))
    assert [(r.verdict, r.reason) for r in desk.store.rated()] == [("down", "wrong page")]


def test_a_verdict_on_no_answer_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        desk.bot.rate(Feedback("nosuch", "web:1", "up"))


# Generations come and go


def test_without_an_index_the_bot_says_how_to_make_one(empty: Desk) -> None:
    with pytest.raises(IndexUnavailableError, match="metaflowbot ingest"):
        empty.bot.ask(Question(RETRY), CLI)
    (line,) = empty.bot.missing()
    assert "metaflowbot ingest" in line
    assert empty.bot.generation() == ""


def test_the_first_index_is_served_without_a_restart(empty: Desk) -> None:
    assert empty.bot.missing()
    first = empty.publish()
    assert empty.bot.missing() == ()
    assert empty.bot.search(RETRY).generation == first


def test_a_new_generation_is_served_without_a_restart(desk: Desk) -> None:
    before = desk.bot.search("another page entirely")
    second = desk.publish(OTHER)
    after = desk.bot.search("another page entirely")
    assert before.generation != after.generation == second == desk.bot.generation()
    assert "docs/other.md" in {hit.best.document_id for hit in after.hits}
    assert desk.bot.ask(Question(RETRY), CLI).generation == second


def test_a_roll_back_is_served_without_a_restart(desk: Desk) -> None:
    first = desk.bot.generation()
    desk.publish()
    assert desk.bot.generation() != first
    desk.index.rollback()
    assert desk.bot.generation() == first


def test_a_generation_is_loaded_once_while_it_stays_active(desk: Desk) -> None:
    for _ in range(3):
        desk.bot.search("retry")
    assert desk.loads == 1


def test_the_bot_goes_on_when_the_pointer_moves_to_what_is_broken_or_gone(desk: Desk) -> None:
    first = desk.bot.generation()
    desk.publish()
    desk.break_active()
    assert desk.bot.ask(Question(RETRY), CLI).generation == first
    desk.point_to("nosuch")
    assert desk.bot.ask(Question(RETRY), CLI).generation == first
    (desk.home / "index" / "current").unlink()
    assert desk.bot.ask(Question(RETRY), CLI).generation == first
    assert desk.bot.missing() == ()


def test_the_bot_takes_up_the_next_good_generation_after_a_broken_one(desk: Desk) -> None:
    desk.bot.generation()
    desk.point_to("nosuch")
    desk.bot.search("retry")
    assert desk.bot.search("retry").generation != (third := desk.publish())
    assert desk.bot.search("retry").generation == third


def test_a_broken_first_generation_is_one_clear_line(desk: Desk) -> None:
    desk.break_active()
    with pytest.raises(IndexUnavailableError, match="damaged"):
        desk.bot.search("retry")
    (line,) = desk.bot.missing()
    assert "\n" not in line


def test_many_threads_ask_while_the_index_changes(desk: Desk) -> None:
    faults: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(5):
                assert desk.bot.ask(Question(RETRY), CLI).text
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shall show it
            faults.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    desk.publish()
    for thread in threads:
        thread.join()
    assert faults == []


def test_what_questions_need_is_loaded_with_the_index(desk: Desk) -> None:
    installed.cache_clear()
    desk.bot.generation()
    assert installed.cache_info().currsize == 1


def test_nobody_waits_while_another_thread_loads_the_next_generation(desk: Desk) -> None:
    loading, loaded = threading.Event(), threading.Event()
    before, load = desk.bot.generation(), desk.bot._load

    def slowly() -> Answerer:
        loading.set()
        assert loaded.wait(40)
        return load()

    desk.bot._load = slowly
    after = desk.publish()
    switching = threading.Thread(target=desk.bot.generation)
    switching.start()
    assert loading.wait(40)
    assert desk.bot.ask(Question(RETRY), CLI).generation == before
    loaded.set()
    switching.join()
    assert desk.bot.generation() == after != before


# The database


def test_a_database_that_is_gone_is_named_as_missing(desk: Desk) -> None:
    desk.store.close()
    database = desk.home / "metaflowbot.db"
    for path in desk.home.glob("metaflowbot.db*"):
        path.unlink()
    database.mkdir()
    (line,) = desk.bot.missing()
    assert "database" in line
    with pytest.raises(StoreError):
        desk.bot.ask(Question(RETRY), CLI)
    assert desk.bot.search(RETRY).hits
