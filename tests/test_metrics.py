"""Prometheus reads what the bot did and how it is, on every surface alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from metaflowbot import bootstrap, prompts
from metaflowbot.answer import Answerer
from metaflowbot.bot import Bot, Vitals
from metaflowbot.domain import Answer, Feedback, Question, Usage
from metaflowbot.index import Index
from metaflowbot.ingest_run import IngestRun
from metaflowbot.manifest import Manifest, SourceCount
from metaflowbot.retrieve import Retriever
from metaflowbot.settings import Settings
from metaflowbot.store import Asking, InboxHealth, Store
from metaflowbot.telemetry import Ended, Journal, ModelFault
from metaflowbot.web.app import build
from metaflowbot.web.metrics import Metrics
from tests.conftest import WordEmbedding
from tests.openai_double import OpenAIDouble
from tests.small_index import OFF_TOPIC, RETRY, publish
from tests.test_web import served

pytest_plugins = ["tests.prebuilt"]

ANSWER = Answer("a1", "why?", "so", (), False, 0.9, "openai:small", "p1", "g-7")
HEALTHY = Vitals((), None, InboxHealth(3, 12.5, 2))
MANIFEST = Manifest(
    id="g-7",
    format=1,
    built_at="2026-01-01T00:00:00+00:00",
    embedding_model="local",
    sources={"labs": SourceCount(4, 9), "metaflow-docs": SourceCount(30, 91)},
    passages=100,
    documents={},
    checksums={},
)


def samples(text: bytes) -> dict[str, float]:
    """Every sample by its name and labels, as one would ask Prometheus for it."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def shown(
    metrics: Metrics | None = None, vitals: Vitals = HEALTHY, run: IngestRun | None = None
) -> dict[str, float]:
    return samples((metrics or Metrics()).render(vitals, run))


def test_questions_are_counted_by_surface_and_outcome() -> None:
    metrics = Metrics()
    for surface in ("slack", "web", "web"):
        metrics.ended(replace(Ended.begin(surface, "", ""), answer=ANSWER))
    metrics.ended(replace(Ended.begin("web", "", ""), answer=replace(ANSWER, abstained=True)))
    metrics.ended(replace(Ended.begin("web", "", ""), failure="StoreError"))
    metrics.ended(Ended.begin("web", "", ""))
    counted = shown(metrics)
    name = 'metaflowbot_questions_total{{outcome="{}",surface="{}"}}'
    assert counted[name.format("answered", "slack")] == 1
    assert counted[name.format("answered", "web")] == 2
    for outcome in ("abstained", "error", "left"):
        assert counted[name.format(outcome, "web")] == 1


def test_an_answer_adds_its_stages_tokens_and_cost() -> None:
    metrics = Metrics()
    timings, usage = {"retrieve": 20.0, "total": 320.0}, Usage(900, 60, 0.0012)
    answer = replace(ANSWER, timings_ms=timings, usage=usage)
    for _ in range(2):
        metrics.ended(replace(Ended.begin("web", "", ""), answer=answer))
    counted = shown(metrics)
    assert counted['metaflowbot_answer_seconds_sum{stage="total"}'] == pytest.approx(0.64)
    assert counted['metaflowbot_answer_seconds_bucket{le="0.025",stage="retrieve"}'] == 2
    tokens = 'metaflowbot_model_tokens_total{{direction="{}",model="openai:small"}}'
    assert counted[tokens.format("input")] == 1800
    assert counted[tokens.format("output")] == 120
    cost = counted['metaflowbot_model_cost_usd_total{model="openai:small"}']
    assert cost == pytest.approx(0.0024)


def test_a_model_that_fell_short_is_counted_by_kind_though_an_answer_came() -> None:
    metrics = Metrics()
    fault = ModelFault("openai:small", "ModelBusyError")
    metrics.ended(replace(Ended.begin("web", "", ""), answer=ANSWER, faults=(fault, fault)))
    name = 'metaflowbot_model_errors_total{kind="ModelBusyError",model="openai:small"}'
    assert shown(metrics)[name] == 2


def test_verdicts_are_counted() -> None:
    metrics = Metrics()
    metrics.rated(Feedback("a1", "web", "down"))
    assert shown(metrics)['metaflowbot_feedback_total{verdict="down"}'] == 1


def test_the_state_of_index_inbox_and_database_is_shown() -> None:
    built_at = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    manifest = replace(MANIFEST, built_at=built_at)
    state = shown(vitals=Vitals((), manifest, InboxHealth(3, 12.5, 2)))
    assert state['metaflowbot_index_info{generation="g-7"}'] == 1
    assert state["metaflowbot_index_age_seconds"] == pytest.approx(3600, abs=60)
    assert state["metaflowbot_index_passages"] == 100
    assert state['metaflowbot_index_documents{source="labs"}'] == 4
    assert state["metaflowbot_inbox_depth"] == 3
    assert state["metaflowbot_inbox_oldest_seconds"] == 12.5
    assert state["metaflowbot_inbox_dead"] == 2
    assert (state["metaflowbot_ready"], state["metaflowbot_database_up"]) == (1, 1)


