"""Hits -> an answer with verified citations, or an abstention. Writes nothing.

With a chat model the answer is written from numbered sources and checked sentence by sentence
before anybody sees it. Without one, or when it falls short, the best passages answer themselves.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from metaflowbot import prompts
from metaflowbot.code_check import CodeChecker
from metaflowbot.confidence import is_foreign
from metaflowbot.domain import (
    Answer,
    AnswerEvent,
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
from metaflowbot.prompts import Prompt
from metaflowbot.retrieve import Retriever
from metaflowbot.safety import Echo
from metaflowbot.settings import Answers
from metaflowbot.sources import asked_before, numbered, only_unofficial, rendered, retrieved
from metaflowbot.telemetry import model_failed
from metaflowbot.writing import Checks, Writing

_HISTORY_TURNS = 6
# Of a question that the model finds no answer to in the sources.
_REFUSED_CONFIDENCE = 0.1

_NOT_FOUND = "I could not find an answer to this in what I have read about Metaflow."
_NOT_ENGLISH = (
    "Without a chat model I can only search the English documentation: please ask in English."
)
_NO_WORD = "Nothing there mentions {words}."
_BROKEN_OFF = "The answer breaks off here"
_TOO_LONG = f"{_BROKEN_OFF}: the model wrote far too much."
_FELL_SHORT = "The chat model fell short"
_UNVERIFIED = (
    "The model's answer could not be verified against the sources: "
    "these are the passages themselves."
)


def fell_short(answer: Answer) -> bool:
    """Whether a model was asked and did not answer, or not to the end; its notice says why."""
    return answer.notice.startswith((_BROKEN_OFF, _FELL_SHORT, _UNVERIFIED))


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
    """Answers from one index generation. Without a `model` the answers are extractive.

    `mend` is the prompt that asks a model to put its code right; without a `checker` no code is
    checked. Where the model fails before a word of it was shown, `fallback` is asked.
    `limits` are the day's budget, for who puts the questions.
    """

    retriever: Retriever
    model: ChatModel | None
    prompt: Prompt
    mend: Prompt = field(default_factory=lambda: prompts.load("mend", "faults"))
    checker: CodeChecker | None = None
    fallback: ChatModel | None = None
    limits: Answers = field(default_factory=Answers)

    @cached_property
    def _echo(self) -> Echo:
        return Echo(self.prompt.text)

    @property
    def prompt_version(self) -> str:
        """Changes with the text of any prompt."""
        return prompts.version_of(self.prompt, self.mend)

    @cached_property
    def judge(self) -> Judge:
        """What decides whether there is an answer."""
        return Judge.of(self.retriever.generation, self.retriever.embedding)

    def warm(self) -> None:
        """Load what the first questions would otherwise all load at once, each for itself.

        That takes about a second. Raises what a question then would.
        """
        self.judge.declines(Question("What is Metaflow?"))

    def stream(self, question: Question, why_no_model: str = "") -> Iterator[AnswerEvent]:
        """Yield the steps, the checked text in pieces, and last the whole Answer.

        With `why_no_model`, a line for the reader, the passages answer and no model is asked.
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
        elif self.model is None or why_no_model:
            answer = self._without_model(draft, search, why_no_model)
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
            prompt_version=self.prompt_version,
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
        """Stream a written answer; returns the Answer. At most two calls of a model."""
        sources = numbered(search.hits, model.count_tokens)
        system = self.prompt.fill(sources=rendered(sources))
        wish = f"\n\n(Answer in {question.language}.)" if question.language else ""
        messages = [*question.history[-_HISTORY_TURNS:], Turn("user", question.text + wish)]
        checks = Checks(sources, question.text, self._echo, self.checker, question.language)
        writing = Writing(checks)
        draft = replace(draft, model=model.name)
        try:
            yield from _heard(writing, model.stream(system, messages))
        except ModelError as error:
            model_failed(error, model.name)
            yield from writing.break_off()
            if self.fallback not in (None, model) and not writing.citations:
                assert self.fallback is not None
                return (yield from self._with_model(self.fallback, draft, question, search))
            return self._after_failure(draft, search, writing, str(error))
        if writing.faults:
            yield from self._mended(model, system, messages, writing)
        yield Progress("checking")
        return self._judged(draft, search, writing)

    def _mended(
        self, model: ChatModel, system: str, messages: Sequence[Turn], writing: Writing
    ) -> Iterator[Delta]:
        """Let the model write on from where its code was false, told what is right."""
        faults = "\n".join(f"- {fault}" for fault in writing.faults)
        before = [Turn("assistant", writing.kept)] if writing.kept.strip() else []
        asked = Turn("user", self.mend.fill(faults=faults))
        writing.again()
        try:
            yield from _heard(writing, model.stream(system, [*messages, *before, asked]))
        except ModelError as error:
            model_failed(error, model.name)
            yield from writing.without_second()
            return
        if writing.refused:
            yield from writing.without_second()

    def _judged(self, draft: Answer, search: Search, writing: Writing) -> Answer:
        draft = self._with_checks(draft, writing)
        if writing.refused and not writing.citations:
            draft = replace(draft, confidence=min(draft.confidence, _REFUSED_CONFIDENCE))
            return abstention(draft, search, self._not_found(draft))
        if not writing.citations:
            return self._without_model(draft, search, _UNVERIFIED)
        cited = {citation.document_id for citation in writing.citations}
        notice = _TOO_LONG if writing.is_too_long else only_unofficial(search, cited)
        return replace(draft, text=writing.text, citations=writing.citations, notice=notice)

    def _after_failure(self, draft: Answer, search: Search, writing: Writing, why: str) -> Answer:
        draft = self._with_checks(draft, writing)
        if writing.citations:
            notice = f"{_BROKEN_OFF}: {why}."
            return replace(draft, text=writing.text, citations=writing.citations, notice=notice)
        notice = f"{_FELL_SHORT} ({why}): these are the passages themselves."
        return self._without_model(draft, search, notice)

    def _with_checks(self, draft: Answer, writing: Writing) -> Answer:
        """The answer with what its checks did, and a confidence that pays for it."""
        checks = writing.checks
        version = self.checker.version if self.checker and checks.has_code else ""
        held = 1 - min(1.0, len(checks.removed) / max(1, checks.said))
        return replace(
            draft,
            usage=writing.usage,
            checks=tuple(checks.removed),
            checked_with=version,
            confidence=round(draft.confidence * (1 + held) / 2, 3),
        )


def _heard(writing: Writing, pieces: Iterator[str | Usage]) -> Iterator[Delta]:
    """What may be shown of what the model says, to its end, or to where it is too much."""
    for piece in pieces:
        yield from writing.take(piece)
        if writing.is_too_long:
            break
    yield from writing.finish()
