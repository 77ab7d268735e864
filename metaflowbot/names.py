"""Names in a question that look like Metaflow's and are not, with the nearest real ones.

Whether a name is real is looked up in the API of the installed Metaflow and in what was read:
a name in either is real. Code in fences, and names that somebody calls their own, are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from metaflowbot.metaflow_api import MetaflowAPI, Symbol
from metaflowbot.vocabulary import Vocabulary

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_OWN = re.compile(
    r"\b(?:my|our|own|custom|named|called|wr(?:ote|ite)|defined?)\b[^.?!\n]{0,25}\Z", re.I
)
_DECORATOR = re.compile(r"(?<![\w@./])@([A-Za-z_]\w+)(?![\w.]*@)(?:\(([^()\n]*))?")
_CURRENT = re.compile(r"\bcurrent\.([a-z_]\w+)")
_VARIABLE = re.compile(r"\bMETAFLOW_[A-Z]\w+")
_OBJECT = re.compile(r"\bmetaflow\.([A-Z]\w+)|\bfrom metaflow import ([A-Za-z_]\w*)")
_MEMBER = re.compile(r"\b([A-Z]\w+)(?:\([^()\n]*\))?\.([a-z_]\w+)")
_ARGUMENT = re.compile(
    r"\b(\w+)[`'\"]* (?:argument|parameter|option|attribute|keyword)s? (?:of|for|in|to|on|with)"
    r" (?:the )?`?@(\w+)",
    re.I,
)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*\b")
# Who gives parameters of a flow on the command line makes up names for options, and rightly.
_PARAMETERS = re.compile(r"\b(?:param(?:eter)?s?|arguments?|args|value)\b", re.I)
_KEYWORD = re.compile(r"(\w+)\s*=(?!=)")
_PEOPLE = frozenset({"here", "channel", "everyone", "all", "team"})
_ALIKE = 0.62  # of difflib's ratio: a slip of the fingers, or the same words in another order
_SHARED_WORD = 0.6
_LISTED = 6
# Words of so many names that they make none alike.
_COMMON = frozenset({"metaflow", "step", "the", "get", "name", "count", "max", "min", "run", "all"})


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that Metaflow does not have, as written; `nearest` is a real one, '' for none."""

    name: str
    nearest: str = ""

    def __str__(self) -> str:
        there = f"; the nearest that there is: `{self.nearest}`" if self.nearest else ""
        return f"`{self.name}` does not exist in Metaflow{there}"


def unknown_names(text: str, api: MetaflowAPI, vocabulary: Vocabulary) -> tuple[UnknownName, ...]:
    """The names in a question that do not exist, in order, each once; () for none."""
    prose = _FENCE.sub("", text)
    found = (
        *_unknown_decorators(prose, api, vocabulary),
        *_unknown_objects(prose, api, vocabulary),
    )
    if not _PARAMETERS.search(prose):
        found += tuple(
            UnknownName(option, _nearest_option(option, vocabulary))
            for option in _OPTION.findall(prose)
            if option not in vocabulary
        )
    return tuple({name.name: name for name in found}.values())


def _unknown_decorators(
    text: str, api: MetaflowAPI, vocabulary: Vocabulary
) -> Iterator[UnknownName]:
    known = {symbol.short: symbol for symbol in api.symbols.values() if "decorator" in symbol.kind}
    for match in _DECORATOR.finditer(text):
        name, arguments = match[1], match[2] or ""
        if name in known:
            yield from _unknown_arguments(_KEYWORD.findall(arguments), known[name])
        elif f"@{name.lower()}" not in vocabulary and not _is_own(name, text[: match.start()]):
            yield UnknownName(f"@{name}", _nearest(name, known.values()))
    for match in _ARGUMENT.finditer(text):
        if match[2] in known and match[1].lower() not in vocabulary:
            yield from _unknown_arguments([match[1]], known[match[2]])


def _is_own(name: str, before: str) -> bool:
    """Whether it is the asker's own decorator, or a mention of people."""
    return name.lower() in _PEOPLE or bool(_OWN.search(before))


