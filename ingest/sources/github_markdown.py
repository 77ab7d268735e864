"""GitHub's Markdown -> what its writer said, in Markdown.

Left out are images, HTML, what an issue's template or a mail program wrote, and quotes of what
stands earlier in the same thread. Code keeps every character.

A person who is mentioned becomes `<@id>`, the form that threads have, so that whoever writes the
document can put a role in its place.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterator

# What a bare `@name` in prose means rather than a person, beside Metaflow's own decorators.
_PYTHONS = frozenset(
    "property staticmethod classmethod dataclass pytest wraps contextmanager abstractmethod "
    "overload cache lru_cache cached_property singledispatch override fixture".split()
)
_CODE_OR_COMMENT = re.compile(
    r"^[ \t]*(?P<mark>`{3,}|~{3,})[^`\n]*\n(?P<code>.*?)(?:^[ \t]*(?P=mark)[`~]*[ \t]*$|\Z)"
    r"|(?P<comment><!--.*?(?:-->|\Z))"
    r"|(?<!`)(?P<ticks>`{1,3})(?!`)[^`\n]+(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
_STASHED = re.compile("\0(\\d+)\0")

_MAILED = re.compile(
    r"^(?:On\b[^\n]{5,200}(?:\n[^\n]{0,200})?\bwrote:|Am [^\n]{5,200} schrieb[^\n]{0,200}:"
    r"|Le [^\n]{5,200} a écrit ?:)[ \t]*$",
    re.MULTILINE,
)
# From here to the end a mail program wrote.
_MAIL_END = re.compile(
    r"^(?:-- $|_{20,}[ \t]*$|-{3,} ?Original Message ?-{3,}|Sent from my \w+|Get Outlook for \w+"
    r"|(?:—|-{2,3})[ \t]*\nReply to this email|Reply to this email directly"
    r"|You are receiving this (?:because|email)"
    r"|\*{0,2}From:\*{0,2} [^\n]+\n+\*{0,2}(?:Sent|Date|To|Reply-To|Subject):)",
    re.MULTILINE,
)
_QUOTE = re.compile(r"(?:^[ \t]*>[^\n]*(?:\n|\Z))+", re.MULTILINE)

# Lengths are bounded: what is opened a thousand times and never closed takes no time either.
_IMAGE = re.compile(
    r"!\[[^\]]{0,300}\](?:\([^()\n]{0,500}(?:\([^()\n]{0,200}\)[^()\n]{0,500})?\)|\[[^\]]{0,100}\])"
)
_EMPTY_LINK = re.compile(r"\[\s{0,9}\]\([^)\n]{0,500}\)")
_ATTACHMENT = re.compile(
    r"https://(?:github\.com/(?:user-attachments/assets|[\w.-]+/[\w.-]+/assets)/[\w/-]+"
    r"|user-images\.githubusercontent\.com/\S+)"
)
_ANCHOR = re.compile(
    r"<a\b[^>]{0,300}?\bhref=[\"']([^\"'>]{1,500})[\"'][^>]{0,300}>(.{0,500}?)</a>",
    re.DOTALL | re.IGNORECASE,
)
_BLOCK_TAG = re.compile(
    r"</?(?:details|summary|p|div|ul|ol|table|thead|tbody|tr|h[1-6]|blockquote|center|section"
    r"|picture|br|hr)\b[^>]{0,500}>",
    re.IGNORECASE,
)
_INLINE_TAG = re.compile(
    r"</?(?:a|b|i|em|strong|sub|sup|kbd|img|source|video|span|u|s|del|ins|small|font|li|td|th"
    r"|samp|var|q|mark)\b[^>]{0,999}>",
    re.IGNORECASE,
)
_CODE_TAG = re.compile(r"<code>([^<\n]+)</code>", re.IGNORECASE)
_PRE_TAG = re.compile(
    r"<pre\b[^>]{0,200}>\s*(?:<code\b[^>]{0,200}>)?(.*?)(?:(?:</code>\s*)?</pre>|\Z)",
    re.DOTALL | re.IGNORECASE,
)

_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(?P<marked>.*?)[ \t]*#*$|^\*\*(?P<bold>[^*\n]+)\*\*:?$")
# The headings that issue templates and forms have, as whole lines.
_TEMPLATE = re.compile(
    r"(?i)\W*(?:(?:please )?(?:describe|explain) .{0,80}|(?:steps )?(?:to )?reproduc\w*(?: steps)?"
    r"|(?:how|steps|code|minimal example|minimal reproducible example) to reproduce.{0,40}"
    r"|(?:what (?:is|was) (?:the|your) )?(?:expected|actual|current|observed|desired|correct)"
    r" (?:behaviou?r|results?|output|outcome)s?"
    r"|what (?:happened|did you expect(?: to happen)?|you expected|went wrong|have you tried"
    r"|did you do|actually happened)"
    r"|(?:possible |proposed |suggested |preferred )?(?:solution|fix|workaround)s?"
    r"|(?:bug|feature|issue) (?:description|report|request|summary)|description|summary|context"
    r"|background|motivation|problem(?: statement)?|screenshots?(?: .{0,30})?|logs?"
    r"|(?:relevant )?(?:log|logs|error|console) (?:output|messages?|logs?)"
    r"|additional (?:context|information|info|notes|details).{0,40}|anything else.{0,40}"
    r"|(?:your |system |runtime )?(?:environment|setup|versions?|info(?:rmation)?)(?: details)?"
    r"|(?:metaflow|python|os|package|operating system) versions?.{0,30}|operating system|os"
    r"|is your feature request related to .{0,60}|is there an existing issue.{0,40}"
    r"|(?:before submitting|prerequisites|checklist|check list|code of conduct).{0,60}"
    r"|alternatives.{0,60}|desktop.{0,40}|smartphone.{0,40})\W*"
)
_EMPTY_ANSWER = re.compile(r"(?i)[\s_*]*(?:no response|n/?a|none|nil|tbd|nothing|-+)?[\s_*.]*")
# Lines with which a template tells its reader what to write.
_INSTRUCTION = re.compile(
    r"(?im)^[ \t]*(?:a clear and concise description of .*|add any other context .*"
    r"|if applicable, add .*|steps to reproduce the behaviou?r:?|e\.g\. \[.*"
    r"|(?:[-*] )?\[[ x]\] (?:I\b|I'?ve|this is not|please|by submitting).*"
    r"|(?:\d\.|-) (?:go to '\.\.\.'|click on '\.\.\.+'|scroll down to '\.\.\.+'|see error))$\n?"
)
_MENTION = re.compile(
    r"(?<![\w/@.&+-])@(?P<name>[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})(?:/[\w.-]*\w)?(?![\w(@-]|\.\w)"
)
_DECORATES = re.compile(r"[^\n]*\n[ \t]*(?:@|def |class |async def )")


def cleaned(body: str, earlier: str, decorators: Collection[str]) -> str:
    """One message as its writer said it; '' where nothing is left.

    `earlier` is what was said before in the thread, as it was sent. `decorators` are the names
    that with an @ before them are no person.
    """
    text, stash = _set_aside(body.replace("\r\n", "\n").replace("\0", ""))
    text = _without_mail(text)
    known = _letters(earlier) if ">" in text else ""
    text = _QUOTE.sub(lambda match: _quote(_restored(match[0], stash), match[0], known), text)
    text = _without_html(text, stash)
    text = "\n".join(_without_template(text))
    text = _mentions(text, frozenset(decorators) | _PYTHONS)
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)[ \t]+$", "", text)).strip()
    return _restored(text, stash)


def person(login: str) -> str:
    """The id of a login in `<@id>`: the same for any case, of letters, digits and _ alone."""
    return re.sub(r"\W", "_", login.lower())


def with_people(text: str, called: Callable[[str], str]) -> str:
    """Cleaned text in which every `<@id>` is what `called` says of the id."""
    return re.sub(r"<@(\w+)>", lambda match: called(match[1]), text)


def _set_aside(text: str) -> tuple[str, list[str]]:
    """The text with a number for each piece of code, and the pieces; HTML comments are gone."""
    stash: list[str] = []

    def put_away(match: re.Match[str]) -> str:
        if match["comment"]:
            return ""
        tilde = (match["mark"] or "").startswith("~") and "```" not in match["code"]
        stash.append(match[0].replace(match["mark"], "```") if tilde else match[0])
        return f"\0{len(stash) - 1}\0"

    return _CODE_OR_COMMENT.sub(put_away, text), stash


def _restored(text: str, stash: list[str]) -> str:
    return _STASHED.sub(lambda match: stash[int(match[1])], text)


def _without_mail(text: str) -> str:
    """Without the quote below "On … wrote:", and without what stands below a mail's own text."""
    end = _MAIL_END.search(text)
    text = text[: end.start()] if end else text
    while wrote := _MAILED.search(text):
        quote = _QUOTE.match(text[wrote.end() :].lstrip("\n"))
        rest = text[wrote.end() :].lstrip("\n")
        text = text[: wrote.start()] + (rest[quote.end() :] if quote else rest)
    return text


