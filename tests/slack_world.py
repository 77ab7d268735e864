"""A workspace, a store and a scripted bot, joined by the real Slack service on either transport.

A module that wants the fixtures says `pytest_plugins = ["tests.slack_world"]`.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient

from metaflowbot.bot import Vitals
from metaflowbot.domain import (
    Answer,
    AnswerEvent,
    Citation,
    Delta,
    Feedback,
    Hit,
    Passage,
    Progress,
    Question,
)
from metaflowbot.escalation import Escalation, Step
from metaflowbot.manifest import Manifest, SourceCount
from metaflowbot.settings import Settings
from metaflowbot.slack.service import SlackService
from metaflowbot.store import Asking, Store
from tests.loopback import Reply, Request, serving
from tests.slack_double import SlackDouble

PAGE = Passage("docs/a.md#0", "docs/a.md", "metaflow-docs", "A page", (), "https://docs.io/a", "…")
THREAD = Passage(
    "slack:ask/1.0#0", "slack:ask/1.0", "slack", "An old thread", (), "https://x.slack.com/t", "…"
)


class ScriptedBot:
    """Answers by repeating the question, in some pieces, or does what a test puts in `does`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids = itertools.count(1)
        self.asked: list[Question] = []
        self.askings: list[Asking] = []
        self.does: Callable[[Answer], Answer] = lambda answer: answer
        self.thread: Hit | None = None
        self.before_piece: Callable[[int], object] = lambda n: None
        self.pieces = 2
        self.escalated: list[tuple[Asking, str, str]] = []
        self.resolved: list[tuple[str, str, str, str]] = []
        self.forgotten: list[str] = []
        self.changed: set[str] = set()

    def stream(self, question: Question, asking: Asking) -> Iterator[AnswerEvent]:
        self.asked.append(question)
        self.askings.append(asking)
        yield Progress("searching")
        yield Progress("reading", (Hit(1, 1.0, (PAGE,)),), self.thread)
        answer = self.does(
            Answer(
                id=f"answer-{next(self._ids)}",
                question=question.text,
                text=f"You asked: {question.text} [1].",
                citations=(Citation(1, "docs/a.md", "A page", "https://docs.io/a", "quote"),),
                abstained=False,
                confidence=0.5,
                model="none",
                prompt_version="p1",
                generation="g1",
            )
        )
        size = max(len(answer.text) // self.pieces, 1)
        for n in range(self.pieces):
            self.before_piece(n)
            end = None if n == self.pieces - 1 else (n + 1) * size
            yield Delta(answer.text[n * size : end])
        yield Progress("checking")
        self._store.save_answer(answer, asking)
        yield answer

    def fail_once(self, error: Exception) -> None:
        """The next answer ends in that error, and the one after it does not."""
        failures = [error]

        def does(answer: Answer) -> Answer:
            if failures:
                raise failures.pop()
            return answer

        self.does = does

    def rate(self, feedback: Feedback) -> None:
        self._store.rate(feedback)

    def unrate(self, feedback: Feedback) -> None:
        self._store.unrate(feedback)

    def escalate(self, asking: Asking, answer_id: str, person: str) -> Escalation:
        self.escalated.append((asking, answer_id, person))
        step = Step("open", person, datetime.now(UTC))
        place = asking.channel, asking.thread, asking.message
        return Escalation(
            "e1", 1, "open", answer_id, "why?", asking.person, *place, ("asked",), (step,)
        )

    def resolve(self, channel: str, thread: str, answer: str, person: str) -> None:
        self.resolved.append((channel, thread, answer, person))

    def forget(self, person: str) -> Mapping[str, int]:
        self.forgotten.append(person)
        return self._store.forget(person)

    def opt_out(self, person: str) -> None:
        self._store.threads.opt_out(person)

    def opt_in(self, person: str) -> None:
        self._store.threads.opt_in(person)

    def outdated(self, answers: Iterable[Answer]) -> frozenset[str]:
        return frozenset(answer.id for answer in answers if answer.id in self.changed)

    def generation(self) -> str:
        return "g1"

    def vitals(self) -> Vitals:
        count = {"metaflow-docs": SourceCount(7, 42)}
        manifest = Manifest("g1", 1, "2026-01-02T03:04:05+00:00", "test:words", count, 42, {}, {})
        return Vitals((), manifest, None)


class World:
    """A workspace with Ann and Bob in one channel, a store, a bot, and settings to join them."""

    def __init__(self, slack: SlackDouble, store: Store, transport: str) -> None:
        self.slack = slack
        self.store = store
        self.transport = transport
        self.bot = ScriptedBot(store)
        self.ann: str = slack.add_user("ann")
        self.bob: str = slack.add_user("bob")
        self.members = [self.ann, self.bob, slack.bot_user_id]
        self.mia = ""
        self.channel: str = slack.add_channel("ask-metaflow", members=self.members)

    def settings(self, transport: str = "", **values: object) -> Settings:
        """Settings for a transport ("socket" or "http"), and whatever else is to be set."""
        mode = {
            "socket": {"slack_app_token": self.slack.app_token},
            "http": {"slack_signing_secret": self.slack.signing_secret},
        }[transport or self.transport]
        common = {"slack_bot_token": self.slack.bot_token, "slack_api_url": self.slack.api_url}
        return Settings.model_validate(common | mode | values)

    @contextmanager
    def serving(self, transport: str = "", **values: object) -> Iterator[SlackService]:
        """The service with those settings; over HTTP behind a real server."""
        settings = self.settings(transport, **values)
        service = SlackService(settings, self.bot, self.store)
        service.start()
        try:
            if settings.slack_mode == "http":
                with endpoint(service) as url:
                    self.slack.http_endpoint = url
                    yield service
            else:
                yield service
        finally:
            self.slack.http_endpoint = None
            service.stop()

    def say(self, text: str, thread: str | None = None, user: str = "") -> str:
        """Ann (or another) writes in the channel; the timestamp of the message."""
        return str(self.slack.say(self.channel, user or self.ann, text, thread_ts=thread))

    def ask(self, text: str, thread: str | None = None, user: str = "") -> str:
        return self.say(f"<@{self.slack.bot_user_id}> {text}", thread, user)

    def replies(self, ts: str, channel: str = "") -> list[dict[str, Any]]:
        thread = self.slack.thread(channel or self.channel, ts)
        return [each for each in thread if each.get("bot_id")]

    def reply(self, ts: str, count: int = 1, channel: str = "") -> dict[str, Any]:
        """The bot's newest message in that thread, once there are `count` and they are whole."""
        until(lambda: sum(map(is_whole, self.replies(ts, channel))) >= count)
        return self.replies(ts, channel)[-1]

    def calls(self, method: str) -> list[Any]:
        return [call for call in self.slack.calls if call.method == method]

    def told(self, user: str = "") -> list[str]:
        """What that person alone was told."""
        return [each.text for each in self.slack.ephemerals if each.user == (user or self.ann)]

    def settle(self) -> None:
        """Wait until nothing is left in the inbox."""
        until(lambda: self.store.health().depth == 0)

    def leave_behind(self, ts: str, text: str) -> str:
        """Put a question into the inbox as a worker leaves it that died at its first attempt."""
        key = f"{self.slack.team_id}/{self.channel}/{ts}"
        payload = {
            "team": self.slack.team_id,
            "channel": self.channel,
            "thread": ts,
            "message": ts,
            "user": self.ann,
            "text": text,
        }
        assert self.store.receive(key, "question", payload, person=f"slack:{self.ann}")
        self.store.claim(0)
        return key

    @property
    def client(self) -> WebClient:
        """The bot's own client, for what an earlier process of it did."""
        return WebClient(self.slack.bot_token, base_url=self.slack.api_url)

    def half_stream(self, ts: str, key: str) -> str:
        """A stream that a process began, and that it was writing to when it died; its ts."""
        step = {"type": "task_update", "id": f"{key}#searching", "title": "S", "status": "pending"}
        started = self.client.chat_startStream(
            channel=self.channel,
            thread_ts=ts,
            recipient_team_id=self.slack.team_id,
            recipient_user_id=self.ann,
            chunks=[step, {"type": "markdown_text", "text": "You ask"}],
        )
        return str(started["ts"])

    def posted_part(self, ts: str, key: str, answer_id: str, part: int, parts: int) -> None:
        """One part of an answer that a process posted before it died."""
        payload = {"answer_id": answer_id, "inbox_key": key, "part": part, "parts": parts}
        self.client.chat_postMessage(
            channel=self.channel,
            thread_ts=ts,
            text="the first part",
            metadata={"event_type": "metaflowbot_answer", "event_payload": payload},
        )

    def modal(self, user: str = "") -> dict[str, Any]:
        """What Ann (or another) has open, once it is."""
        form: dict[str, Any] = until(lambda: self.slack.modal(user or self.ann))
        return form

    def click(self, ts: str, action: str, user: str = "", value: Any = None) -> Any:
        """Ann (or another) presses a button under the newest answer in that thread."""
        reply = self.reply(ts)
        return self.slack.click(self.channel, reply["ts"], action, user or self.ann, value=value)


def is_whole(message: Mapping[str, Any]) -> bool:
    payload = message.get("metadata", {}).get("event_payload", {})
    return bool(int(payload.get("parts", 0)))


def shown(message: Mapping[str, Any]) -> str:
    """All text of a message, as its blocks show it, or its text where it has none."""
    return "\n".join(_texts(message["blocks"])) if message.get("blocks") else message["text"]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if name in ("text", "title") and isinstance(part, str):
                yield part
            else:
                yield from _texts(part)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def signed(secret: str, body: bytes, age: float = 0) -> dict[str, str]:
    stamp = str(int(time.time() - age))
    digest = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256)
    return {
        "content-type": "application/json",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest.hexdigest()}",
    }


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """The first truthy value of the condition; the time limit is for machines that are busy."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return value


@contextmanager
def endpoint(service: SlackService) -> Iterator[str]:
    """The service behind a real HTTP server, as the web application mounts it."""

    def dispatch(request: Request) -> Reply:
        status, headers, said = service.dispatch(request.body, request.headers)
        return Reply(status, said, headers)

    with serving(dispatch) as url:
        yield f"{url}/slack/events"


@contextmanager
def elsewhere() -> Iterator[tuple[str, Callable[[], bool]]]:
    """An address that is not Slack's, and whether anybody has called there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        def was_called() -> bool:
            with suppress(BlockingIOError):
                listener.accept()[0].close()
                return True
            return False

        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", was_called


@pytest.fixture(params=["socket", "http"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(tmp_path: Path, transport: str) -> Iterator[World]:
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    # Slack's three seconds for an acknowledgement are no promise of a busy machine.
    with SlackDouble(clock_scale=6) as slack:
        yield World(slack, store, transport)
    store.close()


@pytest.fixture
def live(world: World) -> Iterator[World]:
    """The world with the bot in it."""
    with world.serving():
        yield world
