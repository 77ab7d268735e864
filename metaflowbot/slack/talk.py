"""What people said in a thread before a question."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from slack_sdk.errors import SlackApiError

from metaflowbot.slack.clients import Clients, refusal
from metaflowbot.slack.standing import READING_REFUSED, thread_messages
from metaflowbot.slack.writing import Place

# So many of the latest messages are looked at: what is further back is seldom meant.
_REACH = 6


@dataclass(frozen=True, slots=True)
class Talk:
    """The messages of a thread before a question, oldest first; () outside threads.

    `known` is False where Slack does not let us read them.
    """

    said: tuple[Mapping[str, Any], ...] = ()
    known: bool = True

    @classmethod
    def before(cls, clients: Clients, place: Place) -> Talk:
        """Read it; raises SLACK_FAILURES where Slack does not answer now."""
        if place.thread in ("", place.message):
            return cls()
        try:
            found = thread_messages(clients, place.channel, place.thread)
        except SlackApiError as error:
            if refusal(error) not in READING_REFUSED:
                raise
            return cls(known=False)
        return cls(tuple(m for m in found if float(m["ts"]) < float(place.message)))

    def answers_to(self, asker: str, bot: str) -> bool:
        """Whether the bot was the last to speak before that person did."""
        others = [each for each in self.said if each.get("user") != asker]
        return bool(others) and others[-1].get("user") == bot

    def since_answer(self, bot: str, silent: Container[str]) -> tuple[Mapping[str, Any], ...]:
        """The latest messages of people since the bot spoke, but for those of `silent` people."""
        spoke = [n for n, each in enumerate(self.said) if each.get("user") == bot]
        since = self.said[spoke[-1] + 1 if spoke else 0 :]
        people = (each for each in since if each.get("user") and not each.get("bot_id"))
        heard = [each for each in people if each["user"] not in silent and _says_something(each)]
        return tuple(heard[-_REACH:])


def _says_something(message: Mapping[str, Any]) -> bool:
    words = message.get("text") or message.get("files")
    return bool(words) and message.get("subtype") != "tombstone"
