"""MDC (the Markdown with components of Nuxt Content) -> Markdown, with what a reader sees.

A block component is `::name{title="…"}`, its properties as YAML between `---` lines, its text with
`#slot` lines in it, and `::`; nested ones have more colons. An inline one is
`:name[text]{to="/page"}`. `{rel="…"}` after a link, an image or emphasis holds attributes of it.
"""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

from ingest.sections import fenced

# Bounded, so that no text takes more than linear time: what is longer is not an attribute.
_QUOTED = r"""(?:"[^"\n]{0,2000}"|'[^'\n]{0,2000}')"""
_PAIR = rf"""[.#:]?[\w:.#-]{{1,100}}+(?:=(?:{_QUOTED}|[^\s"'{{}}]{{1,2000}}+))?"""
_PAIRS = rf"\s*{_PAIR}(?:\s+{_PAIR}){{0,30}}\s*"
_ANYTHING = rf"""(?:{_QUOTED}|[^"'}}]){{0,500}}"""
_INNER = r"(?:[^\[\]]|\[[^\[\]]*\]){0,500}"
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n((?:.*?\n)?)---[ \t]*(?:\n|\Z)", re.DOTALL)
_OPENING = re.compile(
    rf"(?P<indent>\s*):{{2,}}(?P<name>[A-Za-z][\w.-]*)(?:\[(?P<label>[^\]]*)\])?"
    rf"\s*(?:\{{(?P<attributes>{_ANYTHING})\}})?\s*"
)
_UNFINISHED = re.compile(rf"\s*:{{2,}}[A-Za-z][\w.-]*\{{{_ANYTHING}")
_CLOSING = re.compile(r"\s*:{2,}\s*")
_SLOT = re.compile(r"\s*#[A-Za-z][\w:.-]*(?:\{[^}]*\})?\s*")
_BARE_INLINE = re.compile(r"\s*:[a-z][\w-]*\s*")
_FENCE_WITH_EXTRAS = re.compile(
    r"(?P<mark>\s*`{3,}\s*[A-Za-z][\w+#.-]*)(?:\s*\[(?P<name>[^\]]*)\])?.*"
)
_ATTRIBUTE = re.compile(r"""(:?[\w-]+)=(?:"([^"]*)"|'([^']*)'|([^\s"'{}]+))""")
_INLINE = re.compile(
    rf"""(?P<code>(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)*?(?<!`)(?P=ticks)(?!`))
    |(?<![\w:/])(?P<component>:(?P<name>[a-z][\w-]*)
        (?:\[(?P<text>{_INNER})\](?:\{{(?P<named>{_ANYTHING})\}})?
          |\{{(?P<only>{_ANYTHING})\}}))
    |\[(?P<span>[^\[\]]+)\](?=\{{{_PAIRS}\}})
    |(?P<tail>(?<=[)\]*_`"])\{{{_PAIRS}\}})
    |(?P<binding>\{{\{{[^{{}}]*\}}\}})
    |(?P<entity>&\#(?:[xX][0-9a-fA-F]+|[0-9]+);)
    |\\(?P<escaped>[_*])""",
    re.DOTALL | re.VERBOSE,
)
_DEFAULT = re.compile(r"""\|\|\s*["']([^"']*)["']""")
_NOTES = frozenset(
    "alert callout caution danger error important info note success tip warning".split()
)
_TITLES = ("title", "label", "headline")
_TARGETS = ("to", "titleTo", "href", "link")
_TEXTS = ("description", "content", "text", "summary", "caption")
_NOTHING = frozenset(("", "null", "~"))
# Lists inside the items of a list; deeper ones are configuration.
_DEEPEST = 1
# Longer properties are not looked for.
_MOST_LINES = 300

Properties = Mapping[str, object]
"""What YAML holds, all scalars as strings: str, list and dict values."""


def front_matter(text: str) -> tuple[Properties, str]:
    """A page's YAML front matter and the text after it; no properties where there is none."""
    match = _FRONT_MATTER.match(text)
    return (_yaml(match[1]), text[match.end() :]) if match else ({}, text)


def to_markdown(text: str) -> str:
    """MDC -> Markdown: components as the text they show, no attributes, slots or entity codes.

    Code keeps its text. Links stay as written; HTML and `&lt;`, `&amp;` are left for the Markdown
    reader.
    """
    done: list[str] = []
    prose: list[str] = []
    for line, in_code in fenced(_without_blocks(text)):
        if in_code:
            done += _inline(prose)
            prose.clear()
            done.append(line)
        else:
            prose.append(line)
    return "\n".join([*done, *_inline(prose)])


def shown(value: object) -> str:
    """A property's text on one line; '' for nothing, and for what is not text."""
    parts = value if isinstance(value, list) else [value]
    text = " ".join(" ".join(part.split()) for part in parts if isinstance(part, str))
    return "" if text in _NOTHING else text


def _without_blocks(text: str) -> Iterator[str]:
    """The lines without block components; their properties' text takes their place."""
    lines = deque(fenced(text.split("\n")))
    indents: list[str] = []
    while lines:
        line, in_code = lines.popleft()
        line = line.removeprefix(indents[-1]) if indents else line
        if in_code:
            yield from _fence_line(line)
        elif opening := _opening(line, lines):
            indents.append((indents[-1] if indents else "") + opening["indent"])
            properties = {**_attributes(opening["attributes"] or ""), **_yaml_block(lines)}
            yield from _block(opening["name"], {"title": opening["label"] or "", **properties})
        elif _CLOSING.fullmatch(line):
            indents[-1:] = []
            yield ""
        elif _BARE_INLINE.fullmatch(line) or (indents and _SLOT.fullmatch(line)):
            yield ""
        else:
            yield line


