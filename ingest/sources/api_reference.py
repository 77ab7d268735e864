"""Documents from the installed Metaflow: its API, its settings and its tutorials."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution
from itertools import groupby
from pathlib import Path
from urllib.parse import urljoin

from ingest.mdx import to_markdown
from ingest.sections import SectionWriter
from ingest.sources import Omission
from metaflowbot.docstrings import Outcome, Parameter
from metaflowbot.domain import Document, Section
from metaflowbot.metaflow_api import MetaflowAPI, Symbol, load

_REPOSITORY = "https://github.com/Netflix/metaflow"
_SITE = "https://docs.metaflow.org/"
_KINDS = {
    "decorator": "step decorator",
    "flow-decorator": "flow decorator",
    "config": "configuration variable",
}
_CODE = Path(__file__).resolve().parents[2]
# From these modules people import; other classes are what their functions give back.
_IMPORTED = ("metaflow", "metaflow.cards", "metaflow.integrations", "metaflow.exception")
_EXCEPTIONS = "metaflow.exception"
# Shorter descriptions say no more than the name does.
_FEWEST_WORDS = 4
_WIDEST = 88
_BLOCK = re.compile(r"^\s*(?:```|[-*] |\d+\. )", re.MULTILINE)
_SETTING = (
    "Set as an environment variable, or in Metaflow's configuration file "
    "(`config.json` in `~/.metaflowconfig`)."
)


@dataclass(frozen=True)
class ApiReference:
    """Reads the Metaflow that is installed in `site`, by default in this interpreter.

    One document for each public class, function and decorator, and for each documented member;
    what has no description of its own is named on its class's document. Members inherited from
    another public class are on that class's document.
    """

    site: Path | None = None
    name: str = "metaflow-api"

    def mark(self) -> str:
        """A hash of what the packages' own lists of files say, and of the code that reads them."""
        records = [_records(name, self.site) for name in ("metaflow", "metaflow-stubs")]
        if not records[0]:
            return ""
        digest = hashlib.sha256("\0".join((sys.version, *records)).encode())
        for path in sorted((*_CODE.glob("ingest/**/*.py"), *_CODE.glob("metaflowbot/*.py"))):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def read(self) -> Iterator[Document | Omission]:
        """Yield the documents; raise SourceError when Metaflow is not installed."""
        api = load(self.site)
        if not api.stubs:
            what = "what Metaflow makes at run time, such as Deployer.argo_workflows"
            yield Omission(what, "the package metaflow-stubs is not installed")
        yield from _objects(api)
        yield from _settings(api)
        yield from _tutorials(api)


def _records(name: str, site: Path | None) -> str:
    """The hashes of a package's files as they were installed, '' where they are not known."""
    found = Distribution.discover(name=name, path=[str(site)] if site else sys.path)
    return "".join(distribution.read_text("RECORD") or "" for distribution in found)


def _document(
    api: MetaflowAPI, name: str, title: str, place: str, *sections: Section, defines: Iterable[str]
) -> Document:
    url = f"{_REPOSITORY}/{place}"
    return Document(
        f"api:{name}", "metaflow-api", title, url, sections, frozenset(defines), api.version
    )


def _place(symbol: Symbol) -> str:
    """Where the repository shows the symbol: the version's tag is its plain number."""
    return f"blob/{symbol.version}/{symbol.path}#L{symbol.line}"


# The API's objects


def _objects(api: MetaflowAPI) -> Iterator[Document | Omission]:
    exceptions = []
    for symbol in api.symbols.values():
        members = api.members(symbol.name)
        if symbol.kind == "config" or symbol.defined_in:
            continue
        if symbol.name.startswith(f"{_EXCEPTIONS}."):
            exceptions.append(symbol)
        elif _is_member(api, symbol):
            if _says_something(symbol):
                yield _object(api, symbol, members)
        elif any(map(_says_something, (symbol, *members))) or _explains(symbol):
            yield _object(api, symbol, members)
        else:
            yield Omission(symbol.name, "the package says nothing about it")
    yield from _exceptions(api, exceptions)


def _is_member(api: MetaflowAPI, symbol: Symbol) -> bool:
    return symbol.name.rpartition(".")[0] in (*api.symbols, "metaflow.current")


def _says_something(symbol: Symbol) -> bool:
    legacy = symbol.docstring.startswith("[Legacy")
    return len(symbol.docstring.split()) >= _FEWEST_WORDS and not legacy


