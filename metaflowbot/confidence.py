"""How likely it is that what was found answers the question: 0 to 1, from the search alone.

A logistic model over a few measures of the question and of what was found for it. Its weights are
in calibration.json, which `python -m evals.calibrate` fits to questions with a known answer, and
to messages without one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from metaflowbot.domain import Search
from metaflowbot.lexical import terms
from metaflowbot.vocabulary import Vocabulary, words_of

CALIBRATION = Path(__file__).with_name("calibration.json")

_ENGLISH = frozenset(
    "the a an to of in on for with and or is are be do does did can could how what why when where"
    " which i my we our it its that this from not if but as at by have has use using get".split()
)
_READ = 3  # hits whose words are looked at
_RARE = 0.006  # share of documents: a word of no more is only mentioned
_SCALE = 500  # documents: familiarity is counted as if there were so many
_COMMONEST = 300  # words of English that say nothing by being unread
_UNRANKED = 30_000  # the rank of a word that is none of everyday English
_WORD = re.compile(r"[A-Za-z][\w-]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for an answer, and against it.

    `similarity` is the cosine of the nearest passage (-1 to 1), `agreement` how near in meaning the
    passage is that has the question's words (a z-score), `strength` the best document's score, less
    where more was read. `coverage` is the share of the question's terms in the three best hits.
    `missing` is the share, by weight, of terms that no official page has, `lacking` their number
    (4 at most); `mentioned` is the share of those in a few documents. `rarity` sums how rare in
    English the words are that no official page has (10 at most), `strange` counts those read
    nowhere and none of everyday English (2 at most). `familiarity` is how common the question's
    terms are in what was read.
    """

    similarity: float
    agreement: float
    strength: float
    coverage: float
    missing: float
    lacking: float
    mentioned: float
    rarity: float
    strange: float
    familiarity: float

    @property
    def values(self) -> tuple[float, ...]:
        """The measures in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted model: by measure its mean, spread and weight; `answer_from` is the threshold.

    An answer is given from that confidence on.
    """

    mean: Mapping[str, float]
    spread: Mapping[str, float]
    weight: Mapping[str, float]
    bias: float
    answer_from: float


def evidence(
    search: Search, vocabulary: Vocabulary, official: Vocabulary, everyday: Mapping[str, int]
) -> Evidence:
    """Measure one search by all that was read, and by what is official.

    `everyday` are common English words with their rank, empty where none are known.
    """
    asked = list(dict.fromkeys(terms(search.query)))
    seen = {
        term
        for hit in search.hits[:_READ]
        for passage in hit.passages
        for term in words_of(passage)
    }
    nowhere = [term for term in asked if term not in official]
    rare = [term for term in asked if 0 < vocabulary.share(term) <= _RARE]
    common = sum(math.log1p(_SCALE * vocabulary.share(term)) for term in asked)
    return Evidence(
        similarity=search.similarity,
        agreement=search.agreement,
        strength=search.hits[0].score / math.log(vocabulary.passages + 2) if search.hits else 0.0,
        coverage=len(seen.intersection(asked)) / max(1, len(asked)),
        missing=official.part(nowhere, asked),
        lacking=min(4.0, len(nowhere)),
        mentioned=vocabulary.part(rare, asked),
        rarity=min(10.0, _rarity(search.query, official, everyday)),
        strange=min(2.0, len(strange_words(search.query, vocabulary, everyday))),
        familiarity=common / max(1, len(asked)),
    )


def _rarity(text: str, official: Vocabulary, everyday: Mapping[str, int]) -> float:
    """The sum, over words that are not in the vocabulary, of the logarithm of their rank."""
    words = (word.lower() for word in _WORD.findall(text))
    unread = {word for word in words if (of := terms(word)) and not any(t in official for t in of)}
    return sum(
        max(0.0, math.log(everyday.get(word, _UNRANKED) / _COMMONEST + 1e-9))
        for word in (unread if everyday else ())
    )


def strange_words(text: str, vocabulary: Vocabulary, everyday: Collection[str]) -> tuple[str, ...]:
    """The words that were read nowhere and are none of everyday English: names, mostly.

    Identifiers are left out: people name their own things. () where `everyday` is empty.
    """
    found = dict.fromkeys(
        word
        for word in _WORD.findall(text)
        if "_" not in word and not any(term in vocabulary for term in terms(word))
    )
    return tuple(word for word in found if everyday and word.lower() not in everyday)


def confidence(measured: Evidence, model: Calibration) -> float:
    """The chance (0 to 1) that the pages found hold the answer."""
    total = model.bias
    for field in fields(measured):
        spread = model.spread[field.name]
        distance = (getattr(measured, field.name) - model.mean[field.name]) / spread
        total += model.weight[field.name] * distance
    return round(1.0 / (1.0 + math.exp(-total)), 3)


@lru_cache(maxsize=1)
def calibration() -> Calibration:
    """The model that is in force, from calibration.json."""
    return Calibration(**json.loads(CALIBRATION.read_text(encoding="utf-8"))["model"])


def is_foreign(text: str) -> bool:
    """Whether a text of some length has none of the words that English can't do without."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) >= 4 and not _ENGLISH & set(words)
