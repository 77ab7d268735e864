"""From a question that nobody could answer to a published write-up, with a real process in Slack.

And what Slack shows when that process is killed at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from metaflowbot.bot import Bot
from metaflowbot.domain import Answer
from metaflowbot.escalation import Session, Solution
from metaflowbot.store import Asking, Store
from tests.process import MAIN, SECONDS, Process
from tests.slack_double import SlackDouble
from tests.trenches_scene import said, until

QUESTION = "Why does the quokka exporter drop every second artifact of a @retry step in a foreach?"
SAME_IN_OTHER_WORDS = "the quokka exporter loses artifacts of retried steps, every second one"
ANSWER = (
    "The quokka exporter skips the first attempt: set `QUOKKA_ATTEMPTS=all` with the"
    " `@environment` decorator, and it exports the artifacts of every attempt."
)
DOCS = Path(__file__).parent.parent / "corpus"


@dataclass
class Town:
    """A workspace, a home, and what an operator types."""

    slack: SlackDouble
    home: Path
    ann: str
    max: str
    channel: str
    trenches: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "METAFLOWBOT_HOME": str(self.home),
            "METAFLOWBOT_CONFIG": str(self.home / "metaflowbot.toml"),
            "SLACK_BOT_TOKEN": self.slack.bot_token,
            "SLACK_APP_TOKEN": self.slack.app_token,
            "SLACK_API_URL": self.slack.api_url,
        }

    def run(self, *arguments: str, code: int = 0) -> str:
        """One command of the operator's; what it printed."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        ended = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            cwd=self.home,
            env={**kept, "HOME": str(self.home), "USERNAME": "tester", **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    def show(self, dies: str) -> int:
        """Bring Slack up to date in a process that dies at its first post, or never; its code."""
        environment = {**os.environ, **self.environment}
        command = [sys.executable, "-c", SHOWING, dies]
        return subprocess.run(command, env=environment, timeout=60, check=False).returncode

    def serve(self) -> Process:
        return Process(self.home, ("serve", "--port", "0"), self.environment)

    def seen(self, text: str, channel: str, thread: str = "") -> dict[str, Any]:
        """The bot's message that says this, once it is there."""

        def found() -> dict[str, Any] | None:
            messages = (
                self.slack.thread(channel, thread) if thread else self.slack.messages(channel)
            )
            return next((m for m in messages if m.get("bot_id") and text in said(m)), None)

        return dict(until(found, SECONDS))

    def fill(self, step: str, values: dict[str, Any]) -> None:
        card = self.seen("Open the thread", self.trenches)
        self.slack.click(self.trenches, card["ts"], f"trenches_{step}", self.max)
        form = until(lambda: self.slack.modal(self.max))
        self.slack.submit(form["id"], self.max, values)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with SlackDouble(clock_scale=6) as slack:
        ann, mia = slack.add_user("ann"), slack.add_user("max")
        ours = slack.bot_user_id
        channel = slack.add_channel("ask-metaflow", [ann, mia, ours])
        trenches = slack.add_channel("from-the-trenches", [mia, ours])
        (tmp_path / "metaflowbot.toml").write_text(
            '[sources.slack]\nlocation = "slack"\nchannels = ["ask-metaflow"]\n'
            f'[trenches]\nchannel = "from-the-trenches"\nmaintainers = ["{mia}"]\n'
        )
        yield Town(slack, tmp_path, ann, mia, channel, trenches)


def test_a_question_that_nobody_could_answer_becomes_a_write_up_and_an_answer(town: Town) -> None:
    town.run("ingest", "--docs", str(DOCS), "--only", "docs")
    process = town.serve()
    try:
        thread = asked_and_handed_on(town)
        identity = solved_in_slack(town, thread)
        assert answered_from(process, thread)
        packed_and_run(town, identity)
        town.run("trenches", "publish", identity, "--url", "https://labs.example/learn/quokka")
        town.seen("https://labs.example/learn/quokka", town.channel, thread)
        town.seen("Published", town.trenches)
    finally:
        process.kill()
    cases = [json.loads(line) for line in town.run("feedback", "export").splitlines()]
    answered = [(case["question"], case["reference"]) for case in cases if "reference" in case]
    assert answered == [(QUESTION, ANSWER)]


def asked_and_handed_on(town: Town) -> str:
    """Ann asks, the bot has no answer, and she asks for a human; the thread."""
    mention = f"<@{town.slack.bot_user_id}> {QUESTION}"
    until(lambda: town.slack.sockets, SECONDS)
    thread = town.slack.say(town.channel, town.ann, mention)
    answer = answered(town, thread)
    town.slack.click(town.channel, answer["ts"], "metaflowbot_human", town.ann)
    town.seen("A human will look at this", town.channel, thread)
    return thread


def answered(town: Town, thread: str) -> dict[str, Any]:
    """The bot's answer with its buttons, once it stands whole and the bot has it on record."""
    store = Store.open(f"sqlite:///{town.home}/metaflowbot.db")
    until(
        lambda: any(post.answer_id for post in store.slack.posts_to(town.channel, thread)), SECONDS
    )
    store.close()

    def whole() -> dict[str, Any] | None:
        messages = town.slack.thread(town.channel, thread)
        return next((m for m in messages if "metaflowbot_human" in json.dumps(m)), None)

    return dict(until(whole, SECONDS))


def solved_in_slack(town: Town, thread: str) -> str:
    """Max claims, schedules and solves it; Ann gets the answer and may be quoted."""
    card = town.seen("Open the thread", town.trenches)
    assert "quokka" in said(card)
    town.slack.click(town.trenches, card["ts"], "trenches_claim", town.max)
    town.seen("Claimed", town.trenches)
    town.fill("schedule", {"day": "2026-12-01", "people": [town.ann]})
    town.seen("A session on this is set", town.channel, thread)
    town.fill("solve", {"text": ANSWER})
    town.seen("skips the first attempt", town.channel, thread)
    consent = town.seen("May we quote", town.channel, thread)
    town.slack.click(town.channel, consent["ts"], "trenches_consent_given", town.ann)
    town.seen("without your name", town.channel, thread)
    (escalation,) = json.loads(town.run("trenches", "list", "--json"))["escalations"]
    return str(escalation["id"])


def answered_from(process: Process, thread: str) -> bool:
    """Whether other words for the question are answered from that thread, once it was read."""

    def found() -> bool:
        with process.client() as client:
            said = client.post("/api/ask", json={"question": SAME_IN_OTHER_WORDS}).json()
        cited = [each["document_id"] for each in said["citations"]]
        return not said["abstained"] and f"slack:ask-metaflow/{thread}" in cited

    return bool(process.until(found, pause=0.5))


def packed_and_run(town: Town, identity: str) -> None:
    """The package is written without names, its flow runs, and its test passes."""
    town.run("trenches", "package", identity, "--out", "pkg")
    package = town.home / "pkg"
    text = "\n".join(path.read_text() for path in package.rglob("*") if path.is_file())
    assert QUESTION.partition(" @retry")[0] in text
    assert town.ann not in text
    environment = {**os.environ, "METAFLOW_HOME": str(town.home), "USERNAME": "tester"}
    for command in (["flow.py", "run"], ["-m", "pytest", "-q", "-p", "no:cacheprovider"]):
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    town.run("trenches", "package", identity, "--out", "pkg", code=2)


def test_a_process_that_is_killed_at_any_post_leaves_slack_as_the_state_has_it(town: Town) -> None:
    store = Store.open(f"sqlite:///{town.home}/metaflowbot.db")
    thread = town.slack.say(town.channel, town.ann, QUESTION)
    asking = Asking(f"slack:{town.ann}", town.channel, thread, thread)
    store.save_answer(Answer("a1", QUESTION, "No.", (), True, 0.1, "none", "p", "g"), asking)
    never = lambda: None  # noqa: E731
    bot = Bot(store, never, never)  # type: ignore[arg-type]
    identity = bot.escalate(asking, "a1", asking.person).id
    bot.claim(identity, f"slack:{town.max}")
    bot.schedule(identity, Session(date(2026, 12, 1)), f"slack:{town.max}")
    bot.solve(identity, Solution(ANSWER), f"slack:{town.max}")
    for moment in ("before", "after", "after", "after"):
        assert town.show(moment) == -signal.SIGKILL
    assert town.show("never") == 0
    store.close()
    lines = [each["text"] for each in town.slack.thread(town.channel, thread)[1:]]
    assert [line.split()[0] for line in lines] == ["A", "A", "*Solved.*", "May"]
    assert ["Solved" in said(each) for each in town.slack.messages(town.trenches)] == [True]


# Works off the inbox, and ends by SIGKILL right before or right after its first message.
SHOWING = """
import os, signal, sys, time
from metaflowbot import settings as settings_module
from metaflowbot.bot import Bot
from metaflowbot.slack.clients import Clients, identify
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.people import People
from metaflowbot.slack.rules import Rules
from metaflowbot.slack.trenches_board import Board
from metaflowbot.slack.worker import Workers
from metaflowbot.store import Store
from slack_sdk import WebClient

class Dying(WebClient):
    def chat_postMessage(self, **given):
        if sys.argv[1] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        said = super().chat_postMessage(**given)
        if sys.argv[1] == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return said

settings = settings_module.load()
store = Store.open(settings.sqlalchemy_url)
made = Clients.of(settings)
dying = Dying(settings.slack_bot_token.get_secret_value(), base_url=settings.slack_api_url)
clients = Clients(made.patient, dying, made.hasty)
people = People(made.patient, ())
bot = Bot(store, lambda: None, lambda: None)
rules = Rules(settings, store, made.patient)
we = identify(made.patient)
desk = Desk(
    settings, bot, store, we, clients, people, rules, lambda: None, lambda errand: errand()
)
workers = Workers(store, Board(desk), lease_seconds=2.0)
workers.start()
while store.health().depth:
    time.sleep(0.02)
workers.stop()
"""
