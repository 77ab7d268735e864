"""Folds the installed API into the docs: one object, one document.

Where a docs page is the reference of an API object, that page is its document; the installed
package adds only the parameters that the page does not mention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from metaflowbot.domain import Document, Section

API_SOURCE = "metaflow-api"
_PARAMETERS = re.compile(r"^\*\*Parameters:\*\*\n(.*?)(?=^\*\*|\Z)", re.MULTILINE | re.DOTALL)
_PARAMETER = re.compile(r"^- `\*{0,2}(\w+)`.*(?:\n(?!- )[^\n]+)*", re.MULTILINE)


def fold(documents: Sequence[Document]) -> list[Document]:
    """The documents without API objects that a docs page defines; those pages are enriched."""
    pages = {
        name: document.id
        for document in documents
        if document.source != API_SOURCE
        for name in document.defines
    }
    by_id = {document.id: document for document in documents}
    for document in documents:
        if document.source == API_SOURCE and document.defines and document.defines <= pages.keys():
            name = min(document.defines)
            page = by_id[pages[name]]
            by_id[page.id] = _enriched(page, name, by_id.pop(document.id))
    return list(by_id.values())


def _enriched(page: Document, name: str, reference: Document) -> Document:
    """The page, with a section of the parameters that only the installed version knows."""
    theirs = [section for section in page.sections if _names(section.anchor, name)]
    written = "\n".join(section.text for section in theirs)
    added = [
        match[0]
        for section in reference.sections
        for block in _PARAMETERS.finditer(section.text)
        for match in _PARAMETER.finditer(block[1])
        if f"`{match[1]}`" not in written and f"{match[1]}=" not in written
    ]
    if not theirs or not added:
        return page
    place = page.sections.index(theirs[-1]) + 1
    headings = (*theirs[-1].headings, f"In Metaflow {reference.version}")
    section = Section(headings, theirs[-1].anchor, "\n".join(["**Further parameters:**", *added]))
    return replace(page, sections=(*page.sections[:place], section, *page.sections[place:]))


def _names(anchor: str, name: str) -> bool:
    """Whether the anchor is the dotted name without its modules, which are in lower case."""
    module, _, rest = name.rpartition(f".{anchor}")
    return bool(anchor) and not rest and module.islower()
