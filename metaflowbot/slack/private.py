"""Answers for one person alone, by a command or shortcut, and sharing them with the channel."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from slack_bolt import Ack, App
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from metaflowbot.domain import Answer, Hit, Question
from metaflowbot.errors import MetaflowbotError, StoreError
from metaflowbot.slack.actions import spoken
from metaflowbot.slack.attachments import described
from metaflowbot.slack.clients import refusal
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.markdown import defang
from metaflowbot.slack.questions import REFUSALS, refusal_of
from metaflowbot.slack.rendering import (
    SHARE_ACTION,
    Message,
    Setting,
    answer_messages,
    private_answer,
)
from metaflowbot.slack.replies import answer_and_thread, unexpected, whole_question
from metaflowbot.slack.telling import Clicked, respond
from metaflowbot.slack.writing import Place, post, with_any_blocks
from metaflowbot.slack_records import Post
from metaflowbot.store import Asking, InboxItem

LOOKING = "Looking it up: you will have the answer here in a moment."
_INVITE = "I am not in this channel: invite me with `/invite`, then share it again."
_CLOSED = {"not_in_channel", "channel_not_found"}
_log = logging.getLogger(__name__)


def ask(
    desk: Desk,
    body: Mapping[str, Any],
    key: str,
    text: str,
    files: Iterable[Mapping[str, Any]] = (),
) -> str:
    """Put a question into the inbox whose answer one person alone will see.

    `body` is the payload of a command or shortcut, with the address to answer at; `files` are
    Slack's descriptions of what hangs on the question. Returns the line to tell that person now.
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
        "files": described(files),
        "response_url": str(body["response_url"]),
    }
    desk.receive(key, "private", payload, person=f"slack:{user}")
    return LOOKING


def listen(app: App, desk: Desk) -> None:
    """The button that shares an answer."""

    def share(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        desk.soon(lambda: _order_share(desk, Clicked.of(body), str(action.get("value", ""))))
        ack()

    app.action(SHARE_ACTION)(share)


def _order_share(desk: Desk, clicked: Clicked, answer_id: str) -> None:
    """Have an answer shared, once; where we are not in the channel it can be tried again."""
    line = spoken(lambda: _ordered(desk, clicked, answer_id))
    if line:
        respond(clicked.response_url, line)


def _ordered(desk: Desk, clicked: Clicked, answer_id: str) -> str:
    if not _is_member(desk, clicked.channel):
        return _INVITE
    payload = {
        "answer_id": answer_id,
        "channel": clicked.channel,
        "thread": clicked.thread,
        "user": clicked.user,
        "response_url": clicked.response_url,
    }
    key = f"share/{answer_id}/{clicked.channel}/{clicked.thread}"
    new = desk.receive(key, "share", payload, person=f"slack:{clicked.user}")
    return "" if new else "You shared this answer already."


def _is_member(desk: Desk, channel: str) -> bool:
    """Whether we may post there; raises SLACK_FAILURES where Slack does not say."""
    try:
        found = desk.clients.hasty.conversations_info(channel=channel)["channel"]
    except SlackApiError as error:
        if refusal(error) not in _CLOSED:
            raise
        return False
    return bool(found.get("is_member") or found.get("is_im"))


def handlers(desk: Desk, metaflow: str) -> Mapping[str, Handler]:
    """What works off private questions and what is shared."""

    def private(item: InboxItem) -> None:
        given = item.payload
        _send(desk, given["user"], given["response_url"], _answered(desk, item, metaflow))

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
    thread: Hit | None = None
    try:
        answer = desk.store.answer_to(asking) if item.attempts > 1 else None
        if answer is None:
            answer, thread = _new_answer(desk, given, asking)
    except StoreError:
        raise  # it is tried again
    except MetaflowbotError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
        return unexpected(f"answering {item.key}")
    return private_answer(answer, Setting(metaflow=metaflow, asked_before=thread), answer.id)


def _new_answer(desk: Desk, given: Mapping[str, Any], asking: Asking) -> tuple[Answer, Hit | None]:
    """The answer, and the thread that answers it already."""
    text = whole_question(desk, given["text"], given.get("files", ()))
    rules = desk.rules.of(asking.channel)
    question = Question(text, (), frozenset(rules.sources), asking.channel, rules.language)
    return answer_and_thread(desk.bot.stream(question, asking))


def _send(desk: Desk, user: str, url: str, message: Message | str) -> None:
    """Answer at the address that Slack gave, with simpler blocks or none where it refuses them.

    The address is good for half an hour; after that the answer comes as a direct message.
    """
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
    _log.info("an answer can't be given where it was asked: it goes to the person directly")
    row = slice(0, -1)  # the button shares it with the channel that it stands in
    direct = replace(message, below=message.below[row], simple=message.simple[row])
    with_any_blocks(
        direct,
        lambda blocks: desk.clients.posting.chat_postMessage(
            channel=user, text=direct.text, blocks=blocks or None, unfurl_links=False
        ),
    )


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
        return _INVITE
    return "Shared."
