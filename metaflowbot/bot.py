"""The use cases. Slack, web and command line call only this."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from metaflowbot.answer import Answerer
from metaflowbot.cases import rewrite
from metaflowbot.domain import Answer, AnswerEvent, Feedback, Question, Search
from metaflowbot.errors import (
    IndexUnavailableError,
    MetaflowbotError,
    ModelError,
    NotFoundError,
    QuestionError,
    StoreError,
)
from metaflowbot.escalation import (
    Escalation,
    EscalationError,
    Facts,
    Handed,
    Session,
    Solution,
    State,
    alike,
    due,
    shortcomings,
    topic,
)
from metaflowbot.forgetting import Files
from metaflowbot.manifest import Manifest
from metaflowbot.settings import Trenches
from metaflowbot.store import Asking, InboxHealth, Store
from metaflowbot.telemetry import Ended, Request, Watcher, model_failed, request
from metaflowbot.threads import Mark
from metaflowbot.thrift import Thrift

# Rules that are turned on hand on what falls due from then on, not all of the past.
_POLICY_LOOKS_BACK = timedelta(days=1)
_ALIKE_LOOKS_BACK = timedelta(days=90)
_STEP_TRIES = 10
_GAPS_AT_ONCE = 64
MAX_QUESTION_CHARS = 16_000
MAX_HITS = 100


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the bot is: `missing` is what keeps it from answering, a line each.

    `manifest` is that of the served index generation, None where none is served; `inbox` is None
    where the database does not answer. `escalations` are counted by state.
    """

    missing: tuple[str, ...]
    manifest: Manifest | None
    inbox: InboxHealth | None
    escalations: Mapping[State, int] = field(default_factory=dict)


