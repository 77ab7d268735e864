"""Citations that hold: checks each marker of an answer against its source, and renumbers.

A model marks what it says as `[1]`, `[1][2]`, `[1, 2]` or `[1: "quote"; 3: "quote"]`. A reader
gets `[n]` alone, and only where a span of the source bears the sentence out. Everything here is
pure: the same text and sources give the same answer, in one piece or in many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from metaflowbot.domain import Citation, Passage
from metaflowbot.markdown import Segment, Token, cut, plain, references, segments, sentences, tokens

__all__ = [
    "Sources",
    "Unit",
    "Verified",
    "Verifier",
    "best_quote",
    "content_words",
    "located",
    "plain",
    "sentences",
    "units",
    "verify",
]

Sources = Mapping[int, Sequence[Passage]] | Sequence[Sequence[Passage]]

# A sentence is borne out by a span that holds this share (0 to 1) of its content words.
_SUPPORT = 0.4
_SHORTEST_QUOTE = 3  # words: fewer stand in any text
_LONGEST_QUOTE = 300  # characters

_DEFINITION = re.compile(
    r"^[ \t]*\[(?P<label>[^\]\n]+)\]:[ \t]*<?(?P<target>(?:https?://|www\.)[^\s>]+)[^\n]*\n?", re.M
)
# Targets of links, and the lines that open a fence: no words of the text.
_NO_WORDS = re.compile(
    r"(?<=\])\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)|^[ \t]*(?:`{3}|~{3})[^`\n]*$", re.M
)
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")
_URL = re.compile(r"(?:https?://|www\.)(?:[^\s<>()\[\]\"'`|]|\([^\s()]*\))+")
_WORD = re.compile(r"[^\W_]+")
_ELLIPSIS = re.compile(r"…|\.\.\.")

# Where something was taken out, until the spaces around it are tidied. A noncharacter of Unicode.
_GONE = "\ufffe"
_TIDY = (
    (re.compile(rf"[ \t]*\([ \t{_GONE}]*{_GONE}[ \t{_GONE}]*\)"), _GONE),
    (re.compile(rf"^([ \t]*){_GONE}[ \t{_GONE}]*", re.M), r"\1"),
    (re.compile(rf"[ \t]*{_GONE}+(?=[\s.,;:!?)\]]|\Z)"), ""),
    (re.compile(_GONE), ""),
)

# Words that say nothing about what a sentence claims; 'metaflow' is in nearly every one of them.
_STOPWORDS = frozenset(
    _WORD.findall("""
    a about after all also an and any are as at be because been but by can could do does each for
    from had has have how if in into is it its just like may metaflow more most must no not of on
    one only or other our out over own same should so some such than that the their them then
    there these they this those through to too under up use used uses using very was we were what
    when where which while who why will with would you your
    """)
)


@dataclass(frozen=True, slots=True)
class Verified:
    """An answer whose every `[n]` is the `n` of one of `citations`, which are in order of `n`."""

    text: str
    citations: tuple[Citation, ...]


def verify(text: str, sources: Sources) -> Verified:
    """Check the markers of a whole answer; see Verifier. An empty text has no citations."""
    verifier = Verifier(sources)
    verifier.feed(text)
    verifier.finish()
    return verifier.verified


class Verifier:
    """Checks an answer while it is being written; what it returns is fit for the reader.

    `sources` are the passages behind each number, a sequence counting from 1. Numbers without
    passages are dropped, quotes leave the text, and the surviving markers are renumbered by
    document and section in order of appearance. A quote counts when its words stand in the source
    in a row, whatever their case, punctuation and markup; without one the sentence is held
    against the source as by `best_quote`. A link to anywhere but an address in a source loses its
    target. Code is left as it is. Text without markers and links is passed on unchanged.
    """

    def __init__(self, sources: Sources) -> None:
        numbered = sources if isinstance(sources, Mapping) else dict(enumerate(sources, 1))
        self._sources = {number: tuple(passages) for number, passages in numbered.items()}
        self._addresses = _addresses(p for passages in self._sources.values() for p in passages)
        self._cited: dict[tuple[str, tuple[str, ...]], tuple[float, Citation]] = {}
        self._text = self._unread = self._claim = ""
        self._at_line_start = True

    @property
    def verified(self) -> Verified:
        """All that has been returned so far, with its citations. Complete after `finish`."""
        return Verified(self._text, tuple(citation for _, citation in self._cited.values()))

    def feed(self, piece: str) -> str:
        """Take the next piece; return the sentences and code blocks that it completes, or ''."""
        self._unread += piece
        return self._release(final=False)

    def finish(self) -> str:
        """Return what is left, or ''. To be called at the end."""
        return self._release(final=True)

    def _release(self, *, final: bool) -> str:
        before = len(self._text)
        while end := cut(self._unread, at_line_start=self._at_line_start, final=final):
            segment = Segment(0, self._unread[:end], self._at_line_start)
            self._unread = self._unread[end:]
            self._at_line_start = segment.text.endswith("\n")
            self._text += segment.text if segment.is_fence else self._checked(segment)
        return self._text[before:]

    def _checked(self, segment: Segment) -> str:
        """One sentence with its markers and links verified."""
        sentence = segment.text
        claim = "".join(token.match[0] for token in tokens(sentence) if token.kind != "marker")
        # A marker on a line of its own stands for what was said before it.
        self._claim = claim if content_words(claim) else self._claim
        text = self._rewrite(_DEFINITION.sub(self._defined, sentence), self._cite)
        # What was taken out may have joined its neighbours into a new marker.
        while (again := self._rewrite(text, self._issued)) != text:
            text = again
        # Nor may it leave a fence that would hide what follows.
        return text.lstrip(" \t`~") if segment._replace(text=text).is_fence else text

    def _rewrite(self, text: str, resolve: Callable[[int, str], int | None]) -> str:
        """`text` with its markers' numbers resolved and its unknown links taken off."""
        out, shown, has_gaps = "", set[int](), False
        for token in tokens(text):
            piece = token.match[0]
            if token.kind == "marker":
                found = [resolve(number, quote) for number, quote in references(piece)]
                fresh = [n for n in dict.fromkeys(found) if n is not None and n not in shown]
                piece = _shown(fresh, token, apart=not shown and _is_glued(out))
                shown.update(fresh)
            elif not piece.isspace():
                shown.clear()
                piece = self._linked(token)
            has_gaps = has_gaps or piece == _GONE != token.match[0]
            out += piece
        return _tidied(out) if has_gaps else out

    def _cite(self, number: int, quote: str) -> int | None:
        """The reader's number for the section of source `number` that bears out the claim."""
        found = [_support(self._claim, quote, p) for p in self._sources.get(number, ())]
        best = max((f for f in found if f), key=lambda f: f.score, default=None)
        if best is None:
            return None
        key = (best.passage.document_id, best.passage.headings)
        score, citation = self._cited.get(key, (0.0, None))
        n = citation.n if citation else len(self._cited) + 1
        if best.score > score:
            self._cited[key] = (best.score, _citation(n, best))
        return n

    def _issued(self, number: int, _: str) -> int | None:
        return number if 1 <= number <= len(self._cited) else None

    def _linked(self, token: Token) -> str:
        """The token; a link or address that no source has without its target."""
        if token.kind == "url":
            known = _address(token.match[0]) in self._addresses
            return token.match[0] if known else token.match["name"] or _GONE
        if token.kind != "link" or _address(token.match["target"]) in self._addresses:
            return token.match[0]
        # In prose `list[int](x)` is a call.
        glued = _is_glued(token.match.string[: token.start])
        is_call = glued and re.fullmatch(r"\w*", token.match["target"])
        return token.match[0] if is_call else token.match["label"] or _GONE

    def _defined(self, definition: re.Match[str]) -> str:
        """A link definition; a numeric one would turn our markers into the model's links."""
        known = _address(definition["target"]) in self._addresses
        return definition[0] if known and not definition["label"].isdigit() else ""


