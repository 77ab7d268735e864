"""What people see of each fault, and how soon it is over: `python -m tests.scenarios.faults`.

A fault is brought about under a running bot, three people ask, and it is taken back. A row of the
table says what the first of them saw and how long the last of them waited, how long after the end
of the fault the next question was answered as ever, and how many of the questions were answered not
at all or twice, which makes the command exit with 1. Names as arguments choose among the faults.
"""

from __future__ import annotations

import argparse
import math
import re
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaflowbot.embedding import MiniLM
from tests.databases import PostgresServer
from tests.process import MAIN, Process
from tests.scenarios.fleet import Fleet, Site, postgres, site, slow, until
from tests.slack_world import shown
from tests.small_index import publish

_ASKED = 3
_MODEL_TIMEOUT = 5
# Slack sends again what was not acknowledged: after a second, a minute, five minutes.
_PATIENCE_SECONDS = 420.0
_LONGEST_FAULT = 60.0
# The clock by which the inbox keeps its leases and turns, off by as many seconds as a file says.
_CLOCK = """
from datetime import timedelta
from pathlib import Path
from metaflowbot import store
now = store._now
store._now = lambda: now() + timedelta(seconds=float(Path("clock").read_text()))
"""
_NOTICE = re.compile(r"The chat model [^\n]*")


@dataclass(frozen=True)
class Row:
    """`waited` seconds for the last answer, `back` from the end of the fault to the next one."""

    fault: str
    saw: str
    waited: float
    back: float
    lost: int
    doubled: int

    def __str__(self) -> str:
        times = f"{self.waited:.1f} s | {self.back:.1f} s"
        return f"| {self.fault} | {self.saw} | {times} | {self.lost} | {self.doubled} |"


class Witness:
    """Asks during a fault and after it, and tells what became of the questions."""

    def __init__(self, place: Site, fleet: Fleet) -> None:
        self._place = place
        self._fleet = fleet
        self._count = 0

    def row(self, fault: str, trouble: AbstractContextManager[object], lasts: float = 0) -> Row:
        """Ask as the fault begins; it goes on until all are answered, or for `lasts` seconds."""
        with trouble:
            asked = [self._ask() for _ in range(_ASKED)]
            over = time.monotonic() + lasts
            until(lambda: not self._place.unanswered(asked), lasts or _LONGEST_FAULT)
            time.sleep(max(0.0, over - time.monotonic()))
        ended = time.time()
        after = self._ask()
        every = [*asked, after]
        until(lambda: not self._place.unanswered(every), _PATIENCE_SECONDS, self._fleet.tend)
        replies = self._place.replies()
        changed = self._place.changed()
        waits = {ts: changed[each[0]["ts"]] for ts, each in replies.items() if each}
        return Row(
            fault,
            self._seen(asked[0]),
            max(waits.get(ts, math.nan) - float(ts) for ts in asked),
            waits.get(after, math.nan) - ended,
            len(self._place.unanswered(every)),
            sum(len(replies[ts]) > 1 for ts in every),
        )

    def _ask(self) -> str:
        self._count += 1
        return self._place.ask(self._count)

    def _seen(self, ts: str) -> str:
        """What stood under the question, and before it what its author alone was told."""
        (reply, *_) = self._place.replies()[ts] or [{"text": "nothing"}]
        private = self._place.slack.ephemerals
        told = [each.text for each in private if float(each.message["ts"]) > float(ts)]
        notice = _NOTICE.search(shown(reply))
        under = f"the passages: “{notice[0]}”" if notice else "the answer"
        return ", then ".join([*(f"“{line}”" for line in told[:1]), under])


# The faults


@contextmanager
def model(place: Site, begin: Callable[[], object]) -> Iterator[None]:
    begin()
    yield
    place.model.heal()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes to SQLite's file and does not end."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def gone(server: PostgresServer) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def full_disk(process: Process) -> Iterator[None]:
    """No file of the process may grow, as on a full disk."""
    _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, most))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))


@contextmanager
def without_index(home: Path) -> Iterator[None]:
    """Somebody removes the folder; the next ingest makes it anew."""
    (home / "index").rename(home / "removed")
    yield
    publish(home, MiniLM(home / "cache"))


@contextmanager
def clock_off(file: Path, hours: int) -> Iterator[None]:
    """The machine's clock jumps while questions are in hand, and later back."""
    jump = threading.Timer(1.0, lambda: file.write_text(str(3600 * hours)))
    jump.start()
    yield
    jump.join()
    file.write_text("0")


@contextmanager
def restart(fleet: Fleet) -> Iterator[None]:
    """SIGTERM in the middle of answers; a new process takes over once the old one has ended."""
    yield
    assert fleet.processes[0].stop() == 0, "a graceful stop ends with 0"
    fleet.tend()
    fleet.processes[0].line("ready: index")


def of_the_model(place: Site) -> Iterator[Row]:
    server = place.model
    begins: dict[str, Callable[[], object]] = {
        "model server hangs": server.hang,
        "model server answers 429": lambda: server.fail(429, times=99),
        "model server answers 500": lambda: server.fail(500, times=99),
        "model's stream is cut": lambda: server.cut_after(40),
        "model server sends garbage": server.garble,
    }
    environment = {"METAFLOWBOT_MODEL_TIMEOUT": str(_MODEL_TIMEOUT)}
    with place.fleet(1, **environment) as fleet:
        witness = Witness(place, fleet)
        for fault, begin in begins.items():
            yield witness.row(fault, model(place, begin))


def of_the_disk(place: Site) -> Iterator[Row]:
    with place.fleet(1) as fleet:
        witness = Witness(place, fleet)
        database = place.home / "metaflowbot.db"
        yield witness.row("SQLite database locked for 10 s", locked(database), 10)
        yield witness.row("disk full for 10 s (database)", full_disk(fleet.processes[0]), 10)
        yield witness.row("index folder removed", without_index(place.home))


def of_the_database(place: Site) -> Iterator[Row]:
    with postgres() as server, place.fleet(2, server.create("faults")) as fleet:
        witness = Witness(place, fleet)
        yield witness.row("PostgreSQL database gone for 30 s, 2 processes", gone(server), 30)


def of_the_clock(place: Site) -> Iterator[Row]:
    place.model.reply(slow(3))
    file = place.home / "clock"
    file.write_text("0")
    with place.fleet(1, main=_CLOCK + MAIN) as fleet:
        witness = Witness(place, fleet)
        for hours in (-2, 2):
            yield witness.row(f"clock jumps by {hours:+d} h and back", clock_off(file, hours))


def of_a_stop(place: Site) -> Iterator[Row]:
    place.model.reply(slow(4))
    with place.fleet(1) as fleet:
        yield Witness(place, fleet).row("SIGTERM while answers are written", restart(fleet), 1)


FAULTS = {
    "model": of_the_model,
    "disk": of_the_disk,
    "database": of_the_database,
    "clock": of_the_clock,
    "stop": of_a_stop,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="all of them unless named")
    named = parser.parse_args(arguments).faults or [*FAULTS]
    head = "| fault | the person saw | answered after | again as ever after | lost | doubled |\n"
    sys.stdout.write(head + "| --- | --- | --- | --- | --- | --- |\n")
    failed = False
    for name in named:
        with ExitStack() as stack:
            for row in FAULTS[name](stack.enter_context(site())):
                sys.stdout.write(f"{row}\n")
                sys.stdout.flush()
                failed |= bool(row.lost or row.doubled)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
