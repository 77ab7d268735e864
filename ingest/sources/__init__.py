"""One module a source; each yields Documents, and names what it left out and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from metaflowbot.domain import Document
from metaflowbot.errors import SourceError


@dataclass(frozen=True, slots=True)
class Omission:
    """A file or object that was left out of the index, and the reason in a few words."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Removed:
    """Secrets and personal data that were scrubbed from what the source gave: finds by kind."""

    finds: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Moved:
    """What a document's earlier id or URL is called now: the `new` id or URL leads to it."""

    old: str
    new: str


Item = Document | Omission | Removed | Moved


class NotSetUpError(SourceError):
    """What the source needs is not set: it is passed over unless it was asked for by name."""


class Source(Protocol):
    """Where documents come from. `name` is the source's name in every hit, e.g. 'metaflow-docs'."""

    @property
    def name(self) -> str: ...

    def read(self) -> Iterator[Item]:
        """Yield every document, every omission, what was scrubbed and what was moved.

        Raises SourceError when nothing can be read, NotSetUpError when something has to be set.
        """
        ...


@runtime_checkable
class Marked(Protocol):
    """A source that can tell whether it would say again what it said before."""

    def mark(self) -> str:
        """Differs where `read` may yield other items; '' where that can't be told.

        Cheap beside reading, and raises nothing.
        """
        ...