def _unknown_arguments(given: Iterable[str], decorator: Symbol) -> Iterator[UnknownName]:
    real = {parameter.name for parameter in decorator.parameters}
    open_ended = any(parameter.kind == "**" for parameter in decorator.parameters)
    for name in given:
        if name not in real and not open_ended:
            yield UnknownName(f"@{decorator.short}({name}=…)", _shown(decorator, set()))


def _unknown_objects(text: str, api: MetaflowAPI, vocabulary: Vocabulary) -> Iterator[UnknownName]:
    for match in _CURRENT.finditer(text):
        name = f"current.{match[1]}"
        if api.get(name) is None and name not in vocabulary:
            option = f"--{match[1].replace('_', '-')}"
            nearest = _nearest(match[1], api.members("metaflow.current"))
            yield UnknownName(name, nearest or option * (option in vocabulary))
    for match in _VARIABLE.finditer(text):
        if api.get(match[0]) is None and match[0].lower() not in vocabulary:
            real = (symbol for symbol in api.symbols.values() if symbol.kind == "config")
            yield UnknownName(match[0], _nearest(match[0], real))
    for match in _OBJECT.finditer(text):
        name = match[1] or match[2]
        if api.get(name) is None and f"metaflow.{name}".lower() not in vocabulary:
            yield UnknownName(f"metaflow.{name}", _nearest(name, _tops(api)))
    for match in _MEMBER.finditer(text):
        owner = api.get(match[1])
        if owner and owner.kind == "class" and api.get(f"{match[1]}.{match[2]}") is None:
            members = api.members(owner.name)
            yield UnknownName(f"{match[1]}.{match[2]}", _nearest(match[2], members))


def _tops(api: MetaflowAPI) -> list[Symbol]:
    """The classes and functions that can be imported by name."""
    importable = ("class", "function")
    return [
        symbol
        for symbol in api.symbols.values()
        if symbol.kind in importable and "." not in symbol.short
    ]


def _nearest(name: str, real: Iterable[Symbol]) -> str:
    """The symbol whose name, or whose arguments, are most like `name`, '' if none is."""
    best = max(real, key=lambda symbol: _likeness(name, symbol), default=None)
    if best is None or _likeness(name, best) < _ALIKE:
        return ""
    is_misspelt = _ratio(name, best) >= _ALIKE
    return _shown(best, set() if is_misspelt else _words(name))


def _shown(symbol: Symbol, wanted: set[str]) -> str:
    """The symbol as it is written, a decorator with the arguments that were meant, or with all."""
    if "decorator" not in symbol.kind:
        return symbol.short
    names = [parameter.name for parameter in symbol.parameters]
    meant = [name for name in names if wanted & _words(name)] or names * (not wanted)
    listed = ", ".join(f"{name}=…" for name in meant[:_LISTED])
    more = ", …" if len(meant) > _LISTED else ""
    return f"@{symbol.short}({listed}{more})".removesuffix("()")


def _likeness(name: str, symbol: Symbol) -> float:
    """0 to 1; words in common count whatever their order, those of arguments a little less."""
    asked, words = _words(name), _words(symbol.short.rpartition(".")[2])
    arguments = {word for parameter in symbol.parameters for word in _words(parameter.name)}
    shared = max(
        (_SHARED_WORD + 0.4 * len(asked & words) / len(asked | words)) * bool(asked & words),
        (_SHARED_WORD + 0.05 * len(asked & arguments)) * bool(asked & arguments),
    )
    return max(shared, _ratio(name, symbol))


def _ratio(name: str, symbol: Symbol) -> float:
    """How much of the spelling of the two is the same, 0 to 1."""
    short = symbol.short.rpartition(".")[2]
    return SequenceMatcher(None, name.lower(), short.lower()).ratio()


def _words(name: str) -> set[str]:
    parts = re.split(r"[_.]+|(?<=[a-z0-9])(?=[A-Z])", name)
    return {part.lower() for part in parts if len(part) > 2} - _COMMON


def _nearest_option(option: str, vocabulary: Vocabulary) -> str:
    known = (term for term in vocabulary.terms if term.startswith("--"))
    best = max(known, key=lambda term: SequenceMatcher(None, option, term).ratio(), default="")
    return best if SequenceMatcher(None, option, best).ratio() >= 0.75 else ""
