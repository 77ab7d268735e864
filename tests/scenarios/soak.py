"""An hour's worth of traffic as quickly as it goes: `python -m tests.scenarios.soak`.

People ask in the channel, go on in threads, write directly, rate, react, edit, delete and open the
App Home; others use the API and the page. Everyone waits for what they did before they do the next
thing. Meanwhile one index takes the place of the other. The process's memory, threads and file
handles are looked at in the middle and at the end, and so is the database's size beside what it
holds. Exits 1 where something grew or failed.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from metaflowbot.embedding import MiniLM
from metaflowbot.errors import MetaflowbotError
from metaflowbot.index import Index
from metaflowbot.slack.rendering import FEEDBACK_ACTION
from tests.process import Footprint
from tests.scenarios.fleet import Fleet, Site, site, until
from tests.small_index import publish

_PATIENCE_SECONDS = 120.0
_AT_ONCE = 6
_DEEDS_AN_INDEX = 120
# What may be held more at the end than in the middle: caches fill, pools breathe.
_MOST_GROWTH = {"memory_mb": 1.1, "threads": 1.1, "files": 1.2}
# SQLite keeps pages that are free for a while, and a log that it folds in every 1,000 pages.
_MOST_IDLE_MB = 16.0


class Person:
    """One of the people, doing one thing after the other."""

    def __init__(self, place: Site, fleet: Fleet, number: int, done: Counter[str]) -> None:
        self._place = place
        self._chance = random.Random(number)
        self._done = done
        self._user = place.people[number]
        self._api = fleet.processes[0].client()
        self._threads: list[str] = []
        self._direct = place.slack.open_dm(self._user)

    def act(self) -> None:
        """Something at random; AssertionError where it is not answered as it should be."""
        deeds = (self.ask, self.ask, self.ask, self.follow_up, self.write_directly, self.rate)
        deeds += (self.react, self.edit, self.chat, self.open_home, self.use_api, self.use_api)
        deed = self._chance.choice(deeds)
        deed()
        self._done[deed.__name__] += 1

    def _say(self, text: str, thread: str | None = None, channel: str = "") -> str:
        where = channel or self._place.channel
        return str(self._place.slack.say(where, self._user, text, thread_ts=thread))

    def _wait(self, thread: str, count: int, channel: str = "") -> None:
        where = channel or self._place.channel

        def answers() -> bool:
            said = self._place.slack.thread(where, thread)
            return sum(bool(each.get("metadata")) for each in said) >= count

        assert until(answers, _PATIENCE_SECONDS), f"{thread} has no {count} answers"

    def _question(self) -> str:
        return f"How do I retry a failing step with a delay? Flow {self._chance.random()}"

    def ask(self) -> None:
        ts = self._say(f"<@{self._place.slack.bot_user_id}> {self._question()}")
        self._wait(ts, 1)
        self._threads.append(ts)

    def follow_up(self) -> None:
        if not self._threads:
            return self.ask()
        ts = self._threads.pop()
        self._say("And how do I set a timeout for it?", ts)
        return self._wait(ts, 2)

    def write_directly(self) -> None:
        self._wait(self._say(self._question(), channel=self._direct), 1, self._direct)

    def rate(self) -> None:
        if not self._threads:
            return self.ask()
        ts = self._threads[-1]
        (answer, *_) = [
            m for m in self._place.slack.thread(self._place.channel, ts) if "metadata" in m
        ]
        value = f"up:{answer['metadata']['event_payload']['answer_id']}"
        click = self._place.slack.click
        assert click(self._place.channel, answer["ts"], FEEDBACK_ACTION, self._user, value=value)
        return None

    def react(self) -> None:
        ts = self._say("I think so too.")
        self._place.slack.react(self._place.channel, ts, self._user, "eyes")

    def edit(self) -> None:
        self._place.slack.edit(self._place.channel, self._say("Does anybode know?"), "Never mind.")

    def chat(self) -> None:
        self._place.slack.delete(self._place.channel, self._say("Good morning, everybody."))

    def open_home(self) -> None:
        self._place.slack.open_home(self._user)

    def use_api(self) -> None:
        answer = self._api.post("/api/ask", json={"question": self._question()}).json()
        rated = f"/api/answers/{answer['answer_id']}/feedback"
        assert self._api.post(rated, json={"verdict": "up"}).status_code == 204
        for path in ("/", "/metrics", "/readyz", "/dashboard/questions"):
            assert self._api.get(path).status_code == 200


def run(place: Site, fleet: Fleet, deeds: int) -> dict[str, Any]:
    """So many deeds, half of them before the first look; the figures."""
    process, database = fleet.processes[0], place.home / "metaflowbot.db"
    done: Counter[str] = Counter()
    people = [Person(place, fleet, n, done) for n in range(_AT_ONCE)]
    failed: list[str] = []
    indexes: list[str] = []
    looks: list[Footprint] = []
    started = time.monotonic()
    for half in (1, 2):
        last = deeds * half // 2
        crowd = [threading.Thread(target=_live, args=(each, done, last, failed)) for each in people]
        renewing = (place.home, done, last, failed, indexes)
        crowd.append(threading.Thread(target=_renew, args=renewing))
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        looks.append(process.footprint)
    middle, end = map(asdict, looks)
    return {
        "deeds": done.total(),
        "seconds": round(time.monotonic() - started),
        "indexes": len(indexes),
        "failed": failed[:5],
        "middle": middle,
        "end": end,
        "end over middle": {name: round(end[name] / middle[name], 3) for name in end},
        "database MB": round(_size(database), 1),
        "database MB beyond its data": round(_size(database) - _compact(database), 1),
        "errors in the log": sum('"level": "error"' in line for line in process.lines),
        **{f"did {name}": count for name, count in sorted(done.items())},
    }


def _live(person: Person, done: Counter[str], until_done: int, failed: list[str]) -> None:
    while done.total() < until_done and not failed:
        try:
            person.act()
        except (AssertionError, httpx.HTTPError, KeyError, ValueError) as error:
            failed.append(f"{type(error).__name__}: {error}")


def _renew(
    home: Path, done: Counter[str], until_done: int, failed: list[str], indexes: list[str]
) -> None:
    """Another index every so many deeds, as ingests bring them."""
    embedding, due = MiniLM(home / "cache"), done.total()
    while done.total() < until_done and not failed:
        try:
            if done.total() >= due:
                indexes.append(publish(home, embedding).id)
                Index(home).prune()
                due += _DEEDS_AN_INDEX
        except (MetaflowbotError, OSError) as error:
            failed.append(f"{type(error).__name__}: {error}")
        time.sleep(0.5)


def _size(database: Path) -> float:
    """MB on disk, SQLite's log included."""
    return sum(each.stat().st_size for each in database.parent.glob(f"{database.name}*")) / 2**20


def _compact(database: Path) -> float:
    """MB of the same rows in a file written anew."""
    copy = database.with_name("compact.sqlite")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy.stat().st_size / 2**20


def falls_short(figures: dict[str, Any]) -> bool:
    grew = any(figures["end over middle"][name] > most for name, most in _MOST_GROWTH.items())
    idle = figures["database MB beyond its data"] > _MOST_IDLE_MB
    return bool(grew or idle or figures["failed"] or figures["errors in the log"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deeds", type=int, default=3600, help="an hour's, at one a second")
    given = parser.parse_args(arguments)
    with site() as place, place.fleet(1) as fleet:
        figures = run(place, fleet, given.deeds)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(int(falls_short(figures)))


if __name__ == "__main__":
    main()
