"""Eval cases: questions with what a good answer rests on, read from JSONL files.

What a line is for follows from its fields: `gold` makes it a question that the sources answer,
`gold_threads` one that resolved Slack threads answer, `turns` a follow-up within a conversation,
and a `kind` of UNANSWERABLE a message from which the bot should abstain. Lines for one part of
the bot alone are read by `drills`, and answers with people's labels by `agreement`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evals.agreement import Labelled, is_labelled, labelled
from evals.drills import Attack, CodeCase, Drill, SlackCase, drill, is_drill
from metaflowbot.domain import Question, Turn
from metaflowbot.errors import UsageError

OWN = Path(__file__).resolve().parent / "data"
"""The folder of the questions that come with Metaflowbot."""

UNANSWERABLE = frozenset({"off-topic", "near-miss", "adversarial"})
THREAD = "thread"
"""The kind of a question that is answered by threads, where its line names none."""

_NO_GOLD = "neither 'gold' nor 'gold_threads' nor a kind of unanswerable one"
_TOLD = 5
"""So many faults are told at once where nothing else is left to tell."""

Gold = tuple[tuple[str, ...], ...]
"""The pages that hold the answer, most important first.

Each is given by the document ids under which it may be indexed, of which any one counts: an API
object is a document of its own where no docs page is indexed that describes it.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One question. `gold` is () for what the sources can't answer.

    `answer_points` are what a right answer says; `okay_points` what it may say besides.
    `from_thread` is the id of the thread that the question was taken from, '' for none.
    """

    id: str
    question: str
    kind: str
    gold: Gold = ()
    history: tuple[Turn, ...] = ()
    answer_points: tuple[str, ...] = ()
    okay_points: tuple[str, ...] = ()
    origin: str = ""
    difficulty: str = ""
    from_thread: str = ""

    @property
    def asked(self) -> Question:
        """The question as the bot gets it."""
        return Question(self.question, self.history)

    def followed(self, current_id: Callable[[str], str | None]) -> Case:
        """The same with the ids of today beside those that the gold names."""
        gold = tuple(
            tuple(dict.fromkeys((*pages, *filter(None, map(current_id, pages)))))
            for pages in self.gold
        )
        return replace(self, gold=gold)

    def held_out(self) -> Case:
        """The same without the thread that it was taken from among its gold pages."""
        gold = tuple(
            kept
            for pages in self.gold
            if (kept := tuple(p for p in pages if p != self.from_thread))
        )
        return replace(self, gold=gold)

    def is_within(self, indexed: Container[str]) -> bool:
        """Whether the index may be asked: it holds a gold page, or there is none anywhere."""
        return not self.gold or any(page in indexed for pages in self.gold for page in pages)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Cases with where they come from. `sha256` is over the bytes of the files read.

    `notices` name what was left out, a line each, and `faults` the lines that can't be read.
    `drills` are the cases for one part alone, `labelled` answers that judge models are held
    against.
    """

    name: str
    sha256: str
    cases: tuple[Case, ...]
    notices: tuple[str, ...] = ()
    drills: tuple[Drill, ...] = ()
    labelled: tuple[Labelled, ...] = ()
    faults: tuple[str, ...] = ()

    def whole(self) -> Dataset:
        """The dataset where no line of it was left out; raises UsageError with the first."""
        if self.faults:
            raise UsageError(self.faults[0])
        return self

    def within(self, indexed: Container[str]) -> Dataset:
        """The dataset without the questions of which no gold page is indexed."""
        return replace(self, cases=tuple(case for case in self.cases if case.is_within(indexed)))

    def held_out(self) -> Dataset:
        """The dataset for an index in which no question finds the thread it was taken from.

        A question that only that thread answers is left out, with a notice.
        """
        cases = [case.held_out() for case in self.cases]
        lost = [
            f"{case.id} is left out: only the thread that is held out answers it"
            for case, kept in zip(self.cases, cases, strict=True)
            if case.gold and not kept.gold
        ]
        known = zip(self.cases, cases, strict=True)
        kept = tuple(held for case, held in known if held.gold or not case.gold)
        return replace(self, cases=kept, notices=(*self.notices, *lost))

    def followed(self, current_id: Callable[[str], str | None]) -> Dataset:
        """The dataset that takes a document by what it is called now as well, if it was moved."""
        return replace(self, cases=tuple(case.followed(current_id) for case in self.cases))

    @property
    def answerable(self) -> tuple[Case, ...]:
        """Single questions with gold."""
        return tuple(case for case in self.cases if case.gold and not case.history)

    @property
    def follow_ups(self) -> tuple[Case, ...]:
        """Questions with gold that only make sense after what was said before."""
        return tuple(case for case in self.cases if case.gold and case.history)

    @property
    def unanswerable(self) -> tuple[Case, ...]:
        """Messages from which the bot should abstain."""
        return tuple(case for case in self.cases if not case.gold)


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: str = ""
    bot_summary: str = ""

    def said(self) -> Iterator[Turn]:
        if self.user:
            yield Turn("user", self.user)
        if self.bot_summary:
            yield Turn("assistant", self.bot_summary)


