"""The arguments of a call, held against a signature."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from metaflowbot.code_check.values import Keywords
from metaflowbot.docstrings import Parameter
from metaflowbot.metaflow_api import Symbol

_LONGEST = 160
_SLIP = 0.8
_NUMBERS = frozenset({"int", "float", "bool"})
# What each type of the API takes when it is written as a literal.
_TAKES = {
    "int": _NUMBERS,
    "float": _NUMBERS,
    "bool": _NUMBERS | {"str"},
    "str": frozenset({"str"}),
    "List": frozenset({"list", "tuple", "set"}),
    "list": frozenset({"list", "tuple", "set"}),
    "Iterable": frozenset({"list", "tuple", "set", "dict", "str"}),
    "Tuple": frozenset({"list", "tuple"}),
    "Dict": frozenset({"dict"}),
    "dict": frozenset({"dict"}),
    "Callable": frozenset({"lambda"}),
    "None": frozenset({"None"}),
}
_LITERALS: dict[type[ast.expr], str] = {
    ast.List: "list",
    ast.ListComp: "list",
    ast.Tuple: "tuple",
    ast.Set: "set",
    ast.Dict: "dict",
    ast.DictComp: "dict",
    ast.JoinedStr: "str",
    ast.Lambda: "lambda",
}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An argument that a signature does not take."""

    node: ast.AST
    what: str
    instead: str


def nearest(name: str, names: Iterator[str] | frozenset[str] | list[str], cutoff: float) -> str:
    """The name most like `name`, '' if none is (cutoff 0 to 1, as difflib has it)."""
    found = difflib.get_close_matches(name, list(names), 1, cutoff)
    return found[0] if found else ""


def shown(symbol: Symbol) -> str:
    """The signature, cut where it is too long for one line."""
    signature = symbol.signature
    if len(signature) <= _LONGEST:
        return signature
    cut = signature.rfind(", ", 0, _LONGEST)
    return f"{signature[:cut]}, …)"


def _called(symbol: Symbol) -> str:
    return f"@{symbol.short}" if "decorator" in symbol.kind else symbol.short


def mismatches(symbol: Symbol, call: ast.Call, more: Keywords | None = None) -> Iterator[Mismatch]:
    """What is wrong with the arguments of a call of `symbol`; a decorator takes keywords only.

    `more` is what is known of the keywords that a `**` takes.
    """
    spread = any(isinstance(item, ast.Starred) for item in call.args)
    elided = any(_is_ellipsis(item) for item in call.args)
    known = {item.name: item for item in symbol.parameters if "*" not in item.kind}
    takes_any = any(item.kind == "**" for item in symbol.parameters)
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg.startswith("_"):
            continue
        if keyword.arg not in known and _is_refused(keyword.arg, list(known), takes_any, more):
            others = sorted(more.names) if more else []
            yield _unknown(symbol, keyword, [*known, *others])
        elif keyword.arg in known:
            yield from _mistyped(symbol, known[keyword.arg], keyword.value)
    if not spread and not elided:
        yield from _places(symbol, call)


def _is_refused(name: str, known: list[str], takes_any: bool, more: Keywords | None) -> bool:
    if more is None:
        return not takes_any
    slip = bool(nearest(name, [*known, *more.names], _SLIP))
    return name not in more.names and (more.is_all or slip)


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _unknown(symbol: Symbol, keyword: ast.keyword, known: list[str]) -> Mismatch:
    like = nearest(str(keyword.arg), known, 0.6)
    parameter = next((item for item in symbol.parameters if item.name == like), None)
    instead = _with_one(symbol, parameter) if parameter else shown(symbol)
    instead = f"{_called(symbol)}({like}=…)" if like and not parameter else instead
    return Mismatch(keyword, f"`{_called(symbol)}` has no argument `{keyword.arg}`", instead)


def _with_one(symbol: Symbol, parameter: Parameter) -> str:
    written = parameter.name + (f": {parameter.type}" if parameter.type else "")
    default = f" = {parameter.default}" if parameter.default else ""
    return f"{_called(symbol)}({written}{default})"


def _places(symbol: Symbol, call: ast.Call) -> Iterator[Mismatch]:
    """Arguments by position: too many, or required ones that are missing."""
    if any(item.kind == "*" for item in symbol.parameters):
        return
    is_decorator = "decorator" in symbol.kind
    places = [item for item in symbol.parameters if item.kind == "positional" and not is_decorator]
    if len(call.args) > len(places):
        extra = call.args[len(places)]
        takes = "takes no positional arguments" if not places else f"takes {len(places)} at most"
        many = "" if not places else " by position"
        yield Mismatch(extra, f"`{_called(symbol)}` {takes}{many}", shown(symbol))
    for parameter, value in zip(places, call.args, strict=False):
        yield from _mistyped(symbol, parameter, value)
    given = {item.arg for item in call.keywords}
    left = (item for item in places[len(call.args) :] if item.name not in given)
    missing = [item for item in left if item.required]
    if missing and None not in given:
        what = f"`{_called(symbol)}` needs the argument `{missing[0].name}`"
        yield Mismatch(call, what, shown(symbol))


def _mistyped(symbol: Symbol, parameter: Parameter, value: ast.expr) -> Iterator[Mismatch]:
    literal, takes = _literal(value), _takes(parameter.type)
    if not literal or takes is None or literal == "None" or literal in takes:
        return
    if literal == "str" and takes & _NUMBERS and _is_number(value):
        return
    what = f"`{parameter.name}` of `{_called(symbol)}` takes {parameter.type}"
    yield Mismatch(value, f"{what}, not `{_cut(ast.unparse(value))}`", _with_one(symbol, parameter))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _literal(node: ast.expr) -> str:
    """The type of a literal, '' for any other expression."""
    if isinstance(node, ast.Constant):
        name = type(node.value).__name__
        return "None" if node.value is None else name if name in _TAKES else ""
    return _LITERALS.get(type(node), "")


def _is_number(node: ast.expr) -> bool:
    text = node.value if isinstance(node, ast.Constant) else ""
    if isinstance(node, ast.JoinedStr):
        return True
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def _takes(written: str) -> frozenset[str] | None:
    """The literals that a type takes; None where any or an unknown type is taken."""
    try:
        node = ast.parse(written, mode="eval").body if written else None
    except SyntaxError:
        node = None
    return _taken(node) if node else None


def _taken(node: ast.expr) -> frozenset[str] | None:
    name = ast.unparse(node.value if isinstance(node, ast.Subscript) else node)
    if not isinstance(node, ast.Subscript) or name not in ("Optional", "Union"):
        return _TAKES.get(name)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    each = [_taken(part) for part in parts]
    known = [taken for taken in each if taken is not None]
    return frozenset().union(*known) if len(known) == len(each) else None
