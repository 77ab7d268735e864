"""The hits as sources of an answer: numbered for a model, with where each comes from and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from metaflowbot.domain import Hit, Passage, Retrieved, Search

# Tokens of sources in the prompt: enough for some ten sections, little enough to be read whole.
_TOKENS = 6000
_SOURCES = 8
_THREADS = {"slack": "a Slack thread", "github": "a GitHub thread"}
_DRAFTS = {"labs": "a draft of Metaflowlabs"}
_OFFICIAL = {"metaflow-docs": "official documentation", "metaflow-api": "API reference"}
_DATE = re.compile(r"\((?:[^()]*\s)?(20\d\d-\d\d-\d\d)\b[^()]*\)")
_VERSION = re.compile(r"\bMetaflow (?:version )?v?(\d+\.\d+(?:\.\d+)*)", re.IGNORECASE)
# A thread was asked before if it is as good as the best hit, or nearly.
_AS_GOOD = 0.85


def is_thread(passage: Passage) -> bool:
    """Whether it is from a conversation, which no official page vouches for."""
    return passage.source in _THREADS


def provenance(passage: Passage) -> str:
    """What a draft is, or a thread, with its date and Metaflow version; '' for other passages."""
    if not is_thread(passage):
        return _DRAFTS.get(passage.source, "")
    dates, versions = _DATE.findall(passage.text), _VERSION.findall(passage.text)
    parts = [_THREADS[passage.source], *dates[-1:], *(f"Metaflow {v}" for v in versions[-1:])]
    return ", ".join(parts)


def only_unofficial(search: Search, cited: Collection[str]) -> str:
    """A line that says so where no cited document is official, with the newest; '' else."""
    hits = [hit for hit in search.hits if hit.best.document_id in cited]
    if not hits or not all(provenance(hit.best) for hit in hits):
        return ""
    return f"This comes from {max(map(_newest, hits), key=_date)}, not from the documentation."


def _newest(hit: Hit) -> str:
    return max((provenance(passage) for passage in hit.passages), key=_date)


def _date(said: str) -> str:
    found = re.search(r"20\d\d-\d\d-\d\d", said)
    return found[0] if found else ""


def asked_before(search: Search) -> Hit | None:
    """The resolved thread that answers the question as well as anything found, or None."""
    if not search.hits:
        return None
    enough = _AS_GOOD * search.hits[0].score
    near = [hit for hit in search.hits[:3] if hit.score >= enough]
    return next((hit for hit in near if is_thread(hit.best)), None)


def retrieved(search: Search) -> tuple[Retrieved, ...]:
    """What the search found, as it is kept with the answer."""
    return tuple(
        Retrieved(hit.best.document_id, hit.best.title, hit.best.url, hit.score)
        for hit in search.hits
    )


def numbered(hits: Sequence[Hit], count_tokens: Callable[[str], int]) -> list[tuple[Passage, ...]]:
    """The passages behind each number, best document first, within the prompt's budget."""
    sources: list[tuple[Passage, ...]] = []
    left = _TOKENS
    for hit in hits[:_SOURCES]:
        kept = []
        for passage in hit.passages:
            cost = count_tokens(passage.text)
            if cost <= left:
                left -= cost
                kept.append(passage)
        if kept:
            sources.append(tuple(kept))
    return sources


def rendered(sources: Sequence[Sequence[Passage]]) -> str:
    """The sources for the prompt, each in a frame that its text can't close."""
    return "\n\n".join(
        f'<source n="{n}" title="{_attribute(passages[0].title)}"'
        f' from="{_attribute(_origin(passages))}">\n'
        + "\n\n".join(_passage(passage) for passage in passages)
        + "\n</source>"
        for n, passages in enumerate(sources, start=1)
    )


def _origin(passages: Sequence[Passage]) -> str:
    said = max((provenance(passage) for passage in passages), key=len)
    return said or _OFFICIAL.get(passages[0].source, passages[0].source)


def _passage(passage: Passage) -> str:
    heading = f"**{passage.heading}**\n\n" if passage.headings else ""
    return (heading + passage.text).replace("</source", "<\\/source")


def _attribute(text: str) -> str:
    return text.replace('"', "'").replace("\n", " ").replace("<", "‹").replace(">", "›")
