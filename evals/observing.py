"""The cases put to the bot, and what came of each: kept as it goes, so that nothing is lost.

A Journal holds a line for each step that is done. A run that was killed reads it and goes on from
there; a shard of a flow hands its lines to the join.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from evals.cases import Case
from evals.ranking import DEPTH, Judged, judge
from metaflowbot.answer import Answerer
from metaflowbot.domain import Answer, Question
from metaflowbot.embedding import Vectors
from metaflowbot.errors import UsageError
from metaflowbot.index import Candidates, Generation

Item = TypeVar("Item")
Advance = Callable[[Sequence[Any]], Iterable[Any]]
"""Hands the cases on one by one, and may show how far it is."""
Timer = Callable[[str, float], float]
"""Turns what was measured under a name (milliseconds) into what is kept."""


def measured(_: str, milliseconds: float) -> float:
    """What was measured, as it is."""
    return milliseconds


@dataclass(frozen=True, slots=True)
class Observation:
    """What the bot found and said for one case, with the wall time of each (milliseconds).

    `ranking` are the ids of the documents found, best first. `answer` is None where no chosen
    suite reads answers. `trial` counts how often the case was asked before.
    """

    case: Case
    judged: Judged
    ranking: tuple[str, ...]
    search_ms: float
    answer: Answer | None = None
    answer_ms: float = 0.0
    trial: int = 0

    @property
    def is_supported(self) -> bool:
        """Whether a gold page is among those that the answer cites."""
        cited = {citation.document_id for citation in self.answer.citations} if self.answer else ()
        return any(document in cited for pages in self.case.gold for document in pages)


class Journal:
    """Steps that are done, by key, in a file of JSON lines; without a path in memory alone.

    `subject` is what the run is of: with `resume` a file of another subject is refused
    (UsageError), without it such a file is begun anew. A last line that was cut is done again.
    """

    def __init__(self, path: Path | None = None, subject: str = "", *, resume: bool = False):
        self._path = path
        self._done: dict[str, Any] = {}
        if path is None:
            return
        if resume and path.exists():
            self._done = _read(path, subject)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [{"subject": subject}]
            lines += [{"key": key, "value": value} for key, value in self._done.items()]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} can't be written: {error.strerror}") from None

    def __len__(self) -> int:
        return len(self._done)

    def step(
        self,
        key: str,
        kind: TypeAdapter[Item],
        make: Callable[[], Item],
        is_done: Callable[[Item], bool] = lambda _: True,
    ) -> Item:
        """The step of that key: read if it was done before, else made, and kept if it is done."""
        if key in self._done:
            return kind.validate_python(self._done[key])
        made = make()
        if not is_done(made):
            return made
        value = self._done[key] = kind.dump_python(made, mode="json")
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}) + "\n")
        return made

    def remove(self) -> None:
        """The run is whole: what is kept of its steps is not needed any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _read(path: Path, subject: str) -> dict[str, Any]:
    done: dict[str, Any] = {}
    first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        known = json.loads(first)["subject"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"--resume: {path} is no unfinished run: leave --resume out") from None
    if known != subject:
        raise UsageError(
            f"--resume: the unfinished run {path} is of other questions, another index, "
            "model or code: leave --resume out"
        )
    for line in lines:
        try:
            values = json.loads(line)
            done[values["key"]] = values["value"]
        except (ValueError, KeyError, TypeError):
            break
    return done


@dataclass(frozen=True, slots=True)
class Watch:
    """Puts cases to one bot. `answers` says whether answers are wanted, or rankings alone.

    With `hold_out` a question is searched without the thread that it was taken from.
    """

    answerer: Answerer
    answers: bool
    hold_out: bool = False
    timer: Timer = measured

    def observe(
        self, cases: Sequence[Case], journal: Journal, advance: Advance = iter, trials: int = 1
    ) -> tuple[Observation, ...]:
        """Each case `trials` times, in order; raises what searching and answering raise."""
        kind = TypeAdapter(Observation)
        asked = [(case, trial) for case in cases for trial in range(trials)]
        if asked:  # the first question loads what is loaded once; a chat model need not be asked
            said(replace(self.answerer, model=None, fallback=None), asked[0][0].asked)
        seen = []
        for case, trial in advance(asked):
            key = f"question {case.id} {trial}"
            seen.append(journal.step(key, kind, partial(self.look, case, trial)))
        return tuple(seen)

    def look(self, case: Case, trial: int) -> Observation:
        """One case, put to the bot once."""
        answerer = self.answerer
        if self.hold_out and case.from_thread:
            answerer = without(answerer, {case.from_thread})
        indexed = answerer.retriever.generation.manifest.documents
        started = time.perf_counter()
        search = answerer.retriever.search(case.asked, DEPTH)
        search_ms = self.timer(f"search {case.id} {trial}", _since(started))
        ranking = tuple(hit.best.document_id for hit in search.hits)
        judged = judge(ranking, case.gold, indexed)
        if not self.answers:
            return Observation(case, judged, ranking, search_ms, trial=trial)
        started = time.perf_counter()
        answer = said(answerer, case.asked)
        answer_ms = self.timer(f"answer {case.id} {trial}", _since(started))
        return Observation(case, judged, ranking, search_ms, answer, answer_ms, trial)


def said(answerer: Answerer, question: Question) -> Answer:
    """The whole answer."""
    *_, answer = answerer.stream(question)
    assert isinstance(answer, Answer), "an answer is what a stream ends with"
    return answer


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


class _Withheld(Generation):
    """A loaded generation of which some documents are never found."""

    def __init__(self, whole: Generation, documents: set[str]) -> None:
        self.__dict__.update(whole.__dict__)
        self._rows = [row for row, it in enumerate(whole.passages) if it.document_id in documents]

    def candidates(
        self, vector: Vectors, query_terms: Sequence[str], scope: Question, depth: int
    ) -> Candidates:
        found = super().candidates(vector, query_terms, scope, depth + len(self._rows))
        kept = ~np.isin(found.rows, self._rows)
        return found.of(kept)


def without(answerer: Answerer, documents: set[str]) -> Answerer:
    """The same bot over an index in which these documents are never found."""
    generation = _Withheld(answerer.retriever.generation, documents)
    return replace(answerer, retriever=replace(answerer.retriever, generation=generation))
