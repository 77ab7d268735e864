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
_NEAR = 0.4  # below this cosine hardly anything is about the question
_WORD = re.compile(r"[A-Za-z][\w-]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for an answer, and against it.

    `similarity` is the cosine of the nearest passage (-1 to 1), `remoteness` how far it is below
    what any question about Metaflow has, `strength` the best document's score, less where more was
    read. `coverage` is the share of the question's terms in the three best hits. `missing` is the
    share, by weight, of terms that were read nowhere, `mentioned` of those in a few documents;
    `strange` counts words that were read nowhere and are none of everyday English (2 at most).
    `familiarity` is how common the question's terms are in what was read, `length` the logarithm
    of their number.
    """

    similarity: float
    remoteness: float
    strength: float
    coverage: float
    missing: float
    mentioned: float
    strange: float
    familiarity: float
    length: float

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


def evidence(search: Search, vocabulary: Vocabulary, everyday: Collection[str]) -> Evidence:
    """Measure one search; `everyday` are common English words, empty where none are known."""
    asked = list(dict.fromkeys(terms(search.query)))
    seen = {
        term
        for hit in search.hits[:_READ]
        for passage in hit.passages
        for term in words_of(passage)
    }
    nowhere = [term for term in asked if term not in vocabulary]
    rare = [term for term in asked if 0 < vocabulary.share(term) <= _RARE]
    common = sum(math.log1p(_SCALE * vocabulary.share(term)) for term in asked)
    return Evidence(
        similarity=search.similarity,
        remoteness=max(0.0, _NEAR - search.similarity),
        strength=search.hits[0].score / math.log(vocabulary.passages + 2) if search.hits else 0.0,
        coverage=len(seen.intersection(asked)) / max(1, len(asked)),
        missing=vocabulary.part(nowhere, asked),
        mentioned=vocabulary.part(rare, asked),
        strange=min(2.0, len(strange_words(search.query, vocabulary, everyday))),
        familiarity=common / max(1, len(asked)),
        length=math.log1p(len(asked)),
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
