"""Between Markdown and Slack: nothing we send can ping anybody, and nothing is cut inside code.

Slack's text -> question_text -> a plain question
an answer's Markdown -> tame -> split -> `markdown` blocks
                                      -> mrkdwn -> the fallback text
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

_JOINER = "\u2060"  # word joiner: breaks what Slack would parse, and shows as nothing
_PING = re.compile(r"<(?=[!@#])|@(?=(?:here|channel|everyone)\b)", re.IGNORECASE)
_CODE_OR_LINK = r"""
    ^[ \t]*(?P<fence>`{3,}|~{3,}).*?(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)
    | (?<!`)(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)
    | \]\([^)\s]*\)
    | <[a-z]+:[^>\s]*>
"""
_URL = r"https?://[^\s<>()\[\]`]*[^\s<>()\[\]`.,;:!?'\"*](?![^\s<>()\[\]`]*\])"
_DUNDER = re.compile(
    rf"(?P<kept>{_CODE_OR_LINK})|(?P<url>{_URL})"
    r"|(?P<name>[\w.]*__[A-Za-z]\w*__[\w.]*\b(?:\(\))?)",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_ENTITY = re.compile(r"<(?P<sigil>[@#!]?)(?P<target>[^|>]*)(?:\|(?P<label>[^>]*))?>")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_QUOTE = re.compile(r"^ {0,3}> ?", re.MULTILINE)
_QUOTED_FENCE = re.compile(
    r"^ {0,3}> ?(?P<fence>`{3,}|~{3,})[^\n]*\n"
    r"(?: {0,3}>(?! ?(?P=fence)[`~]*[ \t]*$)[^\n]*\n)*(?: {0,3}> ?(?P=fence)[`~]*[ \t]*$|\Z)",
    re.MULTILINE,
)
# A table's first row, and the line that makes it a table.
_TABLE = re.compile(r"[^\n]*\|[^\n]*\n[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t:-]*)+\n")
_COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def question_text(text: str, bot_user_id: str) -> str:
    """What a person wrote, as plain text: our mention taken out, Slack's entities resolved once."""
    ours = re.compile(rf"[ \t]*<@{re.escape(bot_user_id)}(\|[^>]*)?>[ \t]*")
    return unescape(_ENTITY.sub(_entity, ours.sub(" ", text))).strip()


def _entity(match: re.Match[str]) -> str:
    sigil, target, label = match["sigil"], match["target"], match["label"]
    if sigil in ("@", "#"):
        return sigil + (label or target).lstrip(sigil)
    if sigil == "!":
        return label or "@" + target.partition("^")[0]
    target = target.removeprefix("mailto:")
    return f"{label} ({target})" if label and label not in target else target


