"""The real Bolt app over real HTTP and a real websocket, against a Slack that runs in the test."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from slack_sdk import WebClient

from metaflowbot.domain import Answer, Citation, Feedback, Question, Turn
from metaflowbot.errors import IndexUnavailableError, SettingsError
from metaflowbot.settings import Settings
from metaflowbot.slack.rendering import answer_messages
from metaflowbot.slack.service import SlackService
from metaflowbot.slack.worker import Workers
from metaflowbot.store import MAX_ATTEMPTS, Asking, InboxItem, Store
from tests.slack_double import SlackDouble


class EchoBot:
    """A bot that answers at once by repeating the question, or does what a test puts in `does`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids = itertools.count(1)
        self.asked: list[Question] = []
        self.does: Callable[[Answer], Answer] = lambda answer: answer

    def ask(self, question: Question, asking: Asking) -> Answer:
        self.asked.append(question)
        answer = self.does(
            Answer(
                id=f"answer-{next(self._ids)}",
                question=question.text,
                text=f"You asked: {question.text} [1].",
                citations=(Citation(1, "docs/a.md", "A page", "https://docs.io/a", "quote"),),
                abstained=False,
                confidence=0.5,
                model="none",
                prompt_version="p1",
                generation="g1",
            )
        )
        self._store.save_answer(answer, asking)
        return answer

    def rate(self, feedback: Feedback) -> None:
        self._store.rate(feedback)


class World:
    """A workspace with one person and one channel, a store, a bot, and settings to join them."""

    def __init__(self, slack: SlackDouble, store: Store) -> None:
        self.slack = slack
        self.store = store
        self.bot = EchoBot(store)
        self.ann: str = slack.add_user("ann")
        self.channel: str = slack.add_channel("ask-metaflow", members=[self.ann, slack.bot_user_id])
        self.socket_mode = self.settings(slack_app_token=slack.app_token)
        self.http_mode = self.settings(slack_signing_secret=slack.signing_secret)

    def settings(self, **values: str) -> Settings:
        common = {"slack_bot_token": self.slack.bot_token, "slack_api_url": self.slack.api_url}
        return Settings.model_validate(common | values)

    @contextmanager
    def serving(self, settings: Settings) -> Iterator[SlackService]:
        service = SlackService(settings, self.bot, self.store)
        service.start()
        try:
            yield service
        finally:
            service.stop()

    def say(self, text: str, thread: str | None = None) -> str:
        """Ann writes in the channel; the timestamp of her message."""
        return str(self.slack.say(self.channel, self.ann, text, thread_ts=thread))

    def ask(self, text: str, thread: str | None = None) -> str:
        return self.say(f"<@{self.slack.bot_user_id}> {text}", thread)

    def replies(self, ts: str) -> list[dict[str, Any]]:
        return [each for each in self.slack.thread(self.channel, ts) if each.get("bot_id")]

    def reply(self, ts: str, count: int = 1) -> dict[str, Any]:
        """The bot's newest message in that thread, once there are `count`."""
        until(lambda: len(self.replies(ts)) >= count)
        return self.replies(ts)[-1]

    def calls(self, method: str) -> list[Any]:
        return [call for call in self.slack.calls if call.method == method]

    def settle(self) -> None:
        """Wait until nothing is left in the inbox."""
        until(lambda: self.store.health().depth == 0)

    def leave_behind(self, ts: str, text: str) -> str:
        """Put a question into the inbox as a worker leaves it that died at its first attempt."""
        key = f"{self.slack.team_id}/{self.channel}/{ts}"
        payload = {
            "channel": self.channel,
            "thread": ts,
            "message": ts,
            "user": self.ann,
            "text": text,
        }
        assert self.store.receive(key, "question", payload, person=f"slack:{self.ann}")
        self.store.claim(0)
        return key

    def click(self, ts: str, verdict: str) -> str:
        """Ann presses a button under the answer; what she is told."""
        reply = self.reply(ts)
        buttons = reply["blocks"][-1]["elements"][0]
        value = buttons["positive_button" if verdict == "up" else "negative_button"]["value"]
        before = len(self.calls("chat.postEphemeral"))
        self.slack.click(self.channel, reply["ts"], buttons["action_id"], self.ann, value=value)
        until(lambda: len(self.calls("chat.postEphemeral")) > before)
        return str(self.calls("chat.postEphemeral")[-1].arguments["text"])


