"""Vectors by model and text, kept in one SQLite file: an unchanged passage is embedded once."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from metaflowbot.embedding import Embedding, Vectors

Progress = Callable[[int, int], None]
"""Called with the number of passages embedded so far and the number in all."""


class VectorCache:
    """The vectors that one model gave; a context manager, which closes the file."""

    def __init__(self, path: Path, model: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._model = model
        try:
            self._database = self._open()
        except sqlite3.DatabaseError:
            # It is only a cache: a damaged one costs time, not an error.
            path.unlink(missing_ok=True)
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=30)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )
        return database

    def __enter__(self) -> VectorCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def embed(self, texts: Sequence[str], embedding: Embedding, progress: Progress) -> Vectors:
        """The vectors of all texts (n_texts x dim), embedding only those not yet known."""
        keys = [hashlib.sha256(f"{self._model}\0{text}".encode()).digest() for text in texts]
        known = self._known(keys)
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        text_of = dict(zip(keys, texts, strict=True))
        progress(len(texts) - len(missing), len(texts))
        done = 0
        for batch in embedding.embed([text_of[key] for key in missing]):
            fresh = dict(zip(missing[done : done + len(batch)], batch, strict=True))
            known |= fresh
            done += len(batch)
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                    [(key, vector.astype(np.float32).tobytes()) for key, vector in fresh.items()],
                )
            progress(len(texts) - len(missing) + done, len(texts))
        return np.stack([known[key] for key in keys])

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        found: dict[bytes, Vectors] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
            for key, vector in self._database.execute(query, part):
                found[key] = np.frombuffer(vector, dtype=np.float32)
        return found
