"""How quickly Slack is answered under load: `python -m tests.scenarios.load_slack`.

Mentions come at a steady rate while the model takes seconds for an answer. Printed are the
percentiles of two waits: until an event is acknowledged, and until the first sign of life.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from metaflowbot.domain import AnswerEvent, Progress, Question
from metaflowbot.settings import Settings
from metaflowbot.slack.service import SlackService
from metaflowbot.store import Asking, Store
from tests.slack_double import SlackDouble
from tests.slack_world import ScriptedBot, endpoint

SIGNS = {"assistant.threads.setStatus", "reactions.add", "chat.startStream"}


class SlowBot(ScriptedBot):
    """Takes some seconds for an answer, as a model does."""

    def __init__(self, store: Store, seconds: float) -> None:
        super().__init__(store)
        self._seconds = seconds

    def stream(self, question: Question, asking: Asking) -> Iterator[AnswerEvent]:
        for event in super().stream(question, asking):
            if isinstance(event, Progress) and event.step == "reading":
                time.sleep(self._seconds)
            yield event


class Acknowledgements:
    """The waits until events were acknowledged, as the double's delivery sees them."""

    def __init__(self, slack: SlackDouble) -> None:
        self.seconds: list[float] = []
        self.lost = 0
        delivery = slack._delivery
        attempt = delivery.attempt

        async def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            ack = await attempt(*arguments)
            if ack.acknowledged:
                self.seconds.append(time.perf_counter() - started)
            else:
                self.lost += 1
            return ack

        delivery.attempt = timed  # type: ignore[method-assign]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of them do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def mention(slack: SlackDouble, channel: str, people: list[str], rate: float, count: int) -> Any:
    """Mention the bot at that rate (a second); when each was said, by ts (epoch seconds)."""
    said: dict[str, float] = {}
    start = time.perf_counter()
    for n in range(count):
        time.sleep(max(0.0, start + n / rate - time.perf_counter()))
        at = time.time()
        text = f"<@{slack.bot_user_id}> question number {n}: how do I retry?"
        said[str(slack.say(channel, people[n % len(people)], text))] = at
    return said


def first_signs(slack: SlackDouble, said: dict[str, float]) -> list[float]:
    """Seconds from each mention to the first call that shows a sign of life under it."""
    seen: dict[str, float] = {}
    for call in slack.calls:
        if call.method in SIGNS:
            ts = call.arguments.get("thread_ts") or call.arguments.get("timestamp")
            seen.setdefault(str(ts), call.at)
    return [seen[ts] - at for ts, at in said.items() if ts in seen]


def serve(settings: Settings, home: str, model_seconds: float, ends: Connection) -> None:
    """The bot, in a process of its own; sends the address of its HTTP mode, ends when told."""
    store = Store.open(f"sqlite:///{Path(home) / 'bot.db'}")
    service = SlackService(settings, SlowBot(store, model_seconds), store)
    service.start()
    with endpoint(service) as url:
        ends.send(url)
        ends.recv()
    os._exit(0)  # what is in hand is of no interest


def measure(transport: str, rate: float, seconds: float, model_seconds: float) -> dict[str, Any]:
    """The figures of one run; waits are milliseconds."""
    count = int(rate * seconds)
    with tempfile.TemporaryDirectory() as home, SlackDouble() as slack:
        people = [slack.add_user(f"person{n}") for n in range(100)]
        channel = slack.add_channel("ask-metaflow", members=[*people, slack.bot_user_id])
        ours, theirs = multiprocessing.Pipe()
        given = _settings(slack, transport), home, model_seconds, theirs
        process = multiprocessing.get_context("spawn").Process(target=serve, args=given)
        process.start()
        url = ours.recv()
        slack.http_endpoint = url if transport == "http" else None
        acks = Acknowledgements(slack)
        said = mention(slack, channel, people, rate, count)
        _wait(lambda: len(first_signs(slack, said)) == count, 60)
        signs = first_signs(slack, said)
        answered = sum(call.method == "chat.stopStream" for call in slack.calls)
        ours.send("end")
        process.join()
        return {
            "transport": transport,
            "mentions": count,
            "with a sign": len(signs),
            "events acknowledged": len(acks.seconds),
            "deliveries not acknowledged": acks.lost,
            "answered by then": answered,
            "ack p50": round(1000 * percentile(acks.seconds, 0.5)),
            "ack p99": round(1000 * percentile(acks.seconds, 0.99)),
            "first sign p50": round(1000 * percentile(signs, 0.5)),
            "first sign p95": round(1000 * percentile(signs, 0.95)),
        }


def _settings(slack: SlackDouble, transport: str) -> Settings:
    mode = {
        "socket": {"slack_app_token": slack.app_token},
        "http": {"slack_signing_secret": slack.signing_secret},
    }[transport]
    limits = {"limits": {"person": 0, "channel": 0}}
    return Settings.model_validate(
        {"slack_bot_token": slack.bot_token, "slack_api_url": slack.api_url} | mode | limits
    )


def _wait(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", choices=("socket", "http"), default="socket")
    parser.add_argument("--rate", type=float, default=50, help="mentions a second")
    parser.add_argument("--seconds", type=float, default=20, help="for how long")
    parser.add_argument("--model-seconds", type=float, default=5, help="for an answer")
    given = parser.parse_args(arguments)
    figures = measure(given.transport, given.rate, given.seconds, given.model_seconds)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
