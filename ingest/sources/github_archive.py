"""One repository's issues and discussions as they were read, kept on disk between runs.

Each text is scrubbed before it comes here, and nothing else of a message is kept but what decides
whether the thread is resolved.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from metaflowbot.disk import replacing, writing

# Another number makes what earlier versions kept be read from GitHub again.
_FORMAT = 1

Outcome = Literal["open", "completed", "not planned"]


@dataclass(frozen=True, slots=True)
class Said:
    """A message. `author` is an id as `github_markdown.person` makes it, '' for a closed account.

    `at` is in seconds since 1970. `approved_by` are the ids of those whose reaction to it was
    friendly, as far as they are known; `approvals` counts them all, less the unfriendly.
    `accepted` says that it was chosen as the answer.
    """

    author: str
    at: int
    text: str
    by_maintainer: bool = False
    by_bot: bool = False
    accepted: bool = False
    approvals: int = 0
    approved_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Talk:
    """An issue or a discussion, its comments oldest first.

    `key` is 'issues/12' or 'discussions/34'. `state` changes when anything of it does. `chosen_by`
    is who chose the answer, '' where nobody did. `removed` counts by kind what was scrubbed.
    """

    key: str
    url: str
    title: str
    state: str
    outcome: Outcome
    opening: Said
    comments: tuple[Said, ...]
    chosen_by: str = ""
    removed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of a list said last: its ETag, the keys of its talks, the next page's URL."""

    etag: str
    keys: tuple[str, ...]
    following: str


@dataclass
class Archive:
    """The talks of one repository by their key, and the pages of its list by their URL."""

    path: Path
    talks: dict[str, Talk] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Archive:
        """What is kept at `path`; nothing where there is none, or it is damaged or of old."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != _FORMAT:
                return cls(path)
            talks = {key: _talk(value) for key, value in values["talks"].items()}
            pages = {url: _page(value) for url, value in values["pages"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path)
        return cls(path, talks, pages)

    def known(self, key: str, state: str) -> bool:
        """Whether the talk was read as it stands now."""
        return key in self.talks and self.talks[key].state == state

    def only(self, keys: Collection[str]) -> None:
        """Drop all other talks: they were deleted, or moved to another repository."""
        self.talks = {key: talk for key, talk in self.talks.items() if key in keys}

    def save(self) -> None:
        """Put all of it in place of what was kept before; raises MetaflowbotError."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        values = {
            "format": _FORMAT,
            "talks": {key: asdict(talk) for key, talk in self.talks.items()},
            "pages": {url: asdict(page) for url, page in self.pages.items()},
        }
        with replacing(self.path, 0o600) as file:
            file.write(json.dumps(values, ensure_ascii=False))


def _talk(values: Mapping[str, Any]) -> Talk:
    comments = tuple(map(_said, values["comments"]))
    return Talk(**{**values, "opening": _said(values["opening"]), "comments": comments})


def _said(values: Mapping[str, Any]) -> Said:
    return Said(**{**values, "approved_by": tuple(values["approved_by"])})


def _page(values: Mapping[str, Any]) -> Page:
    return Page(**{**values, "keys": tuple(values["keys"])})
