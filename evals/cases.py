"""Eval cases: questions with what a good answer rests on, read from JSONL files.

What a line is for follows from its fields: `gold` makes it a question that the sources answer,
`turns` a follow-up within a conversation, and a `kind` of UNANSWERABLE a message from which the
bot should abstain. Lines for one part of the bot alone are read by `drills`, and answers with
people's labels by `agreement`.
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

    `notices` name what was left out, a line each. `drills` are the cases for one part alone,
    `labelled` answers that judge models are held against.
    """

    name: str
    sha256: str
    cases: tuple[Case, ...]
    notices: tuple[str, ...] = ()
    drills: tuple[Drill, ...] = ()
    labelled: tuple[Labelled, ...] = ()

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
    """A line of a question file; `gold_anchor` and `why` are for people who read it."""

    id: str
    question: str = ""
    turns: list[_Turn] = []
    gold: list[str | list[str]] = []
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
        return bool(self.gold) or self.kind in UNANSWERABLE

    def case(self) -> Case:
        """Raises ValueError that says what is missing."""
        said = [turn for given in self.turns for turn in given.said()]
        if not self.question and not (said and said[-1].role == "user"):
            raise ValueError("there is no question: give 'question', or 'turns' that end in 'user'")
        gold = tuple((page,) if isinstance(page, str) else tuple(page) for page in self.gold)
        if not all(pages and all(pages) for pages in gold):
            raise ValueError("'gold' holds an empty id")
        return Case(
            id=self.id,
            question=self.question or said[-1].content,
            kind=self.kind or ("follow-up" if said else ""),
            gold=gold,
            history=tuple(said if self.question else said[:-1]),
            answer_points=tuple(self.answer_points),
            okay_points=tuple(self.okay_points),
            origin=self.origin,
            difficulty=self.difficulty,
            from_thread=self.from_thread or self.origin * self.origin.startswith("slack:"),
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """A line that was read: where it stands, its values, and the names of fields nobody reads."""

    where: str
    line: _Line | None
    other: Drill | Labelled | None = None
    unread: frozenset[str] = frozenset()


def read(*paths: Path) -> Dataset:
    """The cases of JSONL files, or of every JSONL file in a folder; without a path the own ones.

    A file of which no line is a case, and fields that nobody reads, become notices. Raises
    UsageError with the file and the line of the first fault, and where there is no case at all.
    """
    paths = paths or (OWN,)
    found: dict[str, Case | Drill | Labelled] = {}
    digest = hashlib.sha256()
    notices: list[str] = []
    for file in [file for path in paths for file in _files(path)]:
        data = _bytes(file)
        lines = list(_lines(file, data))
        if not any(read.other or (read.line and read.line.is_case) for read in lines):
            notices.append(f"{file.name} is left out: no line has 'gold' or a known 'kind'")
            continue
        digest.update(file.name.encode() + b"\0" + data)
        notices += _unread(file, lines)
        for line in lines:
            _add(found, line)
    name = " + ".join(path.name for path in paths)
    if not found:
        raise UsageError(f"--dataset {name} holds no question ({'; '.join(notices) or 'no file'})")
    return Dataset(
        name,
        digest.hexdigest(),
        tuple(item for item in found.values() if isinstance(item, Case)),
        tuple(notices),
        tuple(item for item in found.values() if isinstance(item, CodeCase | Attack | SlackCase)),
        tuple(item for item in found.values() if isinstance(item, Labelled)),
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


def _lines(file: Path, data: bytes) -> Iterator[_Read]:
    for number, raw in enumerate(data.split(b"\n"), start=1):
        where = f"{file.name} line {number}"
        if not raw.strip():
            continue
        try:
            values: Any = json.loads(raw)
            if is_labelled(values) or is_drill(values):
                read = labelled if is_labelled(values) else drill
                yield _Read(where, None, read(values))
                continue
            line = _Line.model_validate(values)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(map(str, fault["loc"])) or "the line"
            raise UsageError(f"{where}: {name}: {fault['msg']}") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{where} is not JSON in UTF-8: {error}") from None
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
        yield _Read(where, line, unread=frozenset(values) - _Line.model_fields.keys())


def _unread(file: Path, lines: list[_Read]) -> list[str]:
    names = sorted({name for line in lines for name in line.unread})
    return [f"{file.name}: nobody reads the field '{name}'" for name in names]


def _add(found: dict[str, Case | Drill | Labelled], read: _Read) -> None:
    item = read.line or read.other
    assert item is not None, "a line is the one or the other"
    if item.id in found:
        raise UsageError(f"{read.where}: the id '{item.id}' was used before: give it another one")
    if read.other is not None:
        found[item.id] = read.other
        return
    assert read.line is not None
    if not read.line.is_case:
        raise UsageError(
            f"{read.where}: '{item.id}' has neither 'gold' nor a kind of unanswerable one"
        )
    try:
        found[item.id] = read.line.case()
    except ValueError as error:
        raise UsageError(f"{read.where}: {error}") from None
