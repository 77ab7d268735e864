"""What an expression of Metaflow's API evaluates to, as far as the API's own types say.

`None` stands for a value of which nothing is known: nothing is said about it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from metaflowbot.code_check.metaflow_process import Command
from metaflowbot.metaflow_api import MetaflowAPI, Symbol


@dataclass(frozen=True, slots=True)
class Package:
    """A module of Metaflow, by its dotted name."""

    name: str


@dataclass(frozen=True, slots=True)
class Class:
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class Instance:
    """An object of one of the classes; `is_sure` is false where only its name says so."""

    classes: tuple[Symbol, ...]
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Routine:
    """A function, a method, or a decorator that is not yet called."""

    symbol: Symbol


@dataclass(frozen=True, slots=True)
class Items:
    """Something that is iterated, with what it yields."""

    item: Value


@dataclass(frozen=True, slots=True)
class Row:
    """A tuple."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """A value of a built-in type, e.g. 'bool': it can't be called."""

    type: str


Value = Package | Class | Instance | Routine | Items | Row | Plain | None

HOMES = ("metaflow", "metaflow.cards", "metaflow.integrations")
"""Where the public names are, all of which the API's table knows."""

_MANY = frozenset(
    "List list Iterator Iterable Sequence Set FrozenSet set Generator AsyncIterator".split()
)
_OPTIONS_OF_CLICK = {"metaflow.Parameter", "metaflow.Config", "metaflow.IncludeFile"}
_COMMANDERS = {f"metaflow.{name}" for name in ("Runner", "NBRunner", "Deployer", "NBDeployer")}
_RUNS = {"run", "resume", "spin"}
# What click's options take, and Metaflow hands on.
_CLICK = frozenset(
    """
    separator is_flag multiple nargs hidden prompt envvar callback metavar show_choices count
    flag_value is_eager expose_value show_envvar allow_from_autoenv hide_input plain_text
    """.split()
)
# What S3 takes besides: how its client is made, and what Metaflow's own code passes.
_S3 = frozenset({"role", "session_vars", "client_params", "external_client"})
_PLAIN = frozenset("bool str int float bytes dict datetime Dict".split())
# What is held by a class that has no public name is listed under the attribute that holds it.
_HELD = {"CardComponentManager": "metaflow.current.card"}


@dataclass(frozen=True, slots=True)
class Keywords:
    """Keywords that are taken besides those of a signature; `is_all` if there are no others."""

    names: frozenset[str]
    is_all: bool


