"""What Prometheus reads. One registry an app, so that two apps in a process do not mix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from metaflowbot.bot import Vitals
from metaflowbot.domain import Answer, Feedback
from metaflowbot.escalation import State
from metaflowbot.ingest_run import IngestRun
from metaflowbot.manifest import Manifest
from metaflowbot.store import InboxHealth
from metaflowbot.telemetry import Ended

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts what the bot and the web server do; a watcher of the bot. Durations are seconds."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._count_requests()
        self._count_questions()
        self._count_models()

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"metaflowbot_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        name = f"metaflowbot_{name}"
        return Histogram(name, about, labels, buckets=_SECONDS, registry=self._registry)

    def _count_requests(self) -> None:
        self._requests = self._counter(
            "http_requests_total", "HTTP requests by route and status.", "method", "route", "status"
        )
        self._latency = self._histogram(
            "http_request_seconds", "Time from the request to the end of its response.", "route"
        )

    def _count_questions(self) -> None:
        self._questions = self._counter(
            "questions_total",
            "Questions by surface and outcome: answered, abstained, error or left.",
            "surface",
            "outcome",
        )
        self._stages = self._histogram(
            "answer_seconds", "Time an answer took, by stage; total is the whole of it.", "stage"
        )
        self._feedback = self._counter("feedback_total", "Verdicts on answers.", "verdict")

    def _count_models(self) -> None:
        self._faults = self._counter(
            "model_errors_total", "Times the chat model fell short, by kind.", "model", "kind"
        )
        self._tokens = self._counter(
            "model_tokens_total",
            "Tokens the chat model read (input) and wrote (output).",
            "model",
            "direction",
        )
        self._cost = self._counter(
            "model_cost_usd_total", "What the chat model cost, in US dollars.", "model"
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request; `route` is the template, so labels stay few."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def ended(self, ended: Ended) -> None:
        """Count one question, with its answer's times, tokens and cost."""
        self._questions.labels(ended.surface, ended.outcome).inc()
        for fault in ended.faults:
            self._faults.labels(fault.model, fault.kind).inc()
        if ended.answer is not None:
            self._answer(ended.answer)

    def _answer(self, answer: Answer) -> None:
        for stage, milliseconds in answer.timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        self._tokens.labels(answer.model, "input").inc(answer.usage.input_tokens)
        self._tokens.labels(answer.model, "output").inc(answer.usage.output_tokens)
        self._cost.labels(answer.model).inc(answer.usage.cost_usd)

    def rated(self, feedback: Feedback) -> None:
        self._feedback.labels(feedback.verdict).inc()

    def render(self, vitals: Vitals, last_ingest: IngestRun | None) -> bytes:
        """The Prometheus text: what was counted, and the state of the bot as it is now."""
        state = CollectorRegistry()
        state.register(_State(vitals, last_ingest))
        return generate_latest(self._registry) + generate_latest(state)


class _State(Collector):
    """Gauges of one moment; what is not known has no sample."""

    def __init__(self, vitals: Vitals, last_ingest: IngestRun | None) -> None:
        self._vitals = vitals
        self._last_ingest = last_ingest

    def collect(self) -> Iterator[GaugeMetricFamily]:
        vitals = self._vitals
        yield _gauge("ready", "1 when nothing keeps the bot from answering.", not vitals.missing)
        up = vitals.inbox is not None
        yield _gauge("database_up", "1 when the database answers.", up)
        if vitals.manifest is not None:
            yield from _index(vitals.manifest)
        if vitals.inbox is not None:
            yield from _inbox(vitals.inbox)
            yield _escalations(vitals.escalations)
        if self._last_ingest is not None:
            yield from _ingest(self._last_ingest)


def _index(manifest: Manifest) -> Iterator[GaugeMetricFamily]:
    info = GaugeMetricFamily(
        "metaflowbot_index_info", "1 for the index generation that is served.", None, ["generation"]
    )
    info.add_metric([manifest.id], 1)
    yield info
    built = datetime.fromisoformat(manifest.built_at)
    age = (datetime.now(UTC) - built).total_seconds()
    yield _gauge("index_age_seconds", "Time since the served generation was built.", age)
    yield _gauge("index_passages", "Passages of the served generation.", manifest.passages)
    documents = GaugeMetricFamily(
        "metaflowbot_index_documents",
        "Documents of the served generation by source.",
        None,
        ["source"],
    )
    for source, count in manifest.sources.items():
        documents.add_metric([source], count.documents)
    yield documents


def _inbox(health: InboxHealth) -> Iterator[GaugeMetricFamily]:
    yield _gauge("inbox_depth", "Items of Slack that wait or are worked on.", health.depth)
    age = health.oldest_seconds
    yield _gauge("inbox_oldest_seconds", "Age of the oldest of them, 0 for none.", age)
    yield _gauge("inbox_dead", "Items that were given up on.", health.dead)


def _escalations(counts: Mapping[State, int]) -> GaugeMetricFamily:
    about = "Questions handed to people, by state."
    family = GaugeMetricFamily("metaflowbot_escalations", about, None, ["state"])
    for state in get_args(State):
        family.add_metric([state], counts.get(state, 0))
    return family


def _ingest(run: IngestRun) -> Iterator[GaugeMetricFamily]:
    about = "1 when the last ingest left an index that is up to date."
    yield _gauge("ingest_succeeded", about, run.succeeded)
    about = "When the last ingest ended, in Unix time."
    yield _gauge("ingest_timestamp_seconds", about, run.ended_at.timestamp())
    yield _gauge("ingest_seconds", "How long the last ingest took.", run.seconds)
    about = "Sources that the last ingest could not read."
    yield _gauge("ingest_unread_sources", about, len(run.unread))


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"metaflowbot_{name}", about, value)
