"""Questions that are edited or deleted after they were asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from slack_bolt import Ack, App

from metaflowbot.slack.actions import NOT_YOURS, spoken
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.markdown import escape, question_text
from metaflowbot.slack.replies import Asked, deletion_key
from metaflowbot.slack.standing import thread_messages, withdraw
from metaflowbot.slack.telling import Clicked, tell
from metaflowbot.slack.writing import Place
from metaflowbot.slack_records import Post
from metaflowbot.store import InboxItem

AGAIN_ACTION = "metaflowbot_again"
_OFFER = "You changed your question. Shall I answer it anew? The new answer replaces the old one."
_ANEW = "I am answering it anew."
_log = logging.getLogger(__name__)


def listen(app: App, desk: Desk) -> None:
    """An edited question is offered a new answer; a deleted one takes its answer with it."""

    def changed(event: dict[str, Any]) -> None:
        message, before = event.get("message") or {}, event.get("previous_message") or {}
        if message.get("subtype") == "tombstone":
            _deleted(desk, str(event.get("channel")), str(before.get("ts")))
        elif message.get("user") and not message.get("bot_id"):
            _edited(desk, str(event.get("channel")), message, before)

    def deleted(event: dict[str, Any]) -> None:
        _deleted(desk, str(event.get("channel")), str(event.get("deleted_ts")))

    def again(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        desk.soon(lambda: _answer_again(desk, str(action.get("value")), body))
        ack()

    app.event({"type": "message", "subtype": "message_changed"})(changed)
    app.event({"type": "message", "subtype": "message_deleted"})(deleted)
    app.action(AGAIN_ACTION)(again)


def _edited(
    desk: Desk, channel: str, message: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Slack tells of link previews as of edits: only other words count."""
    ours = desk.identity.user_id
    now, then = (question_text(each.get("text") or "", ours) for each in (message, before))
    posts = _standing(desk, channel, str(message.get("ts")))
    if now == then or not now or not posts:
        return
    user, ts = str(message["user"]), str(message["ts"])
    desk.soon(lambda: _offer(desk, Clicked(user, channel, ts, posts[0].thread, "")))


def _offer(desk: Desk, edited: Clicked) -> None:
    """Offer a new answer to who edited their question; a courtesy."""
    button = {
        "type": "button",
        "text": {"type": "plain_text", "text": "Answer it anew"},
        "action_id": AGAIN_ACTION,
        "value": edited.message,
    }
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": escape(_OFFER)}},
        {"type": "actions", "elements": [button]},
    ]
    try:
        desk.clients.hasty.chat_postEphemeral(
            channel=edited.channel,
            user=edited.user,
            thread_ts=edited.thread,
            text=_OFFER,
            blocks=blocks,
        )
    except SLACK_FAILURES as error:
        _log.info("can't offer to answer an edited question: %s", why(error))


def _standing(desk: Desk, channel: str, message: str) -> list[Post]:
    posts = desk.store.slack.posts_to(channel, message)
    return [post for post in posts if post.state != "withdrawn"]


def _answer_again(desk: Desk, message: str, body: Mapping[str, Any]) -> None:
    clicked = Clicked.of(body)
    tell(desk, clicked, spoken(lambda: _again(desk, clicked, message, body)))


def _again(desk: Desk, clicked: Clicked, message: str, body: Mapping[str, Any]) -> str:
    posts = _standing(desk, clicked.channel, message)
    if not posts:
        return "The answer is gone: please ask again."
    first = posts[0]
    if first.person != f"slack:{clicked.user}":
        return NOT_YOURS
    said = thread_messages(desk.clients, first.channel, first.thread)
    now: Mapping[str, Any] = next((each for each in said if each["ts"] == message), {})
    key = f"{first.key.removesuffix('/again')}/{body['trigger_id']}/again"
    place = Place(desk.identity.team_id, first.channel, first.thread, message, clicked.user, key)
    files = tuple(now.get("files") or ())
    asked = Asked(place, str(now.get("text") or ""), "again", files)
    desk.receive(key, "question", asked.payload, person=first.person)
    return _ANEW


def _deleted(desk: Desk, channel: str, ts: str) -> None:
    """The question's answer goes; of an answer that somebody deleted it is kept that it went."""
    ours = desk.store.slack.post(channel, ts)
    if ours is not None:
        desk.store.slack.withdraw(ours)
        return
    team = desk.identity.team_id
    place = Place(team, channel, "", ts, "", f"{team}/{channel}/{ts}")
    if desk.store.slack.was_received(place.key):
        desk.receive(deletion_key(place), "withdraw", {"channel": channel, "message": ts})


def handlers(desk: Desk) -> Mapping[str, Handler]:
    """What works off the news that a question was deleted."""

    def take_away(item: InboxItem) -> None:
        posts = _standing(desk, item.payload["channel"], item.payload["message"])
        withdraw(desk.clients, desk.store.slack, posts)

    return {"withdraw": take_away}
