from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ingest.check import Golden
from ingest.library import Library
from ingest.passages import split
from ingest.pipeline import Ingest, SourceReport, Summary
from ingest.sources import Item, Moved, NotSetUpError, Omission, Removed, Source
from ingest.sources.docs import DocsSource
from metaflowbot.domain import Document, Section
from metaflowbot.embedding import Embedding, Vectors
from metaflowbot.errors import (
    IndexUnavailableError,
    MetaflowbotError,
    ModelBusyError,
    SourceError,
)
from metaflowbot.index import Index
from tests.conftest import WordEmbedding


def page(identity: str, text: str, *, source: str = "labs", defines: str = "") -> Document:
    names = frozenset({defines} if defines else ())
    sections = (Section((), "", text),)
    return Document(identity, source, identity, f"https://site.example/{identity}", sections, names)


@dataclass
class Pages:
    """A source that gives what a test puts into it, or fails."""

    name: str = "labs"
    items: list[Item] = field(default_factory=list)
    error: str = ""
    unset: str = ""

    def read(self) -> Iterator[Item]:
        yield from self.items
        if self.unset:
            raise NotSetUpError(self.unset)
        if self.error:
            raise SourceError(self.error)


class Home:
    """A home that is ingested into, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = Index(folder)
        self.embedding = WordEmbedding()
        self.said: list[str] = []
        self.progress: list[tuple[int, int]] = []

    def job(
        self,
        *sources: Source,
        required: Sequence[str] = (),
        kept: Sequence[str] = (),
        embedding: Embedding | None = None,
    ) -> Ingest:
        return Ingest(
            sources=sources,
            index=self.index,
            embedding=embedding or self.embedding,
            library=Library(self.folder / "index/documents"),
            home=self.folder / "index",
            required=frozenset(required),
            kept=tuple(kept),
        )

    def run(self, job: Ingest, *, dry_run: bool = False) -> Summary:
        return job.run(
            self.said.append,
            lambda done, total: self.progress.append((done, total)),
            dry_run=dry_run,
        )

    def ingest(self, *sources: Source, required: Sequence[str] = ()) -> Summary:
        return self.run(self.job(*sources, required=required))

    def texts(self) -> dict[str, str]:
        """What the live generation says, by document."""
        passages = self.index.load().passages
        return {passage.document_id: passage.text for passage in passages}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def report(summary: Summary, name: str) -> SourceReport:
    return next(report for report in summary.sources if report.name == name)


# What a run does


def test_the_first_ingest_makes_every_page_searchable(home: Home, corpus: Path) -> None:
    source = DocsSource(str(corpus), home.folder)
    summary = home.ingest(source)
    documents = [item for item in source.read() if isinstance(item, Document)]
    generation = home.index.load()
    assert generation.id == summary.generation
    assert list(generation.passages) == [part for page in documents for part in split(page)]


def test_the_summary_counts_what_each_source_gave(home: Home) -> None:
    docs = Pages("docs", [page("a", "Text.", source="docs"), Omission("b", "empty page")])
    labs = Pages("labs", [page("c", "Text."), page("d", "Text.")])
    summary = home.ingest(docs, labs)
    counts = {item.name: (item.documents, item.passages) for item in summary.sources}
    assert counts == {"docs": (1, 1), "labs": (2, 2)}
    assert (summary.documents, summary.passages) == (3, 3)
    assert report(summary, "docs").omissions == (Omission("b", "empty page"),)
    assert home.index.manifests()[-1].sources["labs"].documents == 2


def test_a_run_says_what_it_does_and_how_far_it_is(home: Home) -> None:
    home.ingest(Pages("labs", [page(str(n), f"Text {n}.") for n in range(40)]))
    assert home.said[0] == "reading labs"
    assert any("40 passages with test:words" in line for line in home.said)
    assert home.progress == [(0, 40), (32, 40), (40, 40)]


def test_nothing_is_embedded_again_when_nothing_changed(home: Home, corpus: Path) -> None:
    source = DocsSource(str(corpus), home.folder)
    first = home.ingest(source)
    assert home.embedding.embedded >= first.passages
    home.embedding.embedded = 0
    second = home.ingest(source)
    assert home.embedding.embedded == 0
    assert second.passages == first.passages


def test_only_what_changed_is_embedded(home: Home) -> None:
    home.ingest(Pages(items=[page("a", "Old text."), page("b", "Text.")]))
    home.embedding.embedded = 0
    home.ingest(Pages(items=[page("a", "New text."), page("b", "Text."), page("c", "More.")]))
    assert home.embedding.embedded == 2
    assert home.texts() == {"a": "New text.", "b": "Text.", "c": "More."}


def test_a_page_that_is_gone_disappears(home: Home, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "tree")
    source = DocsSource(str(tmp_path / "tree"), home.folder)
    home.ingest(source)
    assert "docs/metaflow/basics.md" in home.texts()
    (tmp_path / "tree/docs/metaflow/basics.md").unlink()
    home.ingest(source)
    assert "docs/metaflow/basics.md" not in home.texts()
    assert "docs/scaling/failures.md" in home.texts()


def test_what_was_cited_once_leads_to_what_it_is_called_now(home: Home) -> None:
    text = "Put the retry decorator on a step. " * 10
    home.ingest(Pages(items=[page("old", text), page("gone", "Other.")]))
    declared = Moved("https://site.example/before", "https://site.example/new")
    home.ingest(Pages(items=[page("new", text), declared]))
    for _ in range(2):
        manifest = home.index.load().manifest
        for name in ("old", "https://site.example/old", "https://site.example/before", "new"):
            assert manifest.current_id(name) == "new"
        assert manifest.current_id("gone") is None
        home.ingest(Pages(items=[page("new", "Written anew.")]))


def test_a_golden_question_follows_its_document_to_its_new_name(home: Home) -> None:
    text = "Put the retry decorator on a step. " * 10
    golden = [Golden("retry decorator", frozenset({"old"}))]
    for name in ("old", "new"):
        items = [page(name, text), page("other", "Cards are reports."), page("more", "Tags.")]
        summary = home.run(replace(home.job(Pages(items=items)), golden=golden))
        assert [finding.rank for finding in summary.golden] == [1]
        assert summary.stopped == ()


def test_an_object_documented_by_a_page_is_indexed_once(home: Home) -> None:
    documented = page("docs/api.md", "The page.", source="docs", defines="metaflow.Run")
    repeated = page("api:metaflow.Run", "Same.", source="metaflow-api", defines="metaflow.Run")
    home.ingest(Pages("docs", [documented]), Pages("metaflow-api", [repeated]))
    assert set(home.texts()) == {"docs/api.md"}


def test_a_dry_run_reads_and_counts_but_builds_nothing(home: Home) -> None:
    summary = home.run(home.job(Pages(items=[page("a", "Text.")])), dry_run=True)
    assert (summary.dry_run, summary.generation) == (True, None)
    assert (summary.documents, summary.passages) == (1, 1)
    assert home.embedding.embedded == 0
    assert (home.index.active_id(), home.index.manifests()) == (None, [])


# When a source can't be read


def test_a_source_that_fails_is_named_and_the_others_go_on(home: Home) -> None:
    broken = Pages("docs", error="can't be fetched: no route")
    summary = home.ingest(broken, Pages(items=[page("a", "Text.")]))
    assert report(summary, "docs").error == "can't be fetched: no route"
    assert home.texts() == {"a": "Text."}


def test_a_source_that_fails_keeps_what_it_gave_before(home: Home) -> None:
    docs = Pages("docs", [page("a", "Text.", source="docs")])
    home.ingest(docs)
    half = Pages("docs", [page("b", "Half.", source="docs")], error="cut off")
    summary = home.ingest(half, Pages(items=[page("c", "Text.")]))
    assert set(home.texts()) == {"a", "c"}
    assert report(summary, "docs").documents == 1
    assert "kept as read on" in report(summary, "docs").notice


def test_without_a_source_asked_for_by_name_nothing_goes_live(home: Home) -> None:
    before = home.ingest(Pages(items=[page("a", "Text.")])).generation
    with pytest.raises(SourceError, match="docs: can't be fetched: no route"):
        home.ingest(
            Pages("docs", error="can't be fetched: no route"),
            Pages(items=[page("b", "Text.")]),
            required=["docs"],
        )
    assert home.index.active_id() == before
    assert [manifest.id for manifest in home.index.manifests()] == [before]


def test_without_any_source_there_is_an_error_that_names_each(home: Home) -> None:
    with pytest.raises(SourceError, match=r"docs: no route.*labs: no answer"):
        home.ingest(Pages("docs", error="no route"), Pages("labs", error="no answer"))
    assert home.index.active_id() is None


def test_a_source_not_read_this_time_stays_as_it_was(home: Home) -> None:
    home.ingest(Pages("docs", [page("a", "Text.", source="docs")]), Pages(items=[page("b", "B.")]))
    summary = home.run(home.job(Pages(items=[page("b", "New.")]), kept=["docs", "never-read"]))
    assert home.texts() == {"a": "Text.", "b": "New."}
    assert "not read this time" in report(summary, "docs").notice
    assert [item.name for item in summary.sources] == ["labs", "docs"]


def test_a_source_that_is_not_set_up_is_passed_over_unless_it_was_asked_for(home: Home) -> None:
    forge = Pages("github", unset="set GITHUB_TOKEN")
    summary = home.ingest(forge, Pages(items=[page("a", "Text.")]))
    assert report(summary, "github").error == ""
    assert report(summary, "github").notice == "skipped: set GITHUB_TOKEN"
    with pytest.raises(SourceError, match="github: set GITHUB_TOKEN"):
        home.ingest(forge, required=["github"])


def test_what_was_scrubbed_is_counted_by_kind_even_of_a_source_that_fails(home: Home) -> None:
    finds = [Removed({"e-mail": 2}), Removed({"password": 1, "e-mail": 1})]
    summary = home.ingest(
        Pages("slack", [page("a", "Text.", source="slack"), *finds]),
        Pages("docs", [Removed({"phone": 1})], error="cut off"),
    )
    assert report(summary, "slack").removed == {"e-mail": 3, "password": 1}
    assert report(summary, "slack").omissions == ()
    assert report(summary, "docs").removed == {"phone": 1}


# What need not be read again


@dataclass
class MarkedPages(Pages):
    """Says beforehand whether it would give the same again, and counts how often it is read."""

    marked: str = "1"
    reads: int = 0

    def mark(self) -> str:
        return self.marked

    def read(self) -> Iterator[Item]:
        self.reads += 1
        yield from super().read()


def test_a_source_that_says_it_has_not_changed_is_not_read_again(home: Home) -> None:
    source = MarkedPages("docs", [page("a", "Text."), Omission("b", "empty page")])
    first, second = home.ingest(source), home.ingest(source)
    assert source.reads == 1
    assert report(second, "docs").omissions == report(first, "docs").omissions
    assert second.generation == first.generation
    assert home.texts() == {"a": "Text."}


@pytest.mark.parametrize("marks", [("1", "2"), ("", "")])
def test_a_source_is_read_again_where_it_may_have_changed(
    home: Home, marks: tuple[str, str]
) -> None:
    source = MarkedPages("docs", [page("a", "Text.")], marked=marks[0])
    home.ingest(source)
    source.marked, source.items = marks[1], [page("a", "Other.")]
    home.ingest(source)
    assert home.texts() == {"a": "Other."}


def test_a_marked_source_whose_last_reading_is_gone_is_read_again(home: Home) -> None:
    source = MarkedPages("docs", [page("a", "Text.")])
    home.ingest(source)
    (home.folder / "index/documents/docs.jsonl").write_text("{")
    home.ingest(source)
    assert source.reads == 2


def test_where_nothing_has_changed_nothing_is_embedded_or_built(home: Home) -> None:
    source = Pages(items=[page("a", "Text.")])
    first = home.ingest(source)
    second = home.ingest(source)
    assert (second.built, second.generation, second.embedded) == (None, first.generation, 0)
    assert second.verdict() == f"nothing has changed: {first.generation} stays active"
    assert (second.changes.added, second.changes.changed, second.changes.removed) == ((), (), ())
    assert [manifest.id for manifest in home.index.manifests()] == [first.generation]


# When something else goes wrong


class Overloaded(WordEmbedding):
    """Embeds one batch, then the server refuses."""

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        yield next(super().embed(texts))
        raise ModelBusyError("the embedding model is out of quota")


def test_a_model_that_fails_leaves_the_live_index_and_no_rubbish(home: Home) -> None:
    before = home.ingest(Pages(items=[page("a", "Text.")])).generation
    job = home.job(
        Pages(items=[page(str(n), f"Text {n}.") for n in range(50)]), embedding=Overloaded()
    )
    with pytest.raises(ModelBusyError):
        home.run(job)
    assert home.texts() == {"a": "Text."}
    names = [path.name for path in (home.folder / "index/generations").iterdir()]
    assert names == [before]


def test_what_was_embedded_before_a_failure_is_not_embedded_again(home: Home) -> None:
    source = Pages(items=[page(str(n), f"Text {n}.") for n in range(50)])
    with pytest.raises(ModelBusyError):
        home.run(home.job(source, embedding=Overloaded()))
    home.ingest(source)
    assert home.embedding.embedded == 50 - 32


def test_a_damaged_index_is_mended_by_the_next_ingest(home: Home) -> None:
    source = Pages(items=[page("a", "Text.")])
    first = home.ingest(source).generation
    (home.folder / f"index/generations/{first}/passages.jsonl").write_text("{")
    with pytest.raises(IndexUnavailableError):
        home.index.load()
    home.ingest(source)
    assert home.texts() == {"a": "Text."}


@dataclass
class Slow:
    """A source that is read until a test lets it go on."""

    name: str = "labs"
    started: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def read(self) -> Iterator[Item]:
        self.started.set()
        assert self.may_end.wait(30)
        yield page("slow", "Text.")


def test_a_second_ingest_at_the_same_time_is_refused_and_the_first_goes_on(home: Home) -> None:
    slow = Slow()
    first = threading.Thread(target=home.ingest, args=(slow,))
    first.start()
    try:
        assert slow.started.wait(30)
        with pytest.raises(MetaflowbotError, match="another ingest is running on this home"):
            home.ingest(Pages(items=[page("a", "Text.")]))
        assert home.index.active_id() is None
    finally:
        slow.may_end.set()
        first.join(30)
    assert home.texts() == {"slow": "Text."}
    home.ingest(Pages(items=[page("a", "Text.")]))
    assert home.texts() == {"a": "Text."}
