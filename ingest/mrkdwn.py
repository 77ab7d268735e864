"""Slack's markup -> Markdown.

Mentions become what `person` calls their id; code keeps every character; entities are unescaped
once, after the tokens in angle brackets were read, as Slack escapes only what people typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Person = Callable[[str], str]
"""A user's id -> how the text calls them."""

_FENCE = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)
_CODE = re.compile(r"(`[^`\n]+`)")
_TOKEN = re.compile(r"<([^<>\n]+)>")
_STASHED = re.compile("\0(\\d+)\0")
_BOLD = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]*?[^\s*])\*(?![\w*])")
_STRIKE = re.compile(r"(?<![\w~])~(?=[^\s~])([^~\n]*?[^\s~])~(?![\w~])")
_EMOJI = re.compile(r"(?<!\S):(?=[a-z0-9_+-]*[a-z+-])[a-z0-9_+-]+:(?::skin-tone-\d:)?(?!\w)")


def to_markdown(text: str, person: Person) -> str:
    """One message's text as Markdown; '' gives ''. Emoji, which say little alone, are left out."""
    pieces = enumerate(_FENCE.split(text.replace("\0", "")))
    parts = (_fence(part, person) if n % 2 else _tidy(_prose(part, person)) for n, part in pieces)
    return "\n\n".join(part for part in parts if part)


def _tidy(prose: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)[ \t]+$", "", prose)).strip()


def _fence(part: str, person: Person) -> str:
    code = _plain(part.removeprefix("```").removesuffix("```"), person).strip("\n")
    return f"```\n{code}\n```" if code.strip() else ""


def _prose(part: str, person: Person) -> str:
    pieces = _CODE.split(part)
    return "".join(
        _plain(piece, person) if place % 2 else _formatted(piece, person)
        for place, piece in enumerate(pieces)
    )


def _formatted(piece: str, person: Person) -> str:
    """Tokens are set aside while emphasis is rewritten, so that no address is taken for it."""
    stash: list[str] = []

    def put_away(match: re.Match[str]) -> str:
        stash.append(_token(match[1], person, linked=True))
        return f"\0{len(stash) - 1}\0"

    piece = _TOKEN.sub(put_away, piece)
    piece = _STRIKE.sub(r"~~\1~~", _BOLD.sub(r"**\1**", _EMOJI.sub("", piece)))
    return _STASHED.sub(lambda match: stash[int(match[1])], _unescape(piece))


def _plain(piece: str, person: Person) -> str:
    """Inside code a link is its address and nothing is formatted."""
    ends: list[str] = []
    last = 0
    for match in _TOKEN.finditer(piece):
        ends += [_unescape(piece[last : match.start()]), _token(match[1], person, linked=False)]
        last = match.end()
    return "".join([*ends, _unescape(piece[last:])])


def _token(token: str, person: Person, *, linked: bool) -> str:
    target, _, label = token.partition("|")
    label = _unescape(label)
    if target.startswith("@"):
        return person(target[1:])
    if target.startswith("#"):
        return f"#{label}" if label else "another channel"
    if target.startswith("!"):
        return _special(target[1:], label)
    if target.startswith(("mailto:", "tel:")):
        return label or target.partition(":")[2]
    return _link(_unescape(target), label, linked=linked)


def _link(target: str, label: str, *, linked: bool) -> str:
    if not re.match(r"[a-z][\w+.-]*://", target):
        return f"<{target}|{label}>" if label else f"<{target}>"
    return f"[{label}]({target})" if linked and label not in ("", target) else target


def _special(target: str, label: str) -> str:
    if target.startswith("subteam"):
        return "a group"
    if target.startswith("date^"):
        return label or target.split("^")[2]
    return label or "everybody"


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
