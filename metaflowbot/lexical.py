"""The lexical index: BM25 over terms in which identifiers stay whole and also fall into words."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

# Words that carry no topic in a question about software; informative verbs stay.
_STOP_WORDS = frozenset(
    "a about am an and any are as at be because been being but by can could did do does for from"
    " get got had has have here how i if in into is it its just like me my no not of on one or our"
    " out please should so some that the their them then there these they this those to up us was"
    " we were what when where which while who why will with would you your using use used hi hello"
    " hey thanks thank need want way got im ive dont doesnt cant isnt".split()
)
_TERM = re.compile(r"(?:@|--)?\w+(?:[.\-]\w+)*")
_IDENTIFIER = re.compile(r"^[@-]|\w[._]\w")
_PARTS = re.compile(r"[._\-]+|(?<=[a-z0-9])(?=[A-Z])")
# Low length normalisation, as passages are of like size.
_K1, _B = 1.2, 0.5


def terms(text: str) -> list[str]:
    """The terms of a text, in order, with repeats; [] for text without any.

    `METAFLOW_DATASTORE_SYSROOT_S3` gives itself and its four words; `@retry` gives `@retry` and
    `retri`; words are stemmed (Porter 2).
    """
    found: list[str] = []
    for match in _TERM.finditer(text.replace("'", "").replace("’", "")):
        found.extend(_terms_of(match[0]))
    return found


@lru_cache(maxsize=65536)
def _terms_of(token: str) -> tuple[str, ...]:
    found = [token.lower()] if token[0] in "@-" else []
    bare = token.lstrip("@-")
    parts = [part.lower() for part in _PARTS.split(bare) if part]
    if bare.lower() in _STOP_WORDS:
        return tuple(found)
    if len(parts) > 1:
        found.append(bare.lower())
    kept = (part for part in parts if part not in _STOP_WORDS and (len(part) > 1 or part.isdigit()))
    return (*found, *(_stem(part) for part in kept))


def _stem(word: str) -> str:
    stemmed: str = _stemmer().stemWord(word)
    return stemmed


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


def _bm25s() -> Any:
    """The library; it makes itself a logger at DEBUG, which would speak on our stderr."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


class Lexical:
    """BM25 scores of a query against every row of a fixed list of texts."""

    def __init__(self, model: object, n_rows: int) -> None:
        self._model = model
        self._n_rows = n_rows

    @classmethod
    def build(cls, texts: Sequence[str]) -> Lexical:
        """Index the texts; there must be at least one."""
        bm25s = _bm25s()
        model = bm25s.BM25(k1=_K1, b=_B)
        model.index([terms(text) or ["\0"] for text in texts], show_progress=False)
        return cls(model, len(texts))

    @classmethod
    def load(cls, folder: Path, n_rows: int) -> Lexical:
        """Read what `save` wrote; raises OSError or ValueError where it is not whole."""
        return cls(_bm25s().BM25.load(str(folder)), n_rows)

    def save(self, folder: Path) -> None:
        self._model.save(str(folder))  # type: ignore[attr-defined]

    def scores(self, query_terms: Iterable[str]) -> Scores:
        """BM25 of each row (n_rows); zeros where no term is known.

        Repeated terms count once, whole identifiers twice: who names one means that one.
        """
        known = [term for term in dict.fromkeys(query_terms) if self.knows(term)]
        known += [term for term in known if _IDENTIFIER.search(term)]
        if not known:
            return np.zeros(self._n_rows, dtype=np.float32)
        scores = self._model.get_scores(known)  # type: ignore[attr-defined]
        return np.asarray(scores, dtype=np.float32)

    def knows(self, term: str) -> bool:
        """Whether any row contains the term."""
        return term in self._model.vocab_dict  # type: ignore[attr-defined]
