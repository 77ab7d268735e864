"""Whether two sentences say the same: words, names, numbers, negations and what turns a meaning.

Nothing here asks a model, and nothing understands: it looks for the ways in which a sentence that
shares most of its words with another says something else all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import lru_cache
from typing import NamedTuple

from metaflowbot.citations import content_words, plain

# Words by which a sentence says how it says it, and not what.
LIGHT = content_words(
    "say see tell put give mean let example here note way often simply refer follow below yes"
    " help useful whether work easy look everything whatever anything something"
)
# The share (0 to 1) of a sentence's content words that the other has, and of each of its clauses.
_ALIKE = 0.5
_CLAUSE_ALIKE = 0.5
_LEAST = 2  # words in common: one stands in any text
_VERBATIM = 3  # words in common, from which on one that was exchanged tells

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|nowhere|cannot|without|neither|nor|unable|\w+n['’]t"
    r"|impossible|kein\w*|nicht|niemals|nie|ohne)\b",
    re.I,
)
_CLAUSE = re.compile(
    r"[,;:()–—]|\b(?:but|so|because|which|while|whereas|although|though|if|when|unless|since|and"
    r"|after|before|until)\b",
    re.I,
)
_NO_NEED = re.compile(
    r"\b(?:no|without|not|\w+n['’]t)\b[^,;:.]{0,40}\b(?:need|having)(?:s|ed)?\b|\bneedn['’]t\b",
    re.I,
)
_BY_ITSELF = re.compile(r"\b(?:automatic(?:ally)?|by default|by itself|implicitly)\b", re.I)
# Words of one line turn a sentence in the same way: one of them is to be in both or in neither.
_TURNS = tuple(
    re.compile(rf"(?<![\w`@-])(?:{words})(?![\w-])", re.I)
    for words in (
        r"hardly|rarely|seldom|scarcely|barely|(?<!a )few",
        r"fails? to|failed to|refus\w+|ceas\w+|no longer|(?:stops?|stopped) \w+ing",
        r"false|untrue|wrong(?:ly)?",
        r"avoid\w*|discourag\w+",
        r"deprecat\w+|obsolete|discontinu\w+|outdated",
        r"ignor\w+|disregard\w*",
        r"only|solely|exclusively|unless|except(?:ing)?|limited|restricted|alone",
        r"manual(?:ly)?|by hand",
        r"sequential\w*|serial(?:ly)?|one (?:after|by|at)",
        r"delet\w+|remov\w+|eras\w+|discard\w*|destroy\w*|purg\w+|wip\w+|los(?:es?|t|ing)"
        r"|overwr\w+",
        r"hid(?:es?|den|ing)|leak\w*|expos\w+",
        r"forbid\w*|prohibit\w*|prevent\w*|disallow\w*|blocks|blocked|banned",
        r"disabl\w+|(?:switch|turn)(?:s|es|ed)? off",
        r"paid|pay(?:s|ing)?|costs?|pric\w+|fees?|licen[cs]e\w*|dollars?|subscri\w+",
        r"dangerous|unsafe|insecure|harmful|broken",
        r"ago|formerly",
    )
)
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
_SYNONYMS = tuple(
    content_words(words)
    for words in (
        "keep save store hold persist write put record",
        "end stop finish terminate kill abort",
        "run execute perform",
        "start launch trigger begin submit send deploy schedule",
        "get read fetch load retrieve access obtain download",
        "show display list print give return tell",
        "collect gather merge join combine",
        "set configure specify define choose control change adjust determine",
        "allow let enable support permit",
        "need require ask request want",
        "fail crash break failure error exception",
        "many several multiple number",
        "large big huge",
        "soon shortly",
        "argument parameter option attribute keyword",
        "object item element entry value",
        "function method call",
        "make create build produce",
        "attach add annotate decorate apply put place",
        "try attempt retry rerun again",
        "simple easy quick",
        "cluster environment",
        "data datum information",
        "deal handle manage process",
    )
)

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)*")
_NUMERALS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {
    "twice": "2",
    "thrice": "3",
    "dozen": "12",
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "ninety": "90",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
}
_UNIT = re.compile(
    r"[\s-]*(%|(?:milli)?seconds?|minutes?|hours?|days?|weeks?|months?|years?|times|[kmgt]i?b"
    r"|percent|dollars?|euros?)(?![a-z])",
    re.I,
)
_TIMES = re.compile(r"\b(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)\b", re.I)
_COUNTS = {"twice": "times", "thrice": "times"}
_LINK_TARGET = re.compile(r"(?<=\])\([^()\s]*\)|(?:https?://|www\.)\S+")
# People's own names for things, in code.
_STRING = re.compile(r"(?<=[(=\[{,: ])(?:'[^'\n`]*'|\"[^\"\n`]*\")(?=[)\]},: ])")
_POINTS_BACK = re.compile(r"\W*(?:its?|they|their|this|these|both|such)\b", re.I)
_CODE = re.compile(r"`+([^`\n]+)`+")
_IDENTIFIER = re.compile(
    r"(?<!\w)@\w+|\b\w*\d\w*[A-Za-z]\w*|\b\w*[A-Za-z]\w*\d\w*|--[a-z][\w-]+|\b\w+_\w+\b"
    r"|\b\w+\.\w\w+\b|\b[A-Z][a-z]+[A-Z]\w*|\b[A-Z]{2,}\d*\b"
)
_CALLED = re.compile(
    r"\b([a-z]\w+) (?:decorator|argument|parameter|attribute|command|class|method|variable)\b"
)
# Kinds of these things, and not their names.
_KINDS = frozenset(
    "a an the this that these those its their our your each every any some no one same other"
    " another following first second new own step flow task run python cli client code optional"
    " required default keyword environment shell instance named special corresponding given right"
    " single relevant respective built and or such class".split()
)
_PROPER = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+\b")
_TOKEN = re.compile(r"\w+")


class _Quantity(NamedTuple):
    """A number with the words that say of what: names of its clause, and its unit ('' for none)."""

    value: str
    of: frozenset[str]
    unit: str


def agrees(claim: str, stretch: str, around: str, title: str, known: frozenset[str]) -> bool:
    """Whether a stretch of a source says what the claim says, as far as can be seen.

    `around` is the stretch with its neighbours and `title` names the source: there the claim's
    names may stand as well. `known` are the content words of the source and of the question.
    """
    if _row(claim) == _row(stretch):
        return True
    wanted, have = claim_words(claim), content_words(stretch)
    shared = wanted & (have | content_words(title))
    if len(shared) < _ALIKE * len(wanted) or len(wanted & have) < min(_LEAST, len(wanted)):
        return False
    return not (
        _exchanges_names(claim, stretch, f"{title} {around}")
        or _exchanges_a_word(claim, stretch)
        or _turns(claim, f"{title} {stretch}")
        or _is_opposite(claim, stretch)
        or not _counts_alike(claim, stretch, title)
        or not _says_no_alike(claim, stretch)
        or not _holds_clauses(claim, known)
    )


def _row(text: str) -> list[str]:
    """The words with their signs, without punctuation and markup."""
    return [word.strip("`*_.,;:!?\"'()").lower() for word in text.split()]


def claim_words(text: str) -> frozenset[str]:
    """The content words that carry what a sentence claims; the light ones where it has no other."""
    return content_words(text) - LIGHT or content_words(text)


def proper_names(text: str) -> frozenset[str]:
    """The words that are capitalised within a sentence, as they are written."""
    return frozenset(_PROPER.findall(text))


def names(text: str) -> set[str]:
    """The words of code, identifiers and proper names in a sentence, in lower case."""
    proper = {name.lower() for name in proper_names(text)}
    called = set(_CALLED.findall(text)) - _KINDS
    return (code_names(text) | proper | called) - {"metaflow"}


def code_names(text: str) -> set[str]:
    """The words of code and identifiers in a sentence, in lower case, without those of strings."""
    text = _LINK_TARGET.sub("", text)
    found = [*_CODE.findall(text), *_IDENTIFIER.findall(_STRING.sub("", text))]
    return {word for name in found for word in tokens_of(_STRING.sub("", name))} - {"metaflow"}


@lru_cache(maxsize=4096)
def tokens_of(text: str) -> frozenset[str]:
    """The words of a text in lower case, identifiers whole and in parts."""
    words = [word.lower() for word in _TOKEN.findall(text)]
    return frozenset(words) | {part for word in words for part in word.split("_") if part}


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text as digits; 'one' is none, as it seldom counts."""
    return frozenset(quantity.value for quantity in _quantities(text))


