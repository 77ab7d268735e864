"""Whether a sentence says what its source says: words, numbers, names and negations.

Overlap alone would let a lie pass that changes one word of a true sentence. So besides most of
its words, a sentence shares with a stretch of a source every number and every name, and says no
where the source says no. The stretch is a sentence with its neighbours, those of the quote if the
model gave one. Nothing here asks a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metaflowbot.citations import content_words, located, plain, units
from metaflowbot.domain import Passage
from metaflowbot.markdown import Segment, references, tokens

# The share (0 to 1) of a sentence's content words that the stretch has, and the whole source.
_IN_STRETCH = 0.5
_IN_SOURCE = 0.7
_IN_SOURCE_QUOTED = 0.6  # where the model's quote stands there
_NEARLY = 0.8  # a sentence that shares so much is what was meant
_LEAST = 2  # words in common: one stands in any text

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|cannot|without|neither|nor|unable|\w+n['’]t|impossible"
    r"|kein\w*|nicht|niemals|nie|ohne)\b",
    re.I,
)
_CLAUSE = re.compile(
    r"[,;:()–—]|\b(?:but|so|because|which|while|whereas|although|though|if|when|unless|since|and)\b",
    re.I,
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")
_NUMERALS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_CODE = re.compile(r"`+([^`\n]+)`+")
_IDENTIFIER = re.compile(
    r"(?<!\w)@\w+|\b\w*\d\w*[A-Za-z]\w*|\b\w*[A-Za-z]\w*\d\w*|--[a-z][\w-]+|\b\w+_\w+\b"
    r"|\b\w+\.\w\w+\b|\b[A-Z][a-z]+[A-Z]\w*|\b[A-Z]{2,}\d*\b"
)
_PROPER = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+\b")
_TOKEN = re.compile(r"\w+")
_OPPOSITES = tuple(
    frozenset(pair.split("/"))
    for pair in (
        "always/never enable/disable enabled/disabled enables/disables before/after more/less"
        " increase/decrease increases/decreases minimum/maximum first/last true/false all/none"
        " required/optional mandatory/optional include/exclude includes/excludes start/stop"
        " starts/stops success/failure succeed/fail succeeds/fails public/private add/remove"
        " adds/removes upload/download uploads/downloads faster/slower earlier/later store/delete"
        " stores/deletes keeps/deletes can/cannot automatically/manually sequentially/parallel"
        " locally/remotely allowed/forbidden supported/unsupported"
    ).split()
)
# What an answer says of its sources, or to lead on, rests on no passage.
_ABOUT_SOURCES = re.compile(
    r"\W*(?:but |however,? )?(?:the |my |these )?(?:sources?|documentation|docs|passages?|pages?)\b"
    r"[^.,;:]{0,20}\b(?:not|no|nothing|leaves?|open|disagree|differ|silent)\b[^.;:]{0,120}[.!]?\s*\Z",
    re.I,
)
_LEADS_ON = re.compile(r":\s*$")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A segment as it may be checked on; `removed` is the sentence that was taken out, or ''."""

    text: str
    removed: str = ""


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
        self._asked_names = _tokens_of(asked)
        self._is_foreign = is_foreign

    def admit(self, segment: Segment) -> Admitted:
        """The sentence with the markers that hold, with one it lacked, or without itself."""
        if segment.is_fence or segment.is_directive:
            return Admitted(segment.text)
        claim = _without_markers(segment.text)
        if not _claims(claim):
            return Admitted(segment.text)
        text = None if self._is_contradicted(claim) else self._with_markers(segment.text, claim)
        if text is None:
            return Admitted("\n" * segment.text.endswith("\n"), " ".join(claim.split()))
        return Admitted(text)

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
        wanted = content_words(claim)
        if not wanted or self._is_foreign:
            return False
        sentences = [
            (len(wanted & content_words(sentence)) / len(wanted), sentence, passage)
            for source in self._sources.values()
            for passage in source
            for sentence, _ in _stretches(passage.text)
        ]
        most = max((share for share, _, _ in sentences), default=0.0)
        return most >= _NEARLY and not any(
            _agrees(claim, sentence, f"{passage.title} {passage.heading}")
            for share, sentence, passage in sentences
            if share == most
        )

    def _is_known(self, claim: str) -> bool:
        """Whether every name and most words of the sentence stand somewhere in the sources."""
        passages = tuple(p for source in self._sources.values() for p in source)
        words, names = _source_words(passages), _source_names(passages)
        wanted = content_words(claim)
        if not _names(claim) <= names | self._asked_names:
            return False
        if _ABOUT_SOURCES.match(claim):
            return True
        return len(wanted & (words | self._asked)) >= _IN_SOURCE * len(wanted)

    def _bears(self, claim: str, number: int, quote: str) -> bool:
        passages = tuple(self._sources.get(number, ()))
        names = _code_names(claim) if self._is_foreign else _names(claim)
        if not passages or not names <= _source_names(passages) | self._asked_names:
            return False
        return any(self._bears_out(claim, passage, passages, quote) for passage in passages)

    def _bears_out(
        self, claim: str, passage: Passage, source: tuple[Passage, ...], quote: str
    ) -> bool:
        span = located(quote, passage.text) if quote else None
        if self._is_foreign:
            return span is not None and _numbers(claim) <= _numbers(passage.text)
        wanted = content_words(claim)
        enough = _IN_SOURCE_QUOTED if span else _IN_SOURCE
        known = _source_words(source) | self._asked
        if len(wanted) < _LEAST and span is None:
            return False
        if not wanted or len(wanted & known) < enough * len(wanted):
            return False
        title = f"{passage.title} {passage.heading}"
        near = [
            stretch for stretch in _stretches(passage.text) if span is None or span in stretch[1]
        ]
        return any(_agrees(claim, stretch, title) for stretch in _nearest(wanted, near))


