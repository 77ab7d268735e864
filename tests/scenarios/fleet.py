"""Real processes of the bot in one workspace, on one home and one database.

The commands beside this module put them under load, in trouble, or both.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaflowbot.embedding import MiniLM
from tests.databases import PostgresServer, postgres_folder, postgres_server
from tests.openai_double import OpenAIDouble, cited_answer
from tests.process import MAIN, Process
from tests.slack_double import SlackDouble
from tests.slack_world import is_whole
from tests.small_index import publish

_NO_LIMITS = "[limits]\nperson = 0\nchannel = 0\n"
_PERSON_COUNT = 100
# A start takes a few seconds where the machine has nothing else to do.
_START_SECONDS = 300.0


class Fleet:
    """Some processes of the bot; what ends is started again by `tend`."""

    def __init__(
        self, home: Path, slack: SlackDouble, environment: Mapping[str, str], main: str
    ) -> None:
        self.home = home
        self.processes: list[Process] = []
        self.ended_by_themselves = 0
        self._main = main
        self._environment = {
            "SLACK_BOT_TOKEN": slack.bot_token,
            "SLACK_API_URL": slack.api_url,
            **environment,
        }

    def start(self, count: int) -> None:
        """So many more processes; returns when they are ready to answer."""
        started = [self._started() for _ in range(count)]
        self.processes += started
        for process in started:
            process.until(lambda process=process: is_ready(process))

    def _started(self) -> Process:
        return Process(self.home, ("serve", "--port", "0"), self._environment, self._main)

    def kill(self, chance: random.Random) -> None:
        """kill -9 of one that is at work; a new one takes its place, and may still be starting."""
        until(lambda: any(map(is_ready, self.processes)), _START_SECONDS, self.tend)
        number = chance.choice([n for n, each in enumerate(self.processes) if is_ready(each)])
        self.processes[number].kill()
        self.processes[number] = self._started()

    def tend(self) -> None:
        """Start again whatever ended by itself, as a supervisor does."""
        for number, process in enumerate(self.processes):
            if process.has_ended:
                self.ended_by_themselves += 1
                self.processes[number] = self._started()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()


def is_ready(process: Process) -> bool:
    """Whether it hears Slack and has loaded what it answers from."""
    return "ready: index" in process.said


class Site:
    """A workspace with many people in one channel, a model server, and an index to answer from."""

    def __init__(self, home: Path, slack: SlackDouble, model: OpenAIDouble) -> None:
        self.home = home
        self.slack = slack
        self.model = model
        self.people = [slack.add_user(f"person{n}") for n in range(_PERSON_COUNT)]
        self.channel = slack.add_channel("ask-metaflow", [*self.people, slack.bot_user_id])

    @contextmanager
    def fleet(
        self,
        count: int,
        database: str = "",
        main: str = MAIN,
        transport: str = "socket",
        **environment: str,
    ) -> Iterator[Fleet]:
        """So many processes that answer with the model; they are killed at the end.

        `database` is the URL of an empty one, '' for SQLite under the home; `main` is the Python
        that they run. By HTTP, Slack knows the address of the first alone.
        """
        token = {
            "socket": {"SLACK_APP_TOKEN": self.slack.app_token},
            "http": {"SLACK_SIGNING_SECRET": self.slack.signing_secret},
        }[transport]
        given = token | {"OPENAI_API_KEY": self.model.key, "OPENAI_BASE_URL": self.model.url}
        if database:
            given["METAFLOWBOT_DATABASE_URL"] = database
        fleet = Fleet(self.home, self.slack, given | environment, main)
        try:
            fleet.start(count)
            if transport == "http":
                self.slack.http_endpoint = f"{fleet.processes[0].address}/slack/events"
            yield fleet
        finally:
            fleet.stop()

    def ask(self, number: int) -> str:
        """One of the people mentions the bot with a question of their own; the message's ts."""
        text = f"How do I retry a failing step with a delay? This is about flow {number}."
        return self.say(f"<@{self.slack.bot_user_id}> {text}", number)

    def say(self, text: str, number: int = 0, thread: str | None = None) -> str:
        person = self.people[number % len(self.people)]
        return str(self.slack.say(self.channel, person, text, thread_ts=thread))

    def replies(self) -> defaultdict[str, list[dict[str, Any]]]:
        """What the bot has under each message of the channel, by the message's ts."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for message in self.slack.messages(self.channel):
            if message.get("bot_id"):
                found[str(message["thread_ts"])].append(message)
        return found

    def unanswered(self, asked: Iterable[str]) -> list[str]:
        """Those of the messages that have no whole answer of their own."""
        replies = self.replies()
        return [ts for ts in asked if not any(is_answer(each, ts) for each in replies[ts])]

    def changed(self) -> Mapping[str, float]:
        """When each message of the bot's was written to last, by its ts: epoch seconds."""
        last: dict[str, float] = {}
        for call in self.slack.calls:
            if call.method.startswith("chat.") and call.response.get("ok"):
                last[str(call.arguments.get("ts") or call.response.get("ts"))] = call.at
        return last


@contextmanager
def site(clock_scale: float = 1.0) -> Iterator[Site]:
    """A site in a folder of its own, gone at the end, also where the command is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with (
        tempfile.TemporaryDirectory() as folder,
        SlackDouble(clock_scale) as slack,
        OpenAIDouble() as model,
    ):
        home = Path(folder) / "home"
        publish(home, MiniLM(home / "cache"))
        (home / "metaflowbot.toml").write_text(_NO_LIMITS, encoding="utf-8")
        yield Site(home, slack, model)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL; ends the command where there is none."""
    programs = postgres_folder()
    if programs is None:
        sys.exit("PostgreSQL is not installed: apt-get install postgresql")
    with postgres_server(programs) as server:
        yield server


def slow(seconds: float) -> Callable[[list[dict[str, Any]]], str]:
    """An answer from the sources in the prompt, after that long."""

    def answer(messages: list[dict[str, Any]]) -> str:
        time.sleep(seconds)
        return cited_answer(messages)

    return answer


def until(condition: Callable[[], Any], seconds: float, tend: Callable[[], object] = int) -> Any:
    """The first truthy value of the condition, or its last falsy one; `tend` is called between."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        tend()
        time.sleep(0.2)
    return value


def is_answer(reply: dict[str, Any], ts: str) -> bool:
    """Whether it is a whole answer to that very message, and not a line of apology."""
    payload = reply.get("metadata", {}).get("event_payload", {})
    ours = str(payload.get("inbox_key", "")).endswith(f"/{ts}")
    return is_whole(reply) and ours and bool(payload["answer_id"])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of them do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
