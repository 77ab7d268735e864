"""What a running process tells its operators: a line an event, and traces where they are wanted.

    Bot -> Ended, Feedback -> watchers: Journal (log lines), Traces (OpenTelemetry), web's Metrics

On a terminal a line is for people, elsewhere it is one JSON object: time, level, event and, where
it belongs to a request, request_id. No line and no span holds what somebody wrote: of an exception
only its kind and place are logged, since its text may quote a message.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from metaflowbot.domain import Answer, Feedback
from metaflowbot.errors import MetaflowbotError, ModelError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

_events = logging.getLogger("metaflowbot.events")


# Requests


@dataclass(frozen=True, slots=True)
class ModelFault:
    """A model that fell short: `kind` is that of the ModelError, `model` is '' where not known."""

    model: str
    kind: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is being worked on now, with the models that fell short on the way."""

    id: str
    faults: list[ModelFault] = field(default_factory=list)


_REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


@contextmanager
def request(identity: str = "") -> Iterator[Request]:
    """What happens within belongs to one request: the one at hand, else a new one of this id.

    An empty id gives a random one. May be left in another context than it was entered in, as
    happens to the generators that stream answers.
    """
    at_hand = _REQUEST.get()
    if at_hand is not None:
        yield at_hand
        return
    begun = Request(identity or uuid.uuid4().hex)
    _REQUEST.set(begun)
    try:
        yield begun
    finally:
        _REQUEST.set(None)


def request_id() -> str:
    """The id of the request at hand, '' outside of one."""
    at_hand = _REQUEST.get()
    return at_hand.id if at_hand else ""


def model_failed(error: ModelError, model: str = "") -> None:
    """Note that a model fell short in this request, also where the answer goes on without it."""
    if (at_hand := _REQUEST.get()) is not None:
        at_hand.faults.append(ModelFault(model, type(error).__name__))


# What watchers are told


@dataclass(frozen=True, slots=True)
class Ended:
    """How one question ended: with an `answer`, by a `failure` of a kind, or by its asker leaving.

    `surface` is where it was asked: slack, web, cli. `channel` and `message` are Slack's ids, ''
    elsewhere. Times are nanoseconds since the epoch; storing the answer took `saved_ms`.
    """

    surface: str
    channel: str
    message: str
    started_ns: int
    ended_ns: int = 0
    request_id: str = ""
    answer: Answer | None = None
    failure: str = ""
    saved_ms: float = 0.0
    faults: tuple[ModelFault, ...] = ()

    @classmethod
    def begin(cls, surface: str, channel: str, message: str) -> Ended:
        """A question that is asked now."""
        return cls(surface, channel, message, time.time_ns())

    def finish(self, at_hand: Request) -> Ended:
        """The same, ended now, with what its request met."""
        now, faults = time.time_ns(), tuple(at_hand.faults)
        return replace(self, ended_ns=now, request_id=at_hand.id, faults=faults)

    @property
    def outcome(self) -> str:
        """One of answered, abstained, error and left."""
        if self.answer is not None:
            return "abstained" if self.answer.abstained else "answered"
        return "error" if self.failure else "left"


class Watcher(Protocol):
    """Is told what the bot did; called from any thread, must not raise."""

    def ended(self, ended: Ended) -> None: ...

    def rated(self, feedback: Feedback) -> None: ...


# Log lines


def configure() -> None:
    """Log to stderr from now on: our own lines from INFO on, those of libraries from WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain() if sys.stderr.isatty() else JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("metaflowbot").setLevel(logging.INFO)


def event(name: str, level: int = logging.INFO, **fields: object) -> None:
    """Log one event; `fields` are JSON values, and hold nothing that somebody wrote."""
    _events.log(level, name, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A record as one JSON object; what is no event of ours is a 'log' with its message."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": at, "level": record.levelname.lower()}
        fields: Mapping[str, object] | None = getattr(record, "fields", None)
        said = record.getMessage()
        line["event"] = "log" if fields is None else said
        if (at_hand := _REQUEST.get()) is not None:
            line["request_id"] = at_hand.id
        line |= {"logger": record.name, "message": said} if fields is None else fields
        if record.exc_info and record.exc_info[1]:
            line["error"] = _explained(record.exc_info[1])
        return json.dumps(line, default=str)


class Plain(logging.Formatter):
    """A record as a line for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields: Mapping[str, object] = getattr(record, "fields", {})
        words = [at, record.getMessage(), *(f"{name}={value}" for name, value in fields.items())]
        if (at_hand := _REQUEST.get()) is not None:
            words.append(f"request={at_hand.id}")
        if record.exc_info and record.exc_info[1]:
            words += [f"\n  {line}" for line in _explained(record.exc_info[1])]
        return " ".join(words)


