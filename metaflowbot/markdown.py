"""Markdown as models and documents write it: sentences, fences and citation markers.

Not a full parser: it finds where a sentence, a line or a fence ends, also while the text is still
being written, and what in it is code, a link or a marker such as `[1]` or `[1: "quote"]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_MARK = "[\"'“”„‘’«»]"
_QUOTED = rf"{_MARK}(?:(?!\n[ \t]*\n)[^\[\]]|\[[^\[\]\n]*\])*?{_MARK}(?=[ \t]*(?:\]|[;,][ \t]*\d))"
_REFERENCE = re.compile(rf"(\d{{1,3}})(?:[ \t]*:\s*({_QUOTED}))?")
_MARKER = re.compile(
    rf"\[[ \t]*{_REFERENCE.pattern}(?:[ \t]*[;,][ \t]*{_REFERENCE.pattern})*[ \t]*\]"
)
# A marker whose quote is not closed, or has a lone bracket in it: to its end, or to the line's.
_BROKEN = re.compile(rf"\[[ \t]*(\d{{1,3}})[ \t]*:\s*({_MARK}(?:[^\n]*?{_MARK}[ \t]*\]|[^\n]*))")
_TOKEN = re.compile(
    r"(?P<code>(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<link>!?\[(?P<label>(?:[^\[\]\n]|\[[^\[\]\n]*\])*)\]"
    r"\([ \t]*<?(?P<target>(?:[^()\s<>\[\]]|\([^()\s\[\]]*\))*)>?(?:[ \t]+\"[^\"\n]*\")?[ \t]*\))"
    r"|(?P<url><(?:https?://|mailto:|www\.)[^\s<>|]*(?:\|(?P<name>[^<>\n]*))?>"
    r"|(?:https?://|www\.)(?:[^\s<>()\[\]\"'`|]|\([^\s()]*\))*[^\s<>()\[\]\"'`|.,;:!?*_])"
    r"|(?P<stop>[.!?…]+[\"'”’»)*_]*(?=[\s\[]|\Z))"
    r"|(?P<newline>\n)"
    r"|(?P<text>\w+|`+|.)",
    re.S,
)
_OPEN_BRACKET = re.compile(
    r"!?(?:\[(?:[^\[\]\n]|\[[^\[\]\n]*\])*(?:\](?:\((?:[^()\n]|\([^()\n]*\))*)?)?)?\Z"
)
_FENCE = re.compile(r"[ \t]*(`{3,}(?=[^`\n]*$)|~{3,})[^\n]*(?:\n|\Z)", re.M)
_OPEN_FENCE = re.compile(r"[ \t]*(?:`{0,2}|~{0,2}|(?:`{3}|~{3})[^\n]*)")
_BLOCK = re.compile(
    r"[ \t]*(?:\n|\Z|[-*+][ \t]|\d{1,3}[.)][ \t]|#{1,6}[ \t]|>|\||`{3}|~{3}|:::|-{3}|={3}|\*{3})"
)
_UNDECIDED_BLOCK = re.compile(r"[ \t]*[^\n]{0,7}\Z")
_ONE_LINE = re.compile(r"[ \t]*(?:#{1,6}[ \t]|\||:::|-{3}|={3}|\*{3})")
_HEADING = re.compile(r"[ \t]*#{1,6}[ \t]")
_LEAD = re.compile(
    r"[ \t]*(?:>[ \t]?)*(?:#{1,6}[ \t]+)?(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(?:\[[ xX]\][ \t]+)?"
)
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|approx|incl|resp|[A-Z])\Z", re.I)
_SPACE = re.compile(r"[ \t]*")
_LABELLED = re.compile(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?:[^()\s]|\([^()\s]*\))*\)")


class Token(NamedTuple):
    kind: str  # marker, or the name of a group of _TOKEN
    start: int
    end: int
    match: re.Match[str]


def _marker(text: str, at: int, after: str) -> re.Match[str] | None:
    """The marker at `at`; a bare number glued to a name is an index, before '(' a link."""
    if match := _MARKER.match(text, at):
        is_bare = match[0].replace(",", "").replace(";", "")[1:-1].replace(" ", "").isdigit()
        before = text[at - 1] if at else " "
        glued = after != "marker" and (before.isalnum() or before in "_)]")
        return None if is_bare and (glued or text.startswith("(", match.end())) else match
    return _BROKEN.match(text, at)


def _is_undecided(text: str, at: int) -> bool:
    """Whether more text may change what the token at `at` is."""
    if text[at] == "`":
        return "\n" not in text[at:] and _TOKEN.match(text, at, len(text))["code"] is None  # type: ignore[index]
    if text[at] not in "![":
        return False
    if _OPEN_BRACKET.match(text, at):
        return True
    unclosed = not _MARKER.match(text, at) and _BROKEN.match(text, at)
    return bool(unclosed) and not re.search(r"\n[ \t]*\n", text[at:])


def tokens(text: str, start: int = 0, *, final: bool = True, after: str = "") -> Iterator[Token]:
    """Split text; unless `final`, stop before what more text may change."""
    at, kind = start, after
    while at < len(text):
        if not final and _is_undecided(text, at):
            return
        match = _marker(text, at, kind) if text[at] == "[" else None
        kind = "marker" if match else ""
        match = match or _TOKEN.match(text, at)
        assert match is not None, "the last alternative of _TOKEN takes any character"
        kind = kind or match.lastgroup or ""
        yield Token(kind, at, match.end(), match)
        at = match.end()


def references(marker: str) -> list[tuple[int, str]]:
    """The numbers of a marker with their quotes, '' for none."""
    found = _REFERENCE.finditer(marker) if _MARKER.fullmatch(marker) else _BROKEN.finditer(marker)
    return [(int(match[1]), match[2] or "") for match in found]


def cut(text: str, *, at_line_start: bool, final: bool) -> int:
    """Where the first sentence, line or fence of `text` ends; 0 where only more text can tell."""
    start = 0
    if at_line_start:
        if not final and _OPEN_FENCE.fullmatch(text):
            return 0
        if fence := _FENCE.match(text):
            closing = re.compile(rf"^[ \t]*{fence[1]}{fence[1][0]}*[ \t]*\n", re.M)
            closed = closing.search(text, fence.end())
            return closed.end() if closed else final * len(text)
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
    for token in tokens(text, start, final=final):
        end = None
        if token.kind == "newline":
            end = _line_end(text, token, at_line_start=at_line_start, final=final)
        elif token.kind == "stop":
            end = _sentence_end(text, token, final=final)
        if end is not None:
            return end
    return final * len(text)


def _line_end(text: str, newline: Token, *, at_line_start: bool, final: bool) -> int | None:
    """The end of the line if it ends the block, None in mid-paragraph, 0 for not yet known."""
    before = text[: newline.start]
    if not before.strip() or (at_line_start and _ONE_LINE.match(before)):
        return newline.end
    if not final and _UNDECIDED_BLOCK.match(text, newline.end):
        return 0
    return newline.end if _BLOCK.match(text, newline.end) else None


def _sentence_end(text: str, stop: Token, *, final: bool) -> int | None:
    """Where the next sentence begins, behind the markers of this one; None and 0 as above."""
    if _ABBREVIATION.search(text[max(0, stop.start - 8) : stop.start]):
        return None
    at, after = stop.end, ""
    while True:
        at += len(_SPACE.match(text, at)[0])  # type: ignore[index]
        if at == len(text):
            return final * at
        token = next(tokens(text, at, final=final, after=after), None)
        if token is None:
            return 0
        if token.kind not in ("marker", "stop"):
            break
        at, after = token.end, token.kind
    if text[at] == "\n":
        return at + 1
    goes_on = text[at].islower() or not text[at - 1].isspace()
    return None if goes_on else at


class Segment(NamedTuple):
    """A sentence, a line or a whole fence, with the white space behind it."""

    start: int
    text: str
    at_line_start: bool

    @property
    def is_fence(self) -> bool:
        return self.at_line_start and bool(_FENCE.match(self.text))

    @property
    def is_heading(self) -> bool:
        return self.at_line_start and bool(_HEADING.match(self.text))

    @property
    def is_directive(self) -> bool:
        """An admonition marker, which is not text."""
        return self.at_line_start and self.text.lstrip().startswith(":::")

    @property
    def is_sentence(self) -> bool:
        """False for fences, headings, rules, admonition markers and blank lines."""
        silent = self.is_fence or self.is_heading or self.is_directive
        return not silent and bool(re.search(r"\w", self.text))

    def lines(self) -> list[str]:
        """The lines with their ends; those that open and close a fence are blank, not shorter."""
        lines = self.text.splitlines(keepends=True)
        return [_FENCE.sub(lambda fence: " " * len(fence[0]), line) for line in lines]

    @property
    def lead(self) -> int:
        """The length of the bullet, quotation mark or hashes in front."""
        match = _LEAD.match(self.text) if self.at_line_start else None
        return match.end() if match else 0


def segments(markdown: str) -> Iterator[Segment]:
    """The segments of a text in order; together they are the text."""
    start, at_line_start = 0, True
    while end := cut(markdown[start:], at_line_start=at_line_start, final=True):
        segment = Segment(start, markdown[start : start + end], at_line_start)
        yield segment
        start, at_line_start = start + end, segment.text.endswith("\n")


def sentences(markdown: str) -> list[str]:
    """The sentences of a Markdown text, as they stand there, in order.

    A code fence is one sentence; so is a table's row. Bullets and quotation marks in front are
    left off; headings, rules and admonition markers are left out. No text gives [].
    """
    return [
        segment.text.strip("\n") if segment.is_fence else segment.text[segment.lead :].strip()
        for segment in segments(markdown)
        if segment.is_fence or segment.is_sentence
    ]


def plain(markdown: str) -> str:
    """The text without Markdown's markup, on one line, for comparing. Code keeps its characters."""
    parts = []
    for segment in segments(markdown):
        if segment.is_fence:
            parts += segment.lines()
        else:
            parts.append("".join(map(_plain, tokens(segment.text[segment.lead :]))))
    return " ".join(" ".join(parts).split())


def _plain(token: Token) -> str:
    if token.kind == "code":
        return token.match[0].strip("`")
    if token.kind == "link":
        return plain(token.match["label"])
    if token.kind == "url":
        return token.match["name"] or token.match[0].strip("<>")
    return "" if set(token.match[0]) <= set("*_~|\\`") else token.match[0].strip("*_")


def without_links(markdown: str) -> str:
    """The text with each link and picture replaced by its label, for searching."""
    return _LABELLED.sub(r"\1", markdown)
