"""Hits -> an answer with verified citations, or an abstention. Writes nothing.

With a chat model the answer is written from numbered sources and checked sentence by sentence
before anybody sees it. Without one, or when it falls short, the best passages answer themselves.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from metaflowbot.citations import Verifier, best_quote, sentences
from metaflowbot.confidence import confidence, is_foreign
from metaflowbot.domain import (
    Answer,
    AnswerEvent,
    Citation,
    Delta,
    Hit,
    Passage,
    Progress,
    Question,
    Search,
    Turn,
    Usage,
)
from metaflowbot.errors import ModelError
from metaflowbot.llm import ChatModel
from metaflowbot.prompts import NOT_COVERED, Prompt
from metaflowbot.retrieve import Retriever

ABSTAIN_BELOW = 0.5
"""An answer is given from this confidence on (see confidence.py for how it is calibrated)."""

# Tokens of sources in the prompt: enough for some ten sections, little enough to be read whole.
_SOURCE_TOKENS = 6000
_SOURCES = 8
_HISTORY_TURNS = 6
# An extractive answer quotes this many passages at most, and only those near the best one.
_QUOTED = 3
_LEADING = 2
_NEAR = 0.7
_NEAREST = 3
# A fence, or the label above a list: no words to quote where there are others.
_SILENT = re.compile(r"\s*(?:```|~~~|\*\*[^*]*\*\*:?\s*$)")
_PARAMETER_LABEL = re.compile(r"^`[^`]+`(?: \((?:[^()]|\([^()]*\))*\))?: (?=\S+ \S+ \S+)")

_NOT_FOUND = "I could not find an answer to this in what I have read about Metaflow."
_NOT_ENGLISH = (
    "Without a chat model I can only search the English documentation: please ask in English."
)
_OFFER = "A maintainer may know more: ask in the channel, or escalate the question."


@dataclass
class _Clock:
    """Milliseconds by stage, from when it is made."""

    started: float = field(default_factory=time.perf_counter)
    stages: dict[str, float] = field(default_factory=dict)

    def mark(self, stage: str) -> None:
        spent = sum(self.stages.values())
        self.stages[stage] = round((time.perf_counter() - self.started) * 1000 - spent, 2)

    def timings(self) -> dict[str, float]:
        total = round((time.perf_counter() - self.started) * 1000, 2)
        return {"retrieve": 0.0, "generate": 0.0, **self.stages, "total": total}


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers from one index generation. Without a `model` the answers are extractive."""

    retriever: Retriever
    model: ChatModel | None
    prompt: Prompt

    def stream(self, question: Question) -> Iterator[AnswerEvent]:
        """Yield the steps, the checked text in pieces, and last the whole Answer.

        The pieces join to the answer's text, or there are none and it comes whole with the Answer.
        A model that fails after some text was shown leaves that text standing, with a notice;
        before that, the passages answer.
        """
        clock = _Clock()
        yield Progress("searching")
        search = self.retriever.search(question)
        clock.mark("retrieve")
        yield Progress("reading", search.hits)
        draft = Answer(
            id=uuid.uuid4().hex,
            question=question.text,
            text="",
            citations=(),
            abstained=False,
            confidence=confidence(search),
            model="none",
            prompt_version=self.prompt.version,
            generation=search.generation,
        )
        if self.model is None:
            answer = _without_model(draft, search)
        else:
            answer = yield from self._with_model(self.model, draft, question, search)
        clock.mark("generate")
        yield replace(answer, timings_ms=clock.timings())

    def _with_model(
        self, model: ChatModel, draft: Answer, question: Question, search: Search
    ) -> Generator[AnswerEvent, None, Answer]:
        """Stream a written answer; returns the Answer."""
        sources = _number_sources(search.hits, model)
        system = self.prompt.fill(sources=_render_sources(sources))
        messages = [*question.history[-_HISTORY_TURNS:], Turn("user", question.text)]
        writing = _Writing(Verifier(sources))
        draft = replace(draft, model=model.name)
        try:
            for piece in model.stream(system, messages):
                yield from writing.take(piece)
            yield from writing.finish()
        except ModelError as error:
            yield from writing.finish()
            return _after_failure(draft, search, writing, str(error))
        yield Progress("checking")
        return _judge(draft, search, writing)


