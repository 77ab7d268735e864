"""Vectors by model and text, kept in one SQLite file: an unchanged passage is embedded once."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
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
        except sqlite3.OperationalError:
            raise  # A full disk, or another process: the vectors themselves are whole.
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
        keys = [_key(self._model, text) for text in texts]
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

    def only(self, used: Iterable[tuple[str, str]]) -> int:
        """Delete all but what is kept of these (model, text); return how many vectors went.

        The file shrinks once more than half of it is free.
        """
        with self._database:
            self._database.execute("PRAGMA temp_store = MEMORY")
            self._database.execute("CREATE TEMP TABLE used (key BLOB PRIMARY KEY)")
            keys = ((_key(model, text),) for model, text in used)
            self._database.executemany("INSERT OR IGNORE INTO used VALUES (?)", keys)
            unused = "key NOT IN (SELECT key FROM used)"
            gone = self._database.execute(f"DELETE FROM vectors WHERE {unused}").rowcount
            self._database.execute("DROP TABLE used")
        free, pages = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_count")
        )
        if 2 * free > pages:
            # It needs room for a copy, for want of which nothing is lost.
            with suppress(sqlite3.OperationalError):
                self._database.execute("VACUUM")
        return gone

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        found: dict[bytes, Vectors] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
            for key, vector in self._database.execute(query, part):
                found[key] = np.frombuffer(vector, dtype=np.float32)
        return found


def _key(model: str, text: str) -> bytes:
    return hashlib.sha256(f"{model}\0{text}".encode()).digest()
