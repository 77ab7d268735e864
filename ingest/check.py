"""Whether a new generation may take the place of the live one, and what it changes.

Two things stop the switch: a source that shrank, and a golden question that the live generation
answers from the right document and the new one does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from metaflowbot.domain import Question

# The command line reads the default share below: it need not wait for numpy.
if TYPE_CHECKING:
    from metaflowbot.embedding import Embedded, Embedding, Vectors
    from metaflowbot.manifest import Manifest, SourceCount
    from metaflowbot.retrieve import Retriever
    from metaflowbot.vectors import VectorCache

MAX_SHRINK = 0.3
"""The share (0 to 1) of its documents or passages that a source may lose at once."""

DEPTH = 10
"""How far down its hits a golden question's document may be: as many as a search shows."""

# Losing this much is editing, whatever share of a small source it is.
_FEW = {"documents": 1, "passages": 20}


@dataclass(frozen=True, slots=True)
class Golden:
    """A question and the documents of which any one answers it."""

    question: str
    documents: frozenset[str]

    def followed(self, manifest: Manifest) -> Golden:
        """The same, with what its documents are called now if they were moved."""
        current = filter(None, map(manifest.current_id, self.documents))
        return Golden(self.question, self.documents | frozenset(current))


@dataclass(frozen=True, slots=True)
class Finding:
    """The rank of the first expected document for a golden question, None beyond `DEPTH`."""

    question: str
    rank: int | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The ids of documents in which a new generation differs from the live one, `since`.

    `sources` is what each source gave to the live one. Where none is live everything is new.
    """

    since: str | None = None
    sources: Mapping[str, SourceCount] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @classmethod
    def between(cls, live: Manifest | None, new: Manifest) -> Changes:
        """Compare the hashes of the documents' passages."""
        if live is None:
            return cls(added=tuple(sorted(new.documents)))
        both = live.documents.keys() & new.documents.keys()
        return cls(
            live.id,
            live.sources,
            added=tuple(sorted(new.documents.keys() - both)),
            changed=tuple(sorted(i for i in both if live.documents[i] != new.documents[i])),
            removed=tuple(sorted(live.documents.keys() - both)),
        )


@dataclass(frozen=True)
class RememberedQueries:
    """An embedding whose queries are kept in the vector cache.

    So asking the same questions again does not load the model, which would cost an ingest of
    nothing new more than all its other work.
    """

    embedding: Embedding
    cache: VectorCache

    @property
    def name(self) -> str:
        return self.embedding.name

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        return self.embedding.embed(texts)

    def embed_closely(self, texts: Sequence[str]) -> Iterator[Sequence[Embedded]]:
        yield self.cache.embed_closely(texts, self.embedding)

    def embed_query(self, text: str) -> Vectors:
        (embedded,) = self.cache.embed_closely([text], self.embedding)
        return embedded.vector


def golden_questions() -> tuple[Golden, ...]:
    """The questions in golden.jsonl, beside this module."""
    text = Path(__file__).with_name("golden.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(Golden(row["question"], frozenset(row["documents"])) for row in rows)


def ask(questions: Iterable[Golden], retriever: Retriever) -> tuple[Finding, ...]:
    """Where each question's document is found; () for no questions.

    Raises what the embedding model raises.
    """
    return tuple(Finding(golden.question, _rank(golden, retriever)) for golden in questions)


def _rank(golden: Golden, retriever: Retriever) -> int | None:
    hits = retriever.search(Question(golden.question), DEPTH).hits
    ranks = (hit.rank for hit in hits if hit.best.document_id in golden.documents)
    return next(ranks, None)


def shrunk(
    live: Manifest, given: Mapping[str, SourceCount], max_shrink: float = MAX_SHRINK
) -> Iterator[str]:
    """Say of each source that gave much less this time than the live generation holds of it.

    `given` counts what each source that is still read gave; one that is no longer read was taken
    out by somebody, so it has not shrunk.
    """
    for name, now in given.items():
        for noun, few in _FEW.items():
            had, has = getattr(live.sources.get(name), noun, 0), getattr(now, noun)
            if had - has > max(few, max_shrink * had):
                lost = f"by {(had - has) / had:.0%}; at most {max_shrink:.0%} may go at once"
                yield f"{name} shrank from {had} to {has} {noun} ({lost})"
                break
