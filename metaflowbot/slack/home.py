"""The App Home: my questions, what the bot knows, my privacy, and what maintainers look after."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slack_bolt import Ack, App

from metaflowbot.manifest import Manifest
from metaflowbot.slack.actions import spoken
from metaflowbot.slack.channels import SOURCE_NAMES
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.commands import HELP, forget_blocks
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.markdown import escape, link
from metaflowbot.slack.telling import respond
from metaflowbot.slack_records import Asked
from metaflowbot.store import InboxItem

OPT_OUT_ACTION = "metaflowbot_opt_out"
OPT_IN_ACTION = "metaflowbot_opt_in"
PROMPTS = (
    ("Retry a failing step", "How do I retry a step that fails?"),
    ("Run on Kubernetes", "How do I run a step on Kubernetes with a GPU?"),
    ("Loop over a list", "How do I run a step for every item of a list?"),
    ("Schedule a flow", "How do I run a flow every night?"),
)
LOOKS_BACK = timedelta(days=14)
_READ = (
    "Threads that you take part in may become knowledge, without your name. If you opt out, "
    "nothing that you write is read any more."
)
_OPTED_OUT = "You opted out: nothing that you write becomes knowledge."
_QUESTIONS = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """A question in a list: its text, where it is, and how it stands."""

    question: str
    url: str
    state: str


@dataclass(frozen=True, slots=True)
class Page:
    """What one person's home shows. The last two are for maintainers, None for others."""

    mine: tuple[Line, ...]
    knowledge: Manifest | None
    opted_out: bool = False
    escalations: tuple[Line, ...] | None = None
    unanswered: tuple[Line, ...] | None = None


