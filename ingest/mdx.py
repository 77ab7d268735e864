r"""MDX as the Metaflow docs write it -> readable Markdown.

Prose and code fences pass through; components become the text that a reader of the site sees.
The generated API pages are made of nested components:

    <DocSection type name module heading_level> <SigArg name type default/>
      <Description summary extended_summary/>
      <ParamSection name> <Parameter name type desc/> </ParamSection> </DocSection>

Their attribute values are escaped twice: `\n` for line ends, and HTML entities.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass

from ingest.sections import fenced

Resolve = Callable[[str], str]
"""Turns a link target as written on the page into an absolute URL."""

_COMMENT = re.compile(r"<!--.*?-->|\{/\*.*?\*/\}", re.DOTALL)
_IMPORT = re.compile(r"""^(?:import\s.+\sfrom\s+['"].+['"]|import\s+['"].+['"]|export\s.+);?\s*$""")
_ATTRIBUTE = re.compile(r"""([\w-]+)=(?:"([^"]*)"|'([^']*)'|\{([^}]*)\})""", re.DOTALL)
_ADMONITION = re.compile(r"^\s*:::+\s*(\w+)?\s*(.*?)\s*$")
_IMAGE = re.compile(r"!\[([^\]]*)\]\((?:<[^>]*>|[^()]|\([^()]*\))*\)")
_LINK = re.compile(
    r"(\[(?:[^\[\]]|\[[^\[\]]*\])*\])\(\s*([^()\s]*(?:\([^()\s]*\))?[^()\s]*)(?:\s+\"[^\"]*\")?\s*\)"
)
_INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_ESCAPE = re.compile(r"\\([()\[\]{}<>.#+\-!&~\"'])")
_TAG = re.compile(
    r"</?([A-Za-z][\w.]*)((?:\s+[\w-]+(?:=(?:\"[^\"]*\"|'[^']*'|\{\{.*?\}\}|\{[^}]*\}))?)*)\s*/?>",
    re.DOTALL,
)
_DOC_SECTION = re.compile(
    r"^<DocSection\b((?:\s+[\w-]+=\"[^\"]*\")*)\s*>\n(.*?)^</DocSection>", re.DOTALL | re.MULTILINE
)
_COMPONENT = re.compile(
    r"<(SigArg|Description|ParamSection|Parameter)\b((?:\s+[\w-]+=\"[^\"]*\")*)\s*/?>", re.DOTALL
)
_PLACEHOLDER = re.compile(r"<[\w-]+>(?:[@/.:]?<[\w-]+>)*")
_OUTPUT = re.compile(r"<CodeOutputBlock\b.*?>(.*?)</CodeOutputBlock>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ApiObject:
    """One <DocSection>: the reference of one API object, as Markdown.

    `attributes` are the names listed in the section called Attributes.
    """

    name: str
    kind: str
    module: str
    level: int
    text: str
    attributes: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """How the site heads it, e.g. '@retry' or 'FlowSpec.next'."""
        return f"@{self.name}" if self.kind == "decorator" else self.name


def split_api_objects(text: str) -> list[str | ApiObject]:
    """Split a page's MDX into prose (str, still MDX) and API objects, in their order."""
    parts: list[str | ApiObject] = []
    end = 0
    for match in _DOC_SECTION.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(_api_object(_attributes(match[1]), match[2]))
        end = match.end()
    parts.append(text[end:])
    return parts


def to_markdown(text: str, resolve: Resolve) -> str:
    """Prose MDX -> Markdown without JSX, HTML, entities or imports; fences stay as they are."""
    text = _outside_fences(text, lambda prose: _COMMENT.sub("", prose))
    text = _OUTPUT.sub(lambda match: "" if "Traceback (most" in match[1] else match[1], text)
    return _outside_fences(text, lambda prose: _prose(prose, resolve))


def _outside_fences(text: str, convert: Callable[[str], str]) -> str:
    done: list[str] = []
    prose: list[str] = []
    for line, in_code in fenced(text.split("\n")):
        if not in_code:
            prose.append(line)
            continue
        if prose:
            done.append(convert("\n".join(prose)))
            prose.clear()
        done.append(line)
    if prose:
        done.append(convert("\n".join(prose)))
    return "\n".join(done)


def _prose(text: str, resolve: Resolve) -> str:
    lines = (_admonition(line) for line in text.split("\n") if not _IMPORT.match(line))
    return _outside_code_spans("\n".join(lines), lambda prose: _inline(prose, resolve))


def _admonition(line: str) -> str:
    match = _ADMONITION.match(line)
    if not match:
        return line
    kind, title = match[1], match[2]
    if not kind:
        return ""
    label = kind.capitalize() if title.lower() in ("", kind) else f"{kind.capitalize()}: {title}"
    return f"**{label}**\n"


def _outside_code_spans(text: str, convert: Callable[[str], str]) -> str:
    """Convert the text around code spans; a span is set aside so that links may hold it."""
    spans: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        spans.append(match[0])
        return f"\x00{len(spans) - 1}\x00"

    text = convert(_INLINE_CODE.sub(set_aside, text))
    return re.sub("\x00(\\d+)\x00", lambda match: spans[int(match[1])], text)


def _inline(text: str, resolve: Resolve) -> str:
    text = _TAG.sub(lambda match: _tag(match[1], _attributes(match[2]), match[0]), text)
    # A picture's caption is text; "image" or a file's name is not.
    text = _IMAGE.sub(lambda match: match[1] if " " in match[1] else "", text)
    text = _LINK.sub(lambda match: f"{match[1]}({_resolved(match[2], resolve)})", text)
    return _ESCAPE.sub(r"\1", html.unescape(text)).replace("\xa0", " ")


def _resolved(target: str, resolve: Resolve) -> str:
    """A link's target; one that is no URL, e.g. 'http://[', stays as it is written."""
    try:
        return resolve(target)
    except ValueError:
        return target


def _tag(name: str, attributes: dict[str, str], whole: str) -> str:
    """What a reader sees of a component; its children, between the tags, stay."""
    if whole.startswith("</"):
        return ""
    if name == "TabItem":
        return f"**{attributes.get('label', '')}**\n"
    if name == "ReactPlayer" and attributes.get("url", "").startswith("http"):
        return f"[Video]({attributes['url']})"
    if name == "br":
        return " "
    known = name[0].isupper() or name in _HTML
    return "" if known else whole


_HTML = frozenset(
    "a b blockquote br code details div em figure figcaption h1 h2 h3 h4 hr i iframe img li object"
    " ol p pre small source span strong sub summary sup table tbody td th thead tr ul video".split()
)


def _attributes(text: str) -> dict[str, str]:
    return {
        match[1]: html.unescape(next((value for value in match.groups()[1:] if value), ""))
        for match in _ATTRIBUTE.finditer(text)
    }


def _unescape(value: str) -> str:
    """An attribute's value as text: line ends are written as backslash and n."""
    text = html.unescape(value.replace("\\n", "\n")).replace("\xa0", " ").strip()
    return _outside_fences(text, lambda prose: _outside_code_spans(prose, _code_placeholders))


def _code_placeholders(text: str) -> str:
    """Docstrings write <name> for what the reader fills in; as Markdown it would be a tag."""
    return _PLACEHOLDER.sub(r"`\g<0>`", text)


def _api_object(attributes: dict[str, str], body: str) -> ApiObject:
    name, kind = attributes.get("name", ""), attributes.get("type", "")
    module = attributes.get("module", "metaflow")
    arguments: list[str] = []
    blocks: list[str] = []
    names: list[str] = []
    listed: dict[str, list[str]] = {"": names}
    for match in _COMPONENT.finditer(body):
        values = {key: _unescape(value) for key, value in _attributes(match[2]).items()}
        if match[1] == "SigArg":
            arguments.append(_argument(values))
        elif match[1] == "Description":
            blocks += [values.get("summary", ""), values.get("extended_summary", "")]
        elif match[1] == "ParamSection":
            blocks.append(f"**{values.get('name', '')}:**")
            names = listed.setdefault(values.get("name", ""), [])
        else:
            blocks.append(_parameter(values))
            names.append(values.get("name", "").partition(":")[0])
    signature = _signature(name, kind, module, arguments, attributes.get("show_import") == "True")
    text = "\n\n".join(block for block in [signature, *blocks] if block)
    text = re.sub(r"\n\n(?=- )", "\n", text)
    level = attributes.get("heading_level", "")
    depth = int(level) if level.isdigit() else 3
    return ApiObject(name, kind, module, depth, text, tuple(listed.get("Attributes", ())))


def _signature(name: str, kind: str, module: str, arguments: list[str], imported: bool) -> str:
    if kind == "property":
        return ""
    shown = [argument for argument in arguments if argument not in ("self", "cls")]
    call = f"{'@' if kind == 'decorator' else ''}{name}({', '.join(shown)})"
    lines = [f"from {module} import {name}", call] if imported else [call]
    return "\n".join(["```python", *lines, "```"])


def _argument(values: dict[str, str]) -> str:
    name, kind = values.get("name", ""), values.get("type", "")
    typed = f"{name}: {kind}" if kind and ":" not in name else name
    return f"{typed}={values['default']}" if values.get("default") else typed


def _parameter(values: dict[str, str]) -> str:
    """One list item; the generator leaves 'name: type' in the name where a space was missing."""
    name, kind, text = (values.get(key, "") for key in ("name", "type", "desc"))
    name, _, rest = name.partition(":")
    kind = kind or rest.strip()
    label = f"`{name}` ({kind})" if name and kind else f"`{name or kind}`"
    return f"- {label}: {_indented(text)}" if text else f"- {label}"


def _indented(text: str) -> str:
    """Continuation lines of a list item: a sentence flows on, lists and fences are indented."""
    lines: list[str] = []
    for line, in_code in fenced(text.split("\n")):
        starts_block = in_code or not line.strip() or re.match(r"\s*([-*]|\d+\.)\s", line)
        if starts_block or not lines or not lines[-1].strip() or lines[-1].endswith("```"):
            lines.append(f"  {line}" if lines and line.strip() else line)
        else:
            lines[-1] += f" {line.strip()}"
    return "\n".join(lines)
