"""An escalation as Slack shows it: card, forms and lines to the asker. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaflowbot.domain import Retrieved
from metaflowbot.escalation import Escalation, State, Step
from metaflowbot.slack.markdown import escape, link, mrkdwn, split, tame

Block = dict[str, Any]

ACTION = "trenches_"
CONSENT = "trenches_consent_"
_QUESTION_CHARS = 1500
_SECTION_CHARS = 2900
_MARKDOWN_CHARS = 11_000
_NEXT: Mapping[State, tuple[tuple[str, str], ...]] = {
    "open": (("claim", "I take it"), ("decline", "Decline…")),
    "claimed": (("schedule", "Set a session…"), ("solve", "Solved…"), ("decline", "Decline…")),
    "scheduled": (
        ("schedule", "Change the session…"),
        ("solve", "Solved…"),
        ("decline", "Decline…"),
    ),
    "solved": (("publish", "Published…"),),
}
_SIGNS: Mapping[State, str] = {
    "open": ":large_yellow_circle: Open",
    "claimed": ":raising_hand: Claimed",
    "scheduled": ":calendar: Session set",
    "solved": ":white_check_mark: Solved",
    "published": ":books: Published",
    "declined": ":no_entry_sign: Declined",
}
_SLACK_PERSON = re.compile(r"slack:([UW][A-Z0-9]+)")


@dataclass(frozen=True, slots=True)
class Shown:
    """One message: `text` is complete by itself, for where the blocks are not shown."""

    text: str
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a card says beside the escalation itself.

    `asked` is how often such a question was asked, and by how many people. `permalink` is '' where
    the thread is gone. The words of a `discreet` one are not shown: they belong to a private place.
    """

    asked: tuple[int, int]
    retrieved: Sequence[Retrieved]
    confidence: float
    permalink: str
    discreet: bool


def card(escalation: Escalation, around: Surroundings) -> Shown:
    """The maintainers' card, with the buttons for what may come next."""
    title = _question(escalation, around)
    found = "\n".join(
        f"• {link(each.url, each.title)} ({each.score:.2f})" for each in around.retrieved[:5]
    )
    why = "; ".join(escalation.reasons)
    about = [
        f"*Who it concerns:* {_affected(*around.asked)}",
        f"*Why it is here:* {escape(why)} (confidence {around.confidence:.0%})",
        f"*What was found:*\n{found}" if found else "*What was found:* nothing that fits",
        link(around.permalink, "Open the thread") if around.permalink else "_The thread is gone._",
    ]
    blocks = [
        _section(f"*{_SIGNS[escalation.state]}* · `{escalation.id}`"),
        _section(title),
        *map(_section, about),
        *([_section(state)] if (state := _state(escalation, around)) else []),
        _context(" → ".join(_moment(step) for step in escalation.history[-8:])),
        *_buttons(escalation),
    ]
    return Shown(_cut(f"{_SIGNS[escalation.state]}: {title}", _SECTION_CHARS), tuple(blocks))


def person(name: str) -> str:
    """A person as a mention that Slack shows by name; others by what they are."""
    match = _SLACK_PERSON.fullmatch(name)
    return f"<@{match[1]}>" if match else escape(name.partition(":")[0] or "somebody")


def told(escalation: Escalation, step: Step) -> Shown | None:
    """What the asker is told of a step; None for a step that is not theirs to know."""
    if step.state == "solved" and escalation.solution and not escalation.solution.message:
        return _answered(escalation.solution.text)
    day = f"{escalation.session.day:%A, %d %B %Y}" if escalation.session else ""
    lines: Mapping[State, str] = {
        "open": "A human will look at this: the maintainers have it on their list.",
        "scheduled": f"A session on this is set for {day}.",
        "solved": "Solved: the maintainers point to a message above as the answer.",
        "published": f"This became a write-up: {link(escalation.url, escalation.url)}",
        "declined": (
            "Thank you for asking this. The maintainers looked at it and can’t take it on: "
            f"{escape(step.note)}\nAsking again with more detail is always welcome."
        ),
    }
    return Shown(lines[step.state]) if step.state in lines else None


def _answered(markdown: str) -> Shown:
    """A maintainers' answer, with code and lists shown well; what is too long for that is cut."""
    title = "*Solved.* Here is the maintainers’ answer:"
    pieces = split(tame(markdown), _MARKDOWN_CHARS)
    body: Block = {"type": "markdown", "text": pieces[0]}
    return Shown(f"{title}\n\n{mrkdwn(pieces[0])}", (_section(title), body))


def consent(escalation: Escalation) -> Shown:
    """The question whether the asker may be quoted, with what was said to it."""
    said = {
        "": "May we quote your words in a public write-up of this? Your name never appears. "
        "Without your yes only the problem itself is described.",
        "given": "Thank you: your words may be quoted, without your name.",
        "refused": "Noted: nothing of your words is quoted, only the problem is described.",
    }[escalation.consent]
    asker = _SLACK_PERSON.fullmatch(escalation.asker)
    buttons = [
        {**_button(f"{CONSENT}{value}", label, escalation.id), "visible_to_user_ids": [asker[1]]}
        for value, label in (("given", "You may quote me"), ("refused", "Please don’t"))
        if asker
    ]
    actions: list[Block] = [{"type": "actions", "elements": buttons}] if buttons else []
    return Shown(said, (_section(said), *actions))


