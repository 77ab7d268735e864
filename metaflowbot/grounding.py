"""Whether the sentences of an answer say what its sources say.

Overlap alone would let a lie pass that changes one word of a true sentence. So besides most of
its words, a sentence shares with a stretch of a source whatever `claims` compares. The stretch is
a sentence with its neighbours, those of the quote if the model gave one. Nothing here asks a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from metaflowbot.citations import content_words, located, plain, units
from metaflowbot.claims import (
    LIGHT,
    agrees,
    claim_words,
    code_names,
    names,
    numbers,
    proper_names,
    says_no,
    tokens_of,
    turns,
)
from metaflowbot.domain import Passage
from metaflowbot.markdown import Segment, references, tokens, without_links

# The share (0 to 1) of a sentence's content words that the whole source has.
_IN_SOURCE = 0.7
_IN_SOURCE_QUOTED = 0.6  # where the model's quote stands there
_NEARLY = 0.8  # a sentence that shares so much is what was meant
_LEAST = 2  # words in common: one stands in any text

# What an answer says of its sources, or to lead on, rests on no passage.
_ABOUT_SOURCES = re.compile(
    r"\W*(?:but |however,? )?(?:the |my |these )?(?:sources?|documentation|docs|passages?|pages?)\b"
    r"(?: (?:above|here|given|found|I (?:have|read)))? (?:(?:(?:(?:do|does)(?: not|n['’]t) "
    r"(?:\w+ )?(?:say|mention|cover|describe|show|explain|tell|state|give|specify|list|contain"
    r"|document|address|include|name))|(?:say|mention|contain|have)s? (?:nothing|no)"
    r"|leaves? (?:it )?open|disagree|differ|(?:are|is) silent)\b(?! that\b)[^.;:]{0,120})"
    r"[.!]?\s*\Z",
    re.I,
)
_FIRST = re.compile(r"\W*([A-Z][a-z]+)\b")
_VALUE = re.compile(r"(?<=\w=)(\d+)(?![\w.])")
_WORD = re.compile(r"[^\W_]+")
_LEADS_ON = re.compile(r":\s*$")
# A line that leads on says nothing by itself where it is made of these.
_LEAD = content_words(
    "example follow below here like code snippet flow step command this way option such run write"
    " look set use first second next then define example step short answer"
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A segment as it may be checked on; `removed` is the sentence that was taken out, or ''."""

    text: str
    removed: str = ""


class _Stretch(NamedTuple):
    """A sentence, list item or line of code of a text, and the same with its neighbours."""

    said: str
    around: str
    words: frozenset[str]
    words_around: frozenset[str]


class Grounds:
    """Holds the sentences of an answer against its numbered sources.

    `asked` is the question: its words are no news. In another language than the sources' words
    can't be compared: then a quote that stands in the source is enough, with names and numbers.
    """

    def __init__(
        self, sources: Sequence[Sequence[Passage]], asked: str, *, is_foreign: bool = False
    ) -> None:
        self._sources = dict(enumerate(sources, start=1))
        self._asked = content_words(asked)
        self._asked_names = tokens_of(asked)
        self._wishes = numbers(asked)
        self._is_foreign = is_foreign
        passages = tuple(passage for source in sources for passage in source)
        self._words, self._names = _source_words(passages), _source_names(passages)
        self._proper = proper_names(" ".join(passage.text for passage in passages))

    def admit(self, segment: Segment) -> Admitted:
        """The sentence with the markers that hold, with one it lacked, or without itself."""
        if segment.is_fence or (segment.is_directive and len(segment.text.split()) < _LEAST):
            return Admitted(segment.text)
        claim = self._with_its_name(self._without_wishes(_bare(segment.text)))
        if not _claims(claim):
            return Admitted(segment.text)
        is_false = self._is_contradicted(claim) or self._is_made_up(claim)
        text = None if is_false else self._with_markers(segment.text, claim)
        if text is None:
            return Admitted("\n" * segment.text.endswith("\n"), " ".join(claim.split()))
        return Admitted(text)

    def is_familiar(self, text: str, *, names_too: bool = False) -> bool:
        """Whether at least half of what a text says in words stands in a source or the question.

        With `names_too` all names and numbers in it have to.
        """
        if names_too and not code_names(text) | numbers(text) <= self._names | self._asked_names:
            return False
        wanted = claim_words(text)
        return len(wanted & (self._words | self._asked | _LEAD)) >= len(wanted) / 2

    def _with_markers(self, text: str, claim: str) -> str | None:
        """The sentence with the markers that hold, or with one that it lacked; None for a lie."""
        given = [ref for marker in _markers(text) for ref in references(marker)]
        if good := {n for n, quote in given if self._bears(claim, n, quote)}:
            return _only(text, good)
        bare = _only(text, set())
        found = next((n for n in self._sources if self._bears(claim, n, "")), None)
        if found is not None and len(content_words(claim)) >= _LEAST:
            return _marked(bare, found)
        return bare if _is_harmless(claim) and self._is_known(claim) else None

    def _is_contradicted(self, claim: str) -> bool:
        """Whether what is most like the sentence, in any source, says something else."""
        wanted = claim_words(claim)
        if not wanted or self._is_foreign:
            return False
        found = [
            (stretch, passage, number)
            for number, source in self._sources.items()
            for passage in source
            for stretch in _stretches(passage.text)
        ]
        most = max((len(wanted & stretch.words) for stretch, *_ in found), default=0)
        if most < _NEARLY * len(wanted):
            return False
        alike = [item for item in found if len(wanted & item[0].words_around) >= most]
        alike.sort(key=lambda item: len(wanted & item[0].words) < most)
        return not any(
            self._agrees(claim, stretch, passage, number, whole=len(wanted & stretch.words) == most)
            for stretch, passage, number in alike
        )

    def _agrees(
        self, claim: str, stretch: _Stretch, passage: Passage, number: int, *, whole: bool
    ) -> bool:
        """Whether the claim agrees with the sentence, `whole`, or with it and its neighbours."""
        known = _source_words(tuple(self._sources[number])) | self._asked
        said = stretch.said if whole else stretch.around
        return agrees(claim, said, stretch.around, f"{passage.title} {passage.heading}", known)

    def _is_made_up(self, claim: str) -> bool:
        """Whether two words in a row are known neither from a source nor from the question."""
        if self._is_foreign or _ABOUT_SOURCES.match(claim):
            return False
        known = self._words | self._asked | LIGHT | _LEAD
        words = [words for word in _WORD.findall(plain(claim)) if (words := content_words(word))]
        return any(not (known & first or known & second) for first, second in pairwise(words))

    def _without_wishes(self, claim: str) -> str:
        """The claim without the values that the asker wants arguments to have."""
        return _VALUE.sub(lambda value: value[0] * (value[1] not in self._wishes), claim)

    def _with_its_name(self, claim: str) -> str:
        """The claim with the name that it begins with as code: its capital does not tell."""
        first = _FIRST.match(claim)
        if first is None or first[1] not in self._proper:
            return claim
        return f"{claim[: first.start(1)]}`{first[1]}`{claim[first.end(1) :]}"

    def _is_known(self, claim: str) -> bool:
        """Whether every name and most words of the sentence stand somewhere in the sources."""
        wanted = claim_words(claim)
        if not names(claim) <= self._names | self._asked_names:
            return False
        if _ABOUT_SOURCES.match(claim):
            return True
        return len(wanted & (self._words | self._asked | _LEAD)) >= _IN_SOURCE * len(wanted)

    def _bears(self, claim: str, number: int, quote: str) -> bool:
        passages = tuple(self._sources.get(number, ()))
        said = code_names(claim) if self._is_foreign else names(claim)
        if not passages or not said <= _source_names(passages) | self._asked_names:
            return False
        return any(self._bears_out(claim, passage, number, quote) for passage in passages)

    def _bears_out(self, claim: str, passage: Passage, number: int, quote: str) -> bool:
        span = located(quote, passage.text) if quote else None
        if self._is_foreign:
            return span is not None and numbers(claim) <= numbers(passage.text)
        wanted = claim_words(claim)
        enough = _IN_SOURCE_QUOTED if span else _IN_SOURCE
        known = _source_words(tuple(self._sources[number])) | self._asked
        if len(wanted) < _LEAST and span is None:
            return False
        if not wanted or len(wanted & known) < enough * len(wanted):
            return False
        near = [item for item in _stretches(passage.text) if span is None or span in item.around]
        # Where one sentence says it nearly whole, the numbers of the next prove nothing.
        most = max((len(wanted & stretch.words) for stretch in near), default=0)
        whole = most >= _IN_SOURCE * len(wanted)
        return any(
            self._agrees(claim, stretch, passage, number, whole=whole)
            for stretch in near
            if not whole or len(wanted & stretch.words) == most
        )


