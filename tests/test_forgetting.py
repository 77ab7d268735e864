"""What a person wrote leaves the files at once, and the whole home with the next ingest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.library import Library
from ingest.sources.slack_archive import Archive, Kept, Span, scrubbed
from ingest.threads import Message
from metaflowbot.domain import Document, Section
from metaflowbot.forgetting import Files

GONE, STAYS = "slack:UGONE", "slack:USTAYS"


def message(ts: str, author: str, text: str = "", *marked_by: str) -> Kept:
    marks = {"eyes": frozenset(marked_by)} if marked_by else {}
    return scrubbed(Message(ts, author, text or f"words of {author}", marks))


def document(key: str) -> Document:
    return Document(f"slack:{key}", "slack", key, "", (Section((), "", f"text of {key}"),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "cache" / "sources" / "slack"
    folder.mkdir(parents=True)
    archive = Archive(folder / "C1.jsonl")
    threads = {
        "1.0": [message("1.0", "UGONE"), message("1.1", "USTAYS")],
        "2.0": [message("2.0", "USTAYS", "", "UGONE", "UOTHER"), message("2.1", "UGONE")],
        "3.0": [message("3.0", "USTAYS")],
    }
    archive.add(threads, (), "3.0", Span("4.0", "0.0", "3.5"))
    return folder / "C1.jsonl"


def test_a_persons_messages_marks_and_threads_leave_the_archive_and_the_rest_stays(
    path: Path, tmp_path: Path
) -> None:
    assert Files(tmp_path).erase(GONE, ())["messages"] == 2
    assert "UGONE" not in path.read_text(encoding="utf-8")
    left = Archive(path)
    assert {root: [it.message.ts for it in kept] for root, kept in left.threads.items()} == {
        "2.0": ["2.0"],
        "3.0": ["3.0"],
    }
    assert left.threads["2.0"][0].message.reactions == {"eyes": {"UOTHER"}}
    assert (left.newest, left.span) == ("3.0", Span("4.0", "0.0", "3.5"))


def test_an_archive_can_be_written_on_after_that(path: Path, tmp_path: Path) -> None:
    Files(tmp_path).erase(GONE, ())
    Archive(path).put("5.0", [message("5.0", "USTAYS")])
    assert set(Archive(path).threads) == {"2.0", "3.0", "5.0"}


def test_a_damaged_end_of_an_archive_is_cut_off_with_what_it_holds(
    path: Path, tmp_path: Path
) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write('{"threads": {"9.0": [{"message": {"author": "UGONE", "text": "cut')
    Files(tmp_path).erase(GONE, ())
    assert "UGONE" not in path.read_text(encoding="utf-8")
    assert set(Archive(path).threads) == {"2.0", "3.0"}


def test_of_the_last_reading_only_documents_known_to_be_others_stay(tmp_path: Path) -> None:
    library = Library(tmp_path / "index" / "documents")
    library.keep("slack", [document("ask/1.0"), document("ask/2.0")])
    library.keep("labs", [document("ask/1.0")])
    assert Files(tmp_path).erase(GONE, {"slack:ask/2.0"})["documents"] == 1
    kept, labs = library.last("slack"), library.last("labs")
    assert kept and labs
    assert kept.documents == (document("ask/2.0"),)
    assert len(labs.documents) == 1


def test_half_written_files_go(path: Path, tmp_path: Path) -> None:
    library = tmp_path / "index" / "documents"
    library.mkdir(parents=True)
    halves = [path.with_suffix(".partial"), library / "slack.77.partial"]
    for half in halves:
        half.write_text(json.dumps("words of UGONE"))
    Files(tmp_path).erase(GONE, ())
    assert not any(half.exists() for half in halves)


def test_where_nothing_was_ever_read_there_is_nothing_to_erase(tmp_path: Path) -> None:
    assert Files(tmp_path / "none").erase(GONE, ()) == {"messages": 0, "documents": 0}


@pytest.mark.parametrize("person", ["web:UGONE", "cli:UGONE"])
def test_who_did_not_write_in_slack_has_nothing_there(
    path: Path, tmp_path: Path, person: str
) -> None:
    before = path.read_bytes()
    found: Any = Files(tmp_path).erase(person, ())
    assert found == {}
    assert path.read_bytes() == before


def test_packages_are_erased_and_what_else_lies_in_their_folders_stays(tmp_path: Path) -> None:
    files = Files(tmp_path / "home")
    for name in ("e1", "e2"):
        files.note_package(name, tmp_path / name, ["README.md", "content/a.md"])
        (tmp_path / name / "content").mkdir(parents=True)
        (tmp_path / name / "README.md").touch()
        (tmp_path / name / "content" / "a.md").touch()
    (tmp_path / "e1" / "mine.txt").write_text("precious")
    files.note_package("e1", tmp_path / "moved away", ["README.md"])
    assert files.erase_packages({"e1"}) == 1
    assert [each.name for each in (tmp_path / "e1").rglob("*")] == ["mine.txt"]
    assert (tmp_path / "e2" / "content" / "a.md").exists()
    assert (files.erase_packages({"e1"}), files.erase_packages({"e2"})) == (0, 1)
    assert not (tmp_path / "e2").exists()
