"""How quickly the maintainers' pages come: `python -m tests.scenarios.load_dashboard`.

A database is filled with questions and verdicts, in bulk; then each page is asked for over HTTP
from a real server. Printed are the milliseconds of each page at p50 and p95.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn

from metaflowbot import bootstrap
from metaflowbot.bootstrap import Parts
from metaflowbot.embedding import MiniLM
from metaflowbot.migrations.schema import ANSWERS, FEEDBACK, QUESTIONS
from metaflowbot.record import person_hash, question_row
from metaflowbot.settings import Settings
from metaflowbot.web.app import build
from tests.scenarios.fleet import percentile
from tests.small_index import PASSAGES, publish

WORDS = [word for passage in PASSAGES for word in passage.text.split()]
PLACE = "https://docs.metaflow.org/"
PAGES = (
    "",
    "/questions",
    "/questions?page=1000",
    "/questions?text=kubernetes",
    "/questions?text=nowhere+to+be+found",
    "/questions?verdict=down&outcome=answered",
    "/questions?since=2026-01-01&verdict=none&model=openai:b",
    "/questions/a77",
    "/feedback",
    "/gaps",
    "/threads",
    "/escalations",
    "/knowledge",
    "/evals",
    "/inbox",
    "/log",
)


def answer_row(n: int, at: datetime, chance: random.Random) -> dict[str, Any]:
    """A row of ANSWERS of a size as real ones have it."""
    text = " ".join(chance.choices(WORDS, k=150))
    question = " ".join(chance.choices(WORDS, k=chance.randint(4, 20)))
    pages = [
        {"document_id": f"docs/{each}.md", "title": "A page", "url": PLACE, "score": 1.0}
        for each in range(10)
    ]
    cited = {"document_id": "docs/1.md", "title": "A page", "url": PLACE, "quote": text[:200]}
    return {
        "id": f"a{n}",
        "asked_at": at,
        "person": f"slack:U{n % 3000}",
        "channel": f"C{n % 7}",
        "thread": f"{n}.1",
        "message": f"{n}.1",
        "question": question,
        "text": text,
        "citations": [{"n": 1, **cited}],
        "abstained": chance.random() < 0.15,
        "confidence": chance.random(),
        "model": f"openai:{chance.choice('abc')}",
        "prompt_version": "p",
        "generation": "g",
        "timings_ms": {"retrieve": 40.0, "generate": 900.0, "total": chance.lognormvariate(7, 1)},
        "usage": {"input_tokens": 3000, "output_tokens": 300, "cost_usd": 0.002},
        "notice": "",
        "retrieved": pages,
        "checks": [],
        "checked_with": "",
    }


def fill(parts: Parts, questions: int, verdicts: int) -> None:
    """The questions are of the last 90 days; each has one verdict at most."""
    chance = random.Random(1)
    now = datetime.now(UTC)
    with parts.store._database.writing() as connection:
        for start in range(0, questions, 5000):
            count = range(start, min(start + 5000, questions))
            rows = [
                answer_row(n, now - timedelta(seconds=chance.random() * 90 * 86400), chance)
                for n in count
            ]
            connection.execute(sa.insert(ANSWERS), rows)
            connection.execute(sa.insert(QUESTIONS), [question_row(row) for row in rows])
        rated = [
            {
                "answer_id": f"a{n}",
                "person": person_hash("salt", str(n)),
                "verdict": chance.choice(("up", "up", "down")),
                "reason": "It is out of date.",
                "rated_at": now,
                "by_asker": True,
            }
            for n in chance.sample(range(questions), verdicts)
        ]
        connection.execute(sa.insert(FEEDBACK), rated)


@contextmanager
def served(parts: Parts, settings: Settings) -> Iterator[str]:
    """A server over the parts; gives its address."""
    config = uvicorn.Config(
        build(parts.bot, settings, parts=parts), port=0, log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/dashboard"
    server.should_exit = True
    thread.join()


def measure(address: str, page: str, times: int) -> dict[str, float]:
    """Milliseconds of one page."""
    took = []
    with httpx.Client(timeout=60) as client:
        for _ in range(times):
            started = time.perf_counter()
            client.get(address + page).raise_for_status()
            took.append((time.perf_counter() - started) * 1000)
    return {"p50": round(percentile(took, 0.5)), "p95": round(percentile(took, 0.95))}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--verdicts", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=20, help="requests of each page")
    parser.add_argument("--grouped", type=int, default=0, help="gaps to group before")
    parser.add_argument("--home", type=Path, help="kept, and filled only when it is new")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = given.home or Path(folder)
        is_new = not (home / "metaflowbot.db").exists()
        settings = Settings(home=home, chat_model="none")
        if is_new:
            publish(home, MiniLM(home / "cache"))
        parts = bootstrap.build(settings)
        if is_new:
            fill(parts, given.questions, given.verdicts)
        grouped = 0
        while grouped < given.grouped and (count := parts.bot.group_gaps()):
            grouped += count
        with served(parts, settings) as address:
            figures = {page or "/": measure(address, page, given.times) for page in PAGES}
        parts.store.close()
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
