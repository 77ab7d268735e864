"""Promises about a disk that does not take what is written: one line, and nothing half-done."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.library import Library
from metaflowbot.disk import replacing, writing
from metaflowbot.errors import MetaflowbotError
from metaflowbot.index import Index
from tests.conftest import WordEmbedding
from tests.small_index import PASSAGES, counts, publish

# What a process does to a home in which no file may grow beyond some bytes, as on a full disk.
DEEDS = {
    "library": (20_000, "Library(home / 'index/documents').keep('labs', [DOCUMENT] * 500)"),
    "vectors": (20_000, "VectorCache(home / 'index/vectors.sqlite', 'm').embed(TEXTS, E, P)"),
    "build": (200_000, "Index(home).build(MANY, {}, E)"),
    "ingest": (60_000, "ingest()"),
}
SCRIPT = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from ingest.library import Library
from ingest.pipeline import Ingest
from metaflowbot.disk import writing
from metaflowbot.domain import Document, Section
from metaflowbot.errors import MetaflowbotError
from metaflowbot.index import Index
from metaflowbot.vectors import VectorCache
from tests.conftest import WordEmbedding
from tests.small_index import PASSAGES

home, limit, deed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
E, P, TEXTS = WordEmbedding(), lambda *_: None, [f"text {n}" for n in range(500)]
MANY = [replace(PASSAGES[0], id=f"a#{n}", text=f"{PASSAGES[0].text} {n}") for n in range(3000)]
DOCUMENT = Document("a", "labs", "T", "https://x.example", (Section((), "", "Text. " * 50),))

class Pages:
    name = "labs"
    def read(self):
        return iter([replace(DOCUMENT, id=str(n)) for n in range(40)])

def ingest():
    home_of_index = home / "index"
    library = Library(home_of_index / "documents")
    Ingest([Pages()], Index(home), E, library, home_of_index, golden=()).run(P, P)

resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with writing(home):
        eval(deed)
except MetaflowbotError as error:
    print(error)
"""


@pytest.mark.parametrize("deed", DEEDS)
def test_a_full_disk_is_one_line_and_the_live_index_stays(tmp_path: Path, deed: str) -> None:
    embedding = WordEmbedding()
    live = publish(tmp_path, embedding).id
    Library(tmp_path / "index/documents").keep("labs", [])
    before = {path.name for path in tmp_path.rglob("*") if "vectors.sqlite" not in path.name}
    limit, code = DEEDS[deed]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(limit), code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\S+ can't be written \(.+\): make room on the disk.*\n", done.stdout)
    index = Index(tmp_path)
    assert index.load().id == live
    after = {path.name for path in tmp_path.rglob("*") if "sqlite" not in path.name}
    assert after - before <= {"ingest.lock"}
    assert Library(tmp_path / "index/documents").last("labs") is not None
    assert index.build(PASSAGES, counts(), embedding).id != live


def put(path: Path) -> None:
    with replacing(path) as file:
        file.write("new")


@pytest.mark.parametrize(
    "write",
    [put, lambda path: Library(path).keep("labs", []), lambda path: publish(path, WordEmbedding())],
)
def test_a_folder_that_can_not_be_made_is_named(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MetaflowbotError, match=r"file\S* can't be written \(") as caught:
        write(tmp_path / "file" / "folder")
    assert "\n" not in str(caught.value)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(path)
    assert path.read_text() == "new"

    def fail() -> None:
        with replacing(path) as file:
            file.write("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(MetaflowbotError, match=r"^mine$"), writing(tmp_path):
        raise MetaflowbotError("mine")
