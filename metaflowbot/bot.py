"""The use cases. Slack, web and command line call only this."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from metaflowbot.answer import Answerer
from metaflowbot.domain import Answer, AnswerEvent, Feedback, Question, Search
from metaflowbot.errors import IndexUnavailableError, MetaflowbotError, QuestionError, StoreError
from metaflowbot.store import Asking, Store

MAX_QUESTION_CHARS = 16_000
MAX_HITS = 100


class Bot:
    """Answers from the active index generation and keeps what was said.

    `answerer` loads the generation that is active now; it is called again when `active` names
    another one, so a new index is served without a restart. Safe to share between threads.
    """

    def __init__(
        self,
        store: Store,
        active: Callable[[], str | None],
        answerer: Callable[[], Answerer],
    ) -> None:
        self._store = store
        self._active = active
        self._load = answerer
        self._lock = threading.Lock()
        self._answerer: Answerer | None = None

    def stream(self, question: Question, asking: Asking) -> Iterator[AnswerEvent]:
        """Yield the steps and the pieces of an answer, and last the Answer, which is then stored.

        Raises QuestionError, IndexUnavailableError, StoreError, and ModelError of the embedding.
        """
        question = _checked(question)
        for event in self._current().stream(question):
            if isinstance(event, Answer):
                self._store.save_answer(event, asking)
            yield event

    def ask(self, question: Question, asking: Asking) -> Answer:
        """The answer alone; raises as `stream` does."""
        *_, answer = self.stream(question, asking)
        assert isinstance(answer, Answer)
        return answer

    def search(self, query: str, k: int = 10, sources: frozenset[str] = frozenset()) -> Search:
        """The `k` best documents for a query; raises QuestionError for a bad query or `k`."""
        if not 1 <= k <= MAX_HITS:
            raise QuestionError(f"k is {k}: ask for 1 to {MAX_HITS} hits")
        question = _checked(Question(query, sources=sources))
        return self._current().retriever.search(question, k)

    def rate(self, feedback: Feedback) -> None:
        """Keep a verdict; raises NotFoundError for an answer that does not exist."""
        self._store.rate(feedback)

    def missing(self) -> tuple[str, ...]:
        """What keeps the bot from answering, a line each; () when it is ready."""
        lines = []
        for check in (self._current, self._store.ping):
            try:
                check()
            except MetaflowbotError as error:
                lines.append(str(error))
        return tuple(lines)

    def generation(self) -> str:
        """The id of the served index generation, '' where none can be served."""
        try:
            return self._current().retriever.generation.id
        except (IndexUnavailableError, StoreError):
            return ""

    def _current(self) -> Answerer:
        with self._lock:
            served = self._answerer
            try:
                if served is None or self._active() != served.retriever.generation.id:
                    self._answerer = self._load()
            except IndexUnavailableError:
                # A generation that can't be read never replaces one that answers.
                if served is None:
                    raise
            assert self._answerer is not None
            return self._answerer


def _checked(question: Question) -> Question:
    text = _storable(question.text).strip()
    if not text:
        raise QuestionError("the question is empty: ask something about Metaflow")
    if len(text) > MAX_QUESTION_CHARS:
        raise QuestionError(
            f"the question has {len(text):,} characters: shorten it to {MAX_QUESTION_CHARS:,}, "
            "e.g. to the last lines of a trace"
        )
    turns = (replace(turn, content=_storable(turn.content)) for turn in question.history)
    return replace(question, text=text, history=tuple(turns))


def _storable(text: str) -> str:
    """The text without what no encoding or database takes: halves of characters, and NUL."""
    return text.encode(errors="replace").decode().replace("\0", " ")
