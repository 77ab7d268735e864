"""Answers that no model writes: the best passages, quoted; or that there is none, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from metaflowbot.citations import best_quote, sentences
from metaflowbot.domain import Answer, Citation, Hit, Passage, Search
from metaflowbot.markdown import segments
from metaflowbot.safety import defanged
from metaflowbot.sources import only_unofficial, provenance

# An extractive answer quotes this many passages at most, and only those near the best one.
_QUOTED = 3
_LEADING = 2
_NEAR = 0.7
_NEAREST = 3
# A fence, or the label above a list: no words to quote where there are others.
_SILENT = re.compile(r"\s*(?:```|~~~|\*\*[^*]*\*\*:?\s*$)")
# A link that leads to no web page.
_OTHER_LINK = re.compile(r"\[([^\]\n]*)\]\((?!https?://)[^)\n]*\)")
_PARAMETER_LABEL = re.compile(r"^`[^`]+`(?: \((?:[^()]|\([^()]*\))*\))?: (?=\S+ \S+ \S+)")

_OFFER = "A maintainer may know more: ask in the channel, or escalate the question."


def quoted(draft: Answer, search: Search) -> Answer:
    """The best passages themselves, each with its citation; there must be a hit."""
    passages = _worth_quoting(search.hits)
    unofficial = only_unofficial(search, {passage.document_id for passage in passages})
    return replace(
        draft,
        notice=draft.notice or unofficial,
        text="\n\n".join(_quote_passage(passage, n) for n, passage in enumerate(passages, 1)),
        citations=tuple(cite(passage, n, draft.question) for n, passage in enumerate(passages, 1)),
    )


def abstention(draft: Answer, search: Search, why: str, *, is_whole: bool = False) -> Answer:
    """No answer: why, the nearest pages, and the offer to ask people.

    On one line where `is_whole`, which is for what is not about Metaflow at all.
    """
    nearest = search.hits[:_NEAREST]
    links = [f"[{hit.best.title}]({hit.best.url}) [{n}]" for n, hit in enumerate(nearest, 1)]
    if is_whole:
        pages = f"The nearest that I have read: {', '.join(links)}."
        text = " ".join([why, *[pages] * bool(links), _OFFER])
    else:
        pages = "The nearest pages:\n\n" + "\n".join(f"- {link}" for link in links)
        text = "\n\n".join([why, *[pages] * bool(links), _OFFER])
    citations = tuple(cite(hit.best, n, draft.question) for n, hit in enumerate(nearest, 1))
    return replace(draft, text=text, citations=citations, abstained=True)


def _worth_quoting(hits: Sequence[Hit]) -> list[Passage]:
    """The passages of the best document, in reading order, then the best of those near it."""
    first, *others = hits
    near = [hit.best for hit in others if hit.score >= _NEAR * first.score]
    leading = sorted(first.passages[:_LEADING], key=_ordinal)
    return [*leading, *near][:_QUOTED]


def _ordinal(passage: Passage) -> int:
    return int(passage.id.rpartition("#")[2])


def _quote_passage(passage: Passage, n: int) -> str:
    title = " › ".join((passage.title, *passage.headings))
    said = provenance(passage)
    lines = "\n".join(f"> {line}".rstrip() for line in _shown(passage.text).split("\n"))
    return f"**{title}** [{n}]{f' ({said})' * bool(said)}\n\n{lines}"


def _shown(text: str) -> str:
    """A passage as it may be shown: nothing in it is active, nor calls anybody."""
    parts = (
        part.text if part.is_fence else _OTHER_LINK.sub(r"\1", defanged(part.text))
        for part in segments(text)
    )
    return "".join(parts).strip("\n")


def cite(passage: Passage, n: int, question: str) -> Citation:
    """The passage's sentence that is nearest to the question, as source `n`."""
    title = " › ".join((passage.title, *passage.headings))
    return Citation(n, passage.document_id, title, passage.url, _quote(passage, question))


def _quote(passage: Passage, question: str) -> str:
    """The sentence nearest to the question, else the first; code only where there is no prose.

    Of a parameter's line only the description: its label is our rendering, not the page's words.
    """
    spoken = [sentence for sentence in sentences(passage.text) if not _SILENT.match(sentence)]
    if not spoken:
        lines = [line.strip() for line in passage.text.split("\n")]
        return next((line for line in lines if line and not line.startswith("```")), passage.text)
    nearest = best_quote(question, passage)
    quote = nearest if nearest and not _SILENT.match(nearest) else spoken[0]
    return _PARAMETER_LABEL.sub("", quote) or quote
