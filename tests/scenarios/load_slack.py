"""How the bot holds up when Slack sends much: `python -m tests.scenarios.load_slack`.

Events come at a steady rate, two for each mention, while the model takes seconds for an answer. A
process of the real bot is measured: the waits until an event is acknowledged and until the first
sign of life, its memory, and how long the queue takes to drain once people fall silent. Exits 1
where acknowledgements take too long, memory grows, or a question stays unanswered.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.process import Process
from tests.scenarios.fleet import Fleet, Site, percentile, site, slow, until
from tests.slack_double import SlackDouble

SIGNS = {"assistant.threads.setStatus", "reactions.add", "chat.startStream"}
_EVENTS_PER_MENTION = 2
_MOST_ACK_MS = 500
_MOST_GROWTH = 1.1
_DRAIN_SECONDS = 3600.0


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


class Memory:
    """A process's resident memory in MB, looked at twice a second from `start` on."""

    def __init__(self, process: Process) -> None:
        self.seen: list[float] = []
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self.seen.append(self._process.footprint.memory_mb)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """What it holds at the end, over what it held in the middle; 1 means flat."""
        middle = self.seen[len(self.seen) // 2 :][:10]
        return max(self.seen[-10:]) / max(middle)


def mention(place: Site, rate: float, count: int) -> Mapping[str, float]:
    """Mention the bot at that rate (a second); when each was said, by ts (epoch seconds)."""
    said: dict[str, float] = {}
    start = time.perf_counter()
    for n in range(count):
        time.sleep(max(0.0, start + n / rate - time.perf_counter()))
        at = time.time()
        said[place.ask(n)] = at
    return said


def first_signs(slack: SlackDouble, said: Mapping[str, float]) -> list[float]:
    """Seconds from each mention to the first call that shows a sign of life under it."""
    seen: dict[str, float] = {}
    for call in slack.calls:
        if call.method in SIGNS:
            ts = call.arguments.get("thread_ts") or call.arguments.get("timestamp")
            seen.setdefault(str(ts), call.at)
    return [seen[ts] - at for ts, at in said.items() if ts in seen]


def measure(place: Site, fleet: Fleet, given: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run; waits are milliseconds."""
    slack = place.slack
    place.model.reply(slow(given.model_seconds))
    acks, memory = Acknowledgements(slack), Memory(fleet.processes[0])
    rate = given.rate / _EVENTS_PER_MENTION
    said = mention(place, rate, int(rate * given.seconds))
    silent = time.monotonic()
    until(lambda: not place.unanswered(said), _DRAIN_SECONDS)
    drain = time.monotonic() - silent
    memory.stop()
    signs = first_signs(slack, said)
    return {
        "transport": given.transport,
        "events": len(acks.seconds) + acks.lost,
        "mentions": len(said),
        "with a sign": len(signs),
        "unanswered": len(place.unanswered(said)),
        "deliveries not acknowledged": acks.lost,
        "ack p50": round(1000 * percentile(acks.seconds, 0.5)),
        "ack p99": round(1000 * percentile(acks.seconds, 0.99)),
        "first sign p50": round(1000 * percentile(signs, 0.5)),
        "first sign p95": round(1000 * percentile(signs, 0.95)),
        "queue drained after, s": round(drain, 1),
        "memory, MB": round(memory.seen[-1]),
        "memory, end over middle": round(memory.growth, 3),
    }


def falls_short(figures: Mapping[str, Any]) -> bool:
    return bool(
        figures["unanswered"]
        or figures["ack p99"] >= _MOST_ACK_MS
        or figures["memory, end over middle"] > _MOST_GROWTH
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", choices=("socket", "http"), default="socket")
    parser.add_argument("--rate", type=float, default=50, help="events a second")
    parser.add_argument("--seconds", type=float, default=20, help="for how long")
    parser.add_argument("--model-seconds", type=float, default=2, help="for an answer")
    given = parser.parse_args(arguments)
    with site() as place, place.fleet(1, transport=given.transport) as fleet:
        figures = measure(place, fleet, given)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(int(falls_short(figures)))


if __name__ == "__main__":
    main()
