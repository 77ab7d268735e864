"""The double sends an app what people do, as a real Bolt app sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from slack_bolt import App
from slack_sdk import WebClient

from tests.slack_double import SlackDouble
from tests.slack_double.scene import Scene

Json = dict[str, Any]
TEXT = {"type": "mrkdwn", "text": "words"}


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble(clock_scale=6) as double:
        yield double


@pytest.fixture
def scene(slack: SlackDouble) -> Scene:
    return Scene(slack)


def types(events: list[Json]) -> list[str]:
    return [body["event"]["type"] for body in events]


# -- delivery


def test_a_mention_arrives_as_two_events_with_two_ids(scene: Scene) -> None:
    events: list[Json] = []
    with scene.by_socket(scene.app(events)):
        ts = scene.slack.say(scene.channel, scene.alice, scene.mention)
        scene.slack.wait_for(lambda: len(events) == 2)
        assert sorted(types(events)) == ["app_mention", "message"]
        assert len({body["event_id"] for body in events}) == 2
        assert {body["event"]["ts"] for body in events} == {ts}
        scene.post(text="answer", thread_ts=ts)
        scene.slack.wait_for(lambda: len(events) == 3)
        assert events[2]["event"]["bot_id"]


def test_an_app_on_a_refreshed_socket_misses_nothing(scene: Scene) -> None:
    events: list[Json] = []
    with scene.by_socket(scene.app(events)):
        scene.slack.disconnect_sockets("refresh_requested")
        scene.slack.say(scene.channel, scene.alice, "during")
        scene.slack.wait_for(lambda: len(scene.slack.calls_of("apps.connections.open")) == 2)
        scene.slack.wait_for(lambda: scene.slack.sockets == 1)
        scene.slack.say(scene.channel, scene.alice, "after")
        scene.slack.wait_for(lambda: {"during", "after"} <= {e["event"]["text"] for e in events})


def test_an_eleventh_socket_is_turned_away(scene: Scene) -> None:
    from websockets.sync.client import connect

    app = WebClient(scene.slack.app_token, base_url=scene.slack.api_url)
    links = [
        str(app.apps_connections_open(app_token=scene.slack.app_token)["url"]) for _ in range(11)
    ]
    sockets = [connect(link, proxy=None) for link in links]
    greetings = [socket.recv() for socket in sockets]
    for socket in sockets:
        socket.close()
    assert all('"hello"' in greeting for greeting in greetings[:10])
    assert "too_many_websockets" in greetings[10]


def test_events_by_http_are_signed_and_the_url_verified(scene: Scene) -> None:
    events: list[Json] = []
    with scene.by_http(scene.app(events)):
        assert scene.slack.verify_url()
        scene.slack.say(scene.channel, scene.alice, scene.mention)
        scene.slack.wait_for(lambda: sorted(types(events)) == ["app_mention", "message"])


def test_a_body_with_a_wrong_signature_is_turned_away_by_bolt(scene: Scene) -> None:
    app = App(client=scene.client, signing_secret="another")
    with scene.by_http(app):
        assert not scene.slack.verify_url()


def test_an_event_that_is_acknowledged_too_late_is_sent_again(scene: Scene) -> None:
    came, free = threading.Event(), threading.Event()
    app = App(client=scene.client, signing_secret=scene.slack.signing_secret)

    @app.middleware
    def wait(next: Callable[[], None]) -> None:  # noqa: A002
        came.set()
        free.wait(40)
        next()

    app.event("message")(lambda: None)
    with scene.by_http(app):
        scene.slack.say(scene.channel, scene.alice, "hello")
        came.wait(40)
        scene.slack.advance(3)
        scene.slack.wait_for(lambda: scene.slack.deliveries)
        free.set()
        scene.slack.advance(1)
        scene.slack.wait_for(lambda: len(scene.slack.deliveries) == 2)
    first, second = scene.slack.deliveries
    assert (first.acknowledged, first.failure) == (False, "http_timeout")
    assert second.acknowledged


def test_an_unacknowledged_event_is_sent_again_as_a_retry(scene: Scene) -> None:
    seen: list[tuple[str, str]] = []
    app = App(client=scene.client, signing_secret=scene.slack.signing_secret)

    @app.middleware
    def refuse_twice(req: Any, resp: Any, next: Callable[[], None]) -> Any:  # noqa: A002
        num, reason = (req.headers.get(f"x-slack-retry-{k}", [""])[0] for k in ("num", "reason"))
        seen.append((num, reason))
        if len(seen) == 3:
            return next()
        resp.status = 500
        return resp

    app.event("message")(lambda: None)
    with scene.by_http(app):
        scene.slack.say(scene.channel, scene.alice, "hello")
        for expected in (1, 2, 3):
            scene.wait_for_deliveries(expected)
            scene.slack.advance(61)
    assert seen == [("", ""), ("1", "http_error"), ("2", "http_error")]
    assert [attempt.acknowledged for attempt in scene.slack.deliveries] == [False, False, True]


def test_an_event_without_a_socket_arrives_as_a_retry(scene: Scene) -> None:
    events: list[Json] = []
    scene.slack.say(scene.channel, scene.alice, "early")
    scene.slack.wait_for(lambda: scene.slack.deliveries)
    with scene.by_socket(scene.app(events)):
        scene.slack.advance(1)
        scene.slack.wait_for(lambda: [e["event"]["text"] for e in events] == ["early"])
        scene.wait_for_deliveries(2)
    assert [attempt.number for attempt in scene.slack.deliveries] == [0, 1]


def test_events_can_be_doubled_lost_and_turned_around(scene: Scene) -> None:
    events: list[Json] = []
    with scene.by_http(scene.app(events)):
        scene.slack.lose_next_delivery(attempts=4)
        scene.slack.say(scene.channel, scene.alice, "lost")
        scene.slack.delivery_order = lambda parcels: parcels[::-1]
        with scene.slack.hold_deliveries():
            for text in ("one", "two"):
                scene.slack.say(scene.channel, scene.alice, text)
        scene.slack.wait_for(lambda: len(events) == 2)
        scene.slack.redeliver(last=1)
        scene.slack.wait_for(lambda: len(events) == 3)
    sent = [event["text"] for event in scene.slack.events]
    assert sent == ["lost", "two", "one", "one"]
    assert len({body["event_id"] for body in events}) == 2


def test_edits_and_deletions_are_told(scene: Scene) -> None:
    ts = scene.slack.say(scene.channel, scene.alice, "hello")
    scene.slack.edit(scene.channel, ts, scene.mention)
    scene.slack.delete(scene.channel, ts)
    told = scene.slack.events
    kinds = [(event["type"], event.get("subtype")) for event in told]
    assert kinds == [
        ("message", None),
        ("message", "message_changed"),
        ("app_mention", None),
        ("message", "message_deleted"),
    ]
    assert told[1]["previous_message"]["text"] == "hello"


# -- interactions


def feedback(**extra: Any) -> list[Json]:
    sides = {
        f"{side}_button": {"text": {"type": "plain_text", "text": side}, "value": side}
        for side in ("positive", "negative")
    }
    buttons = {"type": "feedback_buttons", "action_id": "verdict"} | sides
    label = {"type": "plain_text", "text": "Solved"}
    solved = {"type": "button", "action_id": "solved", "text": label, "value": "7"} | extra
    return [
        {"type": "context_actions", "elements": [buttons]},
        {"type": "actions", "elements": [solved]},
    ]


def test_a_click_reaches_the_app_and_the_response_url_answers(scene: Scene) -> None:
    app = scene.app([])
    clicked: list[Json] = []

    @app.action("verdict")
    def verdict(ack: Any, body: Json, respond: Any) -> None:
        ack()
        clicked.append(body)
        respond("thanks", replace_original=False)

    ts = scene.post(text="answer", blocks=feedback())
    with scene.by_socket(app):
        ack = scene.slack.click(scene.channel, ts, "verdict", scene.alice, value="negative")
        scene.slack.wait_for(lambda: scene.slack.ephemerals)
    assert ack.acknowledged
    action = clicked[0]["actions"][0]
    assert (action["type"], action["value"]) == ("feedback_buttons", "negative")
    assert clicked[0]["container"]["message_ts"] == clicked[0]["message"]["ts"] == ts
    assert [(shown.user, shown.text) for shown in scene.slack.ephemerals] == [
        (scene.alice, "thanks")
    ]


def test_only_what_a_person_sees_can_be_clicked(scene: Scene) -> None:
    ts = scene.post(text="answer", blocks=feedback(visible_to_user_ids=["U1"]))
    with pytest.raises(LookupError, match="not visible"):
        scene.slack.click(scene.channel, ts, "solved", scene.alice)
    with pytest.raises(LookupError, match="no element"):
        scene.slack.click(scene.channel, ts, "other", scene.alice)


def test_a_command_that_is_not_acknowledged_fails(scene: Scene) -> None:
    with scene.by_http(scene.app([])):
        ack = scene.slack.command("/unknown", "", scene.alice, scene.channel)
    assert (ack.acknowledged, ack.failure) == (False, "http_error")


def test_a_command_is_answered_to_the_asker_alone(scene: Scene) -> None:
    app = scene.app([])

    @app.command("/metaflow")
    def ask(ack: Any, command: Json) -> None:
        ack(f"You asked: {command['text']}")

    with scene.by_http(app):
        scene.slack.command("/metaflow", "ask why", scene.alice, scene.channel)
    assert [shown.text for shown in scene.slack.ephemerals] == ["You asked: ask why"]
    assert scene.slack.messages(scene.channel) == []


def modal(**extra: Any) -> Json:
    entry = {"type": "plain_text_input", "action_id": "text"}
    label = {"type": "plain_text", "text": "Why"}
    block = {"type": "input", "block_id": "why", "label": label, "element": entry}
    return {"type": "modal", "callback_id": "form", "title": label, "blocks": [block]} | extra


def test_a_modal_is_opened_filled_in_and_submitted(scene: Scene) -> None:
    app = scene.app([])
    entered: list[str] = []

    @app.shortcut("escalate")
    def escalate(ack: Any, body: Json, client: WebClient) -> None:
        ack()
        client.views_open(trigger_id=body["trigger_id"], view=modal(submit=modal()["title"]))

    @app.view("form")
    def submitted(ack: Any, view: Json) -> Any:
        text = view["state"]["values"]["why"]["text"]["value"]
        if text == "no":
            return ack(response_action="errors", errors={"why": "Say more."})
        entered.append(text)
        return ack()

    ts = scene.slack.say(scene.channel, scene.alice, "q")
    with scene.by_http(app):
        scene.slack.shortcut("escalate", scene.channel, ts, scene.alice)
        view = scene.slack.wait_for(lambda: scene.slack.modal(scene.alice))
        with pytest.raises(LookupError, match="without an entry"):
            scene.slack.submit(view["id"], scene.alice)
        refused = scene.slack.submit(view["id"], scene.alice, {"why": "no"})
        assert refused.body["errors"] == {"why": "Say more."}
        assert scene.slack.modal(scene.alice)
        scene.slack.submit(view["id"], scene.alice, {"why": "because"})
    assert entered == ["because"]
    assert scene.slack.modal(scene.alice) is None


def test_a_trigger_opens_one_view_within_three_seconds(scene: Scene) -> None:
    triggers: list[str] = []
    app = scene.app([])

    @app.shortcut("open")
    def opened(ack: Any, body: Json) -> None:
        ack()
        triggers.append(body["trigger_id"])

    def refusal(trigger: str) -> str:
        view = modal(submit=modal()["title"])
        return scene.refusal(lambda: scene.client.views_open(trigger_id=trigger, view=view))

    with scene.by_http(app):
        scene.slack.shortcut("open", user=scene.alice)
        scene.slack.shortcut("open", user=scene.alice)
    scene.client.views_open(trigger_id=triggers[0], view=modal(submit=modal()["title"]))
    assert refusal(triggers[0]) == "exchanged_trigger_id"
    scene.slack.advance(4)
    assert refusal(triggers[1]) == "expired_trigger_id"
    assert refusal("made-up") == "invalid_trigger_id"


def test_the_app_home_is_published_when_it_is_opened(scene: Scene) -> None:
    home = {"type": "home", "blocks": [{"type": "section", "text": TEXT}]}

    def publish(event: Json, client: WebClient) -> None:
        client.views_publish(user_id=event["user"], view=home)

    app = App(client=scene.client, signing_secret=scene.slack.signing_secret)
    app.event("app_home_opened")(publish)
    with scene.by_http(app):
        scene.slack.open_home(scene.alice)
        view = scene.slack.wait_for(lambda: scene.slack.home(scene.alice))
    assert view["blocks"][0]["text"] == TEXT


def test_an_element_of_the_app_home_can_be_used(scene: Scene) -> None:
    chosen: list[str] = []
    app = App(client=scene.client, signing_secret=scene.slack.signing_secret)
    label = {"type": "plain_text", "text": "Show"}
    options = [{"text": label, "value": value} for value in ("mine", "all")]
    select = {"type": "static_select", "action_id": "show", "options": options}
    home = {"type": "home", "blocks": [{"type": "actions", "elements": [select]}]}

    @app.action("show")
    def show(ack: Any, action: Json) -> None:
        chosen.append(action["selected_option"]["value"])
        ack()

    scene.client.views_publish(user_id=scene.alice, view=home)
    view = scene.slack.home(scene.alice)
    assert view is not None
    with scene.by_http(app):
        assert scene.slack.click_view(view["id"], "show", scene.alice, "all").acknowledged
    assert chosen == ["all"]


def test_a_view_is_updated_only_with_its_present_hash(scene: Scene) -> None:
    home = {"type": "home", "blocks": []}
    old = scene.client.views_publish(user_id=scene.alice, view=home)["view"]
    new = scene.client.views_update(view_id=old["id"], view=home, hash=old["hash"])["view"]
    update = partial(scene.client.views_update, view_id=old["id"], view=home)
    assert scene.refusal(partial(update, hash=old["hash"])) == "hash_conflict"
    assert update(hash=new["hash"])["ok"]


def test_a_wait_that_fails_lists_the_calls_made(scene: Scene) -> None:
    scene.post(text="something")
    with pytest.raises(AssertionError, match=r"chat\.postMessage.*something"):
        scene.slack.wait_for(lambda: False, seconds=0.05)
