"""What keeps answers cheap: repeated questions are answered from memory, and a day has a budget."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from metaflowbot.answer import Answerer, fell_short
from metaflowbot.domain import Answer, AnswerEvent, Progress, Question, Usage
from metaflowbot.lexical import terms
from metaflowbot.store import Asking, Store

# The search passes over these words; a question with one of them is another question.
_TURNS = re.compile(
    r"\b(?:not|no|never|without|before|after|from|to|into|off|out|\w+n['’]t)\b", re.I
)
_ALL_SPENT = "Today's budget for the chat model is used up: these are the passages themselves."
_YOURS_SPENT = "Your share of today's budget is used up: these are the passages themselves."


@dataclass(frozen=True, slots=True)
class Thrift:
    """Puts questions to an answerer, within its limits, or to what was answered before."""

    store: Store

    def stream(
        self, answerer: Answerer, question: Question, asking: Asking
    ) -> Iterator[AnswerEvent]:
        """The events of an answer. The caller stores the Answer before it asks for the next one.

        Without a model, and in a conversation, nothing is remembered: the one costs nothing, and
        in the other the same words mean another thing.
        """
        if answerer.model is None or question.history:
            yield from answerer.stream(question, self._why_not(answerer, asking))
            return
        key = _key(answerer, question)
        vector = answerer.retriever.embedding.embed_query(question.text)
        kept = self.store.cache.find(key, vector)
        before = self.store.answer(kept.answer_id) if kept else None
        if kept and before:
            yield Progress("searching")
            given = _again(before, question, kept.asked_at)
            yield given
            self.store.cache.keep(given.id, key, vector, before.id)
            return
        for event in answerer.stream(question, self._why_not(answerer, asking)):
            yield event
            if isinstance(event, Answer) and _is_worth_keeping(event):
                self.store.cache.keep(event.id, key, vector)

    def _why_not(self, answerer: Answerer, asking: Asking) -> str:
        """A line on why the model is not asked, '' where it may be."""
        limits = answerer.limits
        if answerer.model is None or not (limits.daily_budget or limits.daily_budget_per_person):
            return ""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        spent = self.store.cache.spent
        if limits.daily_budget and spent(today) >= limits.daily_budget:
            return _ALL_SPENT
        own = limits.daily_budget_per_person
        return _YOURS_SPENT if own and spent(today, asking.person) >= own else ""


def _key(answerer: Answerer, question: Question) -> str:
    """What must be the same for an answer to be the same: a hash."""
    meaning = [*terms(question.text), "|", *_TURNS.findall(question.text.lower())]
    place = [question.channel, *sorted(question.sources)]
    made = [
        answerer.retriever.generation.id,
        answerer.prompt_version,
        answerer.model.name if answerer.model else "",
    ]
    return hashlib.sha256(json.dumps([meaning, place, made]).encode()).hexdigest()


def _is_worth_keeping(answer: Answer) -> bool:
    """Whether it is a model's whole answer."""
    return answer.model != "none" and not answer.abstained and not fell_short(answer)


def _again(before: Answer, question: Question, asked_at: datetime) -> Answer:
    """The answer once more, which costs nothing."""
    return replace(
        before,
        id=uuid.uuid4().hex,
        question=question.text,
        usage=Usage(),
        timings_ms={"retrieve": 0.0, "generate": 0.0, "total": 0.0},
        notice=f"Answered before, on {asked_at:%Y-%m-%d}. {before.notice}".strip(),
    )
