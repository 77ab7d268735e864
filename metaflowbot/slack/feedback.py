"""What readers think of an answer: buttons, reactions, and the reason for a bad verdict."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from slack_bolt import Ack, App

from metaflowbot.domain import Feedback, Verdict
from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.rendering import FEEDBACK_ACTION
from metaflowbot.slack.replies import unexpected
from metaflowbot.slack.telling import Clicked, tell

REASON_VIEW = "metaflowbot_reason"
_REASONS = {
    "wrong": "It is wrong",
    "outdated": "It is outdated",
    "not what I asked": "It is not what I asked",
    "missing source": "A source is missing",
    "other": "Something else",
}
_THANKS = {
    "up": "Thank you, noted as a good answer.",
    "down": "Thank you, noted. The maintainers look at answers that fell short.",
}
_REACTIONS: Mapping[str, Verdict] = {
    "+1": "up",
    "thumbsup": "up",
    "-1": "down",
    "thumbsdown": "down",
}
_log = logging.getLogger(__name__)


def listen(app: App, desk: Desk) -> None:
    """One verdict a person, the last one; by a button, or by a reaction to the answer."""

    def pressed(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        clicked = Clicked.of(body)
        verdict, _, answer_id = str(action.get("value", "")).partition(":")
        line = _rate(desk, answer_id, verdict, clicked.user)
        if line == _THANKS["down"]:
            desk.soon(lambda: _ask_why(desk, body, answer_id))
        tell(desk, clicked, line)
        ack()

    def explained(ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        person = str(body["user"]["id"])
        _rate(desk, str(view["private_metadata"]), "down", person, _reason(view))
        ack()

    def reacted(event: dict[str, Any]) -> None:
        _react(desk, event)

    app.action(FEEDBACK_ACTION)(pressed)
    app.view(REASON_VIEW)(explained)
    app.event("reaction_added")(reacted)
    app.event("reaction_removed")(reacted)


def _rate(desk: Desk, answer_id: str, verdict: str, user: str, reason: str = "") -> str:
    """Keep a verdict; the line to tell the person."""
    thanks = _THANKS[verdict]
    try:
        person = f"slack:{user}"
        desk.bot.rate(Feedback(answer_id, person, cast("Verdict", verdict), reason))
    except MetaflowbotError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
        return unexpected("keeping a verdict")
    return thanks


def _ask_why(desk: Desk, body: Mapping[str, Any], answer_id: str) -> None:
    """Open the question for the reason; a courtesy, for the verdict is kept already."""
    try:
        desk.clients.hasty.views_open(
            trigger_id=str(body.get("trigger_id")), view=reason_view(answer_id)
        )
    except SLACK_FAILURES as error:
        _log.info("can't ask for the reason of a verdict: %s", why(error))


def reason_view(answer_id: str) -> dict[str, Any]:
    """The modal that asks why an answer fell short."""
    options = [{"text": _plain(text), "value": value} for value, text in _REASONS.items()]
    return {
        "type": "modal",
        "callback_id": REASON_VIEW,
        "private_metadata": answer_id,
        "title": _plain("What fell short?"),
        "submit": _plain("Send"),
        "close": _plain("Not now"),
        "blocks": [
            {
                "type": "input",
                "block_id": "reason",
                "label": _plain("The answer"),
                "element": {"type": "radio_buttons", "action_id": "reason", "options": options},
            },
            {
                "type": "input",
                "block_id": "words",
                "optional": True,
                "label": _plain("What would have been right?"),
                "element": {
                    "type": "plain_text_input",
                    "action_id": "words",
                    "multiline": True,
                    "max_length": 2000,
                },
            },
        ],
    }


def _plain(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}


def _reason(view: Mapping[str, Any]) -> str:
    """The reason as it is kept: its name, and the person's own words."""
    values = view["state"]["values"]
    chosen = values["reason"]["reason"]["selected_option"]["value"]
    words = (values["words"]["words"].get("value") or "").strip()
    return f"{chosen}: {words}" if words else str(chosen)


def _react(desk: Desk, event: Mapping[str, Any]) -> None:
    """A 👍 or 👎 on an answer of ours is a verdict; taken back, it is none any more."""
    verdict = _REACTIONS.get(str(event.get("reaction", "")).partition("::")[0])
    item, user = event.get("item") or {}, event.get("user")
    if verdict is None or not user or user == desk.identity.user_id:
        return
    post = desk.store.slack.post(str(item.get("channel")), str(item.get("ts")))
    if post is None or not post.answer_id:
        return
    feedback = Feedback(post.answer_id, f"slack:{user}", verdict)
    change = desk.bot.rate if event["type"] == "reaction_added" else desk.bot.unrate
    try:
        change(feedback)
    except MetaflowbotError as error:
        _log.info("a reaction is no verdict: %s", error)
