"""What Slack signs may be malformed all the same: it is refused or left, and breaks nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from metaflowbot.slack.feedback import REASON_VIEW
from metaflowbot.slack.rendering import DELETE_ACTION
from metaflowbot.slack.service import SlackService
from tests.fuzz.harm import JSON, TEXTS, fuzzed, harmed
from tests.slack_double import SlackDouble
from tests.slack_world import endpoint, signed
from tests.trenches_scene import Scene, until

# Hypothesis minds that the workers behind the service draw random numbers while it draws its own.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
FORM = "application/x-www-form-urlencoded"
NAMES = [
    *("trenches_claim", "trenches_schedule", "trenches_solve", "trenches_decline"),
    *("trenches_publish", "trenches_consent_given", "metaflowbot_reason", "metaflowbot_rules"),
    *("metaflowbot_resolve_view", "metaflowbot_again", "message_changed", "message_deleted"),
    *("tombstone", "file_share", "thread_broadcast", "message", "app_mention", "view_submission"),
]


class Recorded(SlackService):
    """The service, and the bodies that it was sent."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.bodies: list[str] = []

    def dispatch(
        self, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        self.bodies.append(body.decode(errors="replace"))
        return super().dispatch(body, headers)


class Post:
    """Sends the service what Slack would, and holds it to its promise."""

    def __init__(self, scene: Scene, service: Recorded) -> None:
        self._scene = scene
        self._service = service
        bodies, forms = service.bodies, [dict(parse_qsl(body)) for body in service.bodies]
        self.events = [json.loads(body) for body in bodies if body.startswith("{")]
        self.interactions = [json.loads(form["payload"]) for form in forms if "payload" in form]
        self.commands = [form for form in forms if "command" in form]

    def __call__(self, body: bytes, kind: str) -> None:
        headers = {**signed(self._scene.slack.signing_secret, body), "content-type": kind}
        status, _, said = self._service.dispatch(body, headers)
        assert status < 500, (status, body[:2000])
        assert b"Traceback" not in said


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """A workspace in which everything has happened once."""
    home: Path = tmp_path_factory.mktemp("scene")
    with SlackDouble(clock_scale=6) as slack:
        scene = Scene(slack, home)
        http = {
            "slack_app_token": SecretStr(""),
            "slack_signing_secret": SecretStr(slack.signing_secret),
        }
        settings = scene.settings().model_copy(update=http)
        service = Recorded(settings, scene.bot, scene.store)
        service.start()
        with endpoint(service) as url:
            slack.http_endpoint = url
            _live(scene)
            slack.http_endpoint = None
            yield Post(scene, service)
        service.stop()
        scene.store.close()


def _live(scene: Scene) -> None:
    """Let people do with the bot whatever can be done with it."""
    slack, ann, maxi = scene.slack, scene.ann, scene.max
    question = f"<@{slack.bot_user_id}> how do I retry a step?"
    ts = slack.say(scene.channel, ann, question, files={"trace.txt": "ValueError: no"})
    reply = until(lambda: _whole(slack.thread(scene.channel, ts)), 60)
    slack.edit(scene.channel, ts, f"{question} With a delay?")
    slack.delete(scene.channel, slack.say(scene.channel, ann, "never mind"))
    slack.react(scene.channel, reply["ts"], ann, "+1")
    slack.unreact(scene.channel, reply["ts"], ann, "+1")
    slack.say(slack.open_dm(ann), ann, "what is a card?")
    slack.open_home(ann, "messages")
    slack.open_home(ann)
    slack.click_view(until(lambda: slack.home(ann))["id"], "metaflowbot_opt_out", ann)
    for action_id, value in _buttons(reply):
        slack.click(scene.channel, reply["ts"], action_id, ann, value)
        modal = until(lambda: slack.modal(ann))
        chosen = {"reason": "wrong"} if modal["callback_id"] == REASON_VIEW else {}
        slack.submit(modal["id"], ann, chosen)
    for text in ("ask what is a step?", "escalate", "forget me", "help", "settings"):
        slack.command("/metaflow", text, maxi, scene.channel)
    slack.submit(until(lambda: slack.modal(maxi))["id"], maxi)
    for name in ("ask_about", "mark_resolved", "to_trenches", "save_faq"):
        slack.shortcut(f"metaflowbot_{name}", scene.channel, ts, maxi)
    scene.escalated()
    scene.press("claim", maxi)
    scene.press("solve", maxi, scene.shows("Claimed"))
    slack.submit(until(lambda: slack.modal(maxi))["id"], maxi, {"text": "Set the delay."})
    until(lambda: scene.store.health().depth == 0)


def _whole(thread: list[Any]) -> Any:
    return next((each for each in thread if each.get("metadata") and each.get("blocks")), None)


def _buttons(message: Any) -> list[tuple[str, Any]]:
    """The buttons that the asker sees, with what is picked of each; the one that deletes last."""
    found = [each for block in message["blocks"] for each in block.get("elements", ())]
    found = [each for each in found if "action_id" in each and "visible_to_user_ids" not in each]
    picked = [(each["action_id"], each.get("negative_button", {}).get("value")) for each in found]
    return sorted(picked, key=lambda each: each[0] == DELETE_ACTION)


def test_malformed_events_are_no_fault_of_ours(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    @fuzzed
    @given(harmed(post.events, NAMES))
    def send(payload: Any) -> None:
        post(json.dumps(payload).encode(), "application/json")

    send()
    assert unforeseen(caplog) == []


def test_malformed_interactions_are_no_fault_of_ours(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    @fuzzed
    @given(harmed(post.interactions, NAMES))
    def send(payload: Any) -> None:
        post(urlencode({"payload": json.dumps(payload)}).encode(), FORM)

    send()
    assert unforeseen(caplog) == []


def test_malformed_commands_are_no_fault_of_ours(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    @fuzzed
    @given(harmed(post.commands))
    def send(form: Any) -> None:
        if isinstance(form, dict):
            form = urlencode({str(k): str(v) for k, v in form.items()}, errors="replace")
        post(str(form).encode(errors="replace"), FORM)

    send()
    assert unforeseen(caplog) == []


@fuzzed
@given(
    body=st.binary(max_size=300)
    | JSON.map(lambda value: json.dumps(value).encode())
    | TEXTS.map(lambda text: urlencode({"payload": text}, errors="replace").encode()),
    kind=st.sampled_from(["application/json", FORM, "text/plain", "", "multipart/form-data"]),
)
def test_bodies_that_are_anything_are_no_fault_of_ours(post: Post, body: bytes, kind: str) -> None:
    post(body, kind)


def unforeseen(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What failed behind the listeners, where no person was told of it."""
    rooms = tuple(f"metaflowbot.slack.{name}" for name in ("worker", "app", "errands"))
    return [
        f"{record.getMessage()}: {record.exc_info[1]!r}"
        for record in caplog.records
        if record.name in rooms and record.levelno >= logging.ERROR and record.exc_info
    ]
