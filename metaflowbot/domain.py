"""The nouns, frozen.

    Document -> Section -> Passage        what was read
    Question -> Hit -> Citation -> Answer what was asked, found and said
    Feedback                              what the reader thought of it

Scores are unit-free and comparable only within one answer. Times are milliseconds, costs US
dollars, sizes tokens of the model's own encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["user", "assistant"]
Verdict = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document under one heading.

    `headings` is the path of headings from the page's title down, without the title itself, so
    the lead of a page has none. `anchor` is the fragment that opens it in a browser ('' for the
    lead). `text` is Markdown without front matter, JSX, HTML or entities; links are absolute.
    """

    headings: tuple[str, ...]
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One source document: a page, an API object, a thread.

    `id` is stable for good (see the contract's table of ids). `defines` are the dotted names of
    the API objects for which this document is the reference, e.g. `metaflow.Run.data`. `version`
    says which Metaflow version, date or commit the text is of, '' where unknown. `channel` is the
    id of the only Slack channel in which the text may be shown, '' where it may be shown anywhere.
    """

    id: str
    source: str
    title: str
    url: str
    sections: tuple[Section, ...]
    defines: frozenset[str] = frozenset()
    version: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of one section, small enough to embed and to quote.

    `id` is the document's id, '#', and the passage's ordinal in the document. `text` is a
    verbatim span of the section's text; `title` and `headings` are carried for searching and
    showing. `url` opens the section. `channel` is the document's.
    """

    id: str
    document_id: str
    source: str
    title: str
    headings: tuple[str, ...]
    url: str
    text: str
    channel: str = ""

    @property
    def heading(self) -> str:
        """The heading path below the title as one line, '' for a page's lead."""
        return " › ".join(self.headings)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation before the question."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks, with the conversation before it, oldest turn first.

    `sources` limits the search to those source names; empty means all. `channel` is the id of the
    Slack channel in which it is asked and answered, '' elsewhere: what is private to another
    channel is never found. `language` is the answer's, e.g. 'German'; '' means the question's own.
    """

    text: str
    history: tuple[Turn, ...] = ()
    sources: frozenset[str] = frozenset()
    channel: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found for a query, through its best passages, best first (never empty)."""

    rank: int
    score: float
    passages: tuple[Passage, ...]

    @property
    def best(self) -> Passage:
        """The passage that matched best."""
        return self.passages[0]


@dataclass(frozen=True, slots=True)
class Search:
    """The hits for one query, best first, with what is needed to judge and repeat them.

    `coverage` is the share (0 to 1) of the query's informative terms that the best hits contain;
    `similarity` is the highest cosine (-1 to 1) between the query and a passage, `agreement` the
    z-score by meaning of the passage that is best by words. `unknown` are the
    names of Metaflow's kind in the query (`@name`, `current.name`, `METAFLOW_NAME`) that stand in
    nothing that was read.
    """

    query: str
    hits: tuple[Hit, ...]
    generation: str
    took_ms: float
    coverage: float = 0.0
    similarity: float = 0.0
    agreement: float = 0.0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement comes from: `quote` is a span of the document `document_id`."""

    n: int
    document_id: str
    title: str
    url: str
    quote: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the chat model consumed, in the provider's own numbers. All zero without a model."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A document that was found for a question, as it is kept with the answer."""

    document_id: str
    title: str
    url: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with verified citations, or an abstention.

    Every `[n]` in `text` is the `n` of one of `citations`. When `abstained`, the text says that
    the sources do not cover the question and names the nearest pages, which are the citations.
    `confidence` is 0 to 1. `model` is 'none' for an extractive answer. `notice` is one line for
    the reader on how the answer came about (a model that did not answer, a source that is not
    official, an answer given before), '' otherwise. `retrieved`
    is what the search found, best first; `checks` has a line for each thing that a check took out
    or changed, for maintainers; `checked_with` is the version of Metaflow that the code in the
    answer was held against, '' where there is none.
    """

    id: str
    question: str
    text: str
    citations: tuple[Citation, ...]
    abstained: bool
    confidence: float
    model: str
    prompt_version: str
    generation: str
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = Usage()
    notice: str = ""
    retrieved: tuple[Retrieved, ...] = ()
    checks: tuple[str, ...] = ()
    checked_with: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A step on the way to an answer: 'searching', 'reading' (with its hits) or 'checking'.

    `asked_before` is a resolved thread that answers the question, known when reading begins.
    """

    step: Literal["searching", "reading", "checking"]
    hits: tuple[Hit, ...] = ()
    asked_before: Hit | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of an answer's text, already checked; the pieces join to the whole text."""

    text: str


AnswerEvent = Progress | Delta | Answer


@dataclass(frozen=True, slots=True)
class Feedback:
    """One person's verdict on one answer; a second verdict of that person replaces the first."""

    answer_id: str
    person: str
    verdict: Verdict
    reason: str = ""