def _claims(sentence: str) -> bool:
    """Whether a sentence states something that a source should bear out."""
    return bool(content_words(sentence) or names(sentence)) and bool(re.search(r"\w", sentence))


def _is_harmless(claim: str) -> bool:
    """A sentence on the sources themselves, or one that leads on to what follows."""
    leads_on = _LEADS_ON.search(claim.rstrip("*_ \n")) and not (says_no(claim) or turns(claim))
    return bool(leads_on or _ABOUT_SOURCES.match(claim))


@lru_cache(maxsize=128)
def _source_names(passages: tuple[Passage, ...]) -> frozenset[str]:
    return frozenset(
        word
        for passage in passages
        for word in tokens_of(f"{passage.title} {passage.heading} {passage.text}")
    )


@lru_cache(maxsize=128)
def _source_words(passages: tuple[Passage, ...]) -> frozenset[str]:
    return frozenset(
        word
        for passage in passages
        for word in content_words(f"{passage.title} {passage.heading} {passage.text}")
    )


@lru_cache(maxsize=512)
def _stretches(text: str) -> tuple[_Stretch, ...]:
    spans = [text[unit.start : unit.end] for unit in units(text)]
    words = [content_words(span) for span in spans]
    near = [slice(max(0, place - 1), place + 2) for place in range(len(spans))]
    return tuple(
        _Stretch(span, "\n".join(spans[nearby]), words[place], frozenset().union(*words[nearby]))
        for place, (span, nearby) in enumerate(zip(spans, near, strict=True))
    )


def _markers(text: str) -> Iterable[str]:
    return (token.match[0] for token in tokens(text) if token.kind == "marker")


def _bare(text: str) -> str:
    """The text without markers, and of links their labels alone."""
    kept = (token.match[0] for token in tokens(text) if token.kind != "marker")
    return without_links("".join(kept))


def _only(text: str, numbers: set[int]) -> str:
    """The text with those of its markers that name one of the numbers."""
    kept: list[str] = []
    for token in tokens(text):
        piece = token.match[0]
        if token.kind == "marker":
            good = [ref for ref in references(piece) if ref[0] in numbers]
            piece = "".join(f"[{n}: {quote}]" if quote else f"[{n}]" for n, quote in good)
            if not good and kept and kept[-1].isspace():
                kept.pop()
        kept.append(piece)
    return "".join(kept)


def _marked(text: str, number: int) -> str:
    """The sentence with a marker before its full stop."""
    body = text.rstrip()
    stop = len(body.rstrip(".!?"))
    return f"{body[:stop].rstrip()} [{number}]{body[stop:]}{text[len(body) :]}"
