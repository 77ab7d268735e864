"""Generations are immutable, switch at once, roll back, and say in one line what is wrong."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metaflowbot.chroma import Chroma, ChromaServer
from metaflowbot.domain import Passage, Question
from metaflowbot.embedding import Vectors
from metaflowbot.errors import IndexUnavailableError, MetaflowbotError, NotFoundError
from metaflowbot.index import Generation, Index, searchable
from metaflowbot.manifest import Manifest, SourceCount
from metaflowbot.retrieve import Retriever
from metaflowbot.vectors import VectorCache
from tests.conftest import WordEmbedding
from tests.small_index import PASSAGES, counts, publish

pytest_plugins = ["tests.chroma_server"]
only_embedded = pytest.mark.parametrize("chroma", ["embedded"], indirect=True)

PARTS = ("manifest.json", "passages.jsonl", "vectors.npz", "lexical/vocab.index.json")


class Library:
    """A home with one published generation, and what tests do to it."""

    def __init__(self, home: Path, chroma: Chroma) -> None:
        self.home = home
        self.index = Index(home, chroma)
        self.embedding = WordEmbedding()
        self.first = self.publish()

    def folder(self, identity: str) -> Path:
        return self.home / "index" / "generations" / identity

    def build(self, passages: Sequence[Passage] = PASSAGES) -> Manifest:
        return self.index.build(passages, counts(), self.embedding)

    def publish(self) -> Manifest:
        return self.index.activate(self.build().id)

    def names(self) -> list[str]:
        return sorted(folder.name for folder in self.folder("").iterdir())

    def found(self, question: str) -> str:
        """The id of the document that the active generation finds."""
        search = Retriever.over(self.index.load(), self.embedding).search(Question(question))
        return search.hits[0].best.document_id


@pytest.fixture
def library(tmp_path: Path, chroma: Chroma) -> Library:
    return Library(tmp_path / "home", chroma)


def refusal(call: Callable[[], object]) -> str:
    """The one line by which a call is refused."""
    with pytest.raises(MetaflowbotError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def garble(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + random.Random(1).randbytes(64))


# What a generation is


def test_a_published_generation_finds_what_was_put_into_it(library: Library) -> None:
    generation = library.index.load()
    assert generation.id == library.first.id == library.index.active_id()
    assert generation.passages == PASSAGES
    assert library.found("a Kubernetes cluster") == "docs/scaling/kubernetes.md"


def test_the_manifest_says_what_was_built_from_what(library: Library) -> None:
    manifest = Manifest.read(library.folder(library.first.id))
    assert manifest == library.first
    assert manifest.embedding_model == "test:words"
    assert manifest.passages == len(PASSAGES)
    assert manifest.sources["metaflow-docs"] == SourceCount(documents=6, passages=10)
    assert set(manifest.documents) == {passage.document_id for passage in PASSAGES}
    assert manifest.built_at.endswith("+00:00")


def test_a_documents_hash_changes_with_its_text_alone(library: Library) -> None:
    changed = replace(PASSAGES[0], text="Something else.")
    second = library.build([changed, *PASSAGES[1:]])
    differing = {
        name for name, known in library.first.documents.items() if second.documents[name] != known
    }
    assert differing == {changed.document_id}


def test_unchanged_passages_are_not_embedded_again(library: Library) -> None:
    before = library.embedding.embedded
    library.build([*PASSAGES, replace(PASSAGES[0], id="docs/new.md#0", text="Quite new.")])
    assert library.embedding.embedded == before + 1


def test_a_damaged_cache_of_vectors_costs_time_and_nothing_else(library: Library) -> None:
    (library.home / "index" / "vectors.sqlite").write_bytes(b"not a database" * 100)
    before = library.embedding.embedded
    library.publish()
    assert library.embedding.embedded == before + len(PASSAGES)


def test_progress_ends_at_the_number_of_passages(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    index, embedding = Index(tmp_path), WordEmbedding()
    index.build(PASSAGES, counts(), embedding, lambda *done: told.append(done))
    assert told[0] == (0, len(PASSAGES))
    assert told[-1] == (len(PASSAGES), len(PASSAGES))


def test_no_passages_make_no_generation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one passage"):
        Index(tmp_path).build([], {}, WordEmbedding())


def test_one_passage_is_a_generation(tmp_path: Path) -> None:
    publish(tmp_path, WordEmbedding(), PASSAGES[:1])
    search = Retriever.over(Index(tmp_path).load(), WordEmbedding()).search(Question("retry"))
    assert [hit.best for hit in search.hits] == [PASSAGES[0]]


def test_a_generation_is_not_changed_by_what_comes_after_it(library: Library) -> None:
    before = _contents(library.folder(library.first.id))
    library.found("retry")
    library.publish()
    library.index.rollback()
    library.found("kubernetes")
    assert _contents(library.folder(library.first.id)) == before


def _contents(folder: Path) -> dict[str, str]:
    """The hashes of a generation's files; Chroma's belong to Chroma."""
    files = [path for path in folder.rglob("*") if path.is_file() and "chroma" not in path.parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_many_threads_search_one_generation(library: Library) -> None:
    retriever = Retriever.over(library.index.load(), library.embedding)
    expected = retriever.search(Question("retry a step")).hits
    found: list[object] = []
    threads = [
        threading.Thread(
            target=lambda: found.extend(
                retriever.search(Question("retry a step")).hits == expected for _ in range(10)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 40


# Building beside the live one


class Failing(WordEmbedding):
    """Embeds nothing."""

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        raise OSError("the disk is full")


def test_a_failed_build_leaves_nothing_and_the_live_generation_as_it_was(library: Library) -> None:
    with pytest.raises(MetaflowbotError, match="full"):
        library.index.build([replace(PASSAGES[0], text="Not yet known.")], counts(), Failing())
    assert library.names() == [library.first.id]
    assert library.index.active_id() == library.first.id


def test_a_build_that_fails_half_way_is_taken_away(library: Library) -> None:
    torn = {"metaflow-docs": SourceCount(1, 1, version=object())}  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        library.index.build(PASSAGES, torn, library.embedding)
    assert library.names() == [library.first.id]


def test_a_built_generation_is_live_only_once_it_is_activated(library: Library) -> None:
    second = library.build()
    assert second.id > library.first.id
    assert library.index.active_id() == library.first.id
    assert library.index.activate(second.id) == second
    assert library.index.load().id == second.id


def test_generations_are_listed_oldest_first_without_the_damaged(library: Library) -> None:
    second, third = library.build(), library.build()
    garble(library.folder(second.id) / "manifest.json")
    (library.folder("") / "20990101T000000Z.building").mkdir()
    assert [manifest.id for manifest in library.index.manifests()] == [library.first.id, third.id]


def test_an_empty_home_has_no_index_and_says_how_to_make_one(tmp_path: Path) -> None:
    index = Index(tmp_path)
    assert (index.active_id(), index.manifests(), index.prune()) == (None, [], [])
    assert "metaflowbot ingest" in refusal(index.load)


# Switching


@only_embedded
@pytest.mark.parametrize("identity", ["nosuch", "", "..", ".", "x" * 300, "a/b", "no\nsuch", "\0"])
def test_an_unknown_generation_cannot_be_activated(library: Library, identity: str) -> None:
    with pytest.raises(NotFoundError, match="there is no index generation"):
        library.index.activate(identity)
    assert library.index.active_id() == library.first.id


def test_a_build_that_has_not_ended_cannot_be_activated(library: Library) -> None:
    second = library.build()
    unfinished = library.folder(second.id).rename(library.folder(f"{second.id}.building"))
    with pytest.raises(NotFoundError):
        library.index.activate(unfinished.name)


def test_roll_back_goes_to_the_one_before_and_forth_again(library: Library) -> None:
    second = library.publish()
    assert library.index.rollback().id == library.first.id == library.index.active_id()
    assert library.index.rollback().id == second.id == library.index.active_id()


def test_activating_the_active_one_keeps_the_way_back(library: Library) -> None:
    second = library.publish()
    library.index.activate(second.id)
    assert library.index.rollback().id == library.first.id


def test_without_an_earlier_generation_there_is_no_way_back(library: Library) -> None:
    with pytest.raises(NotFoundError, match="no earlier index generation"):
        library.index.rollback()


def test_a_damaged_generation_is_never_activated(library: Library) -> None:
    second = library.build()
    garble(library.folder(second.id) / "passages.jsonl")
    assert "damaged" in refusal(lambda: library.index.activate(second.id))
    assert library.index.active_id() == library.first.id


# Pruning


def test_prune_keeps_the_newest_the_active_and_the_one_before(library: Library) -> None:
    second = library.publish()
    library.index.activate(library.first.id)
    third, fourth = library.build(), library.build()
    assert library.index.prune(keep=1) == [third.id]
    assert library.names() == [library.first.id, second.id, fourth.id]


def test_prune_takes_the_vectors_that_no_generation_uses_and_no_others(library: Library) -> None:
    more = [replace(PASSAGES[0], id=f"docs/new.md#{n}", text=f"New {n}.") for n in range(300)]
    gone = library.build(more)
    library.build()
    library.publish()
    file = library.home / "index" / "vectors.sqlite"
    size = file.stat().st_size
    assert gone.id in library.index.prune(keep=1)
    assert file.stat().st_size < size / 2
    before = library.embedding.embedded
    with VectorCache(file, library.embedding.name) as cache:
        for passages, missing in ((PASSAGES, 0), (more[:2], 2)):
            cache.embed([*map(searchable, passages)], library.embedding, lambda *_: None)
            assert library.embedding.embedded == before + missing


def test_prune_takes_damaged_generations_that_nobody_needs(library: Library) -> None:
    second = library.build()
    garble(library.folder(second.id) / "manifest.json")
    assert library.index.prune() == [second.id]


def test_prune_takes_an_abandoned_build_and_leaves_one_that_runs(library: Library) -> None:
    abandoned, running = (library.folder(f"2026010{n}T000000Z.building") for n in (1, 2))
    for folder in (abandoned, running):
        folder.mkdir()
        (folder / "passages.jsonl").write_text("")
    long_ago = time.time() - 7200
    os.utime(abandoned, (long_ago, long_ago))
    assert library.index.prune() == [abandoned.name]
    assert library.names() == sorted([library.first.id, running.name])


# Damage


@only_embedded
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("harm", ["gone", "empty", "garbled"])
def test_a_damaged_part_is_one_clear_line(library: Library, part: str, harm: str) -> None:
    path = library.folder(library.first.id) / part
    if harm == "gone":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        garble(path)
    line = refusal(library.index.load)
    assert library.first.id in line
    assert "`metaflowbot index" in line


@only_embedded
@pytest.mark.parametrize("harm", ["gone", "empty", "half"])
def test_a_damaged_chroma_database_is_one_clear_line(library: Library, harm: str) -> None:
    # In a folder of its own name: Chroma remembers, by path, what it has opened in this process.
    moved = library.home.rename(library.home.with_name("moved"))
    (path,) = moved.glob("index/generations/*/chroma/chroma.sqlite3")
    kept = {"gone": b"", "empty": b"", "half": path.read_bytes()[: path.stat().st_size // 2]}
    path.write_bytes(kept[harm])
    if harm == "gone":
        path.unlink()
    assert "damaged" in refusal(Index(moved).load)


@pytest.mark.parametrize("file", ["data_level0.bin", "header.bin", "link_lists.bin"])
def test_a_damaged_graph_of_vectors_is_found_before_it_is_read(tmp_path: Path, file: str) -> None:
    many = tuple(
        replace(PASSAGES[0], id=f"docs/{n}.md#0", document_id=f"docs/{n}.md", text=f"Page {n}.")
        for n in range(1100)
    )
    publish(tmp_path, WordEmbedding(), many)
    (path,) = tmp_path.glob(f"index/generations/*/chroma/*/{file}")
    garble(path)
    assert f"{file} was changed" in refusal(Index(tmp_path).load)


@only_embedded
@pytest.mark.parametrize("key", Manifest.__dataclass_fields__)
@pytest.mark.parametrize("value", [None, "x", [1]])
def test_a_manifest_with_any_wrong_value_never_breaks_the_reader(
    library: Library, key: str, value: object
) -> None:
    path = library.folder(library.first.id) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    try:
        Retriever.over(library.index.load(), library.embedding)
    except IndexUnavailableError as error:
        assert "\n" not in str(error)
    else:
        assert key in ("built_at", "documents", "layout"), f"{key} = {value} was taken for good"


@only_embedded
def test_a_generation_of_another_format_asks_for_a_new_ingest(library: Library) -> None:
    path = library.folder(library.first.id) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    assert "format 99, not 1: run `metaflowbot ingest`" in refusal(library.index.load)


@only_embedded
def test_a_copy_under_another_name_is_not_taken_for_the_original(library: Library) -> None:
    library.folder(library.first.id).rename(library.folder("mine"))
    assert "its manifest is that of another" in refusal(lambda: library.index.activate("mine"))


class Short(WordEmbedding):
    """Says that it is the model of the index, and gives queries of another size."""

    def embed_query(self, text: str) -> Vectors:
        return super().embed_query(text)[:10]


def test_chroma_failing_under_a_loaded_generation_is_one_clear_line(library: Library) -> None:
    retriever = Retriever.over(library.index.load(), Short())
    assert "damaged" in refusal(lambda: retriever.search(Question("retry")))


@only_embedded
@pytest.mark.parametrize("text", [b"", b"\n", b"\0\0\0\0", b"\xff\xfe\x00a\n\nb", b"x" * 5000])
def test_a_garbled_pointer_is_one_clear_line_and_can_be_set_again(
    library: Library, text: bytes
) -> None:
    (library.home / "index" / "current").write_bytes(text)
    assert "`metaflowbot in" in refusal(library.index.load)
    library.index.activate(library.first.id)
    assert library.found("retry") == "docs/scaling/failures.md"


@only_embedded
def test_a_pointer_that_is_a_folder_is_one_clear_line(library: Library) -> None:
    pointer = library.home / "index" / "current"
    pointer.unlink()
    pointer.mkdir()
    assert str(pointer) in refusal(library.index.load)


@only_embedded
def test_a_pointer_to_what_was_deleted_does_not_hinder_the_next_one(library: Library) -> None:
    second = library.build()
    (library.home / "index" / "current").write_text("deleted\n")
    library.index.activate(second.id)
    with pytest.raises(NotFoundError, match="no earlier"):
        library.index.rollback()


def test_a_home_whose_index_is_a_file_says_that_there_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("")
    assert "there is no index yet" in refusal(Index(tmp_path).load)


def test_a_generation_of_another_embedding_model_names_both(library: Library) -> None:
    class Other(WordEmbedding):
        name = "test:other"

    generation: Generation = library.index.load()
    line = refusal(lambda: Retriever.over(generation, Other()))
    assert "test:words" in line
    assert "test:other" in line
    assert "metaflowbot ingest" in line


# Vectors on a server


def test_the_server_holds_a_collection_for_each_generation_and_no_other(
    tmp_path: Path, chroma_client: Any, chroma_port: int
) -> None:
    library = Library(tmp_path, ChromaServer("127.0.0.1", chroma_port, {}))
    second = library.publish()
    torn = {"metaflow-docs": SourceCount(1, 1, version=object())}  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        library.index.build(PASSAGES, torn, library.embedding)
    third = library.publish()
    assert library.index.prune(keep=1) == [library.first.id]
    names = sorted(collection.name for collection in chroma_client.list_collections())
    assert names == [f"metaflowbot-{second.id}", f"metaflowbot-{third.id}"]
    assert not list(library.home.rglob("chroma*"))


def test_a_generation_that_the_server_lost_is_built_anew(
    tmp_path: Path, chroma_client: Any, chroma_port: int
) -> None:
    library = Library(tmp_path, ChromaServer("127.0.0.1", chroma_port, {}))
    assert same(library) is not None
    chroma_client.delete_collection(f"metaflowbot-{library.first.id}")
    assert same(library) is None
    assert "damaged" in refusal(library.index.load)


def test_a_server_that_does_not_answer_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    index = Index(tmp_path, ChromaServer("127.0.0.1", port, {}))
    line = refusal(lambda: index.build(PASSAGES, counts(), WordEmbedding()))
    assert f"the Chroma server at 127.0.0.1:{port} can't be reached" in line
    assert "CHROMA_HOST" in line
    assert index.manifests() == []


def test_a_server_that_goes_away_under_a_loaded_generation_is_named(
    tmp_path: Path, chroma_client: Any, chroma_port: int
) -> None:
    with relay(chroma_port) as (port, close):
        library = Library(tmp_path, ChromaServer("127.0.0.1", port, {}))
        retriever = Retriever.over(library.index.load(), library.embedding)
        assert retriever.search(Question("retry")).hits
        close()
        line = refusal(lambda: retriever.search(Question("kubernetes")))
    assert f"the Chroma server at 127.0.0.1:{port} can't be reached" in line
    assert "damaged" not in line


@contextmanager
def relay(port: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """A port that leads to another, until it is closed with every connection to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    sockets = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", port))
                sockets.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    def close() -> None:
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], close
    finally:
        close()


