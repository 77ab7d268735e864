from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest.check import Changes, Golden, golden_questions
from ingest.library import Library
from ingest.pipeline import Ingest, Summary
from metaflowbot.domain import Document, Section
from metaflowbot.errors import SourceError
from metaflowbot.index import Index
from metaflowbot.manifest import SourceCount
from tests.conftest import WordEmbedding

RETRY = Golden("How is a failing step retried?", frozenset({"retry", "retry-api"}))


@dataclass
class Pages:
    """A source that gives a page for each text, which `defines` the object it is called after."""

    texts: dict[str, str]
    name: str = "metaflow-docs"
    error: str = ""
    defines: bool = False

    def read(self) -> Iterator[Document]:
        if self.error:
            raise SourceError(self.error)
        for identity, text in self.texts.items():
            url = f"https://docs.example/{identity}"
            names = frozenset({f"metaflow.{Path(identity).name}"} if self.defines else ())
            yield Document(identity, self.name, identity, url, (Section((), "", text),), names)


def numbered(count: int) -> dict[str, str]:
    """Pages of one passage each, none of which says anything about retries."""
    return {f"page{n}": f"Page {n} speaks of subject {n}, and a step of it." for n in range(count)}


@dataclass
class Home:
    """A home that is ingested into again and again."""

    folder: Path
    max_shrink: float = 0.3
    embedding: WordEmbedding = field(default_factory=WordEmbedding)

    @property
    def index(self) -> Index:
        return Index(self.folder)

    def job(self, *sources: Pages, golden: Sequence[Golden] = ()) -> Ingest:
        home = self.folder / "index"
        return Ingest(
            sources=sources,
            index=self.index,
            embedding=self.embedding,
            library=Library(home / "documents"),
            home=home,
            max_shrink=self.max_shrink,
            golden=golden,
        )

    def ingest(self, texts: dict[str, str], *golden: Golden) -> Summary:
        return self.run(self.job(Pages(texts), golden=golden))

    def run(self, job: Ingest) -> Summary:
        return job.run(lambda _line: None, lambda _done, _total: None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_source_that_shrank_too_much_keeps_the_new_generation_from_going_live(home: Home) -> None:
    before = home.ingest(numbered(10)).generation
    summary = home.ingest(numbered(6))
    assert summary.generation is None
    assert home.index.active_id() == before
    assert summary.stopped == (
        "metaflow-docs shrank from 10 to 6 documents (by 40%; at most 30% may go at once)",
    )


def test_a_stopped_generation_is_kept_and_the_verdict_says_how_to_activate_it(home: Home) -> None:
    home.ingest(numbered(10))
    summary = home.ingest(numbered(2))
    assert f"`metaflowbot index activate {summary.built}`" in summary.verdict()
    assert summary.built
    assert home.index.activate(summary.built).sources["metaflow-docs"].documents == 2
    assert home.ingest(numbered(2)).generation


def test_a_source_may_lose_the_share_that_is_configured(home: Home) -> None:
    home.ingest(numbered(10))
    assert home.ingest(numbered(7)).generation
    home.max_shrink = 0.6
    assert home.ingest(numbered(3)).generation


def test_losing_one_page_is_editing_however_small_the_source(home: Home) -> None:
    home.ingest(numbered(2))
    assert home.ingest(numbered(1)).generation


def test_pages_that_lost_most_of_their_text_count_as_shrunk(home: Home) -> None:
    long = {name: "\n\n".join([text * 15] * 10) for name, text in numbered(8).items()}
    home.ingest(long)
    assert "passages" in home.ingest(numbered(8)).stopped[0]


def test_a_source_kept_from_an_earlier_reading_has_not_shrunk(home: Home) -> None:
    labs = Pages({"lab": "A lab on retries."}, name="labs")
    home.run(home.job(Pages(numbered(9)), labs))
    away = Pages({}, error="no route to host")
    summary = home.run(home.job(away, labs))
    assert summary.generation
    assert summary.sources[0].documents == 9


def test_api_objects_that_a_docs_page_now_speaks_for_have_not_shrunk(home: Home) -> None:
    api = Pages(numbered(8), name="metaflow-api", defines=True)
    docs = Pages({f"docs/{it}": "Said here." for it in numbered(8)}, defines=True)
    home.run(home.job(api))
    summary = home.run(home.job(docs, api))
    assert summary.sources[1].documents == 0
    assert summary.sources[1].folded == SourceCount(8, 8)
    assert summary.generation


def test_a_golden_question_that_is_no_longer_found_stops_the_switch(home: Home) -> None:
    answers = {"retry": "A failing step is retried.", "retry-api": "Retried: how a failing step is"}
    home.ingest(numbered(30) | answers, RETRY)
    summary = home.ingest(numbered(40), RETRY)
    assert summary.stopped == (f"'{RETRY.question}' no longer finds its document",)
    assert [finding.rank for finding in summary.golden] == [None]


def test_a_golden_page_that_became_something_else_stops_the_switch(home: Home) -> None:
    pages = {name: f"{RETRY.question} Subject {name}." for name in numbered(40)}
    home.ingest(pages | {"retry": f"{RETRY.question} A failing step is retried."}, RETRY)
    assert home.ingest(pages | {"retry": "Nothing."}, RETRY).stopped


def test_deleting_the_one_page_of_a_golden_question_is_editing(home: Home) -> None:
    home.ingest(numbered(30) | {"retry": "A failing step is retried."}, RETRY)
    summary = home.ingest(numbered(30), RETRY)
    assert summary.generation
    assert summary.changes.removed == ("retry",)


def test_the_first_generation_goes_live_whatever_it_finds(home: Home) -> None:
    pages = {name: f"{RETRY.question} Subject {name}." for name in numbered(40)}
    summary = home.ingest(pages | {"retry": "Nothing."}, RETRY)
    assert summary.generation
    assert [finding.rank for finding in summary.golden] == [None]


def test_a_question_whose_documents_are_nowhere_is_not_asked(home: Home) -> None:
    assert home.ingest(numbered(3), RETRY).golden == ()


def test_a_live_generation_of_another_model_has_nothing_to_lose(home: Home) -> None:
    answers = {"retry": "A failing step is retried.", "retry-api": "Retried: how a failing step is"}
    home.ingest(numbered(30) | answers, RETRY)
    home.embedding = WordEmbedding()
    home.embedding.name = "test:other"
    assert home.ingest(numbered(30) | {"other": "", "retry": "Nothing."}, RETRY).generation


def test_a_golden_question_is_embedded_once_for_all_ingests(home: Home) -> None:
    home.ingest(numbered(3) | {"retry": "A failing step is retried."}, RETRY)
    embedded = home.embedding.embedded
    home.ingest(numbered(3) | {"retry": "A failing step is retried."}, RETRY)
    assert home.embedding.embedded == embedded


def test_changes_name_what_was_added_changed_and_removed(home: Home) -> None:
    before = home.ingest({"kept": "Same.", "edited": "One.", "deleted": "Gone."})
    after = home.ingest({"kept": "Same.", "edited": "Two.", "added": "New."})
    assert before.changes == Changes(added=("deleted", "edited", "kept"))
    assert after.changes.since == before.generation
    assert after.changes.added == ("added",)
    assert after.changes.changed == ("edited",)
    assert after.changes.removed == ("deleted",)


def test_only_passages_with_new_text_are_embedded(home: Home) -> None:
    assert home.ingest(numbered(3)).embedded == 3
    assert home.ingest(numbered(4)).embedded == 1
    assert home.ingest(numbered(4)).embedded == 0


def test_the_golden_questions_each_name_several_documents() -> None:
    questions = golden_questions()
    assert len(questions) >= 12
    for golden in questions:
        assert golden.question.endswith("?")
        assert len(golden.documents) > 1
        assert all(name.startswith(("docs/", "api:metaflow.")) for name in golden.documents)


def test_half_written_files_of_a_killed_ingest_go_once_they_are_old(home: Home) -> None:
    documents = home.folder / "index" / "documents"
    documents.mkdir(parents=True)
    old, fresh = documents / "labs.1.partial", documents / "labs.2.partial"
    for path in (old, fresh):
        path.write_text("{}")
    os.utime(old, (time.time() - 7200,) * 2)
    home.ingest(numbered(1))
    assert [path.name for path in documents.glob("*.partial")] == [fresh.name]
