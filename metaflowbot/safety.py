"""What never reaches a reader, whatever a model says: the last filter, on text and code alike.

It is deterministic and knows nothing of the question. Links are the business of `citations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_IMAGE = re.compile(r"!\[[^\]\n]*\](?:\([^)\n]*\)|\[[^\]\n]*\])")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style|iframe)\b.*?(?:</\1\s*>|\Z)", re.S | re.I)
_TAG = re.compile(r"</?[A-Za-z](?![\w+.-]*://)[^<>\n]*>")
# Slack's own forms of a mention, and the words that call everybody.
_MENTION = re.compile(r"<(?:[!@#][^<>\n]*)>|<!(?:channel|here|everyone)\b")
_EVERYBODY = re.compile(r"(?<![\w.])@(?=(?:here|channel|everyone|group)\b)", re.I)
_SECRET = re.compile(
    r"\b(?:xox[a-z]-|xapp-|sk-(?:proj-|ant-)?|gh[opsu]_|github_pat_|glpat-)[\w-]{8,}"
    r"|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_SHOWN_SECRET = "[secret]"
_WORD = re.compile(r"\w+")
# So many of the prompt's words in a row are no accident.
_ECHO = 8
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'`)\]]+", re.I)
_HERE = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)\b", re.I)


def defanged(text: str) -> str:
    """The text without images, HTML, mentions and secrets; code keeps its angle brackets."""
    text = _SECRET.sub(_SHOWN_SECRET, _EVERYBODY.sub("", _MENTION.sub("", text)))
    return _untagged(_IMAGE.sub("", _COMMENT.sub("", text)))


def defanged_code(code: str, addresses: Iterable[str]) -> str:
    """A fence without mentions, secrets, and addresses that no source has."""
    known = tuple(addresses)

    def shown(match: re.Match[str]) -> str:
        address = match[0].rstrip("/.,;:")
        return match[0] if address in known or _HERE.match(address) else "…"

    code = _SECRET.sub(_SHOWN_SECRET, _EVERYBODY.sub("", _MENTION.sub("", code)))
    return _URL.sub(shown, code)


class Echo:
    """Finds the system prompt's own words in what a model says."""

    def __init__(self, prompt: str) -> None:
        self._known = set(_rows(prompt))

    def __contains__(self, text: str) -> bool:
        return any(row in self._known for row in _rows(text))


def _rows(text: str) -> Iterable[tuple[str, ...]]:
    """Every _ECHO words in a row."""
    words = [word.lower() for word in _WORD.findall(text)]
    return zip(*(words[start:] for start in range(_ECHO)), strict=False)


def _untagged(text: str) -> str:
    """The text without HTML tags outside of inline code."""
    parts = re.split(r"(`+[^`\n]*`+)", text)
    return "".join(part if place % 2 else _TAG.sub("", part) for place, part in enumerate(parts))