class _Line(BaseModel):
    """A line of a question file; `gold_anchor` and `why` are for people who read it.

    `gold_threads` are threads as channel/ts, each a gold page after those of `gold`.
    """

    id: str
    question: str = ""
    turns: list[_Turn] = []
    gold: list[str | list[str]] = []
    gold_threads: list[str] = []
    gold_anchor: str = ""
    answer_points: list[str] = []
    okay_points: list[str] = []
    kind: str = ""
    difficulty: str = ""
    origin: str = ""
    from_thread: str = ""
    why: str = ""

    @property
    def is_case(self) -> bool:
        return bool(self.gold or self.gold_threads) or self.kind in UNANSWERABLE

    @property
    def pages(self) -> Gold:
        """The gold pages; raises ValueError for one without an id."""
        named = [[page] if isinstance(page, str) else page for page in self.gold]
        named += [[thread and f"slack:{thread}"] for thread in self.gold_threads]
        if not all(ids and all(ids) for ids in named):
            raise ValueError("'gold' holds an empty id")
        return tuple(tuple(ids) for ids in named)

    @property
    def sort(self) -> str:
        """The kind that is given, else what the other fields make of it."""
        return self.kind or ("follow-up" if self.turns else THREAD * bool(self.gold_threads))

    def case(self) -> Case:
        """Raises ValueError that says what is missing."""
        said = [turn for given in self.turns for turn in given.said()]
        if not self.question and not (said and said[-1].role == "user"):
            raise ValueError("there is no question: give 'question', or 'turns' that end in 'user'")
        return Case(
            id=self.id,
            question=self.question or said[-1].content,
            kind=self.sort,
            gold=self.pages,
            history=tuple(said if self.question else said[:-1]),
            answer_points=tuple(self.answer_points),
            okay_points=tuple(self.okay_points),
            origin=self.origin,
            difficulty=self.difficulty,
            from_thread=self.from_thread or self.origin * self.origin.startswith("slack:"),
        )


class _OtherError(ValueError):
    """A line that may be meant for another program: it has an id, and nothing else of a case."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A line that was read: where it stands, what it holds, and the fields that nobody reads."""

    where: str
    item: Case | Drill | Labelled
    unread: frozenset[str] = frozenset()


def read(*paths: Path) -> Dataset:
    """The cases of JSONL files, or of every JSONL file in a folder; without a path the own ones.

    A line that can't be read, or that has an id again, is left out as a fault with its file and
    number. A file of which no line looks like a case, and fields that nobody reads, become
    notices. Raises UsageError where there is no case at all, or a file can't be opened.
    """
    paths = paths or (OWN,)
    found: dict[str, Case | Drill | Labelled] = {}
    digest = hashlib.sha256()
    notices: list[str] = []
    faults: list[str] = []
    for file in [file for path in paths for file in _files(path)]:
        data = _bytes(file)
        lines = list(_lines(file, data))
        good = [line for line in lines if isinstance(line, _Read)]
        if not good and all(isinstance(line, _OtherError) for line in lines):
            why = f"its lines have {_NO_GOLD}" if lines else "it is empty"
            notices.append(f"{file.name} is left out: {why}")
            continue
        digest.update(file.name.encode() + b"\0" + data)
        names = sorted({name for line in good for name in line.unread})
        notices += [f"{file.name}: nobody reads the field '{name}'" for name in names]
        for line in lines:
            if not isinstance(line, _Read):
                faults.append(str(line))
            elif found.setdefault(line.item.id, line.item) is not line.item:
                faults.append(f"{line.where}: the id '{line.item.id}' was used before")
    name = " + ".join(path.name for path in paths)
    if not found:
        told = "; ".join((*faults[:_TOLD], *notices)) or "no file"
        raise UsageError(f"--dataset {name} holds no question ({told})")
    return Dataset(
        name,
        digest.hexdigest(),
        tuple(item for item in found.values() if isinstance(item, Case)),
        tuple(notices),
        tuple(item for item in found.values() if isinstance(item, CodeCase | Attack | SlackCase)),
        tuple(item for item in found.values() if isinstance(item, Labelled)),
        tuple(faults),
    )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.jsonl"))
    if not path.exists():
        raise UsageError(f"--dataset {path}: there is no such file or folder")
    return [path]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from None


def _lines(file: Path, data: bytes) -> Iterator[_Read | ValueError]:
    """Each line that is not empty, or what is wrong with it."""
    for number, raw in enumerate(data.split(b"\n"), start=1):
        where = f"{file.name} line {number}"
        if not raw.strip():
            continue
        try:
            yield _line(where, json.loads(raw))
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(map(str, fault["loc"])) or "the line"
            yield ValueError(f"{where}: {name}: {fault['msg']}")
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            yield ValueError(f"{where} is not JSON in UTF-8: {error}")
        except _OtherError as error:
            yield _OtherError(f"{where}: {error}")
        except ValueError as error:
            yield ValueError(f"{where}: {error}")


def _line(where: str, values: Any) -> _Read:
    """Raises ValueError (pydantic's, and _OtherError, are such) that says what is wrong."""
    if is_labelled(values) or is_drill(values):
        return _Read(where, (labelled if is_labelled(values) else drill)(values))
    line = _Line.model_validate(values)
    if not line.is_case:
        raise _OtherError(f"'{line.id}' has {_NO_GOLD}")
    return _Read(where, line.case(), frozenset(values) - _Line.model_fields.keys())
