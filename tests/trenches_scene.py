"""A workspace with an asker, maintainers and a trenches channel, and the whole bot in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaflowbot import prompts
from metaflowbot.answer import Answerer
from metaflowbot.bot import Bot
from metaflowbot.domain import Question
from metaflowbot.escalation import Escalation
from metaflowbot.index import Index
from metaflowbot.retrieve import Retriever
from metaflowbot.settings import Settings
from metaflowbot.slack.service import SlackService
from metaflowbot.store import Asking, Store
from tests.conftest import WordEmbedding
from tests.slack_double import SlackDouble
from tests.small_index import OFF_TOPIC, publish


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """The first truthy value of the condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return value


def a_bot(home: Path, store: Store) -> Bot:
    """The real bot over the small index, without a model."""
    embedding = WordEmbedding()
    publish(home, embedding)
    index = Index(home)

    def answerer() -> Answerer:
        retriever = Retriever.over(index.load(), embedding)
        return Answerer(retriever, None, prompts.load("answer", "sources"))

    return Bot(store, index.active_id, answerer)


class Scene:
    """Ann asks in a channel; Max and Mia (through a user group) are maintainers."""

    def __init__(self, slack: SlackDouble, home: Path) -> None:
        self.slack = slack
        self.url = f"sqlite:///{home}/metaflowbot.db"
        self.store = Store.open(self.url)
        self.bot = a_bot(home, self.store)
        self.ann, self.max, self.mia = map(slack.add_user, ("ann", "max", "mia"))
        ours = slack.bot_user_id
        self.channel = slack.add_channel("ask-metaflow", [self.ann, self.max, ours])
        self.trenches = slack.add_channel(
            "from-the-trenches", [self.max, self.mia, self.ann, ours], "group"
        )
        self.group = slack.add_usergroup([self.mia])
        # What the tests do past Slack is worked off at once, as what comes from Slack is.
        self.wake: Callable[[], None] = lambda: None

    def settings(self, **trenches: Any) -> Settings:
        people = {"channel": "from-the-trenches", "maintainers": [self.max, self.group]}
        return Settings.model_validate(
            {
                "slack_bot_token": self.slack.bot_token,
                "slack_app_token": self.slack.app_token,
                "slack_api_url": self.slack.api_url,
                "trenches": people | trenches,
            }
        )

    @contextmanager
    def serving(self, **trenches: Any) -> Iterator[SlackService]:
        service = SlackService(self.settings(**trenches), self.bot, self.store)
        service.start()
        self.wake = service._workers.wake
        try:
            yield service
        finally:
            service.stop()

    def asked(self, text: str = OFF_TOPIC, channel: str = "") -> tuple[Asking, str]:
        """Ann's question as it was answered: who and where, and the answer's id."""
        channel = channel or self.channel
        ts = self.slack.say(channel, self.ann, text)
        asking = Asking(f"slack:{self.ann}", channel, ts, ts)
        return asking, self.bot.ask(Question(text), asking).id

    def escalated(self, text: str = OFF_TOPIC, channel: str = "") -> Escalation:
        asking, answer = self.asked(text, channel)
        escalation = self.bot.escalate(asking, answer, asking.person)
        self.wake()
        return escalation

    def card(self, count: int = 1) -> dict[str, Any]:
        """The newest card, once there are `count` messages in the trenches channel."""
        messages = until(lambda: self.in_trenches() if len(self.in_trenches()) >= count else [])
        return dict(messages[-1])

    def in_trenches(self) -> list[dict[str, Any]]:
        """The messages in the trenches channel, threads under them left out."""
        found = self.slack.messages(self.trenches)
        return [each for each in found if each.get("thread_ts", each["ts"]) == each["ts"]]

    def shows(self, text: str) -> dict[str, Any]:
        """The card, once its blocks say this."""
        return dict(until(lambda: next((c for c in self.in_trenches() if text in said(c)), None)))

    def told(self, text: str, thread: str, channel: str = "") -> dict[str, Any]:
        """The bot's message in the asker's thread that says this, once it is there."""

        def found() -> dict[str, Any] | None:
            messages = self.slack.thread(channel or self.channel, thread)
            return next((m for m in messages if m.get("bot_id") and text in said(m)), None)

        return dict(until(found))

    def lines(self, thread: str, channel: str = "") -> list[str]:
        """All that the bot said in a thread."""
        messages = self.slack.thread(channel or self.channel, thread)
        return [message["text"] for message in messages if message.get("bot_id")]

    def press(self, step: str, user: str, card: dict[str, Any] | None = None) -> None:
        card = card or self.card()
        self.slack.click(self.trenches, card["ts"], f"trenches_{step}", user)

    def fill(self, step: str, user: str, values: dict[str, Any]) -> Any:
        """Press a button that opens a form, and submit that; what Slack was answered."""
        self.press(step, user)
        form = until(lambda: self.slack.modal(user))
        return self.slack.submit(form["id"], user, values)

    def whisper(self, user: str) -> str:
        """The newest line that this person alone sees, once there is one."""
        mine = lambda: [each.text for each in self.slack.ephemerals if each.user == user]  # noqa: E731
        return str(until(mine)[-1])


def said(message: dict[str, Any]) -> str:
    """All text of a message, blocks included."""
    parts = [message.get("text", "")]
    for block in message.get("blocks", []):
        text = block.get("text", "")
        parts.append(text if isinstance(text, str) else text.get("text", ""))
        parts += [e["text"] for e in block.get("elements", []) if isinstance(e.get("text"), str)]
    return "\n".join(map(str, parts))
