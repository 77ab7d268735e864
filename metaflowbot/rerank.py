"""A chat model puts the pages found in order before it answers: metaflowbot.toml, answers.rerank.

Whatever goes wrong here, the order stays that of the search.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from metaflowbot.domain import Hit, Usage
from metaflowbot.llm import ChatModel
from metaflowbot.prompts import Prompt
from metaflowbot.rewrite import short_reply

_QUERY_CHARS, _PASSAGE_CHARS = 2000, 600
_NUMBERS = re.compile(r"\s*`?\s*\d+(?:\s*,\s*\d+)*\s*`?\s*\.?\s*")


@dataclass(frozen=True, slots=True)
class Ordered:
    """The hits in their new order, and what it cost to know."""

    hits: tuple[Hit, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Reranker:
    """Orders hits by how well they answer. The prompt has the slot $pages."""

    model: ChatModel
    prompt: Prompt

    def order(self, query: str, hits: Sequence[Hit]) -> Ordered:
        """All the hits, best first, ranked anew; those that the model leaves out come last.

        A hit's score is that of its new rank, so that scores still fall. Asks nothing where there
        is nothing to order.
        """
        if len(hits) < 2:
            return Ordered(tuple(hits), Usage())
        pages = "\n\n".join(_page(number, hit) for number, hit in enumerate(hits, start=1))
        system = self.prompt.fill(pages=pages)
        reply, usage = short_reply(self.model, system, query[:_QUERY_CHARS])
        return Ordered(_ranked(hits, _numbers(reply, len(hits))), usage)


def _page(number: int, hit: Hit) -> str:
    title = " › ".join((hit.best.title, *hit.best.headings))
    text = hit.best.text[:_PASSAGE_CHARS].replace("</page", "<\\/page")
    return f'<page n="{number}" source="{hit.best.source}">\n{title}\n\n{text}\n</page>'


def _numbers(reply: str, n_hits: int) -> list[int]:
    """The numbers that a reply consists of; [] where it is anything but a list of such numbers."""
    if not _NUMBERS.fullmatch(reply):
        return []
    found = [int(number) for number in re.findall(r"\d+", reply)]
    is_order = all(1 <= number <= n_hits for number in found) and len(set(found)) == len(found)
    return found if is_order else []


def _ranked(hits: Sequence[Hit], first: Sequence[int]) -> tuple[Hit, ...]:
    chosen = [hits[number - 1] for number in first]
    rest = [hit for number, hit in enumerate(hits, start=1) if number not in first]
    return tuple(
        replace(hit, rank=rank, score=hits[rank - 1].score)
        for rank, hit in enumerate([*chosen, *rest], start=1)
    )
