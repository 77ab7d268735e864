"""What the asker and maintainers may do with an answer: solved, a human, resolved, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from slack_bolt import Ack, App
from slack_sdk.errors import SlackApiError

from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack.clients import SLACK_FAILURES, refusal, why
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.markdown import question_text
from metaflowbot.slack.rendering import (
    DELETE_ACTION,
    HUMAN_ACTION,
    RESOLVE_ACTION,
    SOLVED_ACTION,
)
from metaflowbot.slack.replies import unexpected
from metaflowbot.slack.standing import READING_REFUSED, thread_messages, withdraw
from metaflowbot.slack.telling import Clicked, tell
from metaflowbot.slack_records import Post
from metaflowbot.store import Asking

RESOLVE_VIEW = "metaflowbot_resolve_view"
SOLVED = "Glad to hear it: I marked your question as solved."
RESOLVED = "Thank you, marked as resolved: I will know this answer when it is asked again."
NOT_YOURS = "Only the person who asked and the maintainers can do that."
HANDED_ON = "Handed to the maintainers: they see your question, and you will hear of it here."
_CHOICES = 50
_LABEL = 74

# Acts on a post; the line to tell the person, '' where a form says it.
Act = Callable[[Desk, Clicked, Post, Mapping[str, Any]], str]


def listen(app: App, desk: Desk) -> None:
    """Who presses a button is checked when it is pressed, whoever may see it."""
    acts: Mapping[str, Act] = {
        SOLVED_ACTION: _solved,
        HUMAN_ACTION: _human,
        RESOLVE_ACTION: _choose,
        DELETE_ACTION: _delete,
    }
    for action_id, act in acts.items():
        app.action(action_id)(_listener(desk, act))

    def resolved(ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        place = json.loads(view["private_metadata"])
        chosen = view["state"]["values"]["answer"]["answer"]["selected_option"]["value"]
        user, channel, thread = str(body["user"]["id"]), place["channel"], place["thread"]
        clicked, asker = Clicked(user, channel, chosen, thread, ""), str(place["asker"])
        desk.soon(lambda: tell(desk, clicked, spoken(lambda: mark_resolved(desk, clicked, asker))))
        ack()

    app.view(RESOLVE_VIEW)(resolved)


def _listener(desk: Desk, act: Act) -> Callable[..., None]:
    def pressed(ack: Ack, body: dict[str, Any]) -> None:
        clicked = Clicked.of(body)
        desk.soon(lambda: _act(desk, act, clicked, body))
        ack()

    return pressed


def _act(desk: Desk, act: Act, clicked: Clicked, body: Mapping[str, Any]) -> None:
    line = spoken(lambda: _checked(desk, act, clicked, body))
    if line:
        tell(desk, clicked, line)


def spoken(act: Callable[[], str]) -> str:
    """What to tell a person after `act`, whatever happened in it."""
    try:
        return act()
    except MetaflowbotError as error:
        return str(error)
    except SLACK_FAILURES as error:
        return f"Slack did not let me do that ({why(error)}): please try again."
    except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
        return unexpected("doing what a button says")


def _checked(desk: Desk, act: Act, clicked: Clicked, body: Mapping[str, Any]) -> str:
    post = desk.store.slack.post(clicked.channel, clicked.message)
    if post is None:
        return "I do not know this answer any more: please ask again."
    if not desk.people.may_act(clicked.user, post.person):
        return NOT_YOURS
    return act(desk, clicked, post, body)


def _solved(desk: Desk, clicked: Clicked, post: Post, body: Mapping[str, Any]) -> str:
    desk.bot.resolve(post.channel, post.thread, post.ts, f"slack:{clicked.user}")
    return SOLVED


def _human(desk: Desk, clicked: Clicked, post: Post, body: Mapping[str, Any]) -> str:
    asking = Asking(post.person, post.channel, post.thread, post.message)
    # The button may be seen a moment before it is on record whose it is.
    answer_id = post.answer_id or str(body["actions"][0].get("value"))
    escalation = desk.bot.escalate(asking, answer_id, f"slack:{clicked.user}")
    desk.received()
    if escalation.state == "open":
        return HANDED_ON
    return f"The maintainers have it already: it is {escalation.state}."


def _delete(desk: Desk, clicked: Clicked, post: Post, body: Mapping[str, Any]) -> str:
    posts = desk.store.slack.posts_to(post.channel, post.message)
    withdraw(desk.clients, desk.store.slack, posts)
    return "Deleted."


# Marking a thread as resolved: which message was the answer?


def _choose(desk: Desk, clicked: Clicked, post: Post, body: Mapping[str, Any]) -> str:
    view = resolve_view(post, _candidates(desk, post))
    desk.clients.hasty.views_open(trigger_id=str(body["trigger_id"]), view=view)
    return ""


def _candidates(desk: Desk, post: Post) -> list[tuple[str, str]]:
    """The ts and the first words of what was said after the question, newest first."""
    try:
        said = thread_messages(desk.clients, post.channel, post.thread)
    except SlackApiError as error:
        if refusal(error) not in READING_REFUSED:
            raise
        said = []
    replies = [each for each in said if each["ts"] not in (post.thread, post.ts)]
    found = [(each["ts"], _first_words(desk, each)) for each in reversed(replies)]
    return [(post.ts, "My answer above"), *found][:_CHOICES]


def _first_words(desk: Desk, message: Mapping[str, Any]) -> str:
    words = " ".join(question_text(message.get("text") or "…", desk.identity.user_id).split())
    return words if len(words) <= _LABEL else f"{words[:_LABEL]}…"


def resolve_view(post: Post, candidates: list[tuple[str, str]]) -> dict[str, Any]:
    """The modal that asks which message was the answer."""
    options = [{"text": _plain(words or "…"), "value": ts} for ts, words in candidates]
    return {
        "type": "modal",
        "callback_id": RESOLVE_VIEW,
        "private_metadata": json.dumps(
            {"channel": post.channel, "thread": post.thread, "asker": post.person}
        ),
        "title": _plain("Mark resolved"),
        "submit": _plain("Mark resolved"),
        "close": _plain("Not yet"),
        "blocks": [
            {
                "type": "input",
                "block_id": "answer",
                "label": _plain("Which message was the answer?"),
                "element": {
                    "type": "static_select",
                    "action_id": "answer",
                    "options": options,
                    "initial_option": options[0],
                },
            }
        ],
    }


def _plain(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}


def mark_resolved(desk: Desk, clicked: Clicked, asker: str) -> str:
    """Mark the message that was clicked as its thread's answer; the line to tell the person."""
    if not desk.people.may_act(clicked.user, asker):
        return NOT_YOURS
    person = f"slack:{clicked.user}"
    desk.bot.resolve(clicked.channel, clicked.thread, clicked.message, person)
    return RESOLVED