def _explained(symbol: Symbol) -> list[Parameter]:
    """The parameters worth a list: none when all there is to say is in the signature."""
    if not any(item.description for item in symbol.parameters):
        return []
    return [item for item in symbol.parameters if item.description or item.type]


def _explains(symbol: Symbol) -> bool:
    """Whether the signature tells something; that of an untyped class does not."""
    return any(symbol.kind != "class" or item.type for item in symbol.parameters)


def _object(api: MetaflowAPI, symbol: Symbol, members: Iterable[Symbol]) -> Document:
    blocks = [
        _signature(symbol),
        symbol.docstring,
        _list("Parameters", map(_parameter, _explained(symbol))),
        *(f"**Returns:** {_outcome(item)}" for item in symbol.doc.returns),
        *(f"**Yields:** {_outcome(item)}" for item in symbol.doc.yields),
        _list("Raises", (f"- {_outcome(item)}" for item in symbol.raises)),
    ]
    lead = Section((), "", "\n\n".join(filter(None, blocks)))
    listed = "\n\n".join(filter(None, _members(symbol, list(members))))
    sections = [lead, Section(("Members",), "", listed)] if listed else [lead]
    title = f"{_shown(symbol)} ({_KINDS.get(symbol.kind, symbol.kind)})"
    return _document(api, symbol.name, title, _place(symbol), *sections, defines=[symbol.name])


def _shown(symbol: Symbol) -> str:
    """The name with what tells `cards.Table` from other tables, a decorator with its mark."""
    name = symbol.name.removeprefix("metaflow.")
    return f"@{name}" if "decorator" in symbol.kind else name


def _signature(symbol: Symbol) -> str:
    """The import and the signature in a fence; a long one has an argument on each line."""
    first = symbol.short.partition(".")[0]
    lines = [f"from {symbol.module} import {first}", ""] if symbol.module in _IMPORTED else []
    line = symbol.signature
    if len(line) > _WIDEST and symbol.arguments:
        spread = "".join(f"    {argument},\n" for argument in symbol.arguments)
        line = line.replace(f"({', '.join(symbol.arguments)})", f"(\n{spread})")
    return "\n".join(["```python", *lines, line, "```"])


def _parameter(parameter: Parameter) -> str:
    stars = parameter.kind if parameter.kind in ("*", "**") else ""
    default = f"default {parameter.default}" if parameter.default else ""
    facts = ", ".join(filter(None, [parameter.type, default]))
    label = f"`{stars}{parameter.name}`" + (f" ({facts})" if facts else "")
    return _item(label, parameter.description)


def _outcome(outcome: Outcome) -> str:
    kind = f"`{outcome.type}`" if outcome.type else ""
    return _item(kind, outcome.description).removeprefix("- ")


def _item(label: str, text: str) -> str:
    """A list item; the lines of its first paragraph flow together, the rest is indented."""
    lead, gap, rest = text.partition("\n\n")
    if not _BLOCK.search(lead):
        lead = " ".join(lead.split())
    body = textwrap.indent(f"{lead}{gap}{rest}", "  ").strip()
    return f"- {': '.join(filter(None, [label, body]))}"


def _list(title: str, items: Iterable[str]) -> str:
    lines = list(items)
    return "\n".join([f"**{title}:**", *lines]) if lines else ""


def _members(owner: Symbol, members: list[Symbol]) -> Iterator[str]:
    own = [member for member in members if not member.defined_in]
    yield "\n".join(
        _item(f"`{member.short}` ({_facts(member)})", _summary(member.docstring))
        for member in own
        if member.docstring
    )
    told = {parameter.name for parameter in owner.parameters}
    bare = ", ".join(
        f"`{_last(member)}`" for member in own if not member.docstring and _last(member) not in told
    )
    if bare:
        yield f"`{owner.short}` also has, without a description: {bare}."
    inherited = [member for member in members if member.defined_in]
    for base, group in groupby(inherited, key=lambda member: member.defined_in):
        names = ", ".join(f"`{_last(member)}`" for member in group)
        yield f"Inherited from `{base}`: {names}."


def _facts(member: Symbol) -> str:
    typed = member.type and member.kind in ("property", "attribute")
    return f"{member.kind}, {member.type}" if typed else member.kind


def _last(symbol: Symbol) -> str:
    return symbol.name.rpartition(".")[2]


