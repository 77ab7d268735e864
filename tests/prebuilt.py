"""Fixtures: the small index, built once in a run of the tests with the local model.

A module that wants them says `pytest_plugins = ["tests.prebuilt"]`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from metaflowbot.embedding import MiniLM
from metaflowbot.index import Generation, Index
from metaflowbot.retrieve import Retriever
from tests.small_index import publish


@pytest.fixture(scope="session")
def prebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an index of PASSAGES by the local model: to be copied, not changed."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home = shared / "prebuilt"
    with (shared / "prebuilt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "index" / "current").exists():
            publish(home, MiniLM(home / "cache"))
    return home


@pytest.fixture(scope="session")
def minilm(prebuilt: Path) -> MiniLM:
    return MiniLM(prebuilt / "cache")


@pytest.fixture
def home(prebuilt: Path, tmp_path: Path) -> Path:
    """A home of the test's own, with the index and without a database."""
    return copied(prebuilt, tmp_path / "home")


@pytest.fixture(scope="session")
def retriever(
    prebuilt: Path, minilm: MiniLM, tmp_path_factory: pytest.TempPathFactory
) -> Retriever:
    """Searches PASSAGES with the local model."""
    index = Index(copied(prebuilt, tmp_path_factory.mktemp("searched") / "home"))
    return Retriever.over(index.load(), minilm)


@pytest.fixture(scope="session")
def generation(retriever: Retriever) -> Generation:
    return retriever.generation


def copied(prebuilt: Path, home: Path) -> Path:
    """A copy of a home's index; the model's graph, which never changes, is shared."""
    shutil.copytree(prebuilt / "index", home / "index")
    (home / "cache").symlink_to(prebuilt / "cache")
    return home