def _quote(read: str, as_is: str, known: str) -> str:
    """A quote stays unless it repeats what was said before."""
    letters = _letters(re.sub(r"(?m)^[ \t]*>+", "", read))
    return "" if not letters or letters in known else as_is


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def _without_html(text: str, stash: list[str]) -> str:
    def fence(match: re.Match[str]) -> str:
        code = html.unescape(_restored(match[1], stash)).strip("\n")
        stash.append(f"```\n{code}\n```")
        return f"\n\0{len(stash) - 1}\0\n"

    text = _PRE_TAG.sub(fence, text)
    text = _CODE_TAG.sub(r"`\1`", text)
    text = _EMPTY_LINK.sub("", _ATTACHMENT.sub("", _IMAGE.sub("", text)))
    text = _ANCHOR.sub(r"[\2](\1)", text)
    text = _EMPTY_LINK.sub("", _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", text)))
    return html.unescape(text)


def _without_template(text: str) -> Iterator[str]:
    """The lines without a template's own; a heading of the writer's own becomes a label."""
    heading, below = "", list[str]()
    for line in [*_INSTRUCTION.sub("", text).split("\n"), "# "]:
        match = _HEADING.match(line)
        if match is None:
            below.append(line)
            continue
        yield from _part(heading, below)
        heading, below = match["marked"] or match["bold"] or "", []


def _part(heading: str, below: list[str]) -> Iterator[str]:
    if not heading:
        yield from below
    elif not _TEMPLATE.fullmatch(heading):
        yield from ("", f"**{heading.strip('* ')}**", "", *below)
    elif not _EMPTY_ANSWER.fullmatch("\n".join(below)):
        yield from ("", *below)


def _mentions(text: str, decorators: Collection[str]) -> str:
    def mention(match: re.Match[str]) -> str:
        starts_line = not text[: match.start()].rpartition("\n")[2].strip()
        decorates = starts_line and _DECORATES.match(text, match.end())
        known = match["name"] in decorators
        return match[0] if known or decorates else f"<@{person(match['name'])}>"

    return _MENTION.sub(mention, text)
