"""What each source said when it was last read, kept on disk as JSON lines.

So a source that can't be reached today keeps what it gave before, and a run that reads one source
does not lose the others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from metaflowbot.disk import replacing
from metaflowbot.domain import Document, Section


@dataclass(frozen=True, slots=True)
class Reading:
    """The documents of one source and when they were read (ISO 8601, UTC).

    `moved` leads from earlier ids and URLs to the ids of today. `mark` is what the source said of
    itself beforehand (see Marked), '' where it said nothing, and `omitted` pairs what was left out
    with the reason.
    """

    read_at: str
    documents: tuple[Document, ...]
    moved: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""
    omitted: Sequence[Sequence[str]] = ()


class Library:
    """One file a source under a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(
        self,
        source: str,
        documents: Sequence[Document],
        moved: Mapping[str, str] = MappingProxyType({}),
        mark: str = "",
        omitted: Sequence[Sequence[str]] = (),
    ) -> None:
        """Replace what the source gave before; raises MetaflowbotError where that can't be done."""
        with replacing(self._folder / f"{source}.jsonl") as file:
            read_at = datetime.now(UTC).isoformat(timespec="seconds")
            head = {"read_at": read_at, "moved": dict(moved), "mark": mark, "omitted": omitted}
            file.write(json.dumps(head, ensure_ascii=False))
            for document in documents:
                values = {**dataclasses.asdict(document), "defines": sorted(document.defines)}
                file.write("\n" + json.dumps(values, ensure_ascii=False))

    def last(self, source: str) -> Reading | None:
        """What the source gave last; None where it never did or the file is damaged."""
        try:
            with (self._folder / f"{source}.jsonl").open(encoding="utf-8") as file:
                head, *lines = file.read().split("\n")
            values = json.loads(head)
            documents = tuple(map(_document, lines))
            return Reading(**{**values, "documents": documents})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _document(line: str) -> Document:
    values = json.loads(line)
    sections = tuple(
        Section(tuple(section["headings"]), section["anchor"], section["text"])
        for section in values["sections"]
    )
    return Document(**{**values, "sections": sections, "defines": frozenset(values["defines"])})
