"""The slash command and the message shortcuts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from slack_bolt import Ack, App

from metaflowbot.slack import channels, private
from metaflowbot.slack.actions import HANDED_ON, mark_resolved, spoken
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.markdown import escape
from metaflowbot.slack.telling import Clicked, respond
from metaflowbot.store import Asking

COMMAND = "/metaflow"
FORGET_ACTION = "metaflowbot_forget"
ASK_ABOUT = "metaflowbot_ask_about"
MARK_RESOLVED = "metaflowbot_mark_resolved"
TO_TRENCHES = "metaflowbot_to_trenches"
SAVE_FAQ = "metaflowbot_save_faq"
HELP = f"""Mention me with a question, or write to me directly, for example: “How do I retry a \
failing step?” I answer in the thread, with links to the sources. What you ask there next needs no \
mention, and a mention under somebody's question answers that one.

`{COMMAND} ask QUESTION` answers you alone; you can share the answer.
`{COMMAND} escalate` hands your latest question in this channel to the maintainers.
`{COMMAND} forget me` erases what I know of you.
`{COMMAND} settings` is for maintainers: how I behave in this channel."""
_NOTHING_TO_HAND_ON = (
    "I know of no question of yours in this channel: mention me in it first, then hand it on."
)
_FORGET = (
    "I keep your questions, my answers and your verdicts. Forgetting erases them, and what I "
    "learnt from your messages; nothing of you is read again. This can't be undone."
)
_MAINTAINERS_ONLY = "Only maintainers can do that: see [trenches] maintainers in the settings."
_WISHES_TO_BE_FORGOTTEN = ("forget", "forget me")
_SAVED = "Saved: the thread with this answer becomes part of what I know."


def listen(app: App, desk: Desk) -> None:
    """Every one of them is answered to the person alone."""

    def command(ack: Ack, body: dict[str, Any]) -> None:
        words = " ".join(str(body.get("text") or "").split())
        if words.lower() in _WISHES_TO_BE_FORGOTTEN:
            ack(text=_FORGET, blocks=forget_blocks(), response_type="ephemeral")
            return
        line = spoken(lambda: _command(desk, body, words))
        ack(text=escape(line), response_type="ephemeral") if line else ack()

    def ask_about(ack: Ack, body: dict[str, Any]) -> None:
        clicked, trigger = Clicked.of(body), str(body["trigger_id"])
        line = spoken(lambda: _ask_about(desk, clicked, trigger, body))
        desk.soon(lambda: respond(clicked.response_url, line))
        ack()

    app.command(COMMAND)(command)
    app.action(FORGET_ACTION)(_forget(desk))
    app.shortcut({"callback_id": ASK_ABOUT, "type": "message_action"})(ask_about)
    acts = {
        MARK_RESOLVED: _mark_resolved,
        TO_TRENCHES: _to_trenches,
        SAVE_FAQ: _save_faq,
    }
    for callback_id, act in acts.items():
        app.shortcut({"callback_id": callback_id, "type": "message_action"})(_shortcut(desk, act))


def _command(desk: Desk, body: Mapping[str, Any], words: str) -> str:
    """Do what the words say, which are a question unless they are a command and nothing more."""
    match words.lower():
        case "" | "help" | "ask":
            return HELP
        case "escalate":
            return _escalate(desk, str(body["user_id"]), str(body["channel_id"]))
        case "settings":
            desk.soon(lambda: _open_settings(desk, body))
            return ""
    text = re.sub(r"^\s*ask\s+", "", str(body["text"]), flags=re.IGNORECASE)
    return private.ask(desk, body, f"command/{body['trigger_id']}", text)


def _open_settings(desk: Desk, body: Mapping[str, Any]) -> None:
    line = spoken(lambda: channels.open_form(desk, body))
    if line:
        respond(str(body.get("response_url")), line)


def _escalate(desk: Desk, user: str, channel: str) -> str:
    """Hand on the latest question of that person in a thread of that channel."""
    person = f"slack:{user}"
    asked = desk.store.slack.questions_of(person, limit=50)
    latest = next((each for each in asked if each.channel == channel and each.thread), None)
    if latest is None:
        return _NOTHING_TO_HAND_ON
    asking = Asking(person, channel, latest.thread, latest.message)
    desk.bot.escalate(asking, latest.answer_id, person)
    return HANDED_ON


# Message shortcuts


def _shortcut(
    desk: Desk, act: Callable[[Desk, Clicked, Mapping[str, Any]], str]
) -> Callable[..., None]:
    def used(ack: Ack, body: dict[str, Any]) -> None:
        clicked = Clicked.of(body)
        desk.soon(lambda: respond(clicked.response_url, spoken(lambda: act(desk, clicked, body))))
        ack()

    return used


def _ask_about(desk: Desk, clicked: Clicked, trigger: str, body: Mapping[str, Any]) -> str:
    key = f"about/{clicked.user}/{clicked.channel}/{clicked.message}/{trigger}"
    message = body["message"]
    text, files = str(message.get("text") or ""), message.get("files") or ()
    return private.ask(desk, body, key, text, files)


def _asker(message: Mapping[str, Any]) -> str:
    """Who began the thread of a message, e.g. 'slack:U1'."""
    in_thread = message.get("thread_ts") not in (None, message.get("ts"))
    return f"slack:{message.get('parent_user_id' if in_thread else 'user')}"


def _mark_resolved(desk: Desk, clicked: Clicked, body: Mapping[str, Any]) -> str:
    place = Clicked(
        clicked.user, clicked.channel, clicked.message, clicked.thread or clicked.message, ""
    )
    return mark_resolved(desk, place, _asker(body["message"]))


def _to_trenches(desk: Desk, clicked: Clicked, body: Mapping[str, Any]) -> str:
    asker, thread = _asker(body["message"]), clicked.thread or clicked.message
    if not desk.people.may_act(clicked.user, asker):
        return _MAINTAINERS_ONLY
    posts = [p for p in desk.store.slack.posts_in(clicked.channel, thread) if p.answer_id]
    if not posts:
        return "I have not answered in this thread: mention me with the question first."
    last = posts[-1]
    asking = Asking(last.person, last.channel, last.thread, last.message)
    desk.bot.escalate(asking, last.answer_id, f"slack:{clicked.user}")
    return HANDED_ON


def _save_faq(desk: Desk, clicked: Clicked, body: Mapping[str, Any]) -> str:
    if not desk.people.is_maintainer(clicked.user):
        return _MAINTAINERS_ONLY
    thread = clicked.thread or clicked.message
    desk.bot.resolve(clicked.channel, thread, clicked.message, f"slack:{clicked.user}")
    return _SAVED


# Forgetting


def forget_blocks() -> list[dict[str, Any]]:
    """What is kept of a person, and the button that erases it."""
    button = {
        "type": "button",
        "text": {"type": "plain_text", "text": "Forget me"},
        "action_id": FORGET_ACTION,
        "style": "danger",
        "confirm": {
            "title": {"type": "plain_text", "text": "Forget you?"},
            "text": {"type": "plain_text", "text": "Your questions and verdicts are erased."},
            "confirm": {"type": "plain_text", "text": "Forget me"},
            "deny": {"type": "plain_text", "text": "No"},
        },
    }
    return [
        {"type": "section", "text": {"type": "mrkdwn", "text": _FORGET}},
        {"type": "actions", "elements": [button]},
    ]


def _forget(desk: Desk) -> Callable[..., None]:
    def forget(ack: Ack, body: dict[str, Any]) -> None:
        user, url = str(body["user"]["id"]), str(body.get("response_url") or "")
        # Without a person, or forgetting would erase its own order.
        desk.receive(f"forget/{body['trigger_id']}", "forget", {"user": user, "response_url": url})
        ack()

    return forget