def says_no(clause: str) -> int:
    """How often a clause says no."""
    return len(_NEGATION.findall(clause))


def turns(text: str) -> bool:
    """Whether a word in the text turns what is said."""
    return any(turn.search(text) for turn in _TURNS)


def _turns(claim: str, stretch: str) -> bool:
    """Whether a word in the claim turns what the stretch says without one."""
    return any(turn.search(claim) and not turn.search(stretch) for turn in _TURNS)


def _exchanges_names(claim: str, stretch: str, near: str) -> bool:
    """Whether the claim has a name that is nowhere near in place of one that is."""
    said, there = names(claim), names(stretch) | ({"metaflow"} & tokens_of(stretch))
    if _POINTS_BACK.match(stretch):
        there |= code_names(near)
    return bool(said - tokens_of(f"{stretch} {near}")) and bool(there - tokens_of(claim))


def _exchanges_a_word(claim: str, stretch: str) -> bool:
    """Whether a clause is one of the stretch, but for one word and another in its place."""
    theirs = [claim_words(clause) for clause in clauses(stretch)]
    return any(_is_exchanged(claim_words(clause), theirs) for clause in clauses(claim))


def _is_exchanged(wanted: frozenset[str], theirs: list[frozenset[str]]) -> bool:
    most = max((len(wanted & words) for words in theirs), default=0)
    if most < _VERBATIM or len(wanted) != most + 1:
        return False
    nearest = [words for words in theirs if len(wanted & words) == most]
    return all(
        len(words) == most + 1 and not _are_synonyms(*(wanted - words), *(words - wanted))
        for words in nearest
    )


