"""An answer as Slack messages: pure, so that what people see is compared with golden files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from metaflowbot.domain import Answer, Citation, Hit
from metaflowbot.slack.markdown import defang, escape, link, mrkdwn, split, tame

FEEDBACK_ACTION = "metaflowbot_feedback"
SOLVED_ACTION = "metaflowbot_solved"
HUMAN_ACTION = "metaflowbot_human"
RESOLVE_ACTION = "metaflowbot_resolve"
DELETE_ACTION = "metaflowbot_delete"
SHARE_ACTION = "metaflowbot_share"
HOW_TO_ASK = (
    "Ask me anything about Metaflow in the same message, for example: "
    "“How do I retry a step that fails?” I answer in the thread, with links to the sources."
)
YOU_ARE_WELCOME = "You are welcome! Ask me again at any time."

# Slack refuses a message whose blocks hold more than about 13,200 characters in all; the steps
# that stand above a streamed answer count as well.
TEXT_LIMIT = 9_000
_SOURCES_LIMIT = 2_400
_TASK_SOURCES = 5
_MOST_VIEWERS = 100
_SURE = ((0.85, "quite sure"), (0.65, "fairly sure"), (0.0, "not very sure"))

Block = dict[str, Any]
Chunk = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `body` (Markdown) with the blocks `below` it.

    `simple` are blocks below for where Slack refuses those; `text` (mrkdwn) is complete by itself,
    for notifications and where Slack refuses all blocks.
    """

    text: str
    body: str
    below: tuple[Block, ...] = ()
    simple: tuple[Block, ...] = ()

    @property
    def variants(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks to try, best first; the last are none, so that the text is shown."""
        bodies = ({"type": "markdown", "text": self.body},)
        tried = [(*bodies, *below) for below in (self.below, self.simple) if below]
        return (*(tried or [bodies]), ()) if self.body else ((),)


@dataclass(frozen=True, slots=True)
class Setting:
    """What an answer is shown with, besides itself.

    `asker` and `maintainers` are Slack's ids of who may do more than rate it; `metaflow` is the
    version of the installed Metaflow, '' where that is not to be shown.
    """

    asker: str = ""
    maintainers: tuple[str, ...] = ()
    metaflow: str = ""
    asked_before: Hit | None = None


def line_message(line: str) -> Message:
    """One plain line of ours."""
    return Message(escape(line), defang(line))


def answer_messages(answer: Answer, setting: Setting = Setting()) -> tuple[Message, ...]:
    """The answer in as few messages as Slack allows; the last one carries sources and buttons."""
    *first, last = _pieces(answer, setting)
    more = (_verdicts(answer.id, setting), _actions(_further(answer, setting)))
    simple = (_verdicts(answer.id, Setting()), _actions(_further(answer, Setting())))
    ending = _message(last, answer, setting)
    ending = replace(ending, below=ending.below + more, simple=ending.simple + simple)
    return (*(Message(mrkdwn(piece), piece) for piece in first), ending)


def private_answer(answer: Answer, setting: Setting, share: str) -> Message:
    """An answer for one person alone, in one message, with the verdicts and a button to share it.

    `share` is the value of that button. What is too long for one message is left to the sources.
    """
    first, *further = _pieces(answer, setting)
    cut = "\n\n_The rest is in the sources._" if further else ""
    made = _message(first + cut, answer, setting)
    rate = _verdicts(answer.id, Setting())
    row = _actions([_button("Share with the channel", SHARE_ACTION, share)])
    return replace(made, below=(*made.below, rate, row), simple=(*made.simple, row))


def _pieces(answer: Answer, setting: Setting) -> list[str]:
    return split(tame(asked_before(setting.asked_before) + answer.text), TEXT_LIMIT) or ["…"]


def _message(piece: str, answer: Answer, setting: Setting) -> Message:
    """A piece of the answer with its sources, folded up where Slack can, and its footer."""
    sources, footer = _sources(answer.citations), _footer(answer, setting)
    listed = _context(sources)
    foot = _context(footer)
    return Message(
        "\n\n".join(text for text in (mrkdwn(piece), sources, footer) if text),
        piece,
        (*(_folded(block, len(answer.citations)) for block in listed), *foot),
        (*listed, *foot),
    )


def asked_before(hit: Hit | None) -> str:
    """Markdown that links the thread which answers the question already, '' without one."""
    if hit is None:
        return ""
    title = " ".join(hit.best.title.replace("[", "(").replace("]", ")").split())
    return f"**Asked before:** [{title}]({hit.best.url})\n\n"


# Parts of a message


def _context(text: str) -> tuple[Block, ...]:
    return ({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]},) if text else ()


def _folded(block: Block, count: int) -> Block:
    return {
        "type": "container",
        "title": {"type": "plain_text", "text": f"Sources ({count})"},
        "is_collapsible": True,
        "default_collapsed": True,
        "child_blocks": [block],
    }


def _sources(citations: Sequence[Citation]) -> str:
    """Numbered links, one a line; what does not fit is counted. '' without citations."""
    lines: list[str] = []
    room = _SOURCES_LIMIT
    for citation in citations:
        line = link(citation.url, f"{citation.n}. {citation.title}")
        room -= len(line) + 1
        if room < 0:
            lines.append(f"… and {len(citations) - len(lines)} more")
            break
        lines.append(line)
    return "\n".join(lines)


def _footer(answer: Answer, setting: Setting) -> str:
    """How sure, with what it was checked, how fresh, and what fell short."""
    sure = next(words for least, words in _SURE if answer.confidence >= least)
    version = answer.checked_with or setting.metaflow
    parts = [
        "no answer found" if answer.abstained else sure,
        _written_by(answer),
        f"Metaflow {version}" if version else "",
        f"index {_day(answer.generation)}",
        answer.notice,
    ]
    return " · ".join(escape(part) for part in parts if part)


def _written_by(answer: Answer) -> str:
    if answer.model != "none":
        return answer.model
    return "" if answer.abstained else "quoted from the docs, no model"


def _day(generation: str) -> str:
    """A generation's id begins with when it was built; the day of that, or the whole id."""
    return re.sub(r"^(\d{4})(\d\d)(\d\d)T.*", r"of \1-\2-\3", generation)


def _verdicts(answer_id: str, setting: Setting) -> Block:
    """Slack sends back the value of a button alone, so it says which verdict on which answer."""
    feedback = {
        "type": "feedback_buttons",
        "action_id": FEEDBACK_ACTION,
        "positive_button": _verdict("Good answer", f"up:{answer_id}"),
        "negative_button": _verdict("Bad answer", f"down:{answer_id}"),
    }
    if not setting.asker:
        return {"type": "context_actions", "elements": [feedback]}
    bin_icon = {
        "type": "icon_button",
        "icon": "trash",
        "text": {"type": "plain_text", "text": "Delete"},
        "action_id": DELETE_ACTION,
        "value": answer_id,
        "confirm": _confirm("Delete this answer?", "It goes for everybody in this thread."),
        "visible_to_user_ids": _viewers(setting),
    }
    return {"type": "context_actions", "elements": [feedback, bin_icon]}


def _verdict(text: str, value: str) -> Block:
    return {
        "text": {"type": "plain_text", "text": text},
        "value": value,
        "accessibility_label": text,
    }


def _further(answer: Answer, setting: Setting) -> list[Block]:
    """What the asker and maintainers may do; who presses is checked again when they do.

    Where no answer was found nothing is solved, and a human stands out.
    """
    everyone = _viewers(setting)
    solved = _button("Solved my problem", SOLVED_ACTION, answer.id, [setting.asker])
    human = _button("Need a human", HUMAN_ACTION, answer.id, everyone)
    resolve = _button("Mark resolved…", RESOLVE_ACTION, answer.id, everyone)
    return (
        [{**human, "style": "primary"}, resolve] if answer.abstained else [solved, human, resolve]
    )


def _viewers(setting: Setting) -> list[str]:
    people = dict.fromkeys((setting.asker, *setting.maintainers))
    return [person for person in people if person][:_MOST_VIEWERS]


def _actions(elements: list[Block]) -> Block:
    return {"type": "actions", "elements": elements}


def _button(text: str, action_id: str, value: str, viewers: Sequence[str] = ()) -> Block:
    button = {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "action_id": action_id,
        "value": value,
    }
    shown_to = [person for person in viewers if person]
    return {**button, "visible_to_user_ids": shown_to} if shown_to else button


def _confirm(title: str, text: str) -> Block:
    return {
        "title": {"type": "plain_text", "text": title},
        "text": {"type": "plain_text", "text": text},
        "confirm": {"type": "plain_text", "text": "Delete"},
        "deny": {"type": "plain_text", "text": "Keep"},
    }


# The steps of a streamed answer


def step_chunk(key: str, step: str, hits: Sequence[Hit] = (), status: str = "in_progress") -> Chunk:
    """One step on the way to an answer, as a chunk of a stream; `key` marks whose it is."""
    titles = {"searching": "Searching", "reading": "Reading", "checking": "Checking the citations"}
    chunk: Chunk = {
        "type": "task_update",
        "id": f"{key}#{step}"[-255:],
        "title": titles[step],
        "status": status,
    }
    links = [
        {"type": "url", "url": hit.best.url, "text": " ".join(hit.best.title.split())[:100]}
        for hit in hits
        if hit.best.url.startswith(("https://", "http://")) and hit.best.title.strip()
    ]
    return {**chunk, "sources": links[:_TASK_SOURCES]} if links else chunk
