"""An answer as Slack messages: pure, so that what people see is compared with golden files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metaflowbot.domain import Answer, Citation
from metaflowbot.slack.markdown import escape, link, mrkdwn, split, tame

FEEDBACK_ACTION = "metaflowbot_feedback"
HOW_TO_ASK = (
    "Ask me anything about Metaflow in the same message, for example: "
    "“How do I retry a step that fails?” I answer in the thread, with links to the sources."
)

# Slack refuses a message whose blocks hold more than about 13,200 characters in all.
_TEXT_LIMIT = 10_000
_SOURCES_LIMIT = 2_400

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `text` is complete by itself (mrkdwn), for where `blocks` are not shown."""

    text: str
    blocks: tuple[Block, ...] = ()


def line_message(line: str) -> Message:
    """One plain line of ours."""
    return Message(escape(line))


def answer_messages(answer: Answer) -> tuple[Message, ...]:
    """The answer in as few messages as Slack allows; the last one carries sources and buttons."""
    pieces = split(tame(answer.text), _TEXT_LIMIT) or ["…"]
    last = len(pieces) - 1
    return tuple(_message(piece, answer if n == last else None) for n, piece in enumerate(pieces))


def _message(piece: str, ending: Answer | None) -> Message:
    body: Block = {"type": "markdown", "text": piece}
    if ending is None:
        return Message(mrkdwn(piece), (body,))
    lines = [text for text in (_sources(ending.citations), _footer(ending)) if text]
    return Message(
        "\n\n".join([mrkdwn(piece), *lines]),
        (body, *map(_context, lines), _feedback_buttons(ending.id)),
    )


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


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


def _footer(answer: Answer) -> str:
    said = "quoted from the docs, no model" if answer.model == "none" else answer.model
    parts = [said, f"index {answer.generation}", answer.notice]
    return " · ".join(escape(part) for part in parts if part)


def _feedback_buttons(answer_id: str) -> Block:
    """Slack sends back the value of the button alone, so it says which verdict on which answer."""
    return {
        "type": "context_actions",
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": FEEDBACK_ACTION,
                "positive_button": _button("Good answer", f"up:{answer_id}"),
                "negative_button": _button("Bad answer", f"down:{answer_id}"),
            }
        ],
    }


def _button(text: str, value: str) -> Block:
    return {
        "text": {"type": "plain_text", "text": text},
        "value": value,
        "accessibility_label": text,
    }
