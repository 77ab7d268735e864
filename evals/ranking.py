"""Rankings held against their gold: recall@k, reciprocal rank and nDCG, page by page.

The measures are those of trec_eval, through ir-measures, with binary relevance.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from evals.cases import Gold

DEPTH = 10
"""So many pages of a ranking are judged."""

MEASURES = ("recall@1", "recall@3", "recall@5", "recall@10", "MRR", "nDCG@10")


@dataclass(frozen=True, slots=True)
class Judged:
    """One ranking with its gold, both as pages.

    `ranking` is best first without repeats, DEPTH long at most; `relevant` are the gold pages,
    most important first; `missing` are those of which no document is indexed: they can't be found,
    and count as not found.
    """

    ranking: tuple[str, ...]
    relevant: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def first_rank(self) -> int:
        """The rank, from 1, of the first gold page; 0 where none is in the ranking."""
        ranks = (rank for rank, page in enumerate(self.ranking, 1) if page in self.relevant)
        return next(ranks, 0)


def judge(ranking: Iterable[str], gold: Gold, indexed: Container[str]) -> Judged:
    """Hold document ids, best first, against the gold pages.

    Documents that are alternatives of the same gold page are one page, and so are gold pages that
    share an indexed document: each counts once, at its first place.
    """
    page_of: dict[str, str] = {}
    relevant: dict[str, None] = {}
    missing = []
    for alternatives in gold:
        known = [document for document in alternatives if document in indexed]
        page = next((page_of[document] for document in known if document in page_of), "")
        page = page or (known or alternatives)[0]
        page_of |= dict.fromkeys(known, page)
        relevant[page] = None
        if not known:
            missing.append(page)
    pages = dict.fromkeys(page_of.get(document, document) for document in ranking)
    return Judged(tuple(pages)[:DEPTH], tuple(relevant), tuple(missing))


def score(judged: Mapping[str, Judged]) -> dict[str, dict[str, float]]:
    """MEASURES of each ranking by its key, each 0 to 1; an empty ranking has 0 everywhere.

    Raises ValueError for a ranking without gold: nothing could be right about it.
    """
    import ir_measures
    from ir_measures import RR, R, nDCG

    if bare := [key for key, item in judged.items() if not item.relevant]:
        raise ValueError(f"there is no gold for {', '.join(bare)}")
    names = {R @ 1: "recall@1", R @ 3: "recall@3", R @ 5: "recall@5", R @ 10: "recall@10"}
    names |= {RR @ DEPTH: "MRR", nDCG @ DEPTH: "nDCG@10"}
    qrels = [
        ir_measures.Qrel(key, page, 1) for key, item in judged.items() for page in item.relevant
    ]
    scores: dict[str, dict[str, float]] = {key: {} for key in judged}
    for value in ir_measures.iter_calc(list(names), qrels, list(_scored(judged))):
        scores[value.query_id][names[value.measure]] = float(value.value)
    return scores


def _scored(judged: Mapping[str, Judged]) -> Iterator[tuple[str, str, float]]:
    """trec_eval orders by score and breaks ties by name, so every rank gets a score of its own."""
    import ir_measures

    for key, item in judged.items():
        for rank, page in enumerate(item.ranking):
            yield ir_measures.ScoredDoc(key, page, float(DEPTH - rank))
