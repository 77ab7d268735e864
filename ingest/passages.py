"""Document -> Passages: spans of a section small enough to embed and to quote.

A section is cut between its blocks (paragraphs, list items, tables, fences); a fence is never
cut, and a short lead-in stays with the code or list that it introduces. Every passage is a
verbatim span, so a quote from it is a quote from the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ingest.sections import fenced
from metaflowbot.domain import Document, Passage

TARGET_CHARS = 800
"""A passage's usual length at most: about 200 tokens, under MiniLM's 256 with the headings."""

Span = tuple[int, int]
"""Start and end of a part of a text, in characters."""

_LIST_ITEM = re.compile(r"(?:[-*+]|\d+[.)])\s")
# A label such as "**Tip**" belongs to what follows.
_LABEL = re.compile(r"\s*\*\*[^*\n]+\*\*:?\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")


def split(document: Document) -> Iterator[Passage]:
    """Yield the document's passages in reading order; none for a document without text."""
    ordinal = 0
    for section in document.sections:
        for start, end in _pack(section.text, list(_blocks(section.text))):
            text = section.text[start:end].strip("\n").rstrip()
            if not text:
                continue
            yield Passage(
                id=f"{document.id}#{ordinal}",
                document_id=document.id,
                source=document.source,
                title=document.title,
                headings=section.headings,
                url=f"{document.url}#{section.anchor}" if section.anchor else document.url,
                text=text,
                channel=document.channel,
            )
            ordinal += 1


def _pack(text: str, blocks: list[Span]) -> Iterator[Span]:
    """Join neighbouring blocks up to the target; what leads in may pull its code over it."""
    if not blocks:
        return
    start, end = blocks[0]
    last = start
    for block_start, block_end in blocks[1:]:
        introduces = text[last:end].rstrip().endswith(":")
        leads_in = introduces or end - start < TARGET_CHARS // 4
        if block_end - start > (2 * TARGET_CHARS if leads_in else TARGET_CHARS):
            cut = last if introduces and last > start else block_start
            yield start, cut
            start = cut
        last, end = block_start, block_end
    yield start, end


def _blocks(text: str) -> Iterator[Span]:
    start = offset = 0
    was_blank, was_code = False, False
    for line, in_code in fenced(text.split("\n")):
        inside = in_code and was_code
        starts = (was_blank and line[:1].strip()) or _LIST_ITEM.match(line)
        if offset and not inside and starts and not _LABEL.fullmatch(text, start, offset):
            yield from _short_enough(text, (start, offset))
            start = offset
        was_blank, was_code = not line.strip(), in_code
        offset += len(line) + 1
    yield from _short_enough(text, (start, len(text)))


def _short_enough(text: str, span: Span) -> Iterator[Span]:
    """Cut a block of prose that is too long by itself at sentences; code stays whole."""
    start, end = span
    block = text[start:end]
    if end - start <= 2 * TARGET_CHARS or any(in_code for _, in_code in fenced(block.split("\n"))):
        yield span
        return
    cuts = [start + match.end() for match in _SENTENCE_END.finditer(block)]
    sentences = list(zip([start, *cuts], [*cuts, end], strict=True))
    yield from _pack(text, sentences)
