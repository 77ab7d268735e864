"""Answers for which a chat model also helps to find the pages: answers.rewrite, answers.rerank.

Only where a model is to answer anyway: a plain search, a message that nobody answers, and a day
whose budget is spent cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

from metaflowbot import prompts
from metaflowbot.answer import Answerer
from metaflowbot.domain import Answer, AnswerEvent, Hit, Question, Search, Usage
from metaflowbot.rerank import Reranker
from metaflowbot.retrieve import Retriever
from metaflowbot.rewrite import Rewriter

# So many pages are put in order, of which a search gives the best.
_DEPTH = 15


@dataclass
class _Guide:
    """What the model helps with, and what that has cost so far."""

    rewriter: Rewriter | None
    reranker: Reranker | None
    usage: Usage = field(default_factory=Usage)

    def wanted(self, question: Question) -> Question:
        """What to search for: a query that stands by itself, beside the question's own words."""
        if self.rewriter is None:
            return question
        rewritten = self.rewriter.rewrite(question)
        self.usage = _sum(self.usage, rewritten.usage)
        if rewritten.text == question.text:
            return question
        return replace(question, text=f"{rewritten.text}\n{question.text}", history=())

    def ordered(self, wanted: Question, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        if self.reranker is None:
            return hits
        ordered = self.reranker.order(wanted.text, hits)
        self.usage = _sum(self.usage, ordered.usage)
        return ordered.hits


@dataclass(frozen=True, slots=True)
class _GuidedRetriever(Retriever):
    """Searches for one answer."""

    guide: _Guide

    def search(self, question: Question, k: int = 10) -> Search:
        wanted = self.guide.wanted(question)
        found = self.search_for(wanted, question, max(k, _DEPTH))
        hits = self.guide.ordered(wanted, found.hits[:_DEPTH])
        return replace(found, hits=(*hits, *found.hits[_DEPTH:])[:k])


@dataclass(frozen=True)
class GuidedAnswerer(Answerer):
    """An Answerer whose model rewrites questions or orders the pages found, each by one call."""

    rewriter: Rewriter | None = None
    reranker: Reranker | None = None

    @property
    def prompt_version(self) -> str:
        helpers = [helper.prompt for helper in (self.rewriter, self.reranker) if helper]
        return prompts.version_of(self.prompt, self.mend, *helpers)

    def stream(self, question: Question, why_no_model: str = "") -> Iterator[AnswerEvent]:
        """As an Answerer does; the answer's usage is that of all calls."""
        helps = self.model and (self.rewriter or self.reranker) and not why_no_model
        if not helps or self.judge.declines(question):
            yield from super().stream(question, why_no_model)
            return
        guide = _Guide(self.rewriter, self.reranker)
        for event in self._guided_by(guide).stream(question):
            if isinstance(event, Answer):
                usage = _sum(event.usage, guide.usage)
                yield replace(event, usage=usage, prompt_version=self.prompt_version)
            else:
                yield event

    def _guided_by(self, guide: _Guide) -> Answerer:
        parts = {part.name: getattr(self, part.name) for part in fields(Answerer)}
        retriever = _GuidedRetriever(self.retriever.generation, self.retriever.embedding, guide)
        plain = Answerer(**(parts | {"retriever": retriever}))
        # Reading the words of the whole index takes too long to do it for each question.
        vars(plain)["judge"] = self.judge
        return plain


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cost_usd + other.cost_usd,
    )
