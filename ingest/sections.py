"""Markdown -> sections with headings and anchors, as Docusaurus and Nuxt Content number them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from metaflowbot.domain import Section

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_EXPLICIT_ID = re.compile(r"\s*\{#([\w.-]+)\}\s*$|\s*<a\s+id=\"([\w.-]+)\"\s*>\s*</a>\s*$")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")


def fenced(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Pair each line with whether it belongs to a code fence (its ``` lines included).

    A fence that is never closed runs to the end, as CommonMark says.
    """
    opened = ""
    for line in lines:
        match = _FENCE.match(line)
        if opened:
            yield line, True
            closes = match and match[1].startswith(opened) and line.strip() == match[1]
            opened = "" if closes else opened
        elif match:
            opened = match[1]
            yield line, True
        else:
            yield line, False


def plain_heading(text: str) -> str:
    """A heading's text as a reader sees it: no links, emphasis, code marks or entities."""
    text = _LINK.sub(r"\1", html.unescape(text))
    return re.sub(r"\*\*|__(?=\W|$)|(?<!\w)__|`", "", text).replace("\\", "").strip(" *")


@dataclass
class Slugger:
    """Anchors as github-slugger makes them: the same heading twice gets -1, -2 …"""

    _seen: dict[str, int] = field(default_factory=dict)

    def slug(self, heading: str) -> str:
        slug = base = _NOT_IN_SLUG.sub("", heading.strip().lower()).replace(" ", "-")
        while slug in self._seen:
            self._seen[base] += 1
            slug = f"{base}-{self._seen[base]}"
        self._seen[slug] = 0
        return slug


def _without_gaps(lines: Iterable[str]) -> Iterator[str]:
    """One blank line where removed markup left several; code keeps its own."""
    was_blank = False
    for line, in_code in fenced("\n".join(lines).split("\n")):
        is_blank = not in_code and not line.strip()
        if not (is_blank and was_blank):
            yield line
        was_blank = is_blank


@dataclass
class SectionWriter:
    """Collects lines under a stack of headings and gives the sections that have text.

    The first level-1 heading is the page's title, not a section's heading.
    """

    title: str = ""
    _stack: list[tuple[int, str]] = field(default_factory=list)
    _anchor: str = ""
    _lines: list[str] = field(default_factory=list)
    _done: list[Section] = field(default_factory=list)
    _slugger: Slugger = field(default_factory=Slugger)

    def heading(self, level: int, text: str, anchor: str | None = None) -> None:
        """Start a section; without `anchor` it gets the slug of its text."""
        self._close()
        slug = self._slugger.slug(text) if anchor is None else anchor
        if level == 1 and not self.title:
            self.title = text
            return
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        self._stack.append((level, text))
        self._anchor = slug

    def line(self, text: str) -> None:
        self._lines.append(text)

    def markdown(self, text: str) -> None:
        """Add Markdown, its own headings included."""
        for line, in_code in fenced(text.split("\n")):
            match = None if in_code else _HEADING.match(line)
            if match:
                self._markdown_heading(len(match[1]), match[2])
            else:
                self._lines.append(line)

    def sections(self) -> tuple[Section, ...]:
        self._close()
        return tuple(self._done)

    def _markdown_heading(self, level: int, text: str) -> None:
        explicit = _EXPLICIT_ID.search(text)
        text = plain_heading(_EXPLICIT_ID.sub("", text))
        self.heading(level, text, (explicit[1] or explicit[2]) if explicit else None)

    def _close(self) -> None:
        text = "\n".join(_without_gaps(self._lines)).strip("\n").rstrip()
        self._lines.clear()
        if text.strip():
            headings = tuple(heading for _, heading in self._stack)
            self._done.append(Section(headings, self._anchor if headings else "", text))