def unescape(text: str) -> str:
    """Undo Slack's three entities, once: `&amp;lt;` stays the text `&lt;`."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def escape(text: str) -> str:
    """Text as mrkdwn that shows as it is and pings nobody."""
    return defang(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def defang(text: str) -> str:
    """Break whatever Slack could read as a mention: `<!channel>`, `<@U1>`, `<#C1>`, `@here`."""
    return _PING.sub(lambda match: match[0] + _JOINER, text)


def tame(markdown: str) -> str:
    """Markdown that pings nobody and in which `__init__` is a name, not a bold 'init'.

    A bare address with underscores in it is put between angle brackets, for the same reason; and
    fences come out of quotes, in which Slack has no code blocks.
    """
    return defang(_DUNDER.sub(_as_it_is, _without_quoted_fences(markdown)))


def _without_quoted_fences(markdown: str) -> str:
    return _QUOTED_FENCE.sub(lambda found: "\n" + _QUOTE.sub("", found[0]), markdown)


def _as_it_is(match: re.Match[str]) -> str:
    if url := match["url"]:
        return f"<{url}>" if "_" in url else url
    return match["kept"] or f"`{match['name']}`"


def link(url: str, label: str) -> str:
    """A mrkdwn link; the label alone when the URL is not one to click."""
    label = " ".join(label.split())
    if not url.startswith(("https://", "http://", "mailto:")):
        return escape(label)
    target = "".join(f"%{ord(c):02X}" if c in "<>| " else c for c in url).replace("&", "&amp;")
    return f"<{target}|{escape(label)}>"


def split(markdown: str, limit: int) -> list[str]:
    """Pieces of at most `limit` characters, cut between paragraphs and never inside a fence.

    A fence longer than the limit is closed and opened again. Empty text gives no piece.
    """
    pieces: list[str] = []
    for block in _blocks(markdown):
        for part in _fit(block, limit):
            if pieces and len(pieces[-1]) + 2 + len(part) <= limit:
                pieces[-1] += "\n\n" + part
            else:
                pieces.append(part)
    return pieces


def _blocks(markdown: str) -> list[str]:
    """Fences, each whole, and the runs of lines between blank lines and fences."""
    blocks: list[list[str]] = [[]]
    fence = ""
    for line in markdown.split("\n"):
        opening = _FENCE.match(line)
        if fence:
            blocks[-1].append(line)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
                blocks.append([])
        elif opening:
            fence = opening[1]
            blocks.append([line])
        elif line.strip():
            blocks[-1].append(line)
        else:
            blocks.append([])
    return ["\n".join(block) for block in blocks if block]


def _fit(block: str, limit: int) -> list[str]:
    if len(block) <= limit:
        return [block]
    # What each piece would repeat must leave room for the rest.
    head = _TABLE.match(block)
    if head and len(head[0]) <= limit // 2:
        return [head[0] + part for part in _cut(block[head.end() :], limit - len(head[0]))]
    opening = _FENCE.match(block)
    first, _, body = block.partition("\n")
    room = limit - len(first) - len(opening[0]) - 2 if opening else 0
    if not opening or room < limit // 2:
        return _cut(block, limit)
    body = body.rstrip().removesuffix(opening[1]).rstrip()
    return [f"{first}\n{part}\n{opening[0]}" for part in _cut(body, room)]


def _cut(text: str, limit: int) -> list[str]:
    """Cut at the last line end within the limit, else at the last space, else anywhere."""
    pieces = []
    while len(text) > limit:
        at = max(text.rfind("\n", 1, limit + 1), 0) or max(text.rfind(" ", 1, limit + 1), 0)
        pieces.append(text[: at or limit])
        text = text[at + 1 if at else limit :]
    return [*pieces, text]


def mrkdwn(markdown: str) -> str:
    """Markdown in Slack's older markup, for notifications and where blocks are refused."""
    tree = SyntaxTreeNode(_COMMONMARK.parse(markdown))
    return "\n\n".join(_block(node) for node in tree.children)


def _block(node: SyntaxTreeNode) -> str:
    return _RENDERERS.get(node.type, _inline)(node)


def _heading(node: SyntaxTreeNode) -> str:
    return f"*{_inline(node).replace('*', '')}*"


def _quote(node: SyntaxTreeNode) -> str:
    return "\n".join(f"> {line}" for line in _join(node).split("\n"))


def _join(node: SyntaxTreeNode) -> str:
    return "\n".join(_block(child) for child in node.children)


def _code(text: str) -> str:
    body = escape(text.rstrip("\n")).replace("```", f"``{_JOINER}`")
    return f"```\n{body}\n```"


def _list(node: SyntaxTreeNode) -> str:
    start = int(node.attrs.get("start", 1))
    lines = []
    for n, item in enumerate(node.children, start):
        mark = "•" if node.type == "bullet_list" else f"{n}."
        lines.append(f"{mark} {_join(item)}".replace("\n", "\n    "))
    return "\n".join(lines)


def _table(node: SyntaxTreeNode) -> str:
    """Columns lined up in a code block: mrkdwn has no tables."""
    rows = [
        [_plain(cell) for cell in row.children] for part in node.children for row in part.children
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return _code("\n".join(lines))


def _plain(node: SyntaxTreeNode) -> str:
    return "".join(leaf.content for leaf in node.walk() if leaf.type in ("text", "code_inline"))


def _inline(node: SyntaxTreeNode) -> str:
    return "".join(_span(child) for child in node.children)


def _span(node: SyntaxTreeNode) -> str:
    if node.type in _MARKS:
        return _MARKS[node.type] + _inline(node) + _MARKS[node.type]
    return _RENDERERS.get(node.type, _inline)(node)


_MARKS = {"strong": "*", "em": "_", "s": "~"}
_RENDERERS: Mapping[str, Callable[[SyntaxTreeNode], str]] = {
    "heading": _heading,
    "fence": lambda node: _code(node.content),
    "code_block": lambda node: _code(node.content),
    "blockquote": _quote,
    "bullet_list": _list,
    "ordered_list": _list,
    "table": _table,
    "hr": lambda _: "———",
    "html_block": lambda node: escape(node.content.rstrip()),
    "text": lambda node: escape(node.content),
    "html_inline": lambda node: escape(node.content),
    "code_inline": lambda node: f"`{escape(node.content)}`",
    "softbreak": lambda _: "\n",
    "hardbreak": lambda _: "\n",
    "link": lambda node: link(str(node.attrs.get("href", "")), _plain(node)),
    "image": lambda node: link(str(node.attrs.get("src", "")), node.content),
}
