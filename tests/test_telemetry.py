"""What operators are told: one line an event, traces where they are wanted, and nobody's words."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from metaflowbot.domain import Answer, Feedback, Usage
from metaflowbot.errors import ModelTimeoutError, StoreError
from metaflowbot.telemetry import (
    Ended,
    Journal,
    JsonLines,
    ModelFault,
    Plain,
    Request,
    Traces,
    event,
    model_failed,
    request,
)

WORDS = "my very private question"
ANSWER = Answer(
    id="a1",
    question=WORDS,
    text=WORDS,
    citations=(),
    abstained=False,
    confidence=0.8,
    model="openai:gpt-5-mini",
    prompt_version="p1",
    generation="g1",
    timings_ms={"retrieve": 20.0, "generate": 300.0, "total": 320.0},
    usage=Usage(900, 60, 0.0012),
)
ENDED = Ended(
    "slack", "C1", "1.5", started_ns=10**18, ended_ns=10**18 + 330_000_000, request_id="r1",
    answer=ANSWER, saved_ms=4.0,
)  # fmt: skip


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Everything that is logged, as it would be written."""
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(JsonLines().format(record))

    handler, root, ours = Keep(), logging.getLogger(), logging.getLogger("metaflowbot")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield written
    root.removeHandler(handler)
    ours.setLevel(before)


def only(lines: list[str]) -> dict[str, Any]:
    (line,) = lines
    assert "\n" not in line
    values: dict[str, Any] = json.loads(line)
    return values


# Log lines


def test_an_event_is_one_json_line_with_its_fields(lines: list[str]) -> None:
    event("index_activated", generation="g1", passages=12)
    line = only(lines)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "index_activated",
        "generation": "g1",
        "passages": 12,
    }


def test_what_a_library_logs_is_one_json_line_too(lines: list[str]) -> None:
    logging.getLogger("some.library").warning("two\nlines of %s\u2028", "text")
    line = only(lines)
    assert (line["event"], line["logger"]) == ("log", "some.library")
    assert line["message"] == "two\nlines of text\u2028"


def test_every_line_of_a_request_carries_its_id_and_no_other_does(lines: list[str]) -> None:
    with request("r1"):
        event("within")
        with request("another"):  # the one at hand goes on
            event("deeper")
    event("after")
    ids = [json.loads(line).get("request_id") for line in lines]
    assert ids == ["r1", "r1", None]


def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    with request() as first:
        pass
    with request() as second:
        pass
    assert first.id
    assert first.id != second.id


def test_a_logged_error_tells_kind_and_place_but_not_what_a_message_said(lines: list[str]) -> None:
    try:
        try:
            raise ValueError(WORDS)
        except ValueError as error:
            raise StoreError("the database does not answer") from error
    except StoreError:
        logging.getLogger("metaflowbot.bot").exception("request failed")
    line = only(lines)
    assert WORDS not in lines[0]
    assert line["error"][0] == "StoreError: the database does not answer"
    assert "ValueError" in line["error"]
    assert "tests/test_telemetry.py" in line["error"][1]


def test_a_question_is_logged_with_its_figures_and_without_its_words(lines: list[str]) -> None:
    Journal().ended(ENDED)
    line = only(lines)
    assert WORDS not in lines[0]
    assert (line["event"], line["outcome"], line["surface"]) == ("question", "answered", "slack")
    assert (line["request_id"], line["message_ts"], line["seconds"]) == ("r1", "1.5", 0.33)
    assert (line["answer_id"], line["model"], line["input_tokens"]) == ("a1", ANSWER.model, 900)


def test_a_question_that_failed_is_a_warning_with_the_kind_of_its_fault(lines: list[str]) -> None:
    Journal().ended(replace(ENDED, answer=None, failure="StoreError"))
    line = only(lines)
    assert (line["level"], line["outcome"], line["failure"]) == ("warning", "error", "StoreError")


def test_a_verdict_is_logged_without_its_reason_and_its_giver(lines: list[str]) -> None:
    Journal().rated(Feedback("a1", "slack:U1", "down", WORDS))
    line = only(lines)
    assert (line["answer_id"], line["verdict"]) == ("a1", "down")
    assert WORDS not in lines[0]
    assert "U1" not in lines[0]


