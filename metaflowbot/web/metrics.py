"""What Prometheus reads. One registry an app, so that two apps in a process do not mix."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from metaflowbot.domain import Answer, Verdict

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts requests, answers, tokens and verdicts. Durations are seconds."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._registry = registry
        self._requests = Counter(
            "metaflowbot_http_requests_total",
            "HTTP requests by route and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._latency = Histogram(
            "metaflowbot_http_request_seconds",
            "Time from the request to the end of its response.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._feedback = Counter(
            "metaflowbot_feedback_total", "Verdicts on answers.", ("verdict",), registry=registry
        )
        self._generation = Gauge(
            "metaflowbot_index_info",
            "1 for the index generation that is served.",
            ("generation",),
            registry=registry,
        )
        self._count_answers(registry)

    def _count_answers(self, registry: CollectorRegistry) -> None:
        self._questions = Counter(
            "metaflowbot_questions_total",
            "Questions by outcome: answered, abstained or error.",
            ("outcome",),
            registry=registry,
        )
        self._stages = Histogram(
            "metaflowbot_answer_seconds",
            "Time an answer took, by stage: retrieve, generate, total.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "metaflowbot_model_tokens_total",
            "Tokens the chat model read (input) and wrote (output).",
            ("model", "direction"),
            registry=registry,
        )
        self._cost = Counter(
            "metaflowbot_model_cost_usd_total",
            "What the chat model cost, in US dollars.",
            ("model",),
            registry=registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request; `route` is the template, so labels stay few."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """Count one answer or abstention, with its times, tokens and cost."""
        self._questions.labels("abstained" if answer.abstained else "answered").inc()
        for stage, milliseconds in answer.timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        self._tokens.labels(answer.model, "input").inc(answer.usage.input_tokens)
        self._tokens.labels(answer.model, "output").inc(answer.usage.output_tokens)
        self._cost.labels(answer.model).inc(answer.usage.cost_usd)

    def failure(self) -> None:
        """Count one question that ended in an error."""
        self._questions.labels("error").inc()

    def feedback(self, verdict: Verdict) -> None:
        self._feedback.labels(verdict).inc()

    def render(self, generation: str) -> bytes:
        """The Prometheus text; `generation` is what is served now, '' for none."""
        self._generation.clear()
        if generation:
            self._generation.labels(generation).set(1)
        return generate_latest(self._registry)