def _are_synonyms(word: str, other: str) -> bool:
    return any(word in group and other in group for group in _SYNONYMS)


def _is_opposite(claim: str, stretch: str) -> bool:
    said, stands = (set(_TOKEN.findall(plain(text).lower())) for text in (claim, stretch))
    return any(
        len(pair & said) == 1 and not pair & said & stands and pair & stands for pair in _OPPOSITES
    )


def _holds_clauses(claim: str, known: frozenset[str]) -> bool:
    """Whether of each clause that says something some part is known."""
    return all(
        len(words & known) >= _CLAUSE_ALIKE * len(words)
        for clause in clauses(claim)
        if len(words := claim_words(clause)) >= _LEAST
    )


def _says_no_alike(claim: str, stretch: str) -> bool:
    """Whether each clause says no where the clause of the source that is nearest to it does."""
    theirs = [(content_words(clause), says_no(clause)) for clause in clauses(stretch)]
    goes_by_itself = bool(_BY_ITSELF.search(stretch))
    for clause in clauses(claim):
        wanted = content_words(clause)
        if not wanted or (goes_by_itself and _NO_NEED.search(clause)):
            continue
        most = max((len(wanted & words) for words, _ in theirs), default=0)
        if not most:
            if says_no(clause):
                return False
            continue
        nearest = {no for words, no in theirs if len(wanted & words) == most}
        if says_no(clause) not in nearest:
            return False
    return True


def clauses(text: str) -> list[str]:
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


def _counts_alike(claim: str, stretch: str, title: str) -> bool:
    """Whether each number of the claim stands in the source, for the same thing."""
    theirs = [*_quantities(stretch), *_quantities(title)]
    there = tokens_of(f"{title} {stretch}".replace("%", " percent "))
    if not all(_has_unit(unit.lower(), there) for unit in _TIMES.findall(claim)):
        return False
    return all(_is_counted(quantity, theirs, there) for quantity in _quantities(claim))


def _is_counted(quantity: _Quantity, theirs: list[_Quantity], there: frozenset[str]) -> bool:
    """Whether the number is there, and what it is said to be of does not have another one."""
    same = [other for other in theirs if other.value == quantity.value]
    others = [other for other in theirs if other.value != quantity.value]
    if not same or not _has_unit(quantity.unit, there):
        return False
    return not any(_has_another(of, same, others) for of in (quantity.of, {quantity.unit}))


def _has_another(of: Set[str], same: list[_Quantity], others: list[_Quantity]) -> bool:
    here = frozenset().union(*(other.of | {other.unit} for other in same)) - {""}
    elsewhere = frozenset().union(*(other.of | {other.unit} for other in others)) - {""}
    return bool(of & elsewhere) and not of & here


def _has_unit(unit: str, there: frozenset[str]) -> bool:
    """Whether a unit, singular or plural, is among the words; how often is no unit, nor ''."""
    return unit in ("", "times") or bool({unit, f"{unit}s", unit.rstrip("s")} & there)


@lru_cache(maxsize=4096)
def _quantities(text: str) -> tuple[_Quantity, ...]:
    return tuple(_counted(text))


def _counted(text: str) -> Iterator[_Quantity]:
    """Each number with what it is the number of."""
    last: frozenset[str] = frozenset()
    for part in re.split(r"[,;:()–—\n]|\b(?:and|but|while|or)\b", text):
        of = frozenset(word for word in code_names(part) if not word.lstrip("-").isdigit())
        for value, end, counts in _values(part):
            unit = counts or ((found := _UNIT.match(part, end)) and found[1].lower()) or ""
            unit = "percent" if unit == "%" else unit
            yield _Quantity(value, of or last, unit)
        last = of or last


def _values(text: str) -> Iterator[tuple[str, int, str]]:
    """Each number as digits, where it ends, and what a word such as 'twice' counts."""
    for number in _NUMBER.finditer(text):
        yield number[0].rstrip(".,").replace(",", ""), number.end(), ""
    for word in re.finditer(r"[A-Za-z]+", text):
        value = _NUMERALS.get(word[0].lower(), "1")
        if value != "1":
            yield value, word.end(), _COUNTS.get(word[0].lower(), "")
