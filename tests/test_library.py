from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.library import Library
from metaflowbot.domain import Document, Section

PAGE = Document(
    id="docs/a.md",
    source="metaflow-docs",
    title="A “title”\u2028of two lines",
    url="https://site.example/a",
    sections=(
        Section((), "", "Lead.\r\nÜbergröße 🥒\x85"),
        Section(("A", "B"), "b", "```python\nx\n```"),
    ),
    defines=frozenset({"metaflow.Run", "metaflow.Run.data"}),
    version="2.19",
)
OTHER = Document("docs/b.md", "metaflow-docs", "B", "https://site.example/b", ())


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "documents")


def test_a_source_reads_as_it_was_kept(library: Library) -> None:
    library.keep("metaflow-docs", [PAGE, OTHER])
    reading = library.last("metaflow-docs")
    assert reading is not None
    assert reading.documents == (PAGE, OTHER)
    age = datetime.now(UTC) - datetime.fromisoformat(reading.read_at)
    assert 0 <= age.total_seconds() < 60


def test_a_source_reads_its_moves_as_they_were_kept(library: Library) -> None:
    library.keep("metaflow-docs", [PAGE], {"docs/älter.md": "docs/a.md"})
    reading = library.last("metaflow-docs")
    assert reading is not None
    assert reading.moved == {"docs/älter.md": "docs/a.md"}


def test_a_reading_of_an_earlier_version_has_no_moves(library: Library, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/labs.jsonl").write_text('{"read_at": "2030-01-01"}')
    reading = library.last("labs")
    assert reading is not None
    assert (reading.documents, reading.moved) == ((), {})


def test_a_source_keeps_its_last_reading_only(library: Library) -> None:
    library.keep("metaflow-docs", [PAGE, OTHER])
    library.keep("metaflow-docs", [OTHER])
    reading = library.last("metaflow-docs")
    assert reading is not None
    assert reading.documents == (OTHER,)


def test_sources_do_not_touch_each_other(library: Library) -> None:
    library.keep("metaflow-docs", [PAGE])
    library.keep("labs", [])
    docs, labs = library.last("metaflow-docs"), library.last("labs")
    assert docs is not None
    assert labs is not None
    assert (docs.documents, labs.documents) == ((PAGE,), ())


def test_a_source_never_read_has_no_reading(library: Library) -> None:
    assert library.last("metaflow-docs") is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[]\n{}", b'{"read_at": "2030-01-01"}\n{"id": "a"}', b"{}\n"],
)
def test_a_damaged_reading_is_no_reading(library: Library, tmp_path: Path, damage: bytes) -> None:
    library.keep("metaflow-docs", [PAGE])
    (tmp_path / "documents/metaflow-docs.jsonl").write_bytes(damage)
    assert library.last("metaflow-docs") is None


def test_a_reading_cut_short_is_never_taken_for_a_whole_one(
    library: Library, tmp_path: Path
) -> None:
    library.keep("metaflow-docs", [PAGE, OTHER])
    path = tmp_path / "documents/metaflow-docs.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert library.last("metaflow-docs") is None


def test_nothing_but_readings_is_left_behind(library: Library, tmp_path: Path) -> None:
    library.keep("metaflow-docs", [PAGE])
    assert [path.name for path in (tmp_path / "documents").iterdir()] == ["metaflow-docs.jsonl"]