def best_quote(sentence: str, passage: Passage) -> str | None:
    """The sentence, list item or line of code of the passage that best bears out `sentence`.

    Verbatim, at most 300 characters. None where no span holds two in five of the sentence's
    content words (compared by their stems), and at least two of them if it has two.
    """
    wanted = content_words(sentence)
    best, best_score = None, 0.0
    for unit in units(passage.text):
        have = content_words(passage.text[unit.start : unit.end])
        shared = len(wanted & have)
        if unit.is_heading or shared < min(2, len(wanted)) or shared < _SUPPORT * len(wanted):
            continue
        # Among spans that hold as many, the one that says least besides.
        score = shared + shared / (len(have) + 1)
        if score > best_score:
            best, best_score = unit, score
    return _clipped(passage.text[best.start : best.end]) if best else None


class _Support(NamedTuple):
    """The span of a passage that bears a claim out; a quote of the model's scores above 1."""

    score: float
    passage: Passage
    quote: str


class Unit(NamedTuple):
    """A span of a text that a quote may not leave: a sentence, a table row, a line of code."""

    start: int
    end: int
    is_heading: bool = False


class _Word(NamedTuple):
    text: str
    start: int
    end: int


def _support(claim: str, quote: str, passage: Passage) -> _Support | None:
    """What in the passage bears the claim out: the model's quote if it is there, else the best."""
    given = located(quote, passage.text)
    found = given or best_quote(claim, passage)
    if found is None:
        return None
    wanted = content_words(claim)
    share = len(wanted & content_words(found)) / max(1, len(wanted))
    return _Support(share + (1 if given else 0.01), passage, found)


