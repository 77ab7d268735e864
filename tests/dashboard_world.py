"""A served bot over a small index, with what its readers and maintainers left: for the pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from evals.cases import OWN
from metaflowbot import prompts
from metaflowbot.answer import Answerer
from metaflowbot.bootstrap import Parts
from metaflowbot.bot import Bot
from metaflowbot.escalation import Handed
from metaflowbot.forgetting import Files
from metaflowbot.index import Index
from metaflowbot.retrieve import Retriever
from metaflowbot.settings import Settings
from metaflowbot.store import MAX_ATTEMPTS, Store
from metaflowbot.threads import SeenThread
from metaflowbot.web.app import build
from tests.conftest import WordEmbedding
from tests.small_index import RETRY, publish
from tests.test_web import served

HOSTILE = (
    "<script>alert(1)</script> **b** [x](javascript:alert(2)) <img src=x onerror=alert(3)> why?"
)
REASON = "</blockquote><script>alert(4)</script> it is *old*"
TOKEN = "a long token of this test"


@dataclass(frozen=True)
class World:
    """Where the pages are, and what is behind them."""

    address: str
    parts: Parts
    home: Path

    def client(self, token: str = TOKEN) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.address, headers=headers, timeout=30)

    def ask(self, question: str, verdict: str = "", reason: str = "") -> str:
        with self.client() as client:
            answer = client.post("/api/ask", json={"question": question}).json()
            answer_id = str(answer["answer_id"])
            if verdict:
                body = {"verdict": verdict, "reason": reason}
                client.post(f"/api/answers/{answer_id}/feedback", json=body)
        return answer_id

    def ask_many(self, count: int) -> list[str]:
        """Questions of the kind that readers ask; every fourth is rated."""
        lines = (OWN / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        asked = [json.loads(line).get("question") or RETRY for line in lines]
        verdicts = ("up", "", "", "", "down", "", "", "")
        return [self.ask(asked[n % len(asked)], verdicts[n % len(verdicts)]) for n in range(count)]

    def see_threads(self, count: int = 3) -> None:
        self.parts.store.threads.note(
            SeenThread(
                f"ask-metaflow/{n}.1",
                f"A thread about <b>flow</b> {n}",
                f"https://slack.example/{n}",
                "quarantined",
                0.4,
                ("asker-words",),
                "nobody said that it worked",
                "ask-metaflow",
                "C1",
                False,
                ("slack:U1",),
            )
            for n in range(count)
        )

    def escalate(self, answer_id: str) -> None:
        asked = Handed(answer_id, HOSTILE, "slack:U1", "C1", "1.0", "1.0")
        reasons = ("the asker asked for a human",)
        self.parts.store.escalations.open(
            asked.escalation("slack:U1", reasons, datetime.now(UTC) - timedelta(hours=3))
        )

    def keep_eval_run(self, name: str, dataset: str, value: float) -> None:
        """What a run leaves: retrieval's recall, and an interval of a tenth around it."""
        subject = {"dataset": f"{dataset}.jsonl", "dataset_sha256": dataset}
        subject |= {"model": "none", "code": "0123456789"}
        figure = {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 40}
        values = {
            "started_at": f"2026-05-0{name[-1]}T12:00:00+00:00",
            "subject": subject,
            "results": {"retrieval": {"figures": {"recall@5": figure}}},
        }
        (self.home / "evals").mkdir(exist_ok=True)
        (self.home / "evals" / f"{name}.json").write_text(json.dumps(values))

    def give_up_on(self, key: str) -> None:
        store = self.parts.store
        store.receive(key, "question", {})
        for _ in range(MAX_ATTEMPTS + 1):
            if (item := store.claim(0.0)) is None or item.dead:
                break
            store.release(item.key, error="the model did not answer", retry_in=-1)


@contextmanager
def world(home: Path, token: str = TOKEN) -> Iterator[World]:
    """A bot without a model over PASSAGES, in two generations, behind a real server."""
    embedding = WordEmbedding()
    publish(home, embedding)
    publish(home, embedding)
    index, store = Index(home), Store.open(f"sqlite:///{home}/metaflowbot.db")

    def answerer() -> Answerer:
        return Answerer(
            Retriever.over(index.load(), embedding), None, prompts.load("answer", "sources")
        )

    bot = Bot(store, index.active_id, answerer, files=Files(home))
    parts = Parts(bot, store, index)
    settings = Settings.model_validate({"home": home, "chat_model": "none", "api_token": token})
    with served(build(bot, settings, parts=parts)) as address:
        yield World(address, parts, home)
    store.close()
