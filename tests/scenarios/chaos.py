"""Every question answered exactly once, whatever befalls: `python -m tests.scenarios.chaos`.

People ask at a steady rate. Slack sends a part of the events twice, all of them out of order, and
those that nobody took again; it answers calls with 429 and 5xx, and loses replies after it did what
was asked. Meanwhile one process of the bot after the other is killed, mostly while it writes.
Judged is what stands in the threads at the end. Exits 1 when a question was lost or answered twice.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.scenarios.fleet import (
    Fleet,
    Site,
    is_answer,
    percentile,
    postgres,
    site,
    slow,
    until,
)
from tests.slack_double import Fault, Parcel
from tests.slack_world import is_whole

_MODEL_SECONDS = 1.0
# Slack's waits before it sends an event again; the middle one is skipped here once somebody hears.
_RETRY_SECONDS = 61.0
# The last of a message's five attempts comes 8.5 minutes after the one before.
_PATIENCE_SECONDS = 700.0
# Longer than a lease: whoever takes up what a killed process had in hand has done so by then.
_QUIET_SECONDS = 25.0
# Slack must answer these for a process to start at all.
_START = {"auth.test", "apps.connections.open"}


@dataclass
class Weather:
    """Shares of Slack's calls that go wrong, and of its events that come twice."""

    chance: random.Random
    busy: float = 0.05
    failing: float = 0.04
    reply_lost: float = 0.03
    twice: float = 0.2
    befell: Counter[str] = field(default_factory=Counter)
    _earlier: list[Parcel] = field(default_factory=list)

    def call(self, method: str) -> Fault | None:
        """What befalls a call of that method."""
        at = self.chance.random()
        if method in _START:
            return None
        if at < self.busy:
            self.befell["429"] += 1
            return Fault(method, 429, retry_after=1)
        if at < self.busy + self.failing:
            self.befell["5xx"] += 1
            return Fault(method, self.chance.choice((500, 502, 503)))
        if at < self.busy + self.failing + self.reply_lost:
            self.befell["reply lost"] += 1
            return Fault(method, drop=True)
        return None

    def deliver(self, parcels: list[Parcel]) -> list[Parcel]:
        """The order of delivery: shuffled, with repetitions of these and of earlier events."""
        self._earlier += parcels
        again = [p for p in parcels if self.chance.random() < self.twice / 2]
        again += [p for p in self._earlier[-1000:] if self.chance.random() < len(parcels) / 5000]
        self.befell["event twice"] += len(again)
        mixed = [*parcels, *again]
        self.chance.shuffle(mixed)
        return mixed


def run(place: Site, fleet: Fleet, weather: Weather, given: argparse.Namespace) -> dict[str, Any]:
    """Ask, kill, wait until nothing moves any more, and judge."""
    slack = place.slack
    place.model.reply(slow(_MODEL_SECONDS))
    slack.weather, slack.delivery_order = weather.call, weather.deliver
    started, asked, cut = time.monotonic(), [], 0
    kill_at = [given.questions * (n + 1) // (given.kills + 1) for n in range(given.kills)]
    while len(asked) < given.questions:
        with slack.hold_deliveries():
            for _ in range(min(weather.chance.randint(1, 10), given.questions - len(asked))):
                asked.append(place.ask(len(asked)))
        until(lambda: time.monotonic() >= started + len(asked) / given.rate, 60, fleet.tend)
        if kill_at and len(asked) >= kill_at[0]:
            kill_at.pop(0)
            cut += len(_halves(place))
            fleet.kill(weather.chance)
            sys.stderr.write(f"{len(asked)} asked; kills to come: {len(kill_at)}\n")
            _send_again(place)
    _settle(place, fleet, asked)
    return figures(place, fleet, weather, asked) | {"answers cut off by a kill": cut}


def _send_again(place: Site) -> None:
    """Once somebody hears Slack again, what nobody took comes again without the minute's wait."""
    until(lambda: place.slack.sockets, 300)
    time.sleep(1.2)
    place.slack.advance(_RETRY_SECONDS)


def _settle(place: Site, fleet: Fleet, asked: Sequence[str]) -> None:
    """Wait until all is answered, and then until nothing is posted for longer than a lease."""

    place.slack.advance(_RETRY_SECONDS)
    until(lambda: not place.unanswered(asked), _PATIENCE_SECONDS, fleet.tend)
    quiet_since, count = time.monotonic(), len(place.slack.calls)
    while time.monotonic() - quiet_since < _QUIET_SECONDS:
        fleet.tend()
        time.sleep(1)
        if len(place.slack.calls) != count:
            quiet_since, count = time.monotonic(), len(place.slack.calls)


def _halves(place: Site) -> list[str]:
    """The messages under which something of the bot's is not whole."""
    return [ts for ts, replies in place.replies().items() if not all(map(is_whole, replies))]


def figures(place: Site, fleet: Fleet, weather: Weather, asked: Sequence[str]) -> dict[str, Any]:
    """What stands in the threads, and what went wrong on the way there."""
    replies = place.replies()
    found = {ts: replies[ts] for ts in asked}
    answers = {ts: [r for r in replies if is_answer(r, ts)] for ts, replies in found.items()}
    changed = place.changed()
    waits = [changed[each[0]["ts"]] - float(ts) for ts, each in answers.items() if each]
    attempts = place.slack.deliveries
    return {
        "questions": len(asked),
        "answered exactly once": sum(
            len(answers[ts]) == len(each) == 1 for ts, each in found.items()
        ),
        "lost": sum(not each for each in answers.values()),
        "doubled": sum(len(each) > 1 for each in found.values()),
        "cut off for good": len(_halves(place)),
        "deliveries": len(attempts),
        "deliveries not acknowledged": sum(not each.acknowledged for each in attempts),
        "events sent twice": weather.befell["event twice"],
        "calls": len(place.slack.calls),
        "calls answered 429": weather.befell["429"],
        "calls answered 5xx": weather.befell["5xx"],
        "replies lost": weather.befell["reply lost"],
        "ended by itself": fleet.ended_by_themselves,
        "seconds to the answer, p50": round(percentile(waits, 0.5), 1),
        "seconds to the answer, p99": round(percentile(waits, 0.99), 1),
        "seconds to the answer, most": round(max(waits, default=0.0), 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--replicas", type=int, default=0, help="1 on SQLite, 3 on PostgreSQL")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=5, help="questions a second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        on_postgres = given.database == "postgresql"
        url = stack.enter_context(postgres()).create("chaos") if on_postgres else ""
        place = stack.enter_context(site())
        replicas = given.replicas or (3 if on_postgres else 1)
        fleet = stack.enter_context(place.fleet(replicas, url))
        weather = Weather(random.Random(given.seed))
        told = {"database": given.database, "processes": replicas, "kills": given.kills}
        told |= run(place, fleet, weather, given)
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    sys.exit(int(told["answered exactly once"] != told["questions"]))


if __name__ == "__main__":
    main()
