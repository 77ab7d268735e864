"""Numpy-style docstrings, as Metaflow's sources have them, taken apart into Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

ParameterKind = Literal["positional", "keyword", "*", "**"]

_HEADING = re.compile(
    r"(Parameters|Args|Attributes|Returns|Yields|Raises|Examples?|Notes?|MF Add To Current)(:?)\s*"
)
_ITEM = re.compile(
    r"\*{0,2}(?P<name>[A-Za-z_]\w*)"
    r"(?:\s*:\s*(?P<type>.*)|\s+(?P<bare>(?:int|str|bool|float|List|Dict|Optional|Union)\b.*))?"
)
_TYPE = re.compile(
    r"(?P<type>.*?)(?P<optional>,? *\(?\boptional\b\)?)?"
    r"(?:,? *\b[Dd]efault(?: is| to|s to|:| =)? *(?P<default>.+))?"
)
_BULLET = re.compile(r" *(?:[-*]|\d+\.) ")


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument. `default` is source text, '' where there is none; `type` is '' if unknown.

    `kind` '*' and '**' take any further positional and keyword arguments.
    """

    name: str
    type: str = ""
    default: str = ""
    description: str = ""
    kind: ParameterKind = "positional"

    @property
    def required(self) -> bool:
        return not self.default and self.kind in ("positional", "keyword")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that is returned, yielded or raised: its type, and what it is or when."""

    type: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Docstring:
    """A numpy-style docstring in parts; texts are Markdown, a missing part is empty.

    `current` are the attributes that a decorator adds to `metaflow.current`, each with its
    docstring, not yet in parts, as the description.
    """

    text: str = ""
    parameters: tuple[Parameter, ...] = ()
    attributes: tuple[Parameter, ...] = ()
    returns: tuple[Outcome, ...] = ()
    yields: tuple[Outcome, ...] = ()
    raises: tuple[Outcome, ...] = ()
    current: tuple[Parameter, ...] = ()


def parse_docstring(written: str) -> Docstring:
    """Take a numpy-style docstring apart; '' gives an empty one. It never fails."""
    texts: list[str] = []
    parts: dict[str, str] = {}
    for title, body in _sections(written):
        if title in ("", "Example", "Examples", "Note", "Notes"):
            texts += [f"**{title}**"] if title and body else []
            texts.append(_markdown(body))
        else:
            parts[title] = body
    return Docstring(
        text="\n\n".join(filter(None, texts)),
        parameters=_documented(parts.get("Parameters") or parts.get("Args", "")),
        attributes=_documented(parts.get("Attributes", "")),
        returns=_outcomes(parts.get("Returns", "")),
        yields=_outcomes(parts.get("Yields", "")),
        raises=_raised(parts.get("Raises", "")),
        current=_added(parts.get("MF Add To Current", "")),
    )


def _sections(written: str) -> list[tuple[str, str]]:
    """(title, body) of each section, the lead's title is ''."""
    lines = written.splitlines()
    sections: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line, after in zip_longest(lines, lines[1:], fillvalue=""):
        heading = _HEADING.fullmatch(line)
        underlined = set(after.strip()) == {"-"}
        if heading and not fenced and (underlined or (heading[2] and heading[1][-1] == "s")):
            sections.append((heading[1], []))
        elif set(line.strip()) != {"-"} or sections[-1][1]:  # else: the rule below a heading
            fenced ^= line.count("```") % 2 == 1
            sections[-1][1].append(line)
    return [(title, textwrap.dedent("\n".join(body)).strip("\n")) for title, body in sections]


def _items(body: str) -> Iterator[tuple[str, str]]:
    """(head, text) of each item: a line at the margin and the indented lines below it."""
    head, text = "", [""]
    for line in body.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and not indent and (not head or _ITEM.fullmatch(line.rstrip())):
            if head:
                yield head, textwrap.dedent("\n".join(text))
            head, text = line.strip(), []
        elif indent >= 8 and not text:
            head = f"{head} {line.strip()}"
        else:
            text.append(line)
    if head:
        yield head, textwrap.dedent("\n".join(text))


def _documented(body: str) -> tuple[Parameter, ...]:
    found = []
    for head, text in _items(body):
        if item := _ITEM.fullmatch(head):
            typed = _TYPE.fullmatch(item["type"] or item["bare"] or "")
            default = (typed and typed["default"]) or (
                "None" if typed and typed["optional"] else ""
            )
            kind = tidy_type(typed["type"]) if typed else ""
            found.append(Parameter(item["name"], kind.strip(" ,"), default, _markdown(text)))
    return tuple(found)