def reminder(escalation: Escalation, days: int) -> str:
    """A line under the card, to its owner where it has one."""
    who = f"{person(escalation.owner)}: " if escalation.owner else ""
    waits = {"open": "nobody has claimed this yet", "claimed": "this waits for a session"}
    waiting = waits.get(escalation.state, "the session is over: was it solved?")
    return f"{who}{waiting} ({days} days)." if days else f"{who}{waiting}."


# Forms


def schedule_form(escalation: Escalation) -> Block:
    """Day, people and recording of the session."""
    held = escalation.session
    day: Block = {"type": "datepicker", "action_id": "day"}
    people: Block = {"type": "multi_users_select", "action_id": "people"}
    recording: Block = {"type": "url_text_input", "action_id": "recording"}
    if held:
        day["initial_date"] = held.day.isoformat()
        ids = [match[1] for each in held.people if (match := _SLACK_PERSON.fullmatch(each))]
        people |= {"initial_users": ids} if ids else {}
        recording |= {"initial_value": held.recording} if held.recording else {}
    return _form(
        "schedule",
        "Session",
        escalation,
        _input("day", "Day", day),
        _input("people", "Who takes part", people, optional=True),
        _input("recording", "Link to the recording", recording, optional=True),
    )


def solve_form(escalation: Escalation, messages: Sequence[Mapping[str, Any]]) -> Block:
    """Which message of the thread helped, or the answer itself."""
    options = [
        {"text": _plain(_first_line(each["text"])), "value": str(each["ts"])}
        for each in messages[-50:]
    ]
    choice = {"type": "static_select", "action_id": "message", "options": options}
    text = {"type": "plain_text_input", "action_id": "text", "multiline": True}
    fields = (
        [_input("message", "The message that solved it", choice, optional=True)] if options else []
    )
    fields.append(_input("text", "Or the answer, in Markdown", text, optional=True))
    return _form("solve", "Solved", escalation, *fields)


def decline_form(escalation: Escalation) -> Block:
    """The reason, which the asker reads."""
    text = {"type": "plain_text_input", "action_id": "reason", "multiline": True}
    return _form(
        "decline", "Decline", escalation, _input("reason", "Why (the asker reads it)", text)
    )


def publish_form(escalation: Escalation) -> Block:
    """The address of the write-up."""
    url = {"type": "url_text_input", "action_id": "url"}
    return _form("publish", "Published", escalation, _input("url", "Where it is published", url))


def _form(step: str, title: str, escalation: Escalation, *blocks: Block) -> Block:
    return {
        "type": "modal",
        "callback_id": f"{ACTION}{step}",
        "private_metadata": escalation.id,
        "title": _plain(title),
        "submit": _plain("Save"),
        "close": _plain("Cancel"),
        "blocks": list(blocks),
    }


def _input(name: str, label: str, element: Block, *, optional: bool = False) -> Block:
    return {
        "type": "input",
        "block_id": name,
        "label": _plain(label),
        "element": element,
        "optional": optional,
    }


# Parts of the card


def _question(escalation: Escalation, around: Surroundings) -> str:
    if around.discreet:
        return "A question in a private place: open the thread to read it."
    lines = escape(_cut(escalation.question, _QUESTION_CHARS)).split("\n")
    return "\n".join(f"> {line}" for line in lines)


def _affected(times: int, people: int) -> str:
    if times == 1:
        return "asked once"
    return f"asked {times} times, by {people} {'person' if people == 1 else 'people'}"


def _state(escalation: Escalation, around: Surroundings) -> str:
    lines = [f"*Owner:* {person(escalation.owner)}"] if escalation.owner else []
    if held := escalation.session:
        people = ", ".join(map(person, held.people)) or "the asker"
        recording = f" · {link(held.recording, 'recording')}" if held.recording else ""
        lines.append(f"*Session:* {held.day.isoformat()} with {people}{recording}")
    if escalation.solution and not around.discreet:
        lines.append(f"*Solution:* {mrkdwn(tame(_cut(escalation.solution.text, 1500)))}")
    if escalation.url:
        lines.append(f"*Write-up:* {link(escalation.url, escalation.url)}")
    if escalation.state == "declined":
        lines.append(f"*Reason:* {escape(escalation.history[-1].note)}")
    if escalation.consent:
        lines.append(f"*Quotes:* {escalation.consent} by the asker")
    return "\n".join(lines)


def _moment(step: Step) -> str:
    who = "" if step.state == "open" else f" by {person(step.person)}"
    return f"{step.state}{who} {step.at:%d %b %H:%M}"


def _buttons(escalation: Escalation) -> list[Block]:
    offered = _NEXT.get(escalation.state, ())
    buttons = [_button(ACTION + step, label, escalation.id) for step, label in offered]
    if buttons:
        buttons[0]["style"] = "primary"
    return [{"type": "actions", "elements": buttons}] if buttons else []


def _button(action: str, label: str, value: str) -> Block:
    return {"type": "button", "action_id": action, "text": _plain(label), "value": value}


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, _SECTION_CHARS)}}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(text, 1900)}]}


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": _cut(text, 75)}


def _first_line(text: str) -> str:
    return " ".join(text.split()) or "(no text)"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