def _explained(error: BaseException) -> list[str]:
    """The error and its causes: kind, text only where it is ours, and where each was raised."""
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(lines) < 100:
        text = f": {seen}" if isinstance(seen, MetaflowbotError) else ""
        lines.append(type(seen).__name__ + text)
        for frame in traceback.extract_tb(seen.__traceback__):
            place = "/".join(Path(frame.filename).parts[-3:])
            lines.append(f"at {place}:{frame.lineno} in {frame.name}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return lines


class Journal:
    """Logs every question and every verdict: figures and ids, nobody's name and no text."""

    def ended(self, ended: Ended) -> None:
        fields: dict[str, object] = {"surface": ended.surface, "outcome": ended.outcome}
        fields["request_id"] = ended.request_id
        fields["seconds"] = round((ended.ended_ns - ended.started_ns) / 1e9, 3)
        if ended.channel:
            fields |= {"channel": ended.channel, "message_ts": ended.message}
        if ended.faults:
            fields["model_errors"] = [fault.kind for fault in ended.faults]
        if ended.answer is not None:
            fields |= _figures(ended.answer)
        else:
            fields["failure"] = ended.failure
        event("question", logging.WARNING if ended.outcome == "error" else logging.INFO, **fields)

    def rated(self, feedback: Feedback) -> None:
        event("feedback", answer_id=feedback.answer_id, verdict=feedback.verdict)


def _figures(answer: Answer) -> dict[str, object]:
    return {
        "answer_id": answer.id,
        "model": answer.model,
        "prompt_version": answer.prompt_version,
        "generation": answer.generation,
        "confidence": round(answer.confidence, 3),
        "citations": len(answer.citations),
        "fell_short": bool(answer.notice),
        "timings_ms": dict(answer.timings_ms),
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
        "cost_usd": answer.usage.cost_usd,
    }


# Traces


class Traces:
    """Every question as a trace, by OpenTelemetry's semantic conventions for generative AI.

    `invoke_agent metaflowbot` holds `retrieval`, `chat <model>` where a model was asked, and
    `save`. The spans are made when the question has ended, from the times that were measured, so
    nothing is kept open while an answer is streamed.
    """

    def __init__(self, exporting: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        names = {"service.name": "metaflowbot", "service.version": version("metaflowbot")}
        self._provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
        self._provider.add_span_processor(exporting)
        self._tracer = self._provider.get_tracer("metaflowbot")

    @classmethod
    def to(cls, endpoint: str) -> Traces:
        """Sends in the background, over OTLP and gRPC; a collector that is away loses traces only.

        The exporter reads OpenTelemetry's other variables by itself, e.g. those for headers.
        """
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return cls(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))

    def ended(self, ended: Ended) -> None:
        root = self._tracer.start_span(
            "invoke_agent metaflowbot", start_time=ended.started_ns, attributes=_asked(ended)
        )
        if ended.outcome == "error":
            self._mark(root, ended.failure)
        if ended.answer is not None:
            self._parts(root, ended, ended.answer)
        root.end(ended.ended_ns)

    def _parts(self, root: Span, ended: Ended, answer: Answer) -> None:
        retrieve, generate = (answer.timings_ms.get(k, 0.0) for k in ("retrieve", "generate"))
        searched: dict[str, str | int] = {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": answer.generation,
            "metaflowbot.documents": len(answer.retrieved),
        }
        at = self._part(root, "retrieval", ended.started_ns, retrieve, searched)
        if chatted := _chatted(ended, answer):
            self._part(root, f"chat {chatted['gen_ai.request.model']}", at, generate, chatted)
        self._part(root, "save", at + int(generate * 1e6), ended.saved_ms, {})

    def _part(
        self, root: Span, name: str, start: int, milliseconds: float, about: Mapping[str, str | int]
    ) -> int:
        """A span below `root`; returns its end."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        kind = SpanKind.CLIENT if name.startswith("chat") else SpanKind.INTERNAL
        context = set_span_in_context(root)
        span = self._tracer.start_span(name, context, kind, dict(about), start_time=start)
        if failure := about.get("error.type"):
            self._mark(span, str(failure))
        end = start + int(milliseconds * 1e6)
        span.end(end)
        return end

    def _mark(self, span: Span, failure: str) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("error.type", failure)
        span.set_status(StatusCode.ERROR)

    def rated(self, feedback: Feedback) -> None:
        """A verdict comes long after its trace has ended: the log and the metrics have it."""

    def close(self) -> None:
        """Send what is left, and end."""
        self._provider.shutdown()


def _asked(ended: Ended) -> dict[str, str]:
    about = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "metaflowbot",
        "metaflowbot.surface": ended.surface,
        "metaflowbot.outcome": ended.outcome,
        "metaflowbot.request_id": ended.request_id,
    }
    if ended.answer is not None:
        about |= {
            "metaflowbot.answer_id": ended.answer.id,
            "metaflowbot.generation": ended.answer.generation,
            "metaflowbot.prompt_version": ended.answer.prompt_version,
        }
    return about


def _chatted(ended: Ended, answer: Answer) -> dict[str, str | int]:
    """What the span of the model's call says, nothing where none was asked.

    An answer that goes on without its model is of model 'none': the fault knows its name.
    """
    fault = ended.faults[-1] if ended.faults else None
    name = fault.model if fault and answer.model == "none" else answer.model
    provider, _, model = name.partition(":")
    if not model:
        return {}
    about: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": answer.usage.input_tokens,
        "gen_ai.usage.output_tokens": answer.usage.output_tokens,
    }
    return about | ({"error.type": fault.kind} if fault else {})