def located(quote: str, text: str) -> str | None:
    """The span of `text` with the quote's words in a row, cut to the unit that has most of them."""
    longest = max(_ELLIPSIS.split(quote), key=len)
    wanted = [word.text for word in _words(longest)]
    words = _words(text)
    row = " ".join(["", *(word.text for word in words), ""])
    at = row.find(" ".join(["", *wanted, ""]))
    if at < 0 or len(wanted) < _SHORTEST_QUOTE:
        return None
    first = row.count(" ", 0, at)
    span = words[first : first + len(wanted)]
    parts = [
        (unit, [w for w in span if unit.start <= w.start and w.end <= unit.end])
        for unit in units(text)
    ]
    unit, inside = max(parts, key=lambda part: len(part[1]))
    if len(inside) < _SHORTEST_QUOTE:
        return None
    start, end = inside[0].start - unit.start, inside[-1].end - unit.start
    return _clipped(_whole(text[unit.start : unit.end], start, end))


def _whole(unit: str, start: int, end: int) -> str:
    """The span of the unit, widened to whole code spans and links and to its own punctuation."""
    for token in tokens(unit):
        if token.kind in ("code", "link"):
            start = token.start if token.start < start < token.end else start
            end = token.end if token.start < end < token.end else end
    before = re.search(r"(?:(?<=\s)|^)(?:[^\w\s]|_)*$", unit[:start])
    after = re.match(r"(?:[^\w\s]|_)*(?=\s|$)", unit[end:])
    return unit[before.start() if before else start : end + (after.end() if after else 0)]


def _clipped(quote: str) -> str:
    """The quote, cut after a whole word if it is too long to show."""
    if len(quote) <= _LONGEST_QUOTE:
        return quote
    head = quote[: _LONGEST_QUOTE + 1]
    return (head.rsplit(None, 1)[0] if len(head.split()) > 1 else head[:-1]).rstrip()


@lru_cache(maxsize=512)
def units(text: str) -> tuple[Unit, ...]:
    """The spans of a Markdown text that have words in them."""
    units = []
    for segment in segments(text):
        at = segment.start
        for line in segment.lines() if segment.is_fence else [segment.text]:
            begin = at + (0 if segment.is_fence else segment.lead)
            at += len(line)
            span = text[begin:at]
            if _WORD.search(span) and not segment.is_directive:
                begin += len(span) - len(span.lstrip())
                units.append(Unit(begin, begin + len(span.strip()), segment.is_heading))
    return tuple(units)


@lru_cache(maxsize=512)
def _words(text: str) -> tuple[_Word, ...]:
    """The words of a text in lower case."""
    masked = _NO_WORDS.sub(lambda found: " " * len(found[0]), text)
    return tuple(_Word(w[0].lower(), w.start(), w.end()) for w in _WORD.finditer(masked))


@lru_cache(maxsize=8192)
def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, without common endings and cut to six letters."""
    words = (word.text for word in _words(text))
    carrying = (word for word in words if len(word) > 1 and word not in _STOPWORDS)
    return frozenset(_ENDING.sub("", word)[:6] for word in carrying)


def _shown(numbers: list[int], marker: Token, *, apart: bool) -> str:
    """The marker for the reader, kept apart from what would make it an index or a link."""
    if not numbers:
        return _GONE
    is_followed = marker.match.string.startswith("(", marker.end)
    return " " * apart + "".join(f"[{n}]" for n in numbers) + " " * is_followed


def _is_glued(before: str) -> bool:
    """Whether a bracket right after `before` would be read as an index."""
    return before[-1:].isalnum() or before.endswith(("_", ")", "]"))


def _tidied(text: str) -> str:
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return text


def _citation(n: int, support: _Support) -> Citation:
    passage = support.passage
    title = f"{passage.title} › {passage.heading}" if passage.heading else passage.title
    return Citation(n, passage.document_id, title, passage.url, support.quote)


def _addresses(passages: Iterable[Passage]) -> frozenset[str]:
    """Every address that a source has, with and without its fragment."""
    found = {
        _address(address)
        for passage in passages
        for address in (passage.url, *_URL.findall(passage.text))
    }
    return frozenset(found | {address.partition("#")[0].rstrip("/") for address in found}) - {""}


def _address(written: str) -> str:
    """An address without the brackets, label and closing punctuation that text puts around it."""
    return written.strip("<>").partition("|")[0].rstrip("/.,;:!?*_")
