"""How much one process answers, and how much more several do: `python -m tests.scenarios.scale`.

Alone and without a model, a process is asked over HTTP by many at once; beside its answers a second
stand its searches, which are the greater part of the work. Then processes that share a PostgreSQL
database are mentioned in Slack by a crowd at one moment, while the model takes seconds for an
answer. Exits 1 where one process answers fewer than 30 questions a second, or more processes do not
answer more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.process import Process
from tests.scenarios.fleet import Site, postgres, site, slow, until

_LEAST_A_SECOND = 30.0
_AT_ONCE = 8
_PROCESSES = (1, 2, 4)
_PATIENCE_SECONDS = 600.0


def alone(place: Site, seconds: float) -> dict[str, float]:
    """Answers and searches a second of one process without a model."""
    with place.fleet(1, METAFLOWBOT_CHAT_MODEL="none") as fleet:
        process = fleet.processes[0]
        search = _rate(process, lambda text: ("/api/search", {"query": text}), seconds)
        answer = _rate(process, lambda text: ("/api/ask", {"question": text}), seconds)
    return {
        "answers a second, no model": round(answer, 1),
        "searches a second": round(search, 1),
        "answers over searches": round(answer / search, 2),
    }


def _rate(
    process: Process, request: Callable[[str], tuple[str, dict[str, str]]], seconds: float
) -> float:
    """Requests a second of a few clients who each send the next when they have the last."""
    numbers, deadline = itertools.count(), time.monotonic() + seconds

    def ask(_: int) -> int:
        count = 0
        with process.client() as client:
            while time.monotonic() < deadline:
                text = f"How do I retry a failing step with a delay? Flow {next(numbers)}"
                path, body = request(text)
                client.post(path, json=body).raise_for_status()
                count += 1
        return count

    started = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        total = sum(pool.map(ask, range(_AT_ONCE)))
    return total / (time.monotonic() - started)


def together(place: Site, given: argparse.Namespace) -> dict[str, Any]:
    """Answers a second in Slack by the number of processes, and that over what one gives."""
    place.model.reply(slow(given.model_seconds))
    rates: dict[int, float] = {}
    with postgres() as server:
        for count in _PROCESSES:
            with place.fleet(count, server.create(f"scale{count}")):
                started = time.monotonic()
                asked = [place.ask(count * 100_000 + n) for n in range(given.questions)]
                until(lambda asked=asked: not place.unanswered(asked), _PATIENCE_SECONDS)
                rates[count] = (len(asked) - len(place.unanswered(asked))) / (
                    time.monotonic() - started
                )
    return {
        "answers a second by processes": {n: round(rate, 1) for n, rate in rates.items()},
        "over one process": {n: round(rate / rates[1], 2) for n, rate in rates.items()},
    }


def falls_short(figures: dict[str, Any]) -> bool:
    by_processes = list(figures["over one process"].values())
    slow_alone = figures["answers a second, no model"] < _LEAST_A_SECOND
    return bool(slow_alone or by_processes != sorted(set(by_processes)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a METAFLOWBOT_HOME whose index is asked alone")
    parser.add_argument("--seconds", type=float, default=20, help="of asking one process alone")
    parser.add_argument("--questions", type=int, default=200, help="asked in Slack at one moment")
    parser.add_argument("--model-seconds", type=float, default=8, help="for an answer")
    given = parser.parse_args(arguments)
    with site() as place:
        figures = together(place, given)
        if given.home:
            shutil.rmtree(place.home / "index")
            shutil.copytree(given.home / "index", place.home / "index")
        figures = alone(place, given.seconds) | figures
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(int(falls_short(figures)))


if __name__ == "__main__":
    main()
