"""Where documents went that have another id or URL now: so what was cited once still leads on.

Known are three ways: a source says so itself (a site's redirects), a document came to have another
URL, or what is gone stands word for word under another id.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ingest.library import Reading
from ingest.sources import Moved
from metaflowbot.domain import Document
from metaflowbot.markdown import without_links

# Less than this is the same in many places.
_TELLING_CHARS = 200


def moves(
    before: Reading | None, documents: Sequence[Document], declared: Iterable[Moved]
) -> Mapping[str, str]:
    """Earlier id or URL -> the id that the document has now, with all that was known `before`.

    `documents` are all that the source gives now. An id or URL that is in use leads to itself, so
    it is not among them.
    """
    now = {document.url: document.id for document in documents}
    now |= {document.id: document.id for document in documents}
    found = dict(before.moved) if before else {}
    found |= {move.old: now[move.new] for move in declared if move.new in now}
    for old, new in _renamed(before.documents if before else (), documents, now, found):
        found |= {old.id: new, old.url: new}
    return {old: _last(new, found) for old, new in found.items() if old not in now}


def _renamed(
    before: Sequence[Document],
    documents: Sequence[Document],
    now: Mapping[str, str],
    found: Mapping[str, str],
) -> Iterator[tuple[Document, str]]:
    """Each document that had another id or URL before, with its id now."""
    gone = [document for document in before if document.id not in now]
    gone_ids, before_ids = {document.id for document in gone}, {it.id for it in before}
    twins = _by_content(it for it in documents if it.id not in before_ids)
    lost = _by_content(gone)
    for old in before:
        if old.id not in gone_ids:
            yield old, old.id
            continue
        content = _content(old)
        twin = twins.get(content, "") if content in lost else ""
        if new := found.get(old.url) or found.get(old.id) or now.get(old.url) or twin:
            yield old, new


def _by_content(documents: Iterable[Document]) -> Mapping[str, str]:
    """Hash of what it says -> id, of what is said in one place alone."""
    pairs = [(content, it.id) for it in documents if (content := _content(it))]
    counted = Counter(content for content, _ in pairs)
    return {content: identity for content, identity in pairs if counted[content] == 1}


def _content(document: Document) -> str:
    """A hash of a document's text without its links, which move with it; '' for a short one.

    Its title may come from its name.
    """
    text = "\n".join(without_links(section.text) for section in document.sections)
    return hashlib.sha256(text.encode()).hexdigest() if len(text) >= _TELLING_CHARS else ""


def _last(identity: str, found: Mapping[str, str]) -> str:
    """Where a chain of moves ends; one that runs in a circle ends anywhere on it."""
    for _ in range(len(found)):
        if identity not in found:
            break
        identity = found[identity]
    return identity
