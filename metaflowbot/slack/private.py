"""Answers for one person alone, by a command or shortcut, and sharing them with the channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slack_bolt import Ack, App
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from metaflowbot.domain import Answer, Question
from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack.actions import spoken
from metaflowbot.slack.attachments import fit
from metaflowbot.slack.clients import refusal
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.markdown import defang, question_text
from metaflowbot.slack.questions import REFUSALS, refusal_of
from metaflowbot.slack.rendering import (
    SHARE_ACTION,
    Message,
    Setting,
    answer_messages,
    private_answer,
)
from metaflowbot.slack.replies import unexpected
from metaflowbot.slack.telling import Clicked, respond
from metaflowbot.slack.writing import Place, post
from metaflowbot.slack_records import Post
from metaflowbot.store import Asking, InboxItem

LOOKING = "Looking it up: you will have the answer here in a moment."
_CLOSED = {"not_in_channel", "channel_not_found"}


def ask(desk: Desk, body: Mapping[str, Any], key: str, text: str) -> str:
    """Put a question into the inbox whose answer one person alone will see.

    `body` is the payload of a command or shortcut, with the address to answer at. Returns the line
    to tell that person now.
    """
    user = str(body.get("user_id") or body["user"]["id"])
    channel = str(body.get("channel_id") or body["channel"]["id"])
    refused = refusal_of(desk, channel, user, desk.identity.team_id)
    if refused:
        return REFUSALS[refused]
    payload = {
        "user": user,
        "channel": channel,
        "text": text,
        "response_url": str(body.get("response_url") or ""),
    }
    desk.receive(key, "private", payload, person=f"slack:{user}")
    return LOOKING


def listen(app: App, desk: Desk) -> None:
    """The button that shares an answer."""

    def share(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        clicked = Clicked.of(body)
        answer_id = str(action.get("value", ""))
        key = f"share/{answer_id}/{clicked.channel}/{clicked.thread}"
        payload = {
            "answer_id": answer_id,
            "channel": clicked.channel,
            "thread": clicked.thread,
            "user": clicked.user,
            "response_url": clicked.response_url,
        }
        desk.receive(key, "share", payload, person=f"slack:{clicked.user}")
        ack()

    app.action(SHARE_ACTION)(share)


def handlers(desk: Desk, metaflow: str) -> Mapping[str, Handler]:
    """What works off private questions and what is shared."""

    def private(item: InboxItem) -> None:
        given = item.payload
        message = _answered(desk, item, metaflow)
        _send(given["response_url"], message)

    def shared(item: InboxItem) -> None:
        if not desk.store.slack.posts_for(item.key):
            respond(item.payload["response_url"], spoken(lambda: _share(desk, item, metaflow)))

    return {"private": private, "share": shared}


def _answered(desk: Desk, item: InboxItem, metaflow: str) -> Message | str:
    """The answer, or the line that is told instead."""
    given = item.payload
    if item.dead:
        return "I tried several times and could not answer this. Please ask it again."
    asking = Asking(f"slack:{given['user']}", given["channel"], "", item.key)
    try:
        answer = desk.store.answer_to(asking) if item.attempts > 1 else None
        if answer is None:
            answer = _new_answer(desk, given, asking)
    except MetaflowbotError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
        return unexpected(f"answering {item.key}")
    return private_answer(answer, Setting(metaflow=metaflow), answer.id)


def _new_answer(desk: Desk, given: Mapping[str, Any], asking: Asking) -> Answer:
    text = fit(question_text(given["text"], desk.identity.user_id))
    rules = desk.rules.of(asking.channel)
    question = Question(text, (), frozenset(rules.sources), asking.channel, rules.language)
    *_, answer = desk.bot.stream(question, asking)
    assert isinstance(answer, Answer)
    return answer


def _send(url: str, message: Message | str) -> None:
    """Answer at the address that Slack gave, with simpler blocks or none where it refuses them."""
    if isinstance(message, str):
        respond(url, message)
        return
    client = WebhookClient(url, timeout=10)
    for blocks in message.variants:
        answer = client.send(
            text=message.text,
            blocks=blocks or None,
            response_type="ephemeral",
            replace_original=False,
            unfurl_links=False,
        )
        if answer.status_code < 300:
            return


def _share(desk: Desk, item: InboxItem, metaflow: str) -> str:
    """Post the answer where it was asked; the line for who shared it."""
    given = item.payload
    answer = desk.store.answer(given["answer_id"])
    if answer is None:
        return "I do not know this answer any more: please ask again."
    user, channel, thread = given["user"], given["channel"], given["thread"]
    place = Place(desk.identity.team_id, channel, thread, "", user, item.key)
    asked = f"> {' '.join(defang(answer.question).split())[:300]}\n\n"
    setting = Setting(user, desk.people.maintainers(), metaflow)
    shown = answer_messages(replace(answer, text=asked + answer.text), setting)
    try:
        for part, message in enumerate(shown):
            metadata = place.metadata(answer.id, part, len(shown))
            ts = post(desk.clients, place, message, metadata)
            place = Place(place.team, channel, thread or ts, ts, user, item.key)
            person = f"slack:{user}"
            here = channel, ts, place.thread, place.message, item.key
            desk.store.slack.note(Post(*here, person, answer.id, part))
            thread = place.thread
    except SlackApiError as error:
        if refusal(error) not in _CLOSED:
            raise
        return "I am not in this channel: invite me with `/invite`, then share it again."
    return "Shared."