def until(condition: Callable[[], object], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    with SlackDouble() as slack:
        yield World(slack, store)
    store.close()


@pytest.fixture
def live(world: World) -> Iterator[World]:
    """The world with the bot in it, in Socket Mode."""
    with world.serving(world.socket_mode):
        yield world


# Being asked


def test_a_mention_is_answered_in_its_thread_with_sources_and_buttons(live: World) -> None:
    ts = live.ask("how do I &lt;retry&gt;?")
    reply = live.reply(ts)
    assert live.bot.asked == [Question("how do I <retry>?", channel=live.channel)]
    kinds = [block["type"] for block in reply["blocks"]]
    assert kinds == ["markdown", "context", "context", "context_actions"]
    assert reply["thread_ts"] == ts
    assert "https://docs.io/a" in reply["text"]
    payload = reply["metadata"]["event_payload"]
    assert reply["metadata"]["event_type"] == "metaflowbot_answer"
    assert payload["answer_id"] == "answer-1"
    assert payload["inbox_key"] == f"{live.slack.team_id}/{live.channel}/{ts}"


def test_a_sign_of_life_comes_before_the_answer_and_is_cleared_after_it(live: World) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    methods = [
        call.method
        for call in live.slack.calls
        if call.method in ("assistant.threads.setStatus", "chat.postMessage")
    ]
    assert methods == [
        "assistant.threads.setStatus",
        "chat.postMessage",
        "assistant.threads.setStatus",
    ]
    first, last = live.calls("assistant.threads.setStatus")
    assert first.arguments["status"]
    assert first.arguments["loading_messages"]
    assert last.arguments["status"] == ""


def test_where_slack_refuses_the_status_eyes_are_shown_and_taken_away(live: World) -> None:
    live.slack.fail_next("assistant.threads.setStatus", error="not_allowed_token_type")
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    assert [call.arguments["name"] for call in live.calls("reactions.add")] == ["eyes"]
    assert len(live.calls("reactions.remove")) == 1


def test_a_direct_message_needs_no_mention(live: World) -> None:
    dm = live.slack.open_dm(live.ann)
    ts = live.slack.say(dm, live.ann, "how do I branch?")
    until(lambda: [each for each in live.slack.thread(dm, ts) if each.get("bot_id")])
    assert live.bot.asked == [Question("how do I branch?", channel=dm)]


def test_a_follow_up_carries_the_thread_as_its_history(live: World) -> None:
    ts = live.ask("first")
    live.reply(ts)
    live.ask("second", thread=ts)
    live.reply(ts, count=2)
    assert live.bot.asked[1].history == (
        Turn("user", "first"),
        Turn("assistant", "You asked: first [1]."),
    )


def test_a_mention_without_a_question_is_told_how_to_ask(live: World) -> None:
    ts = live.say(f"<@{live.slack.bot_user_id}>")
    assert "Ask me anything" in live.reply(ts)["text"]
    assert live.bot.asked == []


def test_talk_that_is_not_to_us_is_left_alone(live: World) -> None:
    live.say("just talking about metaflow")
    ts = live.ask("now you")
    live.reply(ts)
    assert [question.text for question in live.bot.asked] == ["now you"]


def test_an_edit_is_not_a_new_question(live: World) -> None:
    ts = live.ask("once")
    live.reply(ts)
    live.slack.edit(live.channel, ts, f"<@{live.slack.bot_user_id}> twice")
    live.reply(live.ask("a later one"))
    assert [question.text for question in live.bot.asked] == ["once", "a later one"]


def test_another_bot_is_not_answered(live: World) -> None:
    event = {"type": "message", "bot_id": "BOTHER", "user": "UOTHER", "channel": live.channel}
    event |= {"text": f"<@{live.slack.bot_user_id}> hello", "ts": "1700000000.000100"}
    body = json.dumps({"type": "event_callback", "team_id": "T1", "event": event}).encode()
    with live.serving(live.http_mode) as service:
        assert service.dispatch(body, signed(live.slack.signing_secret, body))[0] == 200
    assert live.store.health().depth == 0
    assert live.bot.asked == []


def test_a_redelivered_mention_is_answered_once(live: World) -> None:
    ts = live.ask("once")
    live.reply(ts)
    live.slack.redeliver(last=2)
    other = live.ask("a later one")
    live.reply(other)
    live.settle()
    assert len(live.replies(ts)) == 1
    assert [question.text for question in live.bot.asked] == ["once", "a later one"]


def test_many_mentions_at_once_are_all_answered_once(live: World) -> None:
    stamps = [live.ask(f"q{n}") for n in range(12)]
    for ts in stamps:
        live.reply(ts)
    live.settle()
    assert [len(live.replies(ts)) for ts in stamps] == [1] * 12


# When things go wrong


def test_an_error_meant_for_people_is_told_in_its_own_line(live: World) -> None:
    def fail(answer: Answer) -> Answer:
        raise IndexUnavailableError("there is no index: run metaflowbot ingest")

    live.bot.does = fail
    ts = live.ask("how?")
    assert "run metaflowbot ingest" in live.reply(ts)["text"]


def test_any_other_error_is_a_kind_line_whose_number_is_in_the_log(
    live: World, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(answer: Answer) -> Answer:
        raise ZeroDivisionError("internal detail")

    live.bot.does = fail
    with caplog.at_level(logging.ERROR):
        ts = live.ask("my private words")
        text = live.reply(ts)["text"]
    assert "internal detail" not in text
    number = text.partition("(request ")[2].partition(")")[0]
    assert number
    assert number in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "private words" not in caplog.text


def test_blocks_that_slack_refuses_are_posted_as_text(live: World) -> None:
    live.slack.fail_next("chat.postMessage", error="invalid_blocks")
    ts = live.ask("how?")
    reply = live.reply(ts)
    assert not reply.get("blocks")
    assert "You asked: how?" in reply["text"]
    assert "https://docs.io/a" in reply["text"]


def test_an_answer_that_could_not_be_posted_is_posted_later_without_asking_again(
    live: World,
) -> None:
    live.slack.fail_next("chat.postMessage", error="fatal_error", times=1)
    ts = live.ask("how?")
    assert "You asked: how?" in live.reply(ts)["text"]
    assert len(live.bot.asked) == 1


def test_a_busy_slack_is_waited_for(live: World) -> None:
    live.slack.fail_next("chat.postMessage", status=429)
    ts = live.ask("how?")
    live.reply(ts)


@pytest.mark.parametrize("status", [500, 503])
def test_an_answer_that_met_a_failing_slack_is_posted_later(live: World, status: int) -> None:
    live.slack.fail_next("chat.postMessage", status=status)
    assert "You asked: how?" in live.reply(live.ask("how?"))["text"]


def test_an_answer_whose_confirmation_was_lost_is_not_posted_again(live: World) -> None:
    live.slack.drop_reply_of("chat.postMessage")
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    assert len(live.replies(ts)) == 1
    assert len(live.bot.asked) == 1


def test_where_the_thread_can_not_be_read_again_just_now_nothing_is_posted_twice(
    world: World,
) -> None:
    ts = world.ask("how?")
    world.leave_behind(ts, "how?")
    world.slack.fail_next("conversations.replies", status=500)
    with world.serving(world.socket_mode):
        until(lambda: world.calls("conversations.replies"))
        assert world.replies(ts) == []
        until(lambda: world.store.health().depth == 1)


def test_where_the_thread_may_not_be_read_the_answer_is_posted_all_the_same(world: World) -> None:
    ts = world.ask("how?")
    world.leave_behind(ts, "how?")
    world.slack.fail_next("conversations.replies", error="missing_scope")
    with world.serving(world.socket_mode):
        world.reply(ts)


def test_what_was_posted_before_a_crash_is_not_posted_again(world: World) -> None:
    with world.serving(world.socket_mode):
        ts = world.ask("how?")
        world.reply(ts)
        world.settle()
    world.store.forget(f"slack:{world.ann}")  # makes room to put the item back, unsettled
    world.leave_behind(ts, "how?")
    with world.serving(world.socket_mode):
        world.settle()
    assert len(world.replies(ts)) == 1
    assert len(world.bot.asked) == 1


def test_the_missing_part_of_a_long_answer_alone_is_posted_after_a_crash(world: World) -> None:
    world.bot.does = lambda answer: replace(answer, text="\n\n".join(["A paragraph. " * 30] * 40))
    ts = world.ask("a long one")
    key = world.leave_behind(ts, "a long one")
    answer = world.bot.ask(
        Question("a long one"), Asking(f"slack:{world.ann}", world.channel, ts, ts)
    )
    first, second = answer_messages(answer)
    WebClient(world.slack.bot_token, base_url=world.slack.api_url).chat_postMessage(
        channel=world.channel,
        thread_ts=ts,
        text=first.text,
        metadata={
            "event_type": "metaflowbot_answer",
            "event_payload": {
                "answer_id": answer.id,
                "inbox_key": key,
                "part": "0",
                "parts": "2",
            },
        },
    )
    with world.serving(world.socket_mode):
        world.settle()
    assert [each["text"] for each in world.replies(ts)] == [first.text, second.text]
    assert len(world.bot.asked) == 1


def test_a_question_left_by_a_dead_process_is_answered_by_the_next(world: World) -> None:
    ts = world.ask("left behind")
    world.leave_behind(ts, "left behind")
    with world.serving(world.socket_mode):
        world.reply(ts)


def test_a_question_given_up_on_is_said_to_be(world: World) -> None:
    ts = world.ask("deadly")
    world.leave_behind(ts, "deadly")
    for _ in range(MAX_ATTEMPTS - 1):
        world.store.claim(0)
    with world.serving(world.socket_mode):
        assert "could not answer" in world.reply(ts)["text"]
        world.settle()
    assert world.bot.asked == []


def test_a_question_that_takes_longer_than_its_lease_is_worked_on_once(world: World) -> None:
    taken: list[str] = []
    answered = threading.Event()

    def work(item: InboxItem) -> None:
        taken.append(item.key)
        answered.wait(1.0)

    pools = [Workers(world.store, work, lease_seconds=0.4) for _ in range(2)]
    world.store.receive("T/C/1", "question", {})
    for pool in pools:
        pool.start()
    until(lambda: taken)
    world.settle()
    for pool in pools:
        pool.stop()
    assert taken == ["T/C/1"]


def test_bolt_has_nothing_to_warn_of_at_the_start(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", world.slack.bot_token)
    with world.serving(world.http_mode):
        assert caplog.text == ""


def test_a_lost_socket_is_opened_again(world: World) -> None:
    with world.serving(world.socket_mode) as service:
        world.slack.disconnect_sockets()
        until(lambda: len(world.calls("apps.connections.open")) == 2 and world.slack.sockets == 1)
        assert service.connected
        ts = world.ask("still there?")
        world.reply(ts)


def test_the_log_never_holds_what_people_write(
    live: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ts = live.ask("my private words")
        live.reply(ts)
        live.settle()
    assert "private words" not in caplog.text


# Feedback


def test_a_verdict_is_kept_and_confirmed_and_the_last_one_counts(live: World) -> None:
    ts = live.ask("how?")
    assert "good answer" in live.click(ts, "up")
    assert "fell short" in live.click(ts, "down")
    assert [(rated.answer_id, rated.verdict) for rated in live.store.rated()] == [
        ("answer-1", "down")
    ]


def test_a_verdict_on_a_forgotten_answer_is_said_to_be_too_late(live: World) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    live.store.forget(f"slack:{live.ann}")
    assert "no answer" in live.click(ts, "up")


# Starting


def test_a_bot_token_that_slack_refuses_stops_the_start_with_its_name(world: World) -> None:
    world.slack.fail_next("auth.test", error="invalid_auth")
    with pytest.raises(SettingsError, match=r"SLACK_BOT_TOKEN.*invalid_auth"):
        SlackService(world.socket_mode, world.bot, world.store)


def test_an_app_token_that_slack_refuses_stops_the_start_with_its_name(world: World) -> None:
    world.slack.fail_next("apps.connections.open", error="invalid_auth")
    service = SlackService(world.socket_mode, world.bot, world.store)
    with pytest.raises(SettingsError, match=r"SLACK_APP_TOKEN.*invalid_auth"):
        service.start()


def test_a_slack_that_does_not_answer_stops_the_start(world: World) -> None:
    nowhere = world.settings(slack_app_token="xapp-1", slack_api_url="http://127.0.0.1:1/api/")
    with pytest.raises(SettingsError, match="SLACK_API_URL"):
        SlackService(nowhere, world.bot, world.store)


# HTTP mode


@pytest.fixture
def http_service(world: World) -> Iterator[SlackService]:
    with world.serving(world.http_mode) as service:
        yield service


@pytest.fixture
def endpoint(http_service: SlackService) -> Iterator[str]:
    """The service behind a real HTTP server, as the web application mounts it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, said = http_service.dispatch(body, dict(self.headers.items()))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/slack/events"
    server.shutdown()
    server.server_close()


def signed(secret: str, body: bytes, age: float = 0) -> dict[str, str]:
    stamp = str(int(time.time() - age))
    digest = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256)
    return {
        "content-type": "application/json",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest.hexdigest()}",
    }


def test_a_mention_and_a_verdict_over_http_are_taken(world: World, endpoint: str) -> None:
    world.slack.http_endpoint = endpoint
    ts = world.ask("over http")
    assert "over http" in world.reply(ts)["text"]
    assert "good answer" in world.click(ts, "up")


def test_slacks_url_check_is_answered(world: World, http_service: SlackService) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    status, _, said = http_service.dispatch(body, signed(world.slack.signing_secret, body))
    assert (status, json.loads(said)) == (200, {"challenge": "c1"})


def test_a_bad_or_old_signature_is_refused(world: World, http_service: SlackService) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    assert http_service.dispatch(body, signed("other", body))[0] == 401
    assert http_service.dispatch(body, signed(world.slack.signing_secret, body, age=600))[0] == 401
    assert http_service.dispatch(body, {"content-type": "application/json"})[0] == 401


def test_a_body_that_is_no_payload_is_refused(world: World, http_service: SlackService) -> None:
    assert http_service.dispatch(b"{", {"content-type": "application/json"})[0] == 400


def test_without_a_signing_secret_http_mode_is_off(world: World) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    with world.serving(world.socket_mode) as service:
        assert service.dispatch(body, signed("", body))[0] == 404


def test_an_event_that_can_not_be_stored_is_not_acknowledged(
    world: World, http_service: SlackService, tmp_path: Path
) -> None:
    http_service.stop()
    with sqlite3.connect(tmp_path / "bot.db") as connection:
        connection.execute("DROP TABLE inbox")
    event = {
        "type": "message",
        "channel_type": "im",
        "channel": "D1",
        "user": "U1",
        "text": "hi",
        "ts": "1.0",
    }
    body = json.dumps({"type": "event_callback", "team_id": "T1", "event": event}).encode()
    assert http_service.dispatch(body, signed(world.slack.signing_secret, body))[0] == 500
