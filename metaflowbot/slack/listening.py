"""What a message is to us: pure, from its own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A person's own words; every other subtype is an edit, a notice of Slack's, or a bot.
_SUBTYPES = (None, "file_share", "thread_broadcast")
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MENTION = re.compile(r"<@([UW]\w+)(?:\|[^>]*)?>|<!(?:here|channel|everyone|subteam)[^>]*>")
_ASKS = re.compile(
    r"^\W*(?:(?:so|and|but|ok|okay|hi|hey|hello|thanks|also)\W+)*"
    r"(?:how|what|why|when|where|which|who|whose|can|could|is|are|am|does|do|did|should|would|will"
    r"|has|have|any(?:one|body)|i(?:'m| am)? (?:stuck|getting|trying|can(?:'|no)t|want|need))\b",
    re.IGNORECASE,
)
_TROUBLE = re.compile(r"Traceback \(most recent call last\)|\b\w+(?:Error|Exception)\b:")


_FAILS = re.compile(
    r"\b(?:does|did|do|is|was|has|have|wo|ca|could)(?:n['’]?t| not)\b.{0,30}"
    r"\b(?:works?|help|run|start|change|fix|solve|appear|show|find|found|recogni[sz]ed)\b"
    r"|\bstill\b.{0,40}\b(?:fail|error|get|see|same|hang|stuck|not|crash|happen)"
    r"|\b(?:fails?|failed|crash(?:es|ed)|hangs?|breaks)\b|\bno luck\b"
    r"|\bsame (?:error|problem|issue|thing|result)\b"
    r"|\bI(?:['’]m| am)?(?: now)? (?:get|got|see|getting|seeing)\b.{0,60}"
    r"\b(?:error|exception|warning|failure)\b",
    re.IGNORECASE,
)
_RELIEF = re.compile(
    r"\b(?:thanks?|thx|works|worked|solved|fixed|no longer|any ?more)\b", re.IGNORECASE
)
_BUT = re.compile(r"\b(?:but|still|however|unfortunately)\b", re.IGNORECASE)


_THANKED = re.compile(
    r"\b(?:thanks?|thx|ty|cheers|great|awesome|perfect|nice|cool|works?|worked|helps?|helped|bye"
    r"|good bot)\b",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"\W*(?:(?:thanks?|thank you|thx|ty|cheers|so|very|much|a lot|many|again|great|awesome|perfect"
    r"|nice|cool|ok(?:ay)?|that|this|it|works?|worked|helps?|helped|bye|you|for|your|the|answer"
    r"|good bot)\b\W*)+",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"\W*(?:(?:hi|hello|hey|hiya|yo|good|morning|afternoon|evening|day|there|all|everyone|team|bot"
    r"|metaflowbot|how are you|test|ping)\b\W*)+",
    re.IGNORECASE,
)
_CALL = re.compile(
    r"\W*(?:(?:hey|hi|hello|please|pls|can|could|would|will|do|does|you|any|some|idea|ideas|help"
    r"|here|with|this|that|thoughts?|what|think|know|answer|it|the|question|above|look|at|take|a"
    r"|have|on|him|her|them|us|me|out|maybe|about|see|please|input|suggestions?|how)\b\W*)+",
    re.IGNORECASE,
)


_SMALL_TALK = 60  # characters


@dataclass(frozen=True, slots=True)
class Heard:
    """A person's message. `thread` is the root's ts, its own for a message outside threads.

    `files` are Slack's descriptions of what was attached.
    """

    channel: str
    ts: str
    thread: str
    user: str
    text: str
    is_direct: bool
    files: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, event: Mapping[str, Any], bot_user_id: str) -> Heard | None:
        """The message in an event; None for what no person wrote to be read, ours included."""
        user, channel, ts = (event.get(name) for name in ("user", "channel", "ts"))
        if event.get("subtype") not in _SUBTYPES or event.get("bot_id"):
            return None
        if not all(isinstance(each, str) and each for each in (user, channel, ts)):
            return None
        if user in (bot_user_id, "USLACKBOT"):
            return None
        files = event.get("files")
        return cls(
            str(channel),
            str(ts),
            str(event.get("thread_ts") or ts),
            str(user),
            str(event.get("text") or ""),
            event.get("channel_type") == "im" or str(channel).startswith("D"),
            tuple(each for each in files if isinstance(each, dict)) if files else (),
        )

    @property
    def in_thread(self) -> bool:
        return self.thread != self.ts

    def mentions(self, user: str) -> bool:
        """Whether it names that user."""
        return any(match[1] == user for match in _MENTION.finditer(self.text))

    @property
    def addresses_people(self) -> bool:
        """Whether it names anybody, a group or everyone."""
        return _MENTION.search(self.text) is not None


def is_thanks(text: str) -> bool:
    """Whether the words are thanks and nothing more."""
    return bool(_THANKED.search(text)) and _is_all(_THANKS, text) and "?" not in text


def is_greeting(text: str) -> bool:
    """Whether the words greet and ask nothing."""
    return _is_all(_GREETING, text)


def is_call(text: str) -> bool:
    """Whether the words only call for an answer to what was said before: 'any idea?', ''."""
    return not text or _is_all(_CALL, text)


def _is_all(words: re.Pattern[str], text: str) -> bool:
    """Whether the text is of such words alone; small talk is short, and long texts take long."""
    return len(text) <= _SMALL_TALK and words.fullmatch(text) is not None


def is_trouble(text: str) -> bool:
    """Whether the words, under an answer, say that it did not help: that asks for another."""
    prose = _FENCE.sub(" ", text)
    relieved = _RELIEF.search(prose) and not _BUT.search(prose)
    return bool(_FAILS.search(prose)) and not relieved


def is_question(text: str) -> bool:
    """Whether the words ask for something: a question mark, a question's first word, a trace."""
    prose = _FENCE.sub(" ", text)
    if _TROUBLE.search(text):
        return True
    without_links = re.sub(r"<https?:[^>]*>", " ", prose)
    return "?" in without_links or any(_ASKS.match(line) for line in without_links.splitlines())