class Bot:
    """Answers from the active index generation and keeps what was said.

    `answerer` loads the generation that is active now; it is called again when `active` names
    another one, so a new index is served without a restart. `watchers` are told of every question
    and verdict. `files` are what `forget` reaches beside the database. Safe to share between
    threads.
    """

    def __init__(
        self,
        store: Store,
        active: Callable[[], str | None],
        answerer: Callable[[], Answerer],
        watchers: Sequence[Watcher] = (),
        files: Files | None = None,
    ) -> None:
        self._store = store
        self._thrift = Thrift(store)
        self._active = active
        self._load = answerer
        self._watchers = watchers
        self._files = files
        self._lock = threading.Lock()
        self._answerer: Answerer | None = None

    def stream(self, question: Question, asking: Asking) -> Iterator[AnswerEvent]:
        """Yield the steps and the pieces of an answer, and last the Answer, which is then stored.

        Raises QuestionError, IndexUnavailableError, StoreError, and ModelError of the embedding.
        """
        question = _checked(question)
        slack = f"{asking.channel}-{asking.message}" if asking.message else ""
        with request(slack) as at_hand:
            yield from self._watched(question, asking, at_hand)

    def _watched(
        self, question: Question, asking: Asking, at_hand: Request
    ) -> Iterator[AnswerEvent]:
        """The events of an answer; whatever becomes of it, the watchers are told."""
        ended = Ended.begin(asking.person.partition(":")[0], asking.channel, asking.message)
        try:
            for event in self._thrift.stream(self._current(), question, asking):
                if isinstance(event, Answer):
                    started = time.perf_counter()
                    self._store.save_answer(event, asking)
                    saved_ms = (time.perf_counter() - started) * 1000
                    ended = replace(ended, answer=event, saved_ms=saved_ms)
                yield event
        except Exception as error:
            if isinstance(error, ModelError):
                model_failed(error)
            ended = replace(ended, failure=type(error).__name__)
            raise
        finally:
            finished = ended.finish(at_hand)
            for watcher in self._watchers:
                watcher.ended(finished)

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
        for watcher in self._watchers:
            watcher.rated(feedback)

    def unrate(self, feedback: Feedback) -> None:
        """Take a verdict back; another one of that person stays."""
        self._store.unrate(feedback)

    def group_gaps(self) -> int:
        """Group the next questions without a good answer by meaning; how many, 0 once all are.

        Raises IndexUnavailableError, ModelError of the embedding, StoreError.
        """
        embedding = self._current().retriever.embedding
        found = self._store.gaps.ungrouped(embedding.name, _GAPS_AT_ONCE)
        if found:
            vectors = np.stack([embedding.embed_query(text) for _, text in found])
            self._store.gaps.group(embedding.name, [identity for identity, _ in found], vectors)
        return len(found)

    # Threads, and the people in them

    def resolve(self, channel: str, thread: str, answer: str, person: str) -> None:
        """Mark a thread as resolved, by the message at `answer`, or by the whole of it: ''.

        `channel` is an id, `thread` and `answer` are ts. What a mark is worth depends on who
        `person` is in the thread; it counts when the thread is read again, which this sets off.
        """
        self._store.threads.mark(Mark(channel, thread, answer, _of_slack(person)))

    def opt_out(self, person: str) -> None:
        """Read nothing of that person in Slack from now on; what was read leaves the files at once.

        The index follows when it is built anew, which this sets off.
        """
        person = _of_slack(person)
        self._store.threads.opt_out(person)
        if self._files:
            self._files.erase(person, self._store.threads.documents())

    def opt_in(self, person: str) -> None:
        """Take an opt-out back: what that person writes from now on is read."""
        self._store.threads.opt_in(_of_slack(person))

    def forget(self, person: str) -> Mapping[str, int]:
        """Erase a person's data from database and files, and let nothing of them be read again.

        Returns the number of erased things by kind. The index holds their words until it is built
        anew, which this sets off where threads are kept up to date; older generations go then.
        """
        person = _of_slack(person)
        packages = {}
        if self._files:
            unpublished = self._store.escalations.unpublished(person)
            packages = {"packages": self._files.erase_packages(unpublished)}
        counts = {**packages, **self._store.forget(person)}
        if self._files:
            counts |= self._files.erase(person, self._store.threads.documents())
            if counts["eval cases"]:
                rewrite(self._files.home, self._store.cases)
        return counts

    # Questions handed to people

    def escalate(self, asking: Asking, answer_id: str, person: str) -> Escalation:
        """Hand a question to people; where its thread was handed on before, that one comes back.

        `asking` is who asked it, and where; `person` wants people to look at it. Raises
        NotFoundError for an answer that does not exist.
        """
        answer = self._store.answer(answer_id)
        if answer is None:
            raise NotFoundError(f"there is no answer {answer_id!r}")
        down = self._store.escalations.down_voted(answer_id)
        short = shortcomings(Facts(answer.abstained, answer.confidence, down))
        asked_by = "the asker" if person == asking.person else "somebody else"
        reasons = (f"{asked_by} asked for a human", *short)
        asked = Handed(answer_id, answer.question, *astuple(asking))
        return self._store.escalations.open(asked.escalation(person, reasons, datetime.now(UTC)))

    def hand_on(self, answer_id: str, person: str) -> Escalation:
        """As `escalate`, for who knows the answer alone: its record says who asked, and where."""
        asked = self._store.escalations.asked(answer_id)
        asking = Asking(asked.asker, asked.channel, asked.thread, asked.message)
        return self.escalate(asking, answer_id, person)

    def escalate_due(
        self, rules: Trenches, is_watched: Callable[[str], bool]
    ) -> tuple[Escalation, ...]:
        """Hand on what is due by the rules of the settings; () where they are all off.

        `is_watched` says it of a channel's id. Questions that fell due in the last day are looked
        at, so that one which nobody wants to hand on is not looked at for ever.
        """
        if not (rules.after_hours or rules.times_asked):
            return ()
        now = datetime.now(UTC)
        since = now - timedelta(hours=rules.after_hours) - _POLICY_LOOKS_BACK
        lately = self._store.escalations.questions(now - _ALIKE_LOOKS_BACK)
        asked = [topic(question) for _, question in lately if rules.times_asked]
        resolved = self._resolved_threads()
        opened = []
        for found in self._store.escalations.candidates(since):
            place = found.asked.channel, found.asked.thread
            if place in resolved or not shortcomings(found.facts):
                continue
            times = alike(topic(found.asked.question), asked)
            reasons = due(replace(found.facts, watched=True, times_asked=times), rules)
            if reasons and is_watched(found.asked.channel):
                fresh = found.asked.escalation("policy", reasons, datetime.now(UTC))
                opened.append(self._store.escalations.open(fresh))
        return tuple(opened)

    def _resolved_threads(self) -> frozenset[tuple[str, str]]:
        """Channel and root of the threads that have their answer."""
        seen, marks = self._store.threads.seen(), self._store.threads.marks()
        resolved = (each for each in seen if each.state == "resolved")
        return frozenset(
            {(each.channel_id, each.key.rpartition("/")[2]) for each in resolved}
            | {(mark.channel, mark.thread) for mark in marks}
        )

    def asked_alike(self, escalation: Escalation) -> tuple[int, int]:
        """How often a question like it was asked in the last 90 days, and by how many people."""
        asked = self._store.escalations.questions(datetime.now(UTC) - _ALIKE_LOOKS_BACK)
        wanted = topic(escalation.question)
        same = [person for person, text in asked if alike(wanted, [topic(text)])]
        return max(len(same), 1), max(len(set(same)), 1)

    def claim(self, identity: str, person: str) -> Escalation:
        """Take an escalation on. These steps raise NotFoundError, EscalationError, UsageError."""
        return self._step(identity, lambda now, at: now.claim(person, at))

    def schedule(self, identity: str, session: Session, person: str) -> Escalation:
        """Set a session with the asker, or change it."""
        return self._step(identity, lambda now, at: now.schedule(session, person, at))

    def solve(self, identity: str, solution: Solution, person: str) -> Escalation:
        """Keep what helped; the asker is told."""
        kept = replace(solution, text=_storable(solution.text))
        return self._step(identity, lambda now, at: now.solve(kept, person, at))

    def decline(self, identity: str, reason: str, person: str) -> Escalation:
        """Turn an escalation down; the asker is told why."""
        return self._step(identity, lambda now, at: now.decline(_storable(reason), person, at))

    def publish(self, identity: str, url: str, person: str) -> Escalation:
        """Its write-up stands at `url`, which the next ingest reads; the asker is told."""
        return self._step(identity, lambda now, at: now.publish(url, person, at))

    def allow_quotes(self, identity: str, person: str, *, given: bool) -> Escalation:
        """What the asker says to being quoted; EscalationError for anybody else."""
        if self._store.escalations.get(identity).asker != person:
            raise EscalationError("only who asked the question can say that")
        return self._step(identity, lambda now, _: now.allow_quotes(given=given))

    def _step(
        self, identity: str, step: Callable[[Escalation, datetime], Escalation]
    ) -> Escalation:
        """Take a step from the present state; again from the newer one where others act too."""
        for _ in range(_STEP_TRIES):
            after = step(self._store.escalations.get(identity), datetime.now(UTC))
            if self._store.escalations.save(after):
                return after
        raise EscalationError("others change it at this moment: try again")

    def missing(self) -> tuple[str, ...]:
        """What keeps the bot from answering, a line each; () when it is ready."""
        lines = []
        for check in (self._current, self._store.ping):
            try:
                check()
            except MetaflowbotError as error:
                lines.append(str(error))
        return tuple(lines)

    def outdated(self, answers: Iterable[Answer]) -> frozenset[str]:
        """The ids of those answers a quote of which stands in the served index no more.

        Raises IndexUnavailableError.
        """
        texts: dict[str, str] = {}
        for passage in self._current().retriever.generation.passages:
            before = texts.get(passage.document_id, "")
            texts[passage.document_id] = f"{before}\n{_flat(passage.text)}"
        return frozenset(
            answer.id
            for answer in answers
            for cited in answer.citations
            if _flat(cited.quote) not in texts.get(cited.document_id, "")
        )

    def vitals(self) -> Vitals:
        """What metrics show of the bot's state; never raises."""
        manifest, inbox = None, None
        escalations: Mapping[State, int] = {}
        with suppress(IndexUnavailableError, StoreError):
            manifest = self._current().retriever.generation.manifest
        with suppress(StoreError):
            inbox = self._store.health()
            escalations = self._store.escalations.counts()
        return Vitals(self.missing(), manifest, inbox, escalations)

    def generation(self) -> str:
        """The id of the served index generation, '' where none can be served."""
        try:
            return self._current().retriever.generation.id
        except (IndexUnavailableError, StoreError):
            return ""

    def _current(self) -> Answerer:
        served = self._answerer
        if served is not None and self._lock.locked():
            return served  # somebody is at it, and may take seconds to load the next one
        with self._lock:
            served = self._answerer
            try:
                if served is None or self._active() != served.retriever.generation.id:
                    loaded = self._load()
                    with suppress(MetaflowbotError):  # the first question says it
                        loaded.warm()
                    self._answerer = loaded
            except IndexUnavailableError:
                # A generation that can't be read never replaces one that answers.
                if served is None:
                    raise
            assert self._answerer is not None
            return self._answerer


def _of_slack(person: str) -> str:
    """A person as 'slack:U1'; one that is named so, or as 'web:…' or 'cli:…', as they are."""
    return person if ":" in person else f"slack:{person}"


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


def _flat(text: str) -> str:
    return " ".join(text.split())


def _storable(text: str) -> str:
    """The text without what no encoding or database takes: halves of characters, and NUL."""
    return text.encode(errors="replace").decode().replace("\0", " ")