class Names:
    """The symbol table by class and by type."""

    def __init__(
        self, api: MetaflowAPI, commands: Callable[[], Mapping[str, Command]] = dict
    ) -> None:
        self.api = api
        self._commands = commands
        self._members: dict[str, dict[str, Symbol]] = {}
        self._values: dict[str, Value] = {}
        for name, symbol in api.symbols.items():
            outer, _, own = name.rpartition(".")
            self._members.setdefault(outer, {})[own] = symbol

    @cached_property
    def _derived(self) -> Mapping[str, tuple[Symbol, ...]]:
        """The classes that derive from each class, by its bare name."""
        derived: dict[str, tuple[Symbol, ...]] = {}
        for symbol in self.api.symbols.values():
            for base in symbol.bases:
                derived[base] = (*derived.get(base, ()), symbol)
        return derived

    def public(self, name: str) -> Symbol | None:
        """What a bare name means where nothing else is called so: the public object."""
        for home in HOMES:
            if found := self.api.symbols.get(f"{home}.{name}"):
                return found
        return None

    def at_home(self, name: str, module: str) -> Symbol | None:
        """The public object of that name if `module` is where it comes from, by any alias."""
        found = self.public(name)
        inside = module.partition(".")[2]
        return found if found and inside and f".{inside}." in f"{found.module}." else None

    def members(self, symbol: Symbol) -> Mapping[str, Symbol]:
        """The members of a class or object by name, those of its subclasses included."""
        own = self._members.get(symbol.name, {})
        others = self._derived.get(symbol.name.rpartition(".")[2], ())
        return {key: item for other in others for key, item in self.members(other).items()} | own

    def more_keywords(self, symbol: Symbol) -> Keywords | None:
        """What is known of the keywords that a callable takes as `**`; None for nothing."""
        outer, _, own = symbol.name.rpartition(".")
        if symbol.name in _OPTIONS_OF_CLICK:
            return Keywords(_CLICK, is_all=True)
        if symbol.name == "metaflow.S3":
            return Keywords(_S3, is_all=True)
        is_run = outer in _COMMANDERS and own.rpartition("async_")[2].rpartition("nb")[2] in _RUNS
        if symbol.name not in _COMMANDERS and not is_run:
            return None
        flow = self._commands().get("flow")
        command = flow.commands.get(own.rpartition("_")[2].removeprefix("nb")) if flow else None
        read = command if is_run else flow
        names = frozenset(item.parameter for item in read.options.values()) if read else None
        # A run takes the flow's own parameters besides.
        return Keywords(names, is_all=not is_run) if names else None

    def value_of(self, symbol: Symbol) -> Value:
        """What the public object itself is."""
        if symbol.kind == "class":
            return Class(symbol)
        if symbol.kind in ("property", "attribute"):
            return self._held(symbol) or self.typed(symbol.type)
        if symbol.kind == "variable":
            return Instance((symbol,)) if symbol.name in self._members else None
        return None if symbol.kind == "config" else Routine(symbol)

    def _held(self, symbol: Symbol) -> Value:
        return Instance((symbol,)) if symbol.name in self._members else None

    def result_of(self, symbol: Symbol) -> Value:
        """What a call returns."""
        if symbol.kind == "class":
            return Instance((symbol,))
        if symbol.name.startswith("metaflow.cards.") and ".from_" in symbol.name:
            return None
        return self.typed(symbol.type)

    def typed(self, written: str) -> Value:
        """The value of a type as the API writes it, e.g. 'Optional[Run]' or 'Iterator[Step]'."""
        if written not in self._values:
            try:
                node = ast.parse(written, mode="eval").body if written else None
            except SyntaxError:
                node = None
            self._values[written] = self._typed(node) if node else None
        return self._values[written]

    def _typed(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.typed(node.value)
        if isinstance(node, ast.Subscript):
            return self._generic(ast.unparse(node.value).rpartition(".")[2], node.slice)
        name = ast.unparse(node).rpartition(".")[2]
        if name in _PLAIN:
            return Plain(name)
        found = self.api.symbols.get(_HELD.get(name, f"metaflow.{name}")) or self.public(name)
        is_class = found and (found.kind == "class" or found.name in _HELD.values())
        return Instance((found,)) if found and is_class else None

    def _generic(self, name: str, inside: ast.expr) -> Value:
        parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        if name == "Optional":
            return self._typed(inside)
        if name in _MANY:
            return Items(self._typed(parts[0]))
        if name in ("Tuple", "tuple"):
            return Row(tuple(map(self._typed, parts)))
        if name == "Union":
            named = [part for part in parts if ast.unparse(part) != "None"]
            return _either([self._typed(part) for part in named])
        return Plain("dict") if name in ("Dict", "dict") else None

    def item_of(self, value: Value) -> Value:
        """What iterating yields, one by one."""
        if isinstance(value, Items):
            return value.item
        if isinstance(value, Instance) and len(value.classes) == 1:
            # A client object yields what it is indexed for; the types of its iterators are wrong.
            members = self.members(value.classes[0])
            got, iterated = members.get("__getitem__"), members.get("__iter__")
            if got and iterated:
                return self.typed(got.type)
            return self.item_of(self.typed(iterated.type)) if iterated else None
        return None


def _either(values: list[Value]) -> Value:
    if values and all(value == values[0] for value in values):
        return values[0]
    classes = [value.classes for value in values if isinstance(value, Instance)]
    return Instance(sum(classes, ())) if classes and len(classes) == len(values) else None