def listen(app: App, desk: Desk) -> None:
    """The home is published when it is opened; the messages tab is given prompts."""

    def opened(event: dict[str, Any]) -> None:
        if event.get("tab") == "messages":
            desk.soon(lambda: _suggest(desk, str(event.get("channel"))))
        elif event.get("user"):
            desk.soon(lambda: publish(desk, str(event["user"])))

    def opt(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        user = str(body["user"]["id"])
        change = desk.bot.opt_out if action["action_id"] == OPT_OUT_ACTION else desk.bot.opt_in
        line = spoken(lambda: str(change(f"slack:{user}") or ""))
        desk.soon(lambda: publish(desk, user, line))
        ack()

    app.event("app_home_opened")(opened)
    app.action(OPT_OUT_ACTION)(opt)
    app.action(OPT_IN_ACTION)(opt)


def publish(desk: Desk, user: str, line: str = "") -> None:
    """Show a person their home as it is now, with a line on top where something went wrong."""
    try:
        view = home_view(_page(desk, user), line)
        desk.clients.hasty.views_publish(user_id=user, view=view)
    except SLACK_FAILURES as error:
        _log.warning("a home can't be published: %s", why(error))


def _suggest(desk: Desk, channel: str) -> None:
    """Prompts above the entry, where the workspace has the agent's pane; a courtesy."""
    prompts = [{"title": title, "message": message} for title, message in PROMPTS]
    try:
        desk.clients.hasty.assistant_threads_setSuggestedPrompts(
            channel_id=channel, prompts=prompts
        )
    except SLACK_FAILURES as error:
        _log.info("Slack took no prompts: %s", why(error))


# Forgetting


def handlers(desk: Desk) -> Mapping[str, Handler]:
    """What works off the wish to be forgotten."""

    def forget(item: InboxItem) -> None:
        user, url = str(item.payload["user"]), str(item.payload["response_url"])
        line = spoken(lambda: _forgotten(desk, user))
        if url:
            respond(url, line)
        else:
            desk.clients.patient.chat_postMessage(channel=user, text=escape(line))
            publish(desk, user)

    return {"forget": forget}


def _forgotten(desk: Desk, user: str) -> str:
    counts = desk.bot.forget(f"slack:{user}")
    erased = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"Done: I erased {erased or 'nothing, for there was nothing'}. Nothing more is read."


# What there is to show


def _page(desk: Desk, user: str) -> Page:
    mine = desk.store.slack.questions_of(f"slack:{user}", _QUESTIONS)
    page = Page(
        tuple(lines(desk, mine)),
        desk.bot.vitals().manifest,
        user in desk.store.threads.opted_out(),
    )
    if not desk.people.is_maintainer(user):
        return page
    return Page(
        page.mine,
        page.knowledge,
        page.opted_out,
        tuple(_escalated(desk)),
        tuple(unanswered(desk, datetime.now(UTC) - LOOKS_BACK)),
    )


def lines(desk: Desk, asked: Iterable[Asked]) -> list[Line]:
    """Questions with how they stand: solved, with people, answered, or not."""
    solved = {(mark.channel, mark.thread) for mark in desk.store.threads.marks()}
    handed = {(each.channel, each.thread): each.state for each in desk.store.escalations.all()}
    found = []
    for each in asked:
        place = each.channel, each.thread
        state = "no answer found" if each.abstained else "answered"
        if each.thread and place in solved:
            state = "solved"
        elif each.thread and place in handed:
            state = f"with the maintainers: {handed[place]}"
        url = desk.identity.link(each.channel, each.message, each.thread) if each.thread else ""
        found.append(Line(each.question, url, state))
    return found


def unanswered(desk: Desk, since: datetime) -> list[Line]:
    """What nobody answered in the channels since then, newest first."""
    found = lines(desk, desk.store.slack.unanswered(since))
    return [line for line in found if line.state == "no answer found"]


def _escalated(desk: Desk) -> list[Line]:
    opened = desk.store.escalations.all(("open", "claimed", "scheduled"))
    return [
        Line(each.question, desk.identity.link(each.channel, each.thread), each.state)
        for each in opened
    ][:_QUESTIONS]


# How it is shown


def home_view(page: Page, line: str = "") -> dict[str, Any]:
    """The home as a Slack view."""
    blocks = [*_section(escape(line))] if line else []
    blocks += [
        *_titled("Ask me about Metaflow", HELP),
        *_titled("Your questions", listed(page.mine) or "You have not asked me anything yet."),
        *_titled("What I know", _knowledge(page.knowledge)),
        *_titled("Your privacy", _OPTED_OUT if page.opted_out else _READ),
        _opt_button(opted_out=page.opted_out),
        *forget_blocks(),
    ]
    if page.escalations is not None:
        blocks += _titled("Open escalations", listed(page.escalations) or "None.")
    if page.unanswered is not None:
        blocks += _titled("Unanswered questions", listed(page.unanswered) or "None.")
    return {"type": "home", "blocks": blocks}


def _titled(title: str, text: str) -> list[dict[str, Any]]:
    header = {"type": "header", "text": {"type": "plain_text", "text": title}}
    return [header, *_section(text)]


def _section(text: str) -> list[dict[str, Any]]:
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]


def listed(found: Sequence[Line]) -> str:
    """The questions, one a line; those that do not fit are counted. '' for none."""
    shown: list[str] = []
    room = 2_800
    for line in found:
        words = " ".join(line.question.split())
        words = words if len(words) <= 150 else f"{words[:150]}…"
        text = f"• {link(line.url, words)} — {escape(line.state)}"
        room -= len(text) + 1
        if room < 0:
            return "\n".join([*shown, f"… and {len(found) - len(shown)} more"])
        shown.append(text)
    return "\n".join(shown)


def _knowledge(manifest: Manifest | None) -> str:
    if manifest is None:
        return "Nothing yet: my index has not been built."
    built = manifest.built_at[:16].replace("T", " ")
    lines = [
        f"• {SOURCE_NAMES.get(name, name)}: {count.documents:,} documents"
        for name, count in sorted(manifest.sources.items())
    ]
    return escape("\n".join([*lines, f"My index was built on {built} UTC."]))


def _opt_button(*, opted_out: bool) -> dict[str, Any]:
    text, action = ("Opt in again", OPT_IN_ACTION) if opted_out else ("Opt out", OPT_OUT_ACTION)
    confirm = {
        "title": {"type": "plain_text", "text": f"{text}?"},
        "text": {"type": "plain_text", "text": "You can change this again at any time."},
        "confirm": {"type": "plain_text", "text": text},
        "deny": {"type": "plain_text", "text": "No"},
    }
    button = {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "action_id": action,
        "confirm": confirm,
    }
    return {"type": "actions", "elements": [button]}