def test_on_a_terminal_an_event_reads_as_a_line_for_people() -> None:
    record = logging.makeLogRecord({"msg": "question", "fields": {"outcome": "answered"}})
    with request("r1"):
        assert Plain().format(record)[9:] == "question outcome=answered request=r1"
    try:
        raise ValueError(WORDS)
    except ValueError:
        failed = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    assert "ValueError" in Plain().format(failed)
    assert WORDS not in Plain().format(failed)


def test_an_outcome_is_answered_abstained_error_or_left() -> None:
    outcomes = [
        ENDED.outcome,
        replace(ENDED, answer=replace(ANSWER, abstained=True)).outcome,
        replace(ENDED, answer=None, failure="StoreError").outcome,
        replace(ENDED, answer=None).outcome,
    ]
    assert outcomes == ["answered", "abstained", "error", "left"]


def test_a_model_that_fell_short_is_known_to_its_request_alone() -> None:
    model_failed(ModelTimeoutError("late"), "openai:m")  # outside of any request: nothing to do
    with request() as at_hand:
        model_failed(ModelTimeoutError("late"), "openai:m")
    finished = Ended.begin("web", "", "").finish(at_hand)
    assert finished.faults == (ModelFault("openai:m", "ModelTimeoutError"),)
    assert Ended.begin("web", "", "").finish(Request("r2")).faults == ()


# Traces


def spans_of(ended: Ended) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(exporter))
    traces.ended(ended)
    traces.rated(Feedback("a1", "web", "up"))
    traces.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_question_is_one_trace_with_its_stages_and_their_measured_times() -> None:
    spans = spans_of(ENDED)
    root = spans["invoke_agent metaflowbot"]
    assert {span.context.trace_id for span in spans.values() if span.context} == {
        root.context and root.context.trace_id
    }
    assert (root.start_time, root.end_time) == (ENDED.started_ns, ENDED.ended_ns)
    parts = [spans[name] for name in ("retrieval", "chat gpt-5-mini", "save")]
    assert [((s.end_time or 0) - (s.start_time or 0)) / 1e6 for s in parts] == [20, 300, 4]
    assert parts[0].start_time == root.start_time
    assert parts[1].start_time == parts[0].end_time


def test_spans_speak_the_conventions_for_generative_ai_and_hold_nobodys_words() -> None:
    spans = spans_of(ENDED)
    chat = dict(spans["chat gpt-5-mini"].attributes or {})
    assert chat == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.usage.input_tokens": 900,
        "gen_ai.usage.output_tokens": 60,
    }
    root = dict(spans["invoke_agent metaflowbot"].attributes or {})
    assert root["gen_ai.operation.name"] == "invoke_agent"
    assert root["metaflowbot.request_id"] == "r1"
    assert not any(WORDS in span.to_json() for span in spans.values())


def test_without_a_model_no_chat_is_traced() -> None:
    spans = spans_of(replace(ENDED, answer=replace(ANSWER, model="none")))
    assert spans.keys() == {"invoke_agent metaflowbot", "retrieval", "save"}


def test_a_model_that_fell_short_marks_its_span_though_the_answer_went_on() -> None:
    fault = ModelFault("openai:gpt-5-mini", "ModelTimeoutError")
    spans = spans_of(replace(ENDED, answer=replace(ANSWER, model="none"), faults=(fault,)))
    chat = spans["chat gpt-5-mini"]
    assert (chat.attributes or {})["error.type"] == "ModelTimeoutError"
    assert not chat.status.is_ok
    assert spans["invoke_agent metaflowbot"].status.is_ok


def test_a_question_that_failed_is_a_trace_with_an_error() -> None:
    (root,) = spans_of(replace(ENDED, answer=None, failure="StoreError")).values()
    assert (root.attributes or {})["error.type"] == "StoreError"
    assert not root.status.is_ok


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.services: set[str] = set()
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(names["service.name"])
            for scope in resource.scope_spans:
                self.names += [span.name for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def __enter__(self) -> Collector:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None)


def test_traces_reach_a_collector_over_otlp_by_the_end_of_the_process() -> None:
    with Collector() as collector:
        traces = Traces.to(f"http://127.0.0.1:{collector.port}")
        traces.ended(ENDED)
        traces.close()
    assert collector.services == {"metaflowbot"}
    assert sorted(collector.names) == [
        "chat gpt-5-mini",
        "invoke_agent metaflowbot",
        "retrieval",
        "save",
    ]
