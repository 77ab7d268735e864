"""A real process from its first start: health, readiness, search, answers, and Slack in front.

Each process listens on a port that the system chooses, and is ended with its test.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from metaflowbot.embedding import MiniLM
from tests.openai_double import OpenAIDouble
from tests.process import Process
from tests.slack_double import SlackDouble
from tests.small_index import OFF_TOPIC, RETRY, publish

pytest_plugins = ["tests.prebuilt"]

Run = Callable[..., Process]


@pytest.fixture
def run(home: Path) -> Iterator[Run]:
    """Starts a process on the home with the index, or on another; all are ended afterwards."""
    running: list[Process] = []

    def start(*arguments: str, home: Path = home, **environment: str) -> Process:
        running.append(Process(home, (*arguments, "--port", "0"), environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


@contextmanager
def workspace() -> Iterator[tuple[SlackDouble, str, str]]:
    """A Slack with a person in a channel to which the bot was invited."""
    with SlackDouble(clock_scale=6) as slack:
        ann = slack.add_user("ann")
        yield slack, slack.add_channel("ask-metaflow", members=[ann, slack.bot_user_id]), ann


def model_at(server: OpenAIDouble) -> dict[str, str]:
    return {"OPENAI_API_KEY": server.key, "OPENAI_BASE_URL": server.url}


def is_ready(process: Process) -> bool:
    with process.client() as client:
        return client.get("/readyz").status_code == 200


def ask(client: httpx.Client, question: str) -> dict[str, Any]:
    response = client.post("/api/ask", json={"question": question})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


# The first run


def test_up_on_an_empty_home_without_the_docs_ends_with_a_bot_that_answers(
    run: Run, tmp_path: Path, server: OpenAIDouble
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "metaflowbot.toml").write_text(f'[sources.docs]\nlocation = "{tmp_path}/nowhere"\n')
    environment = model_at(server) | {
        "METAFLOWBOT_CHAT_MODEL": "none",
        "METAFLOWBOT_EMBEDDING_MODEL": "openai:text-embedding-3-small",
    }
    process = run("up", home=empty, **environment)
    process.line("first run: building the index")
    process.until(lambda: is_ready(process))
    assert "metaflow-docs: could not be read" in process.said
    with process.client() as client:
        hits = client.post("/api/search", json={"query": "metaflow.retry"}).json()["hits"]
        assert "api:metaflow.retry" in [hit["document_id"] for hit in hits]
        assert ask(client, "What does metaflow.retry do?")["citations"]
    assert process.stop() == 0
    again = run("up", home=empty, **environment)
    again.until(lambda: is_ready(again))
    assert "first run" not in again.said
    assert "Traceback" not in process.said + again.said


def test_up_with_a_folder_of_docs_answers_from_them(
    run: Run, tmp_path: Path, server: OpenAIDouble
) -> None:
    page = tmp_path / "tree" / "docs" / "scaling" / "parrots.md"
    page.parent.mkdir(parents=True)
    page.write_text("# Parrots\n\nUse the `@parrot` decorator to repeat whatever a step says.\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "metaflowbot.toml").write_text(f'[sources.docs]\nlocation = "{tmp_path}/tree"\n')
    environment = {"METAFLOWBOT_CHAT_MODEL": "none", **model_at(server)}
    process = run(
        "up", home=empty, METAFLOWBOT_EMBEDDING_MODEL="openai:text-embedding-3-small", **environment
    )
    process.until(lambda: is_ready(process))
    with process.client() as client:
        (hit, *_) = client.post("/api/search", json={"query": "@parrot"}).json()["hits"]
    assert hit["document_id"] == "docs/scaling/parrots.md"
    assert hit["url"].startswith("https://docs.metaflow.org/scaling/parrots")


def test_a_process_lives_before_it_is_ready_and_gets_ready_without_a_restart(
    run: Run, tmp_path: Path, prebuilt: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "cache").symlink_to(prebuilt / "cache")
    process = run("serve", home=empty)
    with process.client() as client:
        assert client.get("/healthz").status_code == 200
        lacking = client.get("/readyz")
        assert lacking.status_code == 503
        assert "metaflowbot ingest" in lacking.text
        refused = client.post("/api/ask", json={"question": RETRY})
        assert refused.status_code == 503
        assert "metaflowbot ingest" in refused.text
        publish(empty, MiniLM(empty / "cache"))
        assert client.get("/readyz").status_code == 200
        assert ask(client, RETRY)["citations"]


def test_the_first_line_comes_long_before_the_process_is_ready(run: Run) -> None:
    process = run("serve")
    process.line("metaflowbot starts")
    first = time.monotonic() - process.started
    process.line("ready: index")
    ready = time.monotonic() - process.started
    assert first < 10  # measured below 1 on two idle cores
    assert first < ready


# Asking a running process


def test_a_served_bot_searches_answers_and_abstains(run: Run, home: Path) -> None:
    process = run("serve")
    process.until(lambda: is_ready(process))
    with process.client() as client:
        hits = client.post("/api/search", json={"query": "@kubernetes", "k": 2}).json()["hits"]
        assert hits[0]["document_id"] == "docs/scaling/kubernetes.md"
        answer = ask(client, RETRY)
        assert answer["citations"][0]["url"].startswith("https://docs.metaflow.org/scaling/")
        assert ask(client, OFF_TOPIC)["abstained"]
        for refused in ("", "x" * 20_000):
            assert client.post("/api/ask", json={"question": refused}).status_code == 422
        rated = client.post(f"/api/answers/{answer['answer_id']}/feedback", json={"verdict": "up"})
        assert rated.status_code == 204
        assert "Metaflow" in client.get("/").text
    assert process.stop() == 0
    assert json.loads(process.lines[-1])["message"] == "stopped"
    assert "Traceback" not in process.said


def test_a_served_bot_goes_on_when_the_next_generation_is_broken(run: Run, home: Path) -> None:
    process = run("serve")
    process.until(lambda: is_ready(process))
    with process.client() as client:
        first = ask(client, RETRY)["generation"]
        (home / "index" / "current").write_text("nosuch\n")
        assert ask(client, RETRY)["generation"] == first
        second = publish(home, MiniLM(home / "cache")).id
        assert ask(client, RETRY)["generation"] == second


def test_a_served_bot_streams_a_models_answer_and_survives_its_failure(
    run: Run, server: OpenAIDouble
) -> None:
    process = run("serve", METAFLOWBOT_MODEL_TIMEOUT="5", **model_at(server))
    process.until(lambda: is_ready(process))
    with process.client() as client:
        streamed = client.post(
            "/api/ask", json={"question": RETRY}, headers={"Accept": "text/event-stream"}
        ).text
        assert "event: delta" in streamed
        assert "event: answer" in streamed
        server.fail(500, times=9, retry_after=0.01)
        answer = ask(client, "How do I run a step on Kubernetes?")
        assert answer["citations"]
        assert "500" in answer["notice"]
    assert server.key not in process.said


def test_with_a_token_every_api_route_wants_it(run: Run) -> None:
    process = run("serve", METAFLOWBOT_API_TOKEN="correct-horse")
    with process.client() as client:
        assert client.post("/api/ask", json={"question": RETRY}).status_code == 401
        assert client.get("/healthz").status_code == 200
    with process.client(Authorization="Bearer correct-horse") as client:
        assert ask(client, RETRY)["citations"]
    assert "correct-horse" not in process.said


# Slack


def test_a_mention_in_socket_mode_is_answered_in_its_thread_with_citations(
    run: Run, server: OpenAIDouble
) -> None:
    with workspace() as (slack, channel, ann):
        process = run(
            "serve",
            SLACK_BOT_TOKEN=slack.bot_token,
            SLACK_APP_TOKEN=slack.app_token,
            SLACK_API_URL=slack.api_url,
            **model_at(server),
        )
        process.until(lambda: slack.sockets == 1)
        process.line("ready: index")
        reply = _asked_in_slack(process, slack, channel, ann)
        assert "docs.metaflow.org/scaling/failures" in str(reply)
        assert server.requests
        assert process.stop() == 0
        assert not {slack.bot_token, slack.app_token} & set(process.said.split())
        assert "Traceback" not in process.said


def test_a_mention_in_http_mode_is_answered_in_its_thread_with_citations(run: Run) -> None:
    with workspace() as (slack, channel, ann):
        process = run(
            "serve",
            SLACK_BOT_TOKEN=slack.bot_token,
            SLACK_SIGNING_SECRET=slack.signing_secret,
            SLACK_API_URL=slack.api_url,
        )
        process.line("ready: index")
        slack.http_endpoint = f"{process.address}/slack/events"
        reply = _asked_in_slack(process, slack, channel, ann)
        assert "docs.metaflow.org/scaling/failures" in str(reply)
        assert "Traceback" not in process.said


def _asked_in_slack(process: Process, slack: SlackDouble, channel: str, ann: str) -> dict[str, Any]:
    """The finished answer to a mention, in its thread."""
    ts = slack.say(channel, ann, f"<@{slack.bot_user_id}> {RETRY}")

    def answered() -> dict[str, Any] | None:
        replies = [reply for reply in slack.thread(channel, ts) if reply.get("bot_id")]
        return next((reply for reply in replies if "docs.metaflow.org" in str(reply)), None)

    reply: dict[str, Any] = process.until(answered)
    assert reply["thread_ts"] == ts
    return reply


@pytest.mark.parametrize(
    ("name", "token"),
    [("SLACK_BOT_TOKEN", "xoxb-wrong-secret"), ("SLACK_APP_TOKEN", "xapp-wrong-secret")],
)
def test_a_token_that_slack_refuses_stops_the_start(run: Run, name: str, token: str) -> None:
    with workspace() as (slack, _, _):
        tokens = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_APP_TOKEN": slack.app_token}
        process = run("serve", SLACK_API_URL=slack.api_url, **{**tokens, name: token})
        assert process.ended() == 2
    assert process.lines[-1].startswith(f"metaflowbot: {name}")
    assert "Traceback" not in process.said
    assert token not in process.said