# Whether there is anything to build


def same(library: Library, passages: tuple[Passage, ...] = PASSAGES) -> Manifest | None:
    return library.index.same(passages, counts(passages), library.embedding.name)


def test_the_same_passages_need_no_new_generation(library: Library) -> None:
    found = same(library)
    assert found is not None
    assert found.id == library.first.id


def test_any_difference_needs_a_new_generation(library: Library) -> None:
    other = (replace(PASSAGES[0], url="https://docs.metaflow.org/moved"), *PASSAGES[1:])
    assert same(library, other) is None
    assert same(library, PASSAGES[1:]) is None
    assert library.index.same(PASSAGES, counts(), "test:other") is None
    versions = {name: replace(count, version="2") for name, count in counts().items()}
    assert library.index.same(PASSAGES, versions, library.embedding.name) is None


def test_a_generation_of_an_earlier_layout_is_served_but_built_anew(library: Library) -> None:
    path = library.folder(library.first.id) / "manifest.json"
    values = json.loads(path.read_text())
    del values["layout"]
    path.write_text(json.dumps(values))
    assert library.found("retry") == "docs/scaling/failures.md"
    assert same(library) is None


@only_embedded
@pytest.mark.parametrize("data", [b"", b"not a database" * 100, None])
def test_a_generation_whose_vectors_are_damaged_is_built_anew(
    library: Library, data: bytes | None
) -> None:
    database = library.folder(library.first.id) / "chroma" / "chroma.sqlite3"
    database.unlink()
    if data is not None:
        database.write_bytes(data)
    assert same(library) is None


def test_where_nothing_is_active_there_is_everything_to_build(tmp_path: Path) -> None:
    assert Index(tmp_path).same(PASSAGES, counts(), "test:words") is None


def test_after_a_roll_back_what_was_rolled_back_is_new_again(library: Library) -> None:
    other = (replace(PASSAGES[0], text="Other."), *PASSAGES[1:])
    library.index.activate(library.index.build(other, counts(other), library.embedding).id)
    assert same(library, other) is not None
    library.index.rollback()
    assert same(library, other) is None
    assert same(library) is not None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the open files from /proc")
def test_a_generation_that_is_served_no_more_gives_back_its_files(tmp_path: Path) -> None:
    """A bot that is fed every minute would else run out of them within hours."""

    def opened() -> int:
        gc.collect()
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(link.is_relative_to(tmp_path) for link in links)

    index, embedding = Index(tmp_path), WordEmbedding()
    for _ in range(3):
        index.activate(index.build(PASSAGES, {}, embedding).id)
        served = index.load()
    assert opened() > 0
    del served
    assert opened() == 0
