"""The service's start and stop, its two transports, and the workers behind them."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from metaflowbot import telemetry
from metaflowbot.errors import SettingsError, StoreError
from metaflowbot.slack.listening import Heard
from metaflowbot.slack.service import SlackService
from metaflowbot.slack.worker import Workers
from metaflowbot.store import InboxItem
from tests.slack_world import World, elsewhere, signed, until

pytest_plugins = ["tests.slack_world"]
LEASE = timedelta(seconds=60)
only_once = pytest.mark.parametrize("transport", ["socket"], indirect=True)


@only_once
def test_a_question_that_takes_longer_than_its_lease_is_worked_on_once(world: World) -> None:
    taken: list[str] = []
    answered = threading.Event()

    def work(item: InboxItem) -> None:
        taken.append(item.key)
        answered.wait(8.0)

    pools = [Workers(world.store, work, lease_seconds=4.0) for _ in range(2)]
    world.store.receive("T/C/1", "question", {})
    for pool in pools:
        pool.start()
    until(lambda: taken)
    world.settle()
    for pool in pools:
        pool.stop()
    assert taken == ["T/C/1"]


def test_a_person_whose_question_can_not_be_stored_is_told_and_answered_when_it_can(
    world: World, tmp_path: Path
) -> None:
    world.slack.clock_scale = 0.5
    database = sqlite3.connect(tmp_path / "bot.db", isolation_level=None)
    with world.serving():
        database.execute("ALTER TABLE inbox RENAME TO hidden")
        ts = world.ask("why?")
        until(world.told)
        database.execute("ALTER TABLE hidden RENAME TO inbox")
        until(lambda: sum(each.number == 1 for each in world.slack.deliveries) == 2)
        world.slack.advance(60)  # until Slack sends both events for the third time
        world.reply(ts)
    database.close()
    assert len(world.told()) == 1
    assert "can't take in your question just now" in world.told()[0]


@pytest.fixture
def both_came(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once two events of people's were heard."""
    came, heard, seen = threading.Event(), Heard.of, []

    def hear(event: dict[str, Any], user: str) -> Heard | None:
        seen.append(event["type"])
        if len(seen) == 2:
            came.set()
        return heard(event, user)

    monkeypatch.setattr(Heard, "of", hear)
    return came


def test_the_second_event_of_a_message_is_acknowledged_only_once_the_message_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch, both_came: threading.Event
) -> None:
    world.slack.clock_scale = 0.05
    too_soon: list[bool] = []
    receive = world.store.receive

    def fail_once(*arguments: Any, **named: Any) -> bool:
        if too_soon:
            return receive(*arguments, **named)
        assert both_came.wait(40)
        # Whoever acknowledges too soon does it at once.
        over = time.monotonic() + 0.5
        while time.monotonic() < over and not any(acknowledged(world)):
            time.sleep(0.01)
        too_soon.append(any(acknowledged(world)))
        raise StoreError("the database does not answer")

    monkeypatch.setattr(world.store, "receive", fail_once)
    with world.serving():
        world.reply(world.ask("why?"))
    assert too_soon == [False]


def acknowledged(world: World) -> list[bool]:
    return [each.acknowledged for each in world.slack.deliveries]


def test_both_events_of_a_message_are_stored_with_one_write(
    world: World, monkeypatch: pytest.MonkeyPatch, both_came: threading.Event
) -> None:
    received: list[str] = []
    receive = world.store.receive

    def count(key: str, *arguments: Any, **named: Any) -> bool:
        received.append(key)
        assert both_came.wait(40)
        return receive(key, *arguments, **named)

    monkeypatch.setattr(world.store, "receive", count)
    with world.serving():
        world.reply(world.ask("why?"))
        world.settle()
    assert len(received) == 1


@only_once
def test_an_item_that_was_in_hand_when_workers_died_makes_way_for_longer_each_time(
    world: World,
) -> None:
    busy, never = threading.Event(), threading.Event()

    def work(item: InboxItem) -> None:
        busy.set()
        never.wait()

    world.store.receive("k", "question", {})
    for _ in range(2):
        world.store.claim(0)
    workers = Workers(world.store, work, LEASE.total_seconds())
    workers.start()
    assert busy.wait(40)
    with sqlite3.connect(world.store._database._engine.url.database or "") as database:
        ((due,),) = database.execute("SELECT due_at FROM inbox")
    workers.stop(seconds=0.1)
    assert datetime.fromisoformat(due) > datetime.now(UTC).replace(tzinfo=None) + 2.9 * LEASE


@only_once
def test_what_is_in_hand_when_a_process_stops_is_handed_back_at_once(world: World) -> None:
    busy, never = threading.Event(), threading.Event()

    def work(item: InboxItem) -> None:
        busy.set()
        never.wait()

    workers = Workers(world.store, work, lease_seconds=600)
    world.store.receive("k", "question", {})
    workers.start()
    assert busy.wait(40)
    workers.stop(seconds=0.1)
    again = until(lambda: world.store.claim(60))
    assert (again.key, again.attempts) == ("k", 2)


