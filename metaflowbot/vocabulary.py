"""Which words an index holds, and how telling each of them is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from metaflowbot.domain import Passage
from metaflowbot.lexical import terms


@dataclass(frozen=True)
class Vocabulary:
    """The terms (see `lexical.terms`) of each document that was read.

    `subjects` are the terms of all titles, `passages` the number of passages.
    """

    documents: Mapping[str, frozenset[str]]
    subjects: frozenset[str]
    passages: int

    @classmethod
    def of(cls, passages: Sequence[Passage]) -> Vocabulary:
        """Read every passage once, with its title and headings."""
        found: dict[str, set[str]] = {}
        titles = set()
        for passage in passages:
            found.setdefault(passage.document_id, set()).update(words_of(passage))
            titles.add(passage.title)
        documents = {document: frozenset(words) for document, words in found.items()}
        subjects = frozenset(term for title in titles for term in terms(title))
        return cls(documents, subjects, len(passages))

    def within(self, documents: Collection[str]) -> Vocabulary:
        """The same for some of the documents alone."""
        some = {name: words for name, words in self.documents.items() if name in documents}
        return replace(self, documents=some)

    def __contains__(self, term: str) -> bool:
        return term in self._frequency

    @property
    def terms(self) -> Iterable[str]:
        """Every term, each once."""
        return self._frequency.keys()

    def share(self, term: str) -> float:
        """The share (0 to 1) of documents that have the term; 0.0 where there are none."""
        return self._frequency[term] / max(1, len(self.documents))

    def weight(self, term: str) -> float:
        """The inverse document frequency: 0 for a term of every document, high for a rare one."""
        n = len(self.documents)
        return math.log((n + 1) / (self._frequency[term] + 0.5))

    def part(self, some: Sequence[str], of: Sequence[str]) -> float:
        """The weight of some terms as a share (0 to 1) of that of all; 0.0 where all weigh 0."""
        whole = sum(map(self.weight, of))
        return sum(map(self.weight, some)) / whole if whole else 0.0

    @cached_property
    def _frequency(self) -> Counter[str]:
        return Counter(term for words in self.documents.values() for term in words)


def words_of(passage: Passage) -> list[str]:
    """The terms of a passage with its title and headings, in order, with repeats."""
    return terms(f"{passage.title} {passage.heading} {passage.text}")