def _outcomes(body: str) -> tuple[Outcome, ...]:
    """The type on the first line, and what it means below; a lone sentence is a meaning."""
    head, _, text = body.partition("\n")
    if not head:
        return ()
    if not text and len(head.split()) > 3 and "[" not in head:
        return (Outcome("", _markdown(head)),)
    typed = re.sub(r"^\w+ : ", "", head.strip())
    return (Outcome(tidy_type(typed), _markdown(textwrap.dedent(text))),)


def _raised(body: str) -> tuple[Outcome, ...]:
    return tuple(Outcome(head.rstrip(":"), _markdown(text)) for head, text in _items(body))


def _added(body: str) -> tuple[Parameter, ...]:
    """`name -> type` heads with whole docstrings below, their section heads marked with '@@'."""
    found: list[tuple[str, str, list[str]]] = []
    for line in body.splitlines():
        name, arrow, kind = line.partition(" -> ")
        if arrow and not name.startswith(" "):
            found.append((name, kind, []))
        elif found:
            found[-1][2].append(line.replace("@@ ", ""))
    return tuple(
        Parameter(name, kind, "", textwrap.dedent("\n".join(lines)).strip())
        for name, kind, lines in found
    )


def _markdown(text: str) -> str:
    """Docstring prose as Markdown: RST marks, indented code and indented lists made plain."""
    text = re.sub(r":[a-z:]+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"(?<!`)``([^`\n]+)``(?!`)", r"`\1`", text)
    text = re.sub(r"\] \((?=https?:)", "](", text)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(_plain(_outdent(_fence(lines)))).strip()


def _plain(lines: Iterable[str]) -> Iterator[str]:
    """Headings as bold lines, as they would cut a section, and <placeholders> as code."""
    fenced = False
    for line in lines:
        bounds = line.count("```") % 2 == 1
        if fenced or bounds:
            yield line
        else:
            pieces = re.sub(r"^#+ +(.+)$", r"**\1**", line).split("`")
            pieces[::2] = [
                re.sub(r"(?:\w+@)?<\w+>(?:@<\w+>)*", r"`\g<0>`", piece) for piece in pieces[::2]
            ]
            yield "`".join(pieces)
        fenced ^= bounds


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _fence(lines: list[str]) -> list[str]:
    """Put fences around code that is only indented, below a line that ends with a colon."""
    done: list[str] = []
    fenced, at = False, 0
    while at < len(lines):
        # RST announces code with two colons.
        line = re.sub("::$", ":", lines[at])
        at += 1
        done.append(line)
        fenced ^= line.count("```") % 2 == 1
        block = [] if fenced or not line.rstrip().endswith(":") else _code(line, lines[at:])
        if block:
            margin = " " * (_indent(line) + 2 * bool(_BULLET.match(line)))
            code = textwrap.indent(textwrap.dedent("\n".join(block)), margin).strip("\n")
            done += [f"{margin}```", *code.splitlines(), f"{margin}```"]
            at += len(block)
    return done


def _code(head: str, lines: list[str]) -> list[str]:
    """The lines that are indented below `head` as code is; [] for a list or a fence."""
    first = next((line for line in lines if line.strip()), "")
    if _BULLET.match(first) or first.lstrip().startswith("```"):
        return []
    deep = (not line.strip() or _indent(line) >= _indent(head) + 4 for line in lines)
    length = next((number for number, is_deep in enumerate(deep) if not is_deep), len(lines))
    while length and not lines[length - 1].strip():
        length -= 1
    return lines[:length]


def _outdent(lines: list[str]) -> Iterator[str]:
    """Pull lists and fences to the margin that are indented without belonging to a list."""
    shift, fenced, listed = 0, False, False
    for line in lines:
        indent = _indent(line)
        if line.strip() and not fenced:
            bullet = bool(_BULLET.match(line))
            shift = min(shift, indent)
            if not listed and (bullet or line.lstrip().startswith("```")):
                shift = indent
            listed = bullet or (listed and indent > shift)
        fenced ^= line.count("```") % 2 == 1
        yield line[min(shift, indent) :]


def tidy_type(text: str) -> str:
    """A type as a reader would write it: no quotes around names, no paths to classes."""
    text = re.sub(r"ForwardRef\(([^)]*)\)", r"\1", text)
    if "Literal[" not in text:
        text = re.sub(r"['\"]", "", text)
    return re.sub(r"\b(?:typing|metaflow(?:\.[a-z_0-9]+)*)\.(?=\w)", "", text)
