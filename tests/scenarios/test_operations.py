"""A real process tells operators what happened, in lines and traces without anybody's words."""

from __future__ import annotations

import json
from typing import Any

from tests.process import Process
from tests.scenarios.test_first_run import Run, run  # noqa: F401 - `run` is a fixture
from tests.small_index import RETRY
from tests.test_telemetry import Collector

pytest_plugins = ["tests.prebuilt"]


def events(process: Process, name: str) -> list[dict[str, Any]]:
    """What was logged of that name so far; every line must be JSON."""
    lines = [json.loads(line) for line in process.lines]
    return [line for line in lines if line["event"] == name]


def test_a_question_leaves_lines_with_its_request_id_and_a_trace_but_not_its_words(
    run: Run,  # noqa: F811
) -> None:
    with Collector() as collector:
        endpoint = f"http://127.0.0.1:{collector.port}"
        process = run("serve", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        with process.client() as client:
            answered = client.post(
                "/api/ask",
                json={"question": f"{RETRY} zyzzyva"},
                headers={"X-Request-Id": "from-outside"},
            )
            client.get("/healthz")
        process.until(lambda: events(process, "http"))
        assert process.stop() == 0
    assert answered.headers["X-Request-Id"] == "from-outside"
    (question,) = events(process, "question")
    (request,) = events(process, "http")
    assert question["request_id"] == request["request_id"] == "from-outside"
    assert question["answer_id"] == answered.json()["answer_id"]
    assert (request["route"], request["status"]) == ("/api/ask", 200)
    assert "zyzzyva" not in process.said
    assert {"invoke_agent metaflowbot", "retrieval", "save"} <= set(collector.names)
