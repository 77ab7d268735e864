"""Vectors by model and text, kept in one SQLite file: an unchanged passage is embedded once.

With the vector of a text those of its words are kept, where the model tells them apart.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from metaflowbot.embedding import (
    NO_WORDS,
    WORD_SIZE,
    Embedded,
    Embedding,
    Vectors,
    Words,
    embed_closely,
)

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
        database.execute("DROP TABLE IF EXISTS vectors")  # an earlier layout, without words
        database.execute(
            "CREATE TABLE IF NOT EXISTS embedded (key BLOB PRIMARY KEY, vector BLOB, words BLOB)"
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
        for batch in embed_closely(embedding, [text_of[key] for key in missing]):
            fresh = dict(zip(missing[done : done + len(batch)], batch, strict=True))
            known |= {key: embedded.vector for key, embedded in fresh.items()}
            done += len(batch)
            self._keep(fresh)
            progress(len(texts) - len(missing) + done, len(texts))
        return np.stack([known[key] for key in keys])

    def embed_closely(self, texts: Sequence[str], embedding: Embedding) -> list[Embedded]:
        """The vectors and words of a few texts, embedding only those not yet known."""
        vectors = self.embed(texts, embedding, lambda _done, _total: None)
        return list(map(Embedded, vectors, self.words(texts)))

    def words(self, texts: Sequence[str]) -> Iterator[Words]:
        """The words of each text (n_words x WORD_SIZE) that `embed` has seen, one by one.

        NO_WORDS where the model does not tell them.
        """
        for text in texts:
            query = "SELECT words FROM embedded WHERE key = ?"
            found = self._database.execute(query, (_key(self._model, text),)).fetchone()
            yield np.frombuffer(found[0], np.int8).reshape(-1, WORD_SIZE) if found else NO_WORDS

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
            gone = self._database.execute(f"DELETE FROM embedded WHERE {unused}").rowcount
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

    def _keep(self, fresh: Mapping[bytes, Embedded]) -> None:
        rows = [
            (key, embedded.vector.astype(np.float32).tobytes(), embedded.words.tobytes())
            for key, embedded in fresh.items()
        ]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO embedded VALUES (?, ?, ?)", rows)

    def _known(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        found: dict[bytes, Vectors] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, vector FROM embedded WHERE key IN ({marks})"
            for key, vector in self._database.execute(query, part):
                found[key] = np.frombuffer(vector, dtype=np.float32)
        return found


def _key(model: str, text: str) -> bytes:
    return hashlib.sha256(f"{model}/{WORD_SIZE}\0{text}".encode()).digest()
