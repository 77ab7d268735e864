"""An index that is shared with processes which may not write to it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaflowbot.domain import Question
from metaflowbot.embedding import MiniLM
from metaflowbot.index import Index
from metaflowbot.retrieve import Retriever
from tests.small_index import publish

pytest_plugins = ["tests.prebuilt"]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose index nobody can write to, not even root; copies go beside it."""
    home = tmp_path / "home"
    publish(home, MiniLM(home / "cache"))
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    folder = str(home / "index")
    if os.geteuid():
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        yield home
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        return
    bound = subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True)
    if bound.returncode:
        pytest.skip("the machine lets nobody mount a folder")
    read_only = subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=False)
    try:
        if read_only.returncode:
            pytest.skip("the machine lets nobody make a folder read-only")
        yield home
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_index_is_served_from_a_copy_that_goes_with_it(shared: Path) -> None:
    with pytest.raises(OSError, match=r"Read-only|denied"):
        (shared / "index" / "current").write_text("x")
    embedding = MiniLM(shared / "cache")
    retriever = Retriever.over(Index(shared).load(), embedding)
    (hit, *_) = retriever.search(Question("How do I run a failing step again?")).hits
    assert hit.passages[0].document_id == "docs/scaling/failures.md"
    copies = shared.parent / "copies"
    assert len(list(copies.iterdir())) == 1
    del retriever
    gc.collect()
    assert list(copies.iterdir()) == []


SERVING = """
import sys, tempfile, time
from pathlib import Path
from metaflowbot.index import Index

tempfile.tempdir = sys.argv[2]
held = Index(Path(sys.argv[1])).load()
print("loaded", flush=True)
time.sleep(600)
"""


def test_the_copy_of_a_process_that_was_killed_goes_with_the_next_one_and_no_other_does(
    shared: Path,
) -> None:
    copies = shared.parent / "copies"
    command = [sys.executable, "-c", SERVING, str(shared), str(copies)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "loaded\n"
        (abandoned,) = copies.iterdir()
        mine = Index(shared).load()
        assert abandoned in copies.iterdir()
        other.kill()
    theirs = Index(shared).load()
    assert abandoned not in copies.iterdir()
    assert len(list(copies.iterdir())) == len([mine, theirs])
