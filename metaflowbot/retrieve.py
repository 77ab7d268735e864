"""Question -> ranked hits: hybrid search over passages, fused, grouped by document.

Dense and lexical scores are compared as z-scores over all passages, so that neither has to be
rescaled by hand, together with what links to a document (mentions.py); the best of them are then
held against the query word by word (late.py). A document's score is its best passage's plus a
little for its next ones. The weights lie in the middle of a plateau found on questions about the
Metaflow docs: `make bench`.
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter, mul

import numpy as np
from numpy.typing import NDArray

from metaflowbot.conversation import leaned_on
from metaflowbot.domain import Hit, Passage, Question, Search
from metaflowbot.embedding import Embedding, Vectors, Words, embed_closely
from metaflowbot.errors import IndexUnavailableError
from metaflowbot.index import Candidates, Generation
from metaflowbot.lexical import Scores, terms
from metaflowbot.thesaurus import terms_meant

# Rows that each of the two searches contributes.
_DEPTH = 200
# How much the meaning of a passage, and that of its whole document, count beside the words (1.0).
_DENSE_WEIGHT = 1.5
_DOCUMENT_WEIGHT = 0.7
# How others speak of the document; many links to a page make it no better an answer than some do.
_MENTIONS_WEIGHT = 0.4
_MENTIONS_MOST = 3.0
# So many passages are compared word by word, and so much that counts.
_SHORTLIST = 60
_WORDS_WEIGHT = 0.7
# What a document's best, second and third passage add to its score.
_PASSAGE_WEIGHTS = (1.0, 0.3, 0.15)
# A short document is not worse for it: a passage it does not have counts as this share of its best.
_ABSENT = 0.3
# A factor of the score: official docs and the API reference outrank conversations, those drafts.
_AUTHORITY: Mapping[str, float] = {
    "metaflow-docs": 1.0,
    "metaflow-api": 0.95,
    "labs": 0.65,
    "slack": 0.8,
    "github": 0.8,
}
# A follow-up together with what it leans on counts as much as by itself.
_HISTORY_WEIGHT = 1.0
# Metaflow's own words for what was said in others count this much.
_MEANT_WEIGHT = 0.5


# Names as Metaflow gives them; in a block of code people's own decorators are as likely.
_NAME = re.compile(r"(?<![\w@.])@[A-Za-z_]\w+(?![\w.]*@)|\bcurrent\.[a-z_]\w+|\bMETAFLOW_[A-Z]\w+")
_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Query:
    """What is searched for: terms, a unit vector (dim), and the vectors of its words."""

    terms: list[str]
    vector: Vectors
    words: Words


@dataclass(frozen=True, slots=True)
class Retriever:
    """Searches one generation. Holds no state between calls."""

    generation: Generation
    embedding: Embedding

    @classmethod
    def over(cls, generation: Generation, embedding: Embedding) -> Retriever:
        """A retriever whose queries live in the generation's vector space.

        Raises IndexUnavailableError where the generation was embedded by another model.
        """
        if generation.manifest.embedding_model != embedding.name:
            raise IndexUnavailableError(
                f"the index was built with {generation.manifest.embedding_model}, but "
                f"METAFLOWBOT_EMBEDDING_MODEL now means {embedding.name}: run `metaflowbot ingest`"
            )
        return cls(generation, embedding)

    def search(self, question: Question, k: int = 10) -> Search:
        """The `k` best documents, best first; none where `sources` hold none.

        Raises what the embedding model raises.
        """
        return self.search_for(question, question, k)

    def search_for(self, wanted: Question, question: Question, k: int) -> Search:
        """As `search` does, for what `wanted` says; the question is what the hits have to cover."""
        started = time.perf_counter()
        query = self._query(wanted)
        found = self.generation.candidates(query.vector, query.terms, question, _DEPTH)
        hits = _group(self.generation.passages, found.rows, self._scores(found, query.words), k)
        return Search(
            query=question.text,
            hits=hits,
            generation=self.generation.id,
            took_ms=round((time.perf_counter() - started) * 1000, 2),
            coverage=_coverage(terms(question.text), hits),
            similarity=float(found.similarity.max(initial=-1.0)),
            agreement=float(found.dense[np.argmax(found.lexical)]) if len(found.rows) else 0.0,
            unknown=self._unknown(question.text),
        )

    def _unknown(self, text: str) -> tuple[str, ...]:
        names = dict.fromkeys(_NAME.findall(_CODE_BLOCK.sub("", text)))
        return tuple(name for name in names if not self.generation.knows(name.lower()))

    def _scores(self, found: Candidates, words: Words) -> Scores:
        """What the passages found are worth, in their order."""
        mentions = np.minimum(found.mentions, _MENTIONS_MOST)
        scores = (
            _DENSE_WEIGHT * found.dense
            + _DOCUMENT_WEIGHT * found.document
            + found.lexical
            + _MENTIONS_WEIGHT * mentions
        )
        best = np.argsort(-scores)[:_SHORTLIST]
        closeness = self.generation.closeness(words, found.rows[best])
        if closeness is None:
            return np.asarray(scores, dtype=np.float32)
        close = (closeness - closeness.mean()) / (closeness.std() + 1e-9)
        added = np.full_like(scores, close.min(initial=0.0) - 1.0)
        added[best] = close
        return np.asarray(scores + _WORDS_WEIGHT * added, dtype=np.float32)

    def _query(self, question: Question) -> _Query:
        """What to search for.

        A follow-up leans on what was asked before, and people's words on Metaflow's for them.
        """
        ((embedded,),) = embed_closely(self.embedding, [question.text])
        query_terms, vector, words = terms(question.text), embedded.vector, embedded.words
        if earlier := leaned_on(question):
            ((both,),) = embed_closely(self.embedding, [f"{earlier}\n{question.text}"])
            query_terms += terms(earlier)
            vector, words = vector + _HISTORY_WEIGHT * both.vector, both.words
        if meant := "; ".join(terms_meant(question.text)):
            query_terms += terms(meant)
            reworded = self.embedding.embed_query(f"{question.text}\n{meant}")
            vector = vector + _MEANT_WEIGHT * reworded
        unit = np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)
        return _Query(query_terms, unit, words)


def _group(
    passages: Sequence[Passage], rows: NDArray[np.int64], scores: Scores, k: int
) -> tuple[Hit, ...]:
    """The hits of the `k` best documents, from the scores of the passages in `rows`."""
    by_document: dict[str, list[tuple[float, Passage]]] = defaultdict(list)
    for place in np.argsort(-scores):
        passage = passages[rows[place]]
        by_document[passage.document_id].append((float(scores[place]), passage))
    scored = [(_document_score(members), members) for members in by_document.values()]
    scored.sort(key=itemgetter(0), reverse=True)
    return tuple(
        Hit(rank, round(score, 4), tuple(passage for _, passage in members[:3]))
        for rank, (score, members) in enumerate(scored[:k], start=1)
    )


def _document_score(members: Sequence[tuple[float, Passage]]) -> float:
    authority = _AUTHORITY.get(members[0][1].source, 1.0)
    scores = [max(score, 0.0) for score, _ in members[: len(_PASSAGE_WEIGHTS)]]
    scores += [_ABSENT * scores[0]] * (len(_PASSAGE_WEIGHTS) - len(scores))
    return authority * math.fsum(map(mul, _PASSAGE_WEIGHTS, scores))


def _coverage(query_terms: Sequence[str], hits: Sequence[Hit]) -> float:
    """The share of the query's distinct terms that the three best hits contain, 0 for none."""
    wanted = set(query_terms)
    if not wanted:
        return 0.0
    texts = (
        f"{passage.title} {passage.heading} {passage.text}"
        for hit in hits[:3]
        for passage in hit.passages
    )
    return len(wanted & {term for text in texts for term in terms(text)}) / len(wanted)
