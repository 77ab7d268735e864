"""What Slack sends that no listener knows, or that one could not take in.

Whoever clicked or typed is told, the log gets one line, and an event comes again.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slack_bolt import App, BoltResponse
from slack_bolt.error import BoltUnhandledRequestError

from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.telling import Clicked, tell

# What a listener raises whose payload lacks a part, or has it in another shape.
MALFORMED = (LookupError, TypeError, AttributeError, ValueError)
_UNKNOWN = (
    "I do not know this button or form: it may be from an older version of me. "
    "Mention me with your question, and I answer it anew."
)
_BROKEN = "I could not make sense of that click: please try again, or mention me with a question."
_log = logging.getLogger(__name__)


def listen(app: App, desk: Desk) -> None:
    """Take what the other listeners leave; Bolt calls it with what they raise as well."""

    def mishap(error: Exception, body: dict[str, Any]) -> BoltResponse:
        _log.warning("%s from Slack is not taken in: %s", _name(body), _reason(error))
        if not _is_a_persons(body):
            return _refusal(error)
        tell(desk, _where(body), _line(error))
        return BoltResponse(status=200)

    app.error(mishap)


def malformed(error: Exception) -> BoltResponse:
    """The refusal of a payload that Bolt itself can't read."""
    _log.warning("a payload of Slack's is not what it should be: %s", _reason(error))
    return BoltResponse(status=400, body="the body is not what Slack documents")


def _refusal(error: Exception) -> BoltResponse:
    """What an event is answered: where that makes sense, that it is to be sent again."""
    if isinstance(error, BoltUnhandledRequestError):
        return BoltResponse(status=404, body="nobody listens for it")
    if isinstance(error, MALFORMED):
        return BoltResponse(status=400, body="the body is not what Slack documents")
    return BoltResponse(status=500, body="it could not be kept: send it again")


def _line(error: Exception) -> str:
    """What to tell the person."""
    if isinstance(error, BoltUnhandledRequestError):
        return _UNKNOWN
    return str(error) if isinstance(error, MetaflowbotError) else _BROKEN


def _reason(error: Exception) -> str:
    """What went wrong, without anybody's text; for what nobody foresaw where that was."""
    if isinstance(error, BoltUnhandledRequestError):
        return "nobody listens for it"
    if isinstance(error, MetaflowbotError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _is_a_persons(body: Mapping[str, Any]) -> bool:
    """Whether a person did it and waits; an event waits for nobody, and Slack sends it again."""
    return "event" not in body and bool(_user(body))


def _user(body: Mapping[str, Any]) -> str:
    user = body.get("user")
    return str(body.get("user_id") or (user.get("id") if isinstance(user, dict) else "") or "")


def _where(body: Mapping[str, Any]) -> Clicked:
    """Where they did it, as far as that can be read."""
    channel, box = body.get("channel"), body.get("container")
    there = channel.get("id") if isinstance(channel, dict) else body.get("channel_id")
    inside = box if isinstance(box, dict) else {}
    return Clicked(
        _user(body),
        str(there or ""),
        str(inside.get("message_ts") or ""),
        str(inside.get("thread_ts") or ""),
        str(body.get("response_url") or ""),
    )


def _name(body: Mapping[str, Any]) -> str:
    """What it is, by Slack's names for it."""
    if "event" in body:
        event = body["event"]
        return f"an event of the kind {event.get('type') if isinstance(event, dict) else event!r}"
    view, actions = body.get("view"), body.get("actions")
    if isinstance(actions, list) and actions and isinstance(actions[0], dict):
        return f"the action {actions[0].get('action_id')!r}"
    known = body.get("callback_id") or (view.get("callback_id") if isinstance(view, dict) else "")
    return f"{body.get('type') or 'the command'} {known or body.get('command') or ''!r}"
