"""What never reaches a reader, whatever a model says: the last filter, on text and code alike.

It is deterministic and knows nothing of the question. Links are the business of `citations`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

_IMAGE = re.compile(r"!\[[^\]\n]*\](?:\([^)\n]*\)|\[[^\]\n]*\])")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style|iframe)\b.*?(?:</\1\s*>|\Z)", re.S | re.I)
_TAG = re.compile(r"</?[A-Za-z](?![\w+.-]*://)[^<>\n]*>")
# Slack's own forms of a mention, whole and begun, and the words that call everybody.
_MENTION = re.compile(r"<[!@#][^<>\n]*>|<[!@#]+(?=\w)")
_EVERYBODY = re.compile(
    r"(?<![A-Za-z0-9.])@(?=[ *_~\\`]*(?:here|channel|everyone|group)(?![A-Za-z0-9]))", re.I
)
_STRUCK = re.compile(r"~~+")
# What shows as nothing, or turns the direction of what follows; U+200D joins emoji and stays.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
# Other shapes of the characters that mean something to Slack, and of Latin letters and digits.
_OTHER_SHAPE = re.compile(
    "[\uff10-\uff19\uff1c\uff1e\uff20-\uff3a\uff41-\uff5a\ufe6b\U0001d400-\U0001d7ff]"
)
_SECRET = re.compile(
    r"\b(?:xox[a-z]-|xapp-|sk-(?:proj-|ant-)?|gh[opsu]_|github_pat_|glpat-)[\w-]{8,}"
    r"|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_SHOWN_SECRET = "[secret]"
_WORD = re.compile(r"\w+")
# So many of the prompt's words in a row are no accident.
_ECHO = 8
# Addresses of data are people's own, all others have to be a source's.
ADDRESS = re.compile(
    r"(?:\b(?!(?:s3n?|gs|abfss?|wasbs?|file)://)[a-z][a-z0-9+.-]*://|www\.)[^\s<>\"'`)\]]+", re.I
)
# A host without a scheme, where a command goes there.
_GOES = re.compile(r"\b(?:curl|wget|ssh|scp|nc|git clone)\b[^\n]*")
_HOST = re.compile(
    r"(?<=\s)(?:[\w-]+@(?:[\w-]+\.)+[a-z]{2,}|(?:[\w-]+\.)+[a-z]{2,}[/:])[^\s|;&\"'`)]*"
)
_HERE = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)\b", re.I)


def seen(text: str) -> str:
    """The text as a reader sees it: no invisible characters, and letters in their usual shape.

    Character by character, so that a text in pieces comes out as the whole would.
    """
    text = _INVISIBLE.sub("", text)
    return _OTHER_SHAPE.sub(lambda shape: unicodedata.normalize("NFKC", shape[0]), text)


def defanged(text: str) -> str:
    """The text without images, HTML, mentions and secrets; code keeps its angle brackets.

    Nor is anything struck out: that would say the opposite.
    """
    text = _SECRET.sub(_SHOWN_SECRET, _EVERYBODY.sub("", _unmentioned(text)))
    text = _IMAGE.sub("", _COMMENT.sub("", text))
    return _outside_code(text, lambda part: _STRUCK.sub("", _TAG.sub("", part)))


def defanged_code(code: str, addresses: Iterable[str]) -> str:
    """A fence without mentions, secrets, and addresses that no source has."""
    known = tuple(addresses)

    def shown(match: re.Match[str]) -> str:
        address = match[0].rstrip("/.,;:")
        return match[0] if address in known or _HERE.match(address) else "…"

    code = _SECRET.sub(_SHOWN_SECRET, _EVERYBODY.sub("", _unmentioned(code)))
    code = ADDRESS.sub(shown, code)
    return _GOES.sub(lambda command: _HOST.sub(shown, command[0]), code)


def _unmentioned(text: str) -> str:
    """The text without mentions, nor those that are left when others are taken out."""
    while (without := _MENTION.sub("", text)) != text:
        text = without
    return text


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


def _outside_code(text: str, clean: Callable[[str], str]) -> str:
    """The text with what is outside of inline code cleaned."""
    parts = re.split(r"(`+[^`\n]*`+)", text)
    return "".join(part if place % 2 else clean(part) for place, part in enumerate(parts))