@only_once
def test_a_second_bot_with_the_same_app_token_says_so_at_its_start(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    said = "SLACK_APP_TOKEN: Slack has 2 connections open"
    with world.serving("socket"):
        assert said not in caplog.text
        with world.serving("socket"):
            until(lambda: said in caplog.text)
    caplog.clear()
    with world.serving("socket"):
        world.slack.disconnect_sockets(linger=0.5)
        until(lambda: world.slack.sockets == 1)
        ts = world.ask("do you hear me?")
        world.reply(ts)
    assert said not in caplog.text


@only_once
def test_bots_that_share_a_database_may_share_the_app_token(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    shared = "postgresql://bot@/shared"
    with world.serving(database_url=shared), world.serving(database_url=shared):
        until(lambda: world.slack.sockets == 2)
        tss = [world.ask(f"question {n}?") for n in range(10)]
        replies = [world.reply(ts) for ts in tss]
    assert len(replies) == sum(len(world.replies(ts)) for ts in tss)
    assert "connections open" not in caplog.text


@only_once
def test_all_work_on_a_message_belongs_to_one_request_that_names_its_place(world: World) -> None:
    seen: list[str] = []

    def work(item: InboxItem) -> None:
        seen.append(telemetry.request_id())
        if item.attempts == 1:
            raise OSError("Slack is away")

    workers = Workers(world.store, work)
    world.store.receive("T1/C1/1.5", "question", {})
    workers.start()
    until(lambda: len(seen) == 2)
    workers.stop()
    assert seen == ["T1/C1/1.5", "T1/C1/1.5"]


@only_once
def test_bolt_has_nothing_to_warn_of_at_the_start(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", world.slack.bot_token)
    with world.serving("http"):
        assert caplog.text == ""


@only_once
def test_a_lost_socket_is_opened_again(world: World) -> None:
    with world.serving("socket") as service:
        world.slack.disconnect_sockets()
        until(lambda: len(world.calls("apps.connections.open")) == 2 and world.slack.sockets == 1)
        assert service.connected
        ts = world.ask("still there?")
        world.reply(ts)


# Starting


@only_once
def test_a_bot_token_that_slack_refuses_stops_the_start_with_its_name(world: World) -> None:
    world.slack.fail_next("auth.test", error="invalid_auth")
    with pytest.raises(SettingsError, match=r"SLACK_BOT_TOKEN.*invalid_auth"):
        SlackService(world.settings("socket"), world.bot, world.store)


@only_once
def test_an_app_token_that_slack_refuses_stops_the_start_with_its_name(world: World) -> None:
    world.slack.fail_next("apps.connections.open", error="invalid_auth")
    service = SlackService(world.settings("socket"), world.bot, world.store)
    with pytest.raises(SettingsError, match=r"SLACK_APP_TOKEN.*invalid_auth"):
        service.start()


@only_once
def test_a_slack_that_does_not_answer_stops_the_start(world: World) -> None:
    nowhere = world.settings("socket", slack_api_url="http://127.0.0.1:1/api/")
    with pytest.raises(SettingsError, match="SLACK_API_URL"):
        SlackService(nowhere, world.bot, world.store)


# HTTP mode


@pytest.fixture
def http_service(world: World) -> Iterator[SlackService]:
    with world.serving("http") as service:
        yield service


@only_once
def test_slacks_url_check_is_answered(world: World, http_service: SlackService) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    status, _, said = http_service.dispatch(body, signed(world.slack.signing_secret, body))
    assert (status, json.loads(said)) == (200, {"challenge": "c1"})


@only_once
def test_a_bad_or_old_signature_is_refused(world: World, http_service: SlackService) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    assert http_service.dispatch(body, signed("other", body))[0] == 401
    assert http_service.dispatch(body, signed(world.slack.signing_secret, body, age=600))[0] == 401
    assert http_service.dispatch(body, {"content-type": "application/json"})[0] == 401


@only_once
def test_a_body_that_is_no_payload_is_refused(world: World, http_service: SlackService) -> None:
    assert http_service.dispatch(b"{", {"content-type": "application/json"})[0] == 400


@only_once
@pytest.mark.parametrize(
    "payload",
    [
        {"type": "event_callback", "event": "hello"},
        {"type": "event_callback", "event": {"type": "message", "channel": 1, "ts": []}},
        {"type": "block_actions", "user": "U1", "actions": [{"action_id": "metaflowbot_share"}]},
        {"type": "view_submission", "view": {"callback_id": "metaflowbot_rules"}},
        ["event_callback"],
    ],
)
def test_a_signed_payload_in_another_shape_is_refused_or_left(
    world: World, http_service: SlackService, payload: object
) -> None:
    body = json.dumps(payload).encode()
    status, _, said = http_service.dispatch(body, signed(world.slack.signing_secret, body))
    assert status in (200, 400, 404)
    assert b"Traceback" not in said


@only_once
def test_halves_of_characters_in_a_payload_break_nothing(
    world: World, http_service: SlackService, caplog: pytest.LogCaptureFixture
) -> None:
    event = {"type": "app_home_opened", "tab": "home", "user": "U\ud800", "channel": "D\udc00"}
    body = json.dumps({"type": "event_callback", "team_id": "T1", "event": event}).encode()
    assert http_service.dispatch(body, signed(world.slack.signing_secret, body))[0] == 200
    assert until(lambda: world.calls("views.publish"))[0].arguments["user_id"] == "U?"
    assert "failed" not in caplog.text


@only_once
def test_an_answer_goes_to_slack_and_to_no_other_address(
    world: World, http_service: SlackService
) -> None:
    with elsewhere() as (url, was_called):
        form = {"command": "/metaflow", "user_id": world.ann, "channel_id": world.channel}
        more = {"text": "ask how?", "trigger_id": "1.2", "response_url": url}
        body = urlencode({**form, **more}).encode()
        headers = signed(world.slack.signing_secret, body)
        headers["content-type"] = "application/x-www-form-urlencoded"
        status, _, said = http_service.dispatch(body, headers)
        world.settle()
        assert not was_called()
    assert status == 200
    assert said or until(world.told)


@only_once
def test_without_a_signing_secret_http_mode_is_off(world: World) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "c1"}).encode()
    with world.serving("socket") as service:
        assert service.dispatch(body, signed("", body))[0] == 404


@only_once
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