def _opening(line: str, lines: deque[tuple[str, bool]]) -> re.Match[str] | None:
    """The line that opens a component; attributes on several lines are read to their end."""
    if _UNFINISHED.fullmatch(line):
        rest = "\n".join(later for later, _ in islice(lines, _MOST_LINES)).partition("\n\n")[0]
        match = _OPENING.match(f"{line}\n{rest}")
        ends = match is not None and match["attributes"] is not None
        for _ in range(match[0].rstrip().count("\n") if match and ends else 0):
            lines.popleft()
        return match if ends else None
    return _OPENING.fullmatch(line)


def _yaml_block(lines: deque[tuple[str, bool]]) -> Properties:
    """The properties between two `---` lines that follow; the lines are taken off."""
    if not lines or lines[0][0].strip() != "---":
        return {}
    ahead = enumerate(islice(lines, _MOST_LINES))
    ends = next((at for at, (line, _) in ahead if at and line.strip() == "---"), None)
    if ends is None:
        return {}
    taken = [lines.popleft()[0] for _ in range(ends + 1)]
    return _yaml("\n".join(taken[1:-1]))


def _yaml(text: str) -> Properties:
    """YAML with strings for scalars; of broken YAML, what reads as `key: value`."""
    import yaml  # type: ignore[import-untyped]  # it ships no types

    try:
        loaded = yaml.load(text, Loader=yaml.BaseLoader)  # builds strings, lists and dicts only
    except (yaml.YAMLError, RecursionError):
        loaded = None
    if isinstance(loaded, dict):
        return loaded
    pairs = (line.partition(":") for line in text.split("\n") if not line.startswith((" ", "-")))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs if value.strip()}


def _attributes(text: str) -> dict[str, object]:
    """`a="b" c=d :e='[…]'` -> properties; a bound one (with a colon) holds JSON."""
    values: dict[str, object] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = html.unescape(next((group for group in match.groups()[1:] if group), ""))
        bound = match[1].startswith(":") and value[:1] in ("[", "{")
        values[match[1].lstrip(":")] = _yaml(f"bound: {value}").get("bound") if bound else value
    return values


def _block(name: str, properties: Properties) -> Iterator[str]:
    """What a block component shows above its own text."""
    if name in _NOTES:
        kind = shown(properties.get("type")) if name in ("alert", "callout") else name
        title = _joined((kind or "note").capitalize(), _first(properties, _TITLES))
        yield from ("", f"**{title}**", "")
        return
    title, text = _title(properties), _first(properties, _TEXTS)
    if title or text:
        yield from ("", _joined(title and f"**{title}**", text), "")
    items = list(_items(properties, depth=0))
    if items:
        yield from ("", *items, "")


def _items(properties: Properties, depth: int) -> Iterator[str]:
    """The lists among the properties as Markdown list items."""
    lists = (value for key, value in properties.items() if key not in _TEXTS)
    for entry in (entry for value in lists if isinstance(value, list) for entry in value):
        if isinstance(entry, dict):
            text = _joined(_title(entry), _first(entry, _TEXTS))
        else:
            text = shown(entry)
        if text:
            yield f"{'  ' * depth}- {text}"
        if isinstance(entry, dict) and depth < _DEEPEST:
            yield from _items(entry, depth + 1)


def _title(properties: Properties) -> str:
    title, target = _first(properties, _TITLES), _first(properties, _TARGETS)
    return f"[{title}]({target})" if title and target else title


def _joined(title: str, text: str) -> str:
    return f"{title}: {text}" if title and text else title or text


def _first(properties: Properties, keys: tuple[str, ...]) -> str:
    return next(filter(None, (shown(properties.get(key)) for key in keys)), "")


def _fence_line(line: str) -> Iterator[str]:
    """A fence's first line without highlighting options; its file name stands above it."""
    match = _FENCE_WITH_EXTRAS.fullmatch(line)
    if not match:
        yield line
        return
    if match["name"]:
        yield from (f"**{match['name']}**", "")
    yield match["mark"]


def _inline(lines: list[str]) -> list[str]:
    return [_INLINE.sub(_inline_piece, "\n".join(lines))] if lines else []


def _inline_piece(match: re.Match[str]) -> str:
    if match["component"]:
        attributes = _attributes(match["named"] or match["only"] or "")
        return _inline_component(match["name"], match["text"] or "", attributes)
    if match["binding"]:
        default = _DEFAULT.search(match["binding"])
        return default[1] if default else ""
    if match["entity"]:
        # What these two stand for would read as HTML; the Markdown reader decodes them later.
        character = html.unescape(match["entity"])
        return match["entity"] if character in "<&" else character
    return match["code"] or match["span"] or match["escaped"] or ""


def _inline_component(name: str, text: str, attributes: Properties) -> str:
    if "img" in name or "image" in name:
        return f"![{shown(attributes.get('alt'))}]({shown(attributes.get('src'))})"
    return _title({**attributes, "title": text} if text else attributes)