class _Writing:
    """A model's answer as it arrives: verified text goes on, NOT_COVERED and the usage stay."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._head = ""
        self._held = ""
        self.text = ""
        self._decided = False
        self.refused = False
        self.usage = Usage()

    @property
    def citations(self) -> tuple[Citation, ...]:
        return self._verifier.verified.citations

    def take(self, piece: str | Usage) -> Iterator[Delta]:
        if isinstance(piece, Usage):
            self.usage = piece
            return
        if not self._decided:
            self._head += piece
            stripped = self._head.strip().strip("`")
            if NOT_COVERED.startswith(stripped[: len(NOT_COVERED)]) and len(stripped) < 40:
                self.refused = stripped.startswith(NOT_COVERED)
                return
            self._decided, piece = True, self._head
        yield from self._release(self._verifier.feed(piece))

    def finish(self) -> Iterator[Delta]:
        if self.refused:
            return
        if not self._decided:
            self._held += self._verifier.feed(self._head)
        yield from self._release(self._verifier.finish())

    def _release(self, text: str) -> Iterator[Delta]:
        """Show nothing before the first citation: without any the answer is not shown at all.

        Nor space before or after the whole text.
        """
        self._held += text
        shown = self._held.rstrip() if self.text else self._held.strip()
        if shown and self.citations:
            self._held = self._held[len(self._held.rstrip()) :]
            self.text += shown
            yield Delta(shown)


def _judge(draft: Answer, search: Search, writing: _Writing) -> Answer:
    draft = replace(draft, usage=writing.usage)
    if writing.refused:
        return _abstention(replace(draft, confidence=min(draft.confidence, 0.2)), search)
    if not writing.citations:
        notice = (
            "The model's answer could not be verified against the sources: "
            "these are the passages themselves."
        )
        return replace(_without_model(replace(draft, model="none"), search), notice=notice)
    return replace(draft, text=writing.text, citations=writing.citations)


def _after_failure(draft: Answer, search: Search, writing: _Writing, why: str) -> Answer:
    draft = replace(draft, usage=writing.usage)
    if writing.citations:
        notice = f"The answer breaks off here: {why}."
        return replace(draft, text=writing.text, citations=writing.citations, notice=notice)
    notice = f"The chat model fell short ({why}): these are the passages themselves."
    return replace(_without_model(replace(draft, model="none"), search), notice=notice)


def _without_model(draft: Answer, search: Search) -> Answer:
    if draft.confidence < ABSTAIN_BELOW or not search.hits:
        return _abstention(draft, search)
    quoted = _worth_quoting(search.hits)
    return replace(
        draft,
        text="\n\n".join(_quote_passage(passage, n) for n, passage in enumerate(quoted, 1)),
        citations=tuple(_cite(passage, n, draft.question) for n, passage in enumerate(quoted, 1)),
    )


def _worth_quoting(hits: Sequence[Hit]) -> list[Passage]:
    """The passages of the best document, in reading order, then the best of those near it."""
    first, *others = hits
    near = [hit.best for hit in others if hit.score >= _NEAR * first.score]
    leading = sorted(first.passages[:_LEADING], key=_ordinal)
    return [*leading, *near][:_QUOTED]


def _ordinal(passage: Passage) -> int:
    return int(passage.id.rpartition("#")[2])


def _quote_passage(passage: Passage, n: int) -> str:
    title = " › ".join((passage.title, *passage.headings))
    quoted = "\n".join(f"> {line}".rstrip() for line in passage.text.split("\n"))
    return f"**{title}** [{n}]\n\n{quoted}"


def _abstention(draft: Answer, search: Search) -> Answer:
    nearest = search.hits[:_NEAREST]
    lines = [_reason(draft, search)]
    if nearest:
        lines.append("The nearest pages:")
        lines.append(
            "\n".join(
                f"- [{hit.best.title}]({hit.best.url}) [{n}]" for n, hit in enumerate(nearest, 1)
            )
        )
    lines.append(_OFFER)
    citations = tuple(_cite(hit.best, n, draft.question) for n, hit in enumerate(nearest, 1))
    return replace(draft, text="\n\n".join(lines), citations=citations, abstained=True)


def _reason(draft: Answer, search: Search) -> str:
    if search.unknown:
        names = ", ".join(f"`{name}`" for name in search.unknown)
        return f"I know of no {names} in Metaflow: it stands nowhere in what I have read."
    if draft.model == "none" and is_foreign(draft.question):
        return _NOT_ENGLISH
    return _NOT_FOUND


def _cite(passage: Passage, n: int, question: str) -> Citation:
    title = " › ".join((passage.title, *passage.headings))
    return Citation(n, passage.document_id, title, passage.url, _quote(passage, question))


def _quote(passage: Passage, question: str) -> str:
    """The sentence nearest to the question, else the first; code only where there is no prose.

    Of a parameter's line only the description: its label is our rendering, not the page's words.
    """
    spoken = [sentence for sentence in sentences(passage.text) if not _SILENT.match(sentence)]
    if not spoken:
        lines = [line.strip() for line in passage.text.split("\n")]
        return next((line for line in lines if line and not line.startswith("```")), passage.text)
    nearest = best_quote(question, passage)
    quote = nearest if nearest and not _SILENT.match(nearest) else spoken[0]
    return _PARAMETER_LABEL.sub("", quote) or quote


def _number_sources(hits: Sequence[Hit], model: ChatModel) -> list[tuple[Passage, ...]]:
    """The passages behind each number, best document first, within the prompt's budget."""
    sources: list[tuple[Passage, ...]] = []
    left = _SOURCE_TOKENS
    for hit in hits[:_SOURCES]:
        kept = []
        for passage in hit.passages:
            cost = model.count_tokens(passage.text)
            if cost <= left:
                left -= cost
                kept.append(passage)
        if kept:
            sources.append(tuple(kept))
    return sources


def _render_sources(sources: Sequence[Sequence[Passage]]) -> str:
    return "\n\n".join(
        f'<source n="{n}" title="{_attribute(passages[0].title)}">\n'
        + "\n\n".join(_render_passage(passage) for passage in passages)
        + "\n</source>"
        for n, passages in enumerate(sources, start=1)
    )


def _render_passage(passage: Passage) -> str:
    heading = f"**{passage.heading}**\n\n" if passage.headings else ""
    return (heading + passage.text).replace("</source", "<\\/source")


def _attribute(text: str) -> str:
    return text.replace('"', "'").replace("\n", " ")
