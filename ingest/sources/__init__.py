"""One module a source; each yields Documents, and names what it left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from metaflowbot.domain import Document


@dataclass(frozen=True, slots=True)
class Omission:
    """A file or object that was left out of the index, and the reason in a few words."""

    what: str
    why: str


class Source(Protocol):
    """Where documents come from. `name` is the source's name in every hit, e.g. 'metaflow-docs'."""

    @property
    def name(self) -> str: ...

    def read(self) -> Iterator[Document | Omission]:
        """Yield every document and every omission; raise SourceError when nothing can be read."""
        ...
