"""Whether a question is answered at all: declined as it is put, or judged by what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from metaflowbot import metaflow_api
from metaflowbot.confidence import Evidence, calibration, confidence, evidence, strange_words
from metaflowbot.domain import Question, Search
from metaflowbot.embedding import Embedding, MiniLM
from metaflowbot.index import Generation
from metaflowbot.intent import intent_of
from metaflowbot.metaflow_api import MetaflowAPI
from metaflowbot.names import UnknownName, unknown_names
from metaflowbot.vocabulary import Vocabulary

_DECLINED_CONFIDENCE = 0.02
_OFFICIAL = frozenset({"metaflow-docs", "metaflow-api"})
# What is quoted, and what is in fences, is not what the asker says.
_QUOTED = re.compile(r"```.*?(?:```|\Z)|^[ \t]*(?:>|&gt;).*$", re.DOTALL | re.MULTILINE)
_LINES = {
    "instruction": "I only answer questions about Metaflow, from what I have read, so I leave"
    " this one alone.",
    "private": "I can't help with that: I only know what I have read about Metaflow, and pass on"
    " nobody's secrets or messages.",
    "small talk": "I am only good for questions about Metaflow, so I have to pass on this one.",
    "elsewhere": "I only know about Metaflow, so I can't help with this one.",
}
_BUSINESS = "Prices, plans and promises are nothing that I have read about."


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a message is declined before anything is asked of a model.

    `line` is for the reader. `is_whole` says that the line is all there is to say: nothing that
    was read comes near.
    """

    line: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges questions by one generation's words.

    `official` are the words of the documentation and the API reference, or of all that was read
    where there is neither; `everyday` are common English words with their rank, from 0.
    """

    vocabulary: Vocabulary
    official: Vocabulary
    everyday: Mapping[str, int]

    @classmethod
    def of(cls, generation: Generation, embedding: Embedding) -> Judge:
        """The judge for an index; reading its words takes some tenths of a second."""
        everyday = embedding.everyday_words if isinstance(embedding, MiniLM) else {}
        vocabulary = Vocabulary.of(generation.passages)
        official = {p.document_id for p in generation.passages if p.source in _OFFICIAL}
        return cls(vocabulary, vocabulary.within(official) if official else vocabulary, everyday)

    def declines(self, question: Question) -> Decline | None:
        """The decline for a message that no source can answer by how it is put, or None."""
        said = _QUOTED.sub("", question.text)
        intent = intent_of(said, self.vocabulary)
        if intent in _LINES:
            return Decline(_LINES[intent], is_whole=True)
        if unknown := unknown_names(said, installed(), self.vocabulary):
            return Decline(_on_names(unknown), is_whole=False)
        return Decline(_BUSINESS, is_whole=False) if intent == "business" else None

    def measure(self, search: Search) -> Evidence:
        """What speaks for an answer from these hits, and against it."""
        return evidence(search, self.vocabulary, self.official, self.everyday)

    def confidence(self, search: Search, decline: Decline | None = None) -> float:
        """The chance (0 to 1) that the pages found hold the answer; 0.0 without hits."""
        if not search.hits:
            return 0.0
        return _DECLINED_CONFIDENCE if decline else confidence(self.measure(search), calibration())

    def strange(self, text: str) -> tuple[str, ...]:
        """Words of the text that were read nowhere and are no everyday English."""
        return strange_words(_QUOTED.sub("", text), self.vocabulary, self.everyday)


@lru_cache(maxsize=1)
def installed() -> MetaflowAPI:
    """The API of the installed Metaflow, read once. Raises SourceError where it is not there."""
    return metaflow_api.load()


def answer_from() -> float:
    """The confidence from which on an answer is given."""
    return calibration().answer_from


def _on_names(unknown: tuple[UnknownName, ...]) -> str:
    version = installed().version
    lines = [
        f"`{name.name}` does not exist in Metaflow {version}"
        + (f"; the nearest that does: `{name.nearest}`." if name.nearest else ".")
        for name in unknown[:3]
    ]
    return " ".join(lines)
