"""How others speak of a document: the sentences that link to it.

A page says what it is about in its own terms; those who point to it say it in a reader's. Source:
McBryan, "GENVL and WWWW: Tools for Taming the Web", 1994; Brin and Page, "The Anatomy of a
Large-Scale Hypertextual Web Search Engine", 1998, section 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from metaflowbot.domain import Passage
from metaflowbot.markdown import sentences, without_links

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((https?://[^)\s#]+)")


def mentions(passages: Sequence[Passage]) -> list[str]:
    """For each document, in order of first appearance, what links to it, '' where nothing does.

    What is private to a channel speaks of nothing.
    """
    said: dict[str, list[str]] = {passage.document_id: [] for passage in passages}
    named = {_page(passage.url): passage.document_id for passage in passages}
    for passage in passages:
        if passage.channel or not _LINK.search(passage.text):
            continue
        for sentence in sentences(passage.text):
            targets = {named.get(_page(url)) for url in _LINK.findall(sentence)}
            for target in targets - {None, passage.document_id}:
                assert target is not None
                said[target].append(without_links(sentence))
    return ["\n".join(found) for found in said.values()]


def _page(url: str) -> str:
    return url.partition("#")[0].rstrip("/")