def test_questions_handed_to_people_are_shown_by_state() -> None:
    state = shown(vitals=replace(HEALTHY, escalations={"open": 2}))
    assert state['metaflowbot_escalations{state="open"}'] == 2
    assert state['metaflowbot_escalations{state="solved"}'] == 0


def test_without_index_and_database_metrics_are_still_read() -> None:
    state = shown(vitals=Vitals(("no index", "no database"), None, None))
    assert (state["metaflowbot_ready"], state["metaflowbot_database_up"]) == (0, 0)
    assert not [name for name in state if name.startswith(("metaflowbot_i", "metaflowbot_index"))]


def test_the_last_ingest_is_shown_as_its_own_process_left_it(tmp_path: Path) -> None:
    assert IngestRun.last(tmp_path) is None
    ended = datetime.now(UTC)
    IngestRun(ended, 42.0, False, "metaflow-docs: gone", ("metaflow-docs",)).keep(tmp_path)
    state = shown(run=IngestRun.last(tmp_path))
    assert state["metaflowbot_ingest_succeeded"] == 0
    assert state["metaflowbot_ingest_timestamp_seconds"] == pytest.approx(ended.timestamp())
    assert state["metaflowbot_ingest_seconds"] == 42
    assert state["metaflowbot_ingest_unread_sources"] == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"ended_at": 1, "unread": []}'])
def test_a_damaged_record_of_the_last_ingest_counts_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "last-ingest.json").write_text(damage)
    assert IngestRun.last(tmp_path) is None


def test_two_registries_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.rated(Feedback("a1", "web", "up"))
    assert 'metaflowbot_feedback_total{verdict="up"}' not in shown(other)


# The bot tells its watchers


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def bot(tmp_path: Path, metrics: Metrics) -> Iterator[Bot]:
    embedding, index = WordEmbedding(), Index(tmp_path)
    publish(tmp_path, embedding)
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    prompt = prompts.load("answer", "sources")

    def answerer() -> Answerer:
        return Answerer(Retriever.over(index.load(), embedding), None, prompt)

    yield Bot(store, index.active_id, answerer, (Journal(), metrics))
    store.close()


def test_what_the_bot_answers_anywhere_is_counted_and_so_is_who_left(
    bot: Bot, metrics: Metrics
) -> None:
    bot.ask(Question(RETRY), Asking("cli"))
    answer = bot.ask(Question(RETRY), Asking("slack:U1", "C1", "1.0", "1.0"))
    bot.rate(Feedback(answer.id, "slack:U1", "up"))
    stream = bot.stream(Question(OFF_TOPIC), Asking("web:1"))
    next(stream)
    stream.close()
    counted = samples(metrics.render(bot.vitals(), None))
    for outcome, surface in (("answered", "cli"), ("answered", "slack"), ("left", "web")):
        name = f'metaflowbot_questions_total{{outcome="{outcome}",surface="{surface}"}}'
        assert counted[name] == 1
    assert counted['metaflowbot_feedback_total{verdict="up"}'] == 1
    assert counted["metaflowbot_index_passages"] == 12


def test_a_question_over_http_is_counted_once_and_keeps_the_callers_request_id(
    bot: Bot, metrics: Metrics, tmp_path: Path
) -> None:
    told: list[Ended] = []

    class Watch:
        def ended(self, ended: Ended) -> None:
            told.append(ended)

        def rated(self, feedback: Feedback) -> None: ...

    bot._watchers = (metrics, Watch())
    headers = {"X-Request-Id": "from-the-caller", "Accept": "text/event-stream"}
    app = build(bot, Settings(home=tmp_path), None, metrics)
    with (
        served(app) as address,
        httpx.Client(base_url=address, timeout=30, trust_env=False) as client,
    ):
        client.post("/api/ask", json={"question": RETRY}, headers=headers)
        text = client.get("/metrics").content
    assert [ended.request_id for ended in told] == ["from-the-caller"]
    assert samples(text)['metaflowbot_questions_total{outcome="answered",surface="web"}'] == 1


def test_a_model_that_fails_is_counted_though_the_passages_answer(home: Path) -> None:
    metrics = Metrics()
    with OpenAIDouble() as server:
        server.fail(401, times=9)
        given = {"openai_api_key": server.key, "openai_base_url": server.url}
        parts = bootstrap.build(Settings.model_validate({"home": home, **given}), (metrics,))
        answer = parts.bot.ask(Question(RETRY), Asking("web:1"))
        parts.store.close()
    counted = shown(metrics)
    assert answer.notice
    name = 'metaflowbot_model_errors_total{kind="ModelRefusedError",model="openai:gpt-5-mini"}'
    assert counted[name] == 1
    assert counted['metaflowbot_questions_total{outcome="answered",surface="web"}'] == 1