def _claims(sentence: str) -> bool:
    """Whether a sentence states something that a source should bear out."""
    return bool(content_words(sentence) or _names(sentence)) and bool(re.search(r"\w", sentence))


def _is_harmless(claim: str) -> bool:
    """A sentence on the sources themselves, or one that leads on to what follows."""
    leads_on = _LEADS_ON.search(claim.rstrip("*_ \n")) and not _says_no(claim)
    return bool(leads_on or _ABOUT_SOURCES.match(claim))


def _agrees(claim: str, stretch: str, title: str) -> bool:
    wanted, have = content_words(claim), content_words(stretch)
    shared = wanted & (have | content_words(title))
    if len(shared) < _IN_STRETCH * len(wanted) or len(wanted & have) < min(_LEAST, len(wanted)):
        return False
    if not _numbers(claim) <= _numbers(stretch) | _numbers(title):
        return False
    return not _is_opposite(claim, stretch) and _says_no_alike(claim, stretch)


def _is_opposite(claim: str, stretch: str) -> bool:
    said, stands = (set(_TOKEN.findall(plain(text).lower())) for text in (claim, stretch))
    return any(
        len(pair & said) == 1 and not pair & said & stands and pair & stands for pair in _OPPOSITES
    )


def _says_no_alike(claim: str, stretch: str) -> bool:
    """Whether each clause says no where the clause of the source that is nearest to it does."""
    theirs = [(content_words(clause), _says_no(clause)) for clause in _clauses(stretch)]
    for clause in _clauses(claim):
        wanted = content_words(clause)
        if not wanted:
            continue
        most = max((len(wanted & words) for words, _ in theirs), default=0)
        if not most:
            if _says_no(clause):
                return False
            continue
        nearest = {no for words, no in theirs if len(wanted & words) == most}
        if _says_no(clause) not in nearest:
            return False
    return True


def _clauses(text: str) -> list[str]:
    """Parts of two content words or more; what is shorter goes with the part before it."""
    parts: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n", text):
        begun = len(parts)
        for part in _CLAUSE.split(sentence):
            if len(parts) > begun and len(content_words(part)) < _LEAST:
                parts[-1] += f" {part}"
            elif part.strip():
                parts.append(part)
    return parts


def _says_no(clause: str) -> int:
    """How often a clause says no."""
    return len(_NEGATION.findall(clause))


def _numbers(text: str) -> frozenset[str]:
    """The numbers of a text as digits; 'one' is none, as it seldom counts."""
    found = {number.rstrip(".,").replace(",", "") for number in _NUMBER.findall(text)}
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
    found |= {str(value) for value, word in enumerate(_NUMERALS) if value > 1 and word in words}
    return frozenset(found | ({"1"} if "one" in words and "1" in found else set()))


def _names(text: str) -> set[str]:
    """The words of code, identifiers and proper names in a sentence, in lower case."""
    proper = {name.lower() for name in _PROPER.findall(text)}
    return (_code_names(text) | proper) - {"metaflow"}


def _code_names(text: str) -> set[str]:
    found = [*_CODE.findall(text), *_IDENTIFIER.findall(text)]
    return {word for name in found for word in _tokens_of(name)} - {"metaflow"}


def _tokens_of(text: str) -> frozenset[str]:
    words = [word.lower() for word in _TOKEN.findall(text)]
    return frozenset(words) | {part for word in words for part in word.split("_") if part}


@lru_cache(maxsize=128)
def _source_names(passages: tuple[Passage, ...]) -> frozenset[str]:
    return frozenset(
        word
        for passage in passages
        for word in _tokens_of(f"{passage.title} {passage.heading} {passage.text}")
    )


@lru_cache(maxsize=128)
def _source_words(passages: tuple[Passage, ...]) -> frozenset[str]:
    return frozenset(
        word
        for passage in passages
        for word in content_words(f"{passage.title} {passage.heading} {passage.text}")
    )


def _nearest(wanted: frozenset[str], stretches: Sequence[tuple[str, str]]) -> list[str]:
    """The sentences that say it nearly whole, or else all, with their neighbours.

    Where one sentence is what is meant, the numbers of the next prove nothing.
    """
    shares = [len(wanted & content_words(sentence)) / len(wanted) for sentence, _ in stretches]
    most = max(shares, default=0.0)
    if most < _IN_SOURCE:
        return [around for _, around in stretches]
    return [item[0] for item, share in zip(stretches, shares, strict=True) if share == most]


@lru_cache(maxsize=256)
def _stretches(text: str) -> tuple[tuple[str, str], ...]:
    """Each sentence, list item or line of code of a text, and the same with its neighbours."""
    spans = [text[unit.start : unit.end] for unit in units(text)]
    return tuple(
        (span, "\n".join(spans[max(0, place - 1) : place + 2])) for place, span in enumerate(spans)
    )


def _markers(text: str) -> Iterable[str]:
    return (token.match[0] for token in tokens(text) if token.kind == "marker")


def _without_markers(text: str) -> str:
    return "".join(token.match[0] for token in tokens(text) if token.kind != "marker")


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
