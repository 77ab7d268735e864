"""Hits -> an answer with verified citations, or an abstention. Writes nothing.

With a chat model the answer is written from numbered sources and checked sentence by sentence
before anybody sees it. Without one, or when it falls short, the best passages answer themselves.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from metaflowbot.citations import Verifier
from metaflowbot.confidence import is_foreign
from metaflowbot.domain import (
    Answer,
    AnswerEvent,
    Citation,
    Delta,
    Progress,
    Question,
    Search,
    Turn,
    Usage,
)
from metaflowbot.errors import ModelError
from metaflowbot.extracts import abstention, quoted
from metaflowbot.judgement import Decline, Judge, answer_from
from metaflowbot.llm import ChatModel
from metaflowbot.prompts import NOT_COVERED, Prompt
from metaflowbot.retrieve import Retriever
from metaflowbot.sources import asked_before, numbered, rendered, retrieved

_HISTORY_TURNS = 6
# Of a question that the model finds no answer to in the sources.
_REFUSED_CONFIDENCE = 0.1

_NOT_FOUND = "I could not find an answer to this in what I have read about Metaflow."
_NOT_ENGLISH = (
    "Without a chat model I can only search the English documentation: please ask in English."
)
_NO_WORD = "Nothing there mentions {words}."
_UNVERIFIED = (
    "The model's answer could not be verified against the sources: "
    "these are the passages themselves."
)


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


@dataclass(frozen=True)
class Answerer:
    """Answers from one index generation. Without a `model` the answers are extractive."""

    retriever: Retriever
    model: ChatModel | None
    prompt: Prompt

    @cached_property
    def judge(self) -> Judge:
        """What decides whether there is an answer."""
        return Judge.of(self.retriever.generation, self.retriever.embedding)

    def stream(self, question: Question) -> Iterator[AnswerEvent]:
        """Yield the steps, the checked text in pieces, and last the whole Answer.

        The pieces join to the answer's text, or there are none and it comes whole with the Answer.
        A model that fails after some text was shown leaves that text standing, with a notice;
        before that, the passages answer.
        """
        clock = _Clock()
        yield Progress("searching")
        search = self.retriever.search(question)
        decline = self.judge.declines(question)
        draft = self._draft(question, search, decline)
        clock.mark("retrieve")
        known = asked_before(search) if draft.confidence >= answer_from() else None
        yield Progress("reading", search.hits, known)
        if decline is not None:
            answer = abstention(draft, search, decline.line, is_whole=decline.is_whole)
        elif self.model is None:
            answer = self._without_model(draft, search)
        else:
            answer = yield from self._with_model(self.model, draft, question, search)
        clock.mark("generate")
        yield replace(answer, timings_ms=clock.timings())

    def _draft(self, question: Question, search: Search, decline: Decline | None) -> Answer:
        """The answer as far as it is known before anything is said."""
        return Answer(
            id=uuid.uuid4().hex,
            question=question.text,
            text="",
            citations=(),
            abstained=False,
            confidence=self.judge.confidence(search, decline),
            model="none",
            prompt_version=self.prompt.version,
            generation=search.generation,
            retrieved=retrieved(search),
        )

    def _without_model(self, draft: Answer, search: Search, notice: str = "") -> Answer:
        """The passages themselves, or that they do not cover the question."""
        draft = replace(draft, model="none", notice=notice)
        if draft.confidence < answer_from() or not search.hits:
            return abstention(draft, search, self._not_found(draft))
        return quoted(draft, search)

    def _not_found(self, draft: Answer) -> str:
        if draft.model == "none" and is_foreign(draft.question):
            return _NOT_ENGLISH
        strange = ", ".join(f"“{word}”" for word in self.judge.strange(draft.question)[:3])
        return f"{_NOT_FOUND} {_NO_WORD.format(words=strange)}" if strange else _NOT_FOUND

    def _with_model(
        self, model: ChatModel, draft: Answer, question: Question, search: Search
    ) -> Generator[AnswerEvent, None, Answer]:
        """Stream a written answer; returns the Answer."""
        sources = numbered(search.hits, model.count_tokens)
        system = self.prompt.fill(sources=rendered(sources))
        messages = [*question.history[-_HISTORY_TURNS:], Turn("user", question.text)]
        writing = _Writing(Verifier(sources))
        draft = replace(draft, model=model.name)
        try:
            for piece in model.stream(system, messages):
                yield from writing.take(piece)
            yield from writing.finish()
        except ModelError as error:
            yield from writing.finish()
            return self._after_failure(draft, search, writing, str(error))
        yield Progress("checking")
        return self._judged(draft, search, writing)

    def _judged(self, draft: Answer, search: Search, writing: _Writing) -> Answer:
        draft = replace(draft, usage=writing.usage)
        if writing.refused:
            draft = replace(draft, confidence=min(draft.confidence, _REFUSED_CONFIDENCE))
            return abstention(draft, search, self._not_found(draft))
        if not writing.citations:
            return self._without_model(draft, search, _UNVERIFIED)
        return replace(draft, text=writing.text, citations=writing.citations)

    def _after_failure(self, draft: Answer, search: Search, writing: _Writing, why: str) -> Answer:
        draft = replace(draft, usage=writing.usage)
        if writing.citations:
            notice = f"The answer breaks off here: {why}."
            return replace(draft, text=writing.text, citations=writing.citations, notice=notice)
        notice = f"The chat model fell short ({why}): these are the passages themselves."
        return self._without_model(draft, search, notice)


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
