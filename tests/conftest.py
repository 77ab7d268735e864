"""What several test modules share."""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaflowbot.embedding import Vectors


class WordEmbedding:
    """Unit vectors from hashed words: quick, the same everywhere, alike for texts alike.

    `embedded` counts the texts that were embedded as passages.
    """

    name = "test:words"
    dim = 64

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        for start in range(0, len(texts), 32):
            part = texts[start : start + 32]
            self.embedded += len(part)
            yield np.stack([self.embed_query(text) for text in part])

    def embed_query(self, text: str) -> Vectors:
        vector = np.full(self.dim, 1e-3, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % self.dim] += 1.0
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; anything beside it is an error."""
        values: dict[str, Any] = json.loads(self.out)
        return values

    @property
    def complaint(self) -> str:
        """The last line on stderr, after what was said of the progress."""
        return self.err.rstrip().split("\n")[-1]


def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores: half of the tests wait for a process, a browser or a timeout."""
    return min(2 * (os.cpu_count() or 1), 16)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that nobody waits for it at the end."""
    items.sort(key=lambda item: "scenarios" not in item.path.parts)


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A command that a test ran logs to what was stderr then; nothing does so afterwards."""
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """A small Docusaurus tree of our own; its pages are under `docs/`."""
    return Path(__file__).parent / "corpus"
