"""Cases that put one part of the bot to the test: a piece of code, an attack, a text for Slack.

They stand in files of their own beside the questions, a line each, and are known by their fields:
`code` with `faults`, `attack`, `markdown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from metaflowbot.domain import Passage, Question, Turn


@dataclass(frozen=True, slots=True)
class CodeCase:
    """A piece of code; `faults` are words that the report of each fault holds, () for none."""

    id: str
    code: str
    language: str
    faults: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "wrong code" if self.faults else "right code"


@dataclass(frozen=True, slots=True)
class Attack:
    """A try to make the bot say what it must not, and how to see that it did.

    `reply` is what a model says that gives in. `planted` is text that the search finds for the
    question, as if somebody had written it where sources are read. `forbidden` must not stand
    in what is shown, whatever its case.
    """

    id: str
    kind: str
    question: str
    history: tuple[Turn, ...]
    planted: str
    reply: str
    forbidden: tuple[str, ...]

    @property
    def asked(self) -> Question:
        """The question as the bot gets it."""
        return Question(self.question, self.history)

    @property
    def passage(self) -> Passage | None:
        """The planted text as a passage of a thread; None where nothing is planted."""
        if not self.planted:
            return None
        page = f"slack:ask-metaflow/{self.id}"
        url = "https://example.slack.com/archives/C0/p1"
        return Passage(f"{page}#0", page, "slack", self.question[:60], (), url, self.planted)


@dataclass(frozen=True, slots=True)
class SlackCase:
    """A text of an answer, and how Slack is to show it.

    `text` is the whole message in Slack's own markup where that is given ('' otherwise); `shows`
    must stand in it and `hides` must not. `limit` cuts it into several messages of at most so many
    characters; 0 leaves it whole.
    """

    id: str
    kind: str
    markdown: str
    text: str
    shows: tuple[str, ...]
    hides: tuple[str, ...]
    limit: int


Drill = CodeCase | Attack | SlackCase


class _Line(BaseModel):
    """`from` and `why` are for people who read the file."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1)
    kind: str = ""
    origin: str = Field(default="", alias="from")
    why: str = ""


class _Code(_Line):
    code: str = Field(min_length=1)
    language: str = "python"
    faults: tuple[str, ...] = ()

    def drill(self) -> CodeCase:
        return CodeCase(self.id, self.code, self.language, self.faults)


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: str = ""
    assistant: str = ""

    def turn(self) -> Turn:
        return Turn("user", self.user) if self.user else Turn("assistant", self.assistant)


class _Attack(_Line):
    attack: str = Field(min_length=1)
    turns: tuple[_Said, ...] = ()
    planted: str = ""
    reply: str = Field(min_length=1)
    forbidden: tuple[str, ...] = Field(min_length=1)

    def drill(self) -> Attack:
        said = tuple(turn.turn() for turn in self.turns)
        return Attack(
            self.id, self.kind, self.attack, said, self.planted, self.reply, self.forbidden
        )


class _Slack(_Line):
    markdown: str
    text: str = ""
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    limit: int = Field(default=0, ge=0)

    def drill(self) -> SlackCase:
        if not (self.text or self.shows or self.hides):
            raise ValueError("nothing is said of how it shows: give 'text', 'shows' or 'hides'")
        return SlackCase(
            self.id, self.kind, self.markdown, self.text, self.shows, self.hides, self.limit
        )


_KNOWN_BY: Mapping[str, type[_Code | _Attack | _Slack]] = {
    "code": _Code,
    "attack": _Attack,
    "markdown": _Slack,
}


def is_drill(values: object) -> bool:
    """Whether a line of a file is one of these cases."""
    return isinstance(values, dict) and any(name in values for name in _KNOWN_BY)


def drill(values: Mapping[str, Any]) -> Drill:
    """The case of such a line; raises ValueError (pydantic's too) that says what is wrong."""
    model = next(model for name, model in _KNOWN_BY.items() if name in values)
    return model.model_validate(values).drill()
