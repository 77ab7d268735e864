"""What an expression is, as far as the types of Metaflow's API say, and what is wrong with it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from metaflowbot.code_check import extensions
from metaflowbot.code_check.arguments import mismatches, nearest, shown
from metaflowbot.code_check.faults import Fault
from metaflowbot.code_check.flows import is_transition, transition_faults
from metaflowbot.code_check.values import (
    HOMES,
    Class,
    Instance,
    Items,
    Names,
    Package,
    Plain,
    Routine,
    Row,
    Value,
)
from metaflowbot.metaflow_api import Symbol

Scope = dict[str, Value]

# What fragments call the objects that they don't make; only a slip of the pen is said of these.
_USUAL = {
    "run": ("metaflow.Run", "metaflow.ExecutingRun"),
    "task": ("metaflow.Task",),
    "running": ("metaflow.ExecutingRun",),
    "deployer": ("metaflow.Deployer",),
    "deployed_flow": ("metaflow.DeployedFlow",),
    "triggered_run": ("metaflow.TriggeredRun",),
    "s3": ("metaflow.S3",),
    "s3obj": ("metaflow.S3Object",),
    "mutable_flow": ("metaflow.MutableFlow",),
    "mutable_step": ("metaflow.MutableStep",),
}
_KEEPING = frozenset("list sorted reversed tuple set iter islice filter".split())
_TAKING = frozenset("next max min choice".split())
# Likeness (0 to 1, as difflib has it) of a slip of the pen, and of what may have been meant.
_SLIP = 0.75
ALIKE = 0.6
_LIKELY = 0.7
_METHOD = 0.8


class Expressions:
    """Follows values through expressions and notes faults; `bound` are names of other things."""

    def __init__(self, names: Names, bound: frozenset[str]) -> None:
        self._names = names
        self._api = names.api
        self._bound = bound
        self._statement: ast.stmt = ast.Pass(lineno=1, end_lineno=1)
        self._methods: frozenset[str] = frozenset()
        self.faults: list[Fault] = []

    def _say(self, node: ast.AST, what: str, instead: str = "") -> None:
        start = self._statement.lineno
        line = getattr(node, "lineno", start)
        end = max(line, getattr(node, "end_lineno", line) or line)
        span = (min(start, line), max(end, self._end_of_statement()))
        self.faults.append(Fault(line, what, instead, span))

    def _end_of_statement(self) -> int:
        """The end of a simple statement; of a compound one only its head counts."""
        body = getattr(self._statement, "body", None)
        if body:
            return max(self._statement.lineno, int(body[0].lineno) - 1)
        return self._statement.end_lineno or self._statement.lineno

    def _in_module(self, module: str, name: str) -> tuple[Value, bool]:
        symbol = self._api.get(f"{module}.{name}") or self._names.at_home(name, module)
        if symbol:
            return self._names.value_of(symbol), True
        if self._api.has_module(f"{module}.{name}"):
            return Package(f"{module}.{name}"), True
        if module == "metaflow" and name in extensions.NAMES | {"__version__"}:
            return None, True
        bound = self._api.bound(module)
        return None, module not in HOMES if bound is None else name in bound

    def _bind_arguments(self, given: ast.arguments, scope: Scope, types: dict[str, str]) -> None:
        for default in (*given.defaults, *filter(None, given.kw_defaults)):
            self.value(default, scope)
        plain = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        for item in (*plain, given.vararg, given.kwarg):
            if item:
                scope[item.arg] = self._annotated(item.annotation, scope)
        for item, written in zip(given.args[1:], types.values(), strict=False):
            scope[item.arg] = scope[item.arg] or self._names.typed(written)

    def _annotated(self, annotation: ast.expr | None, scope: Scope) -> Value:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            return self._names.typed(annotation.value)
        value = self.value(annotation, scope) if annotation else None
        return Instance((value.symbol,)) if isinstance(value, Class) else None

    def _bind(self, target: ast.expr, value: Value, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for number, item in enumerate(target.elts):
                if isinstance(value, Row) and number < len(value.items):
                    self._bind(item, value.items[number], scope)
                else:
                    self._bind(item, self._names.item_of(value), scope)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, None, scope)
        elif isinstance(target, ast.Subscript):
            self.value(target, scope)
        elif isinstance(target, ast.Attribute):
            self.value(target.value, scope)

    def _iterated(self, node: ast.expr, scope: Scope) -> Value:
        value = self.value(node, scope)
        if isinstance(value, Routine) and value.symbol.kind == "method":
            short = value.symbol.short
            self._say(node, f"`{short}` is a method: call it", shown(value.symbol))
        return self._names.item_of(value)

    def value(self, node: ast.expr, scope: Scope) -> Value:
        """What the expression is; faults in it are noted on the way."""
        handler = getattr(self, f"_is_{type(node).__name__.lower()}", self._is_other)
        found: Value = handler(node, scope)
        return found

    def _is_other(self, node: ast.expr, scope: Scope) -> Value:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child, scope)
        return None

    def _is_name(self, node: ast.Name, scope: Scope) -> Value:
        if node.id in scope or node.id in self._bound:
            return scope.get(node.id)
        if node.id == "metaflow":
            return Package("metaflow")
        symbol = self._names.public(node.id)
        return self._names.value_of(symbol) if symbol else self._usual(node.id)

    def _usual(self, name: str) -> Value:
        classes = [self._api.symbols.get(item) for item in _USUAL.get(name, ())]
        found = tuple(item for item in classes if item)
        return Instance(found, is_sure=False) if found else None

    def _is_await(self, node: ast.Await, scope: Scope) -> Value:
        return self.value(node.value, scope)

    def _is_namedexpr(self, node: ast.NamedExpr, scope: Scope) -> Value:
        value = self.value(node.value, scope)
        self._bind(node.target, value, scope)
        return value

    def _is_boolop(self, node: ast.BoolOp, scope: Scope) -> Value:
        values = [self.value(item, scope) for item in node.values]
        return values[0] if all(value == values[0] for value in values) else None

    def _is_ifexp(self, node: ast.IfExp, scope: Scope) -> Value:
        self.value(node.test, scope)
        value, other = self.value(node.body, scope), self.value(node.orelse, scope)
        return value if value == other else None

    def _is_lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        inner = dict(scope)
        self._bind_arguments(node.args, inner, {})
        self.value(node.body, inner)
        return None

    def _is_listcomp(self, node: ast.ListComp | ast.GeneratorExp, scope: Scope) -> Value:
        inner = self._comprehended(node.generators, scope)
        return Items(self.value(node.elt, inner))

    _is_generatorexp = _is_listcomp
    _is_setcomp = _is_listcomp

    def _is_dictcomp(self, node: ast.DictComp, scope: Scope) -> Value:
        inner = self._comprehended(node.generators, scope)
        self.value(node.key, inner)
        self.value(node.value, inner)
        return None

    def _comprehended(self, generators: list[ast.comprehension], scope: Scope) -> Scope:
        inner = dict(scope)
        for part in generators:
            self._bind(part.target, self._iterated(part.iter, inner), inner)
            for test in part.ifs:
                self.value(test, inner)
        return inner

    def _is_subscript(self, node: ast.Subscript, scope: Scope) -> Value:
        value = self.value(node.value, scope)
        self.value(node.slice, scope)
        if isinstance(value, Items):
            return value if isinstance(node.slice, ast.Slice) else value.item
        if isinstance(value, Row) and isinstance(node.slice, ast.Constant):
            at = node.slice.value
            return value.items[at] if isinstance(at, int) and at < len(value.items) else None
        if isinstance(value, Instance) and len(value.classes) == 1:
            got = self._names.members(value.classes[0]).get("__getitem__")
            return self._names.typed(got.type) if got else None
        return None

    def _is_attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        value = self.value(node.value, scope)
        if node.attr.startswith("_") or value is None:
            return None
        if isinstance(value, Package):
            return self._of_package(node, value)
        if isinstance(value, Class):
            return self._of_class(node, value.symbol)
        if isinstance(value, Instance):
            return self._of_instance(node, value)
        if isinstance(value, Routine) and value.symbol.kind == "method":
            short = value.symbol.short
            self._say(node, f"`{short}` is a method: call it first", shown(value.symbol))
        return None

    def _of_package(self, node: ast.Attribute, package: Package) -> Value:
        value, exists = self._in_module(package.name, node.attr)
        if not exists:
            like = nearest(node.attr, self._api.importable(package.name), ALIKE)
            found = self._api.get(f"{package.name}.{like}") if like else None
            what = f"`{package.name}` has no `{node.attr}` in Metaflow {self._api.version}"
            self._say(node, what, shown(found) if found else "")
        return value

    def _of_class(self, node: ast.Attribute, symbol: Symbol) -> Value:
        members = self._names.members(symbol)
        if member := members.get(node.attr):
            return Routine(member) if member.kind == "method" else None
        if not symbol.is_open:
            self._no_member(node, (symbol,), members)
        return None

    def _of_instance(self, node: ast.Attribute, value: Instance) -> Value:
        members: dict[str, Symbol] = {}
        for symbol in value.classes:
            members = {**self._names.members(symbol), **members}
        if member := members.get(node.attr):
            return self._names.value_of(member) if value.is_sure else None
        is_current = value.classes[0].name == "metaflow.current"
        kept = self._api.kept_in_current | extensions.CURRENT if is_current else ()
        if node.attr not in kept and not any(symbol.is_open for symbol in value.classes):
            sure = value.is_sure or nearest(node.attr, list(members), _SLIP)
            if sure:
                self._no_member(node, value.classes, members)
        return None

    def _no_member(
        self,
        node: ast.Attribute,
        classes: tuple[Symbol, ...],
        members: Mapping[str, Symbol],
    ) -> None:
        like = nearest(node.attr, list(members), _LIKELY)
        found = members.get(like)
        what = f"`{classes[0].short}` has no `{node.attr}` in Metaflow {self._api.version}"
        self._say(node, what, shown(found) if found else "")

    def _is_call(self, node: ast.Call, scope: Scope) -> Value:
        if is_transition(node):
            for item, what, instead in transition_faults(node):
                self._say(item, what, instead)
        called = self._own_method(node) or self.value(node.func, scope)
        given = [self.value(item, scope) for item in node.args]
        for keyword in node.keywords:
            self.value(keyword.value, scope)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        name = node.func.attr if isinstance(node.func, ast.Attribute) and not called else name
        if called is None and given and name in _KEEPING | _TAKING | {"enumerate"}:
            return self._passed_on(name, given[0])
        return self._call(node, called)

    def _passed_on(self, name: str, value: Value) -> Value:
        """What a built-in function that hands its argument's items on returns."""
        item = self._names.item_of(value)
        if name == "enumerate":
            return Items(Row((None, item)))
        return Items(item) if name in _KEEPING else item

    def _own_method(self, node: ast.Call) -> Value:
        """The method of FlowSpec that `self.name(…)` calls, if it is one of those people call."""
        written = node.func
        on_self = isinstance(written, ast.Attribute) and ast.unparse(written.value) == "self"
        spec = self._api.symbols.get("metaflow.FlowSpec")
        if not on_self or spec is None or not isinstance(written, ast.Attribute):
            return None
        members = {
            key: item for key, item in self._names.members(spec).items() if item.kind == "method"
        }
        if written.attr in self._methods:
            return None
        if found := members.get(written.attr):
            return Routine(found) if written.attr == "merge_artifacts" else None
        if like := nearest(written.attr, ["next", "merge_artifacts", "foreach_stack"], _METHOD):
            what = f"`FlowSpec` has no `{written.attr}` in Metaflow {self._api.version}"
            self._say(node, what, f"self.{shown(members[like]).partition('.')[2]}")
        return None

    def _call(self, node: ast.Call, called: Value) -> Value:
        if isinstance(called, Class | Routine):
            self._note_mismatches(called.symbol, node)
            return self._names.result_of(called.symbol)
        if isinstance(called, Instance | Items | Row | Plain) and isinstance(
            node.func, ast.Attribute
        ):
            self._say(node, f"`{node.func.attr}` is a property: it is not called")
        return None

    def _note_mismatches(self, symbol: Symbol, node: ast.Call) -> None:
        for mismatch in mismatches(symbol, node, self._names.more_keywords(symbol)):
            self._say(mismatch.node, mismatch.what, mismatch.instead)
