"""Late interaction: a query held against a passage word by word, each word in its context.

One vector for a whole passage blurs what it says; the words keep it. Of each word of the query
the nearest word of the passage counts: Khattab and Zaharia, "ColBERT: Efficient and Effective
Passage Search via Contextualized Late Interaction over BERT", 2020.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metaflowbot.embedding import WORD_SIZE, Vectors, Words

_WORDS, _ENDS = "words.bin", "word_ends.npy"
_SCALE = 127.0


class WordVectors:
    """The words of a fixed list of texts, read from disk where they are needed."""

    def __init__(self, words: Words, ends: NDArray[np.int64]) -> None:
        self._words = words
        self._ends = ends
        self._starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])

    @staticmethod
    def write(folder: Path, texts: Iterable[Words]) -> None:
        """Write the words of each text as they come; no file where no text has any."""
        ends, end = [], 0
        with (folder / _WORDS).open("wb") as file:
            for words in texts:
                file.write(words.tobytes())
                end += len(words)
                ends.append(end)
        if end:
            np.save(folder / _ENDS, np.array(ends, dtype=np.int64))
        else:
            (folder / _WORDS).unlink()

    @classmethod
    def load(cls, folder: Path) -> WordVectors | None:
        """What `write` wrote, None where it wrote no file. Raises OSError or ValueError."""
        if not (folder / _WORDS).exists():
            return None
        ends = np.load(folder / _ENDS)
        words = np.memmap(folder / _WORDS, dtype=np.int8, mode="r", shape=(ends[-1], WORD_SIZE))
        return cls(words, ends)

    def closeness(self, query: Words, rows: NDArray[np.int64]) -> Vectors:
        """How near each row comes to the query's words (-1 to 1): the mean of its best cosines.

        There must be rows, and each of them and the query must have a word.
        """
        spans = [self._words[self._starts[row] : self._ends[row]] for row in rows]
        firsts = np.cumsum([0, *(len(span) for span in spans[:-1])])
        passages, asked = np.concatenate(spans).astype(np.float32), query.astype(np.float32)
        # Not by `@`: the threads of BLAS would fight for the cores with those of the model, and
        # both would take twice as long.
        cosines = np.einsum("ik,jk->ij", passages, asked)
        best = np.maximum.reduceat(cosines, firsts, axis=0) / _SCALE**2
        return np.asarray(best.mean(axis=1), dtype=np.float32)
