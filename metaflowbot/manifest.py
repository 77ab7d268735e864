"""What an index generation is made of: manifest.json in its folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metaflowbot.errors import IndexUnavailableError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What one source gave to a generation.

    `moved` leads from ids and URLs that its documents had before to the ids they have in it.
    """

    documents: int
    passages: int
    version: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation is: `checksums` are SHA-256 by file, `built_at` is ISO 8601 in UTC.

    Generations of an earlier `layout` are served as they are.
    """

    id: str
    format: int
    built_at: str
    embedding_model: str
    sources: Mapping[str, SourceCount]
    passages: int
    documents: Mapping[str, str]
    checksums: Mapping[str, str]
    layout: int = 0

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises IndexUnavailableError where the folder holds no generation of this format."""
        try:
            values = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            sources = {name: SourceCount(**count) for name, count in values["sources"].items()}
            checksums = dict(values["checksums"])
            manifest = cls(**{**values, "sources": sources, "checksums": checksums})
        except FileNotFoundError:
            raise IndexUnavailableError(
                f"index generation {folder.name} does not exist: see `metaflowbot index list`"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise damaged(folder, "its manifest can't be read") from None
        if manifest.id != folder.name:
            raise damaged(folder, "its manifest is that of another")
        if manifest.format != FORMAT:
            raise IndexUnavailableError(
                f"index generation {folder.name} has format {manifest.format}, not {FORMAT}: "
                "run `metaflowbot ingest` to build a new one"
            )
        return manifest

    def current_id(self, old: str) -> str | None:
        """The id here of the document that has or had this id or URL; None if there is none."""
        if old in self.documents:
            return old
        return next((it.moved[old] for it in self.sources.values() if old in it.moved), None)

    def write(self, folder: Path) -> None:
        """Put the manifest into a generation's folder."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        (folder / "manifest.json").write_text(text, encoding="utf-8")


def damaged(folder: Path, why: str) -> IndexUnavailableError:
    return IndexUnavailableError(
        f"index generation {folder.name} is damaged ({why}): "
        "run `metaflowbot index rollback` or `metaflowbot ingest`"
    )