def _summary(text: str) -> str:
    """The first sentence of a description, on one line."""
    lead = " ".join(re.split(r"\n\n|\n- ", text, maxsplit=1)[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", lead)[0]


def _exceptions(api: MetaflowAPI, exceptions: list[Symbol]) -> Iterator[Document]:
    """One document for all: of most the package says the headline that a person sees, no more."""
    classes = [symbol for symbol in exceptions if symbol.kind == "class"]
    if not classes:
        return
    lead = (
        "Errors that Metaflow raises, each with the headline that it prints above its message. "
        f"They are imported from `{_EXCEPTIONS}`."
    )
    listed = "\n".join(_item(f"`{symbol.short}`", symbol.docstring) for symbol in classes)
    yield _document(
        api,
        _EXCEPTIONS,
        f"{_EXCEPTIONS} (exceptions)",
        f"blob/{api.version}/{classes[0].path}",
        Section((), "", f"{lead}\n\n{listed}"),
        defines=[symbol.name for symbol in classes],
    )


# The configuration variables


def _settings(api: MetaflowAPI) -> Iterator[Document]:
    settings = [symbol for symbol in api.symbols.values() if symbol.kind == "config"]
    for symbol in filter(_says_something, settings):
        text = f"{symbol.docstring}\n\nDefault: {_default(symbol)}. {_SETTING}"
        title = f"{symbol.name} ({_KINDS['config']})"
        section = Section((), "", text)
        yield _document(api, symbol.name, title, _place(symbol), section, defines=[symbol.name])
    families: dict[str, list[Symbol]] = {}
    for symbol in settings:
        families.setdefault(symbol.name.split("_")[1], []).append(symbol)
    single = [family[0] for family in families.values() if len(family) == 1]
    named = {f"METAFLOW_{word}_*": family for word, family in families.items() if family[1:]}
    for name, family in {**named, "METAFLOW_*": single}.items():
        if not all(map(_says_something, family)):
            yield _family(api, name, family)


def _family(api: MetaflowAPI, name: str, family: list[Symbol]) -> Document:
    listed = "\n".join(
        _item(f"`{symbol.name}` (default {_default(symbol)})", _summary(symbol.docstring))
        for symbol in family
    )
    return _document(
        api,
        name,
        f"{name} (configuration variables)",
        _place(family[0]),
        Section((), "", f"{_SETTING}\n\n{listed}"),
        defines=[symbol.name for symbol in family if not _says_something(symbol)],
    )


def _default(symbol: Symbol) -> str:
    return "none" if symbol.default == "None" else f"`{symbol.default}`"


# The tutorials that `metaflow tutorials pull` copies


def _tutorials(api: MetaflowAPI) -> Iterator[Document | Omission]:
    folder = api.package / "tutorials"
    for readme in sorted(folder.glob("*/README.md")):
        name = f"tutorials/{readme.parent.name}"
        try:
            yield _tutorial(api, name, readme)
        except (OSError, ValueError) as error:
            yield Omission(name, f"can't be read: {error}")


def _tutorial(api: MetaflowAPI, name: str, readme: Path) -> Document:
    writer = SectionWriter()
    writer.markdown(_prose(readme.read_text(encoding="utf-8")))
    for path in sorted(readme.parent.iterdir()):
        if path.suffix in (".py", ".ipynb"):
            writer.heading(1, path.name, "")
            text = path.read_text(encoding="utf-8")
            code = _cells(text) if path.suffix == ".ipynb" else _fence(text)
            writer.line(code)
    place = f"tree/{api.version}/metaflow/{name}"
    return _document(api, name, writer.title, place, *writer.sections(), defines=())


def _prose(text: str) -> str:
    text = re.sub(r"```([^`\n]+?) *```", r"`\1`", text)
    text = re.sub(r"^(#+ .*):$", r"\1", text, flags=re.MULTILINE)
    return to_markdown(text, lambda target: urljoin(_SITE, target))


def _fence(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def _cells(notebook: str) -> str:
    """A notebook's prose and code, without what the code printed."""
    cells = json.loads(notebook).get("cells", [])
    sources = ((cell["cell_type"], "".join(cell["source"])) for cell in cells)
    return "\n\n".join(
        _fence(source) if kind == "code" else re.sub(r"(?m)^#+ +(.+?) *$", r"**\1**", source)
        for kind, source in sources
        if source.strip()
    )
