"""Telling one person something where they clicked, and where that was."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slack_sdk import WebClient
from slack_sdk.webhook import WebhookClient

from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.markdown import escape

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clicked:
    """Who used a button of a message, and where: Slack's ids and timestamps, '' where unknown."""

    user: str
    channel: str
    message: str
    thread: str
    response_url: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Clicked:
        """From the payload of an action or a message shortcut."""
        place, message = body.get("container") or {}, body.get("message") or {}
        channel = place.get("channel_id") or (body.get("channel") or {}).get("id") or ""
        ts = place.get("message_ts") or body.get("message_ts") or message.get("ts") or ""
        thread = place.get("thread_ts") or message.get("thread_ts") or ""
        return cls(
            str(body["user"]["id"]),
            str(channel),
            str(ts),
            str(thread),
            body.get("response_url", ""),
        )


def tell(desk: Desk, clicked: Clicked, line: str) -> None:
    """Soon, a line that this person alone sees: where they clicked, else in a direct message."""
    desk.soon(lambda: _tell(desk, clicked, line))


def _tell(desk: Desk, clicked: Clicked, line: str) -> None:
    hasty = desk.clients.hasty
    try:
        hasty.chat_postEphemeral(
            channel=clicked.channel,
            user=clicked.user,
            thread_ts=clicked.thread or None,
            text=escape(line),
        )
    except SLACK_FAILURES as error:
        _log.info("can't tell a person where they clicked: %s", why(error))
        if clicked.response_url:
            respond(clicked.response_url, line)
        else:
            _write_to(hasty, clicked.user, line)


def _write_to(client: WebClient, user: str, line: str) -> None:
    try:
        client.chat_postMessage(channel=user, text=escape(line))
    except SLACK_FAILURES as error:
        _log.warning("can't tell a person anything: %s", why(error))


def respond(url: str, line: str, **more: Any) -> None:
    """The same by the address that Slack gave for answering, which works in any channel."""
    try:
        WebhookClient(url, timeout=5).send(
            text=escape(line), response_type="ephemeral", replace_original=False, **more
        )
    except (*SLACK_FAILURES, ValueError) as error:
        _log.warning("can't answer an interaction: %s", why(error))
