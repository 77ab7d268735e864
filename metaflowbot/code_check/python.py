"""Python, held against Metaflow's API: a walk that knows what the API's own objects are.

It follows Metaflow's names through imports, assignments, calls, loops and `with`, as far as the
API's types go. What it does not know it says nothing about.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
from collections.abc import Iterable

from metaflowbot.code_check import extensions
from metaflowbot.code_check.arguments import nearest, shown
from metaflowbot.code_check.expressions import ALIKE, Expressions, Scope
from metaflowbot.code_check.faults import Fault
from metaflowbot.code_check.values import Class, Names, Package, Routine, Value

# Decorators from elsewhere that people use without showing the import.
_FOREIGN = frozenset(
    """
    dataclass cached_property wraps lru_cache cache contextmanager asynccontextmanager overload
    abstractmethod fixture task flow job op asset njit jit component pipeline singledispatch
    total_ordering override final override_settings validator field_validator
    """.split()
)


def python_faults(names: Names, tree: ast.Module, known: frozenset[str]) -> list[Fault]:
    """The faults of a parsed text, in the order of its lines.

    `known` are names that stand for something else than Metaflow's, though the text binds them
    nowhere.
    """
    walk = _Walk(names, _bound_in(tree) | known)
    # What is nested deeper than Python's own stack is read as far as that goes.
    with contextlib.suppress(RecursionError):
        walk.read(tree)
    found = {(fault.line, fault.what): fault for fault in walk.faults}
    return sorted(found.values(), key=lambda fault: fault.line)


def _bound_in(tree: ast.Module) -> frozenset[str]:
    """Every name that the text binds anywhere."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(item.asname or item.name).partition(".")[0] for item in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return frozenset(bound)


class _Walk(Expressions):
    def read(self, tree: ast.Module) -> None:
        self._methods = frozenset(
            item.name for item in ast.walk(tree) if isinstance(item, ast.FunctionDef)
        )
        self.block(tree.body, {})

    # Statements

    def block(self, body: Iterable[ast.stmt], scope: Scope) -> None:
        for node in body:
            self._statement = node
            handler = getattr(self, f"_do_{type(node).__name__.lower()}", self._do_other)
            handler(node, scope)

    def _do_other(self, node: ast.stmt, scope: Scope) -> None:
        """Evaluate what the statement evaluates, and go through its blocks as branches."""
        branches: list[list[ast.stmt]] = []
        for _, field in ast.iter_fields(node):
            for item in field if isinstance(field, list) else [field]:
                if isinstance(item, ast.expr):
                    self.value(item, scope)
            if isinstance(field, list) and field and isinstance(field[0], ast.stmt):
                branches.append(field)
        if branches:
            self._branches(branches, scope)

    def _branches(self, branches: list[list[ast.stmt]], scope: Scope) -> None:
        """Go through alternatives; what they leave differently is not known afterwards."""
        after = [dict(scope) for _ in branches]
        for branch, own in zip(branches, after, strict=True):
            self.block(branch, own)
        if len(branches) == 1:
            after.append(dict(scope))
        for name in {name for own in after for name in own}:
            values = [own.get(name) for own in after]
            scope[name] = values[0] if all(value == values[0] for value in values) else None

    def _do_try(self, node: ast.Try, scope: Scope) -> None:
        self.block(node.body, scope)
        self.block(node.orelse, scope)
        self._branches([[], *(handler.body for handler in node.handlers)], scope)
        self.block(node.finalbody, scope)

    def _do_match(self, node: ast.Match, scope: Scope) -> None:
        self.value(node.subject, scope)
        self._branches([[], *(case.body for case in node.cases)], scope)

    def _do_import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            ours = top == "metaflow" and self._module_exists(node, alias.name)
            whole = Package(alias.name) if ours else None
            scope[alias.asname or top] = whole if alias.asname else Package(top) if ours else None

    def _module_exists(self, node: ast.stmt, name: str) -> bool:
        found = self._api.has_module(name) or name.startswith("metaflow_extensions")
        if not found:
            self._say(node, f"Metaflow {self._api.version} has no module `{name}`")
        return found

    def _do_importfrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = node.module or ""
        ours = not node.level and module.partition(".")[0] == "metaflow"
        exists = ours and self._module_exists(node, module)
        for alias in node.names:
            bound = alias.asname or alias.name
            scope[bound] = self._imported(alias, module) if exists else None

    def _imported(self, alias: ast.alias, module: str) -> Value:
        value, exists = self._in_module(module, alias.name)
        if not exists and alias.name != "*":
            what = f"`{alias.name}` can't be imported from `{module}` in Metaflow "
            self._say(alias, what + self._api.version, self._import_of(alias.name, module))
        return value

    def _import_of(self, name: str, module: str) -> str:
        """The import that is meant: the same name from elsewhere, or the nearest one."""
        if elsewhere := self._names.public(name) or self._api.get(name):
            return f"from {elsewhere.module} import {name}"
        like = nearest(name, self._api.importable(module), ALIKE)
        return f"from {module} import {like}" if like else ""

    def _do_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        self._decorators(node, scope, node.decorator_list)
        inner = dict(scope)
        self._bind_arguments(node.args, inner, {})
        scope[node.name] = None
        self.block(node.body, inner)

    _do_asyncfunctiondef = _do_functiondef

    def _do_classdef(self, node: ast.ClassDef, scope: Scope) -> None:
        self._decorators(node, scope, node.decorator_list)
        bases = [self.value(base, scope) for base in node.bases]
        inner = dict(scope)
        overridden = {
            name: member
            for base in bases
            if isinstance(base, Class)
            for name, member in self._names.members(base.symbol).items()
        }
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name in overridden:
                self._statement = item
                types = {given.name: given.type for given in overridden[item.name].parameters}
                own = dict(inner)
                self._bind_arguments(item.args, own, types)
                self.block(item.body, own)
            else:
                self.block([item], inner)
        scope[node.name] = None

    def _do_assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self._bind(target, value, scope)

    def _do_annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        value = self.value(node.value, scope) if node.value else None
        self._bind(node.target, value or self._annotated(node.annotation, scope), scope)

    def _do_for(self, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
        inner = dict(scope)
        self._bind(node.target, self._iterated(node.iter, scope), inner)
        self.block(node.body, inner)
        for name, value in inner.items():
            scope[name] = value if name not in scope or scope[name] == value else None
        self.block(node.orelse, scope)

    _do_asyncfor = _do_for

    def _do_with(self, node: ast.With | ast.AsyncWith, scope: Scope) -> None:
        for item in node.items:
            value = self.value(item.context_expr, scope)
            if item.optional_vars:
                self._bind(item.optional_vars, value, scope)
        self.block(node.body, scope)

    _do_asyncwith = _do_with

    # Decorators

    def _decorators(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
        scope: Scope,
        decorators: list[ast.expr],
    ) -> None:
        kinds = []
        for item in decorators:
            self._statement = ast.copy_location(ast.Expr(item), item)
            kinds.append(self._decorator(item, node, scope))
        steps = [number for number, kind in enumerate(kinds) if kind == "step"]
        for number, kind in enumerate(kinds):
            self._statement = ast.copy_location(ast.Expr(decorators[number]), decorators[number])
            written = ast.unparse(decorators[number]).partition("(")[0]
            if kind == "flow-decorator" and steps:
                self._say(decorators[number], f"`@{written}` is for the flow's class, not a step")
            elif kind == "decorator" and isinstance(node, ast.ClassDef):
                self._say(decorators[number], f"`@{written}` is for steps, not for the class")
            elif kind == "decorator" and steps and number > steps[-1]:
                self._say(decorators[number], f"`@{written}` stands above `@step`, not below it")

    def _decorator(
        self,
        node: ast.expr,
        target: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
        scope: Scope,
    ) -> str:
        """Check one decorator; its kind, 'step' for @step, '' for what is not Metaflow's."""
        written = node.func if isinstance(node, ast.Call) else node
        if isinstance(written, ast.Name) and self._is_unknown(written.id, scope):
            if self._is_ours(target):
                self._say(node, *self._no_decorator(written.id))
            return ""
        value = self.value(written, scope)
        symbol = value.symbol if isinstance(value, Routine) else None
        if isinstance(node, ast.Call):
            self._call(node, value)
        if symbol is None or "decorator" not in symbol.kind:
            return ""
        return "step" if symbol.name == "metaflow.step" else symbol.kind

    def _is_unknown(self, name: str, scope: Scope) -> bool:
        known = name in scope or name in self._bound or hasattr(builtins, name)
        public = self._names.public(name)
        is_decorator = public is not None and public.kind != "class"
        return not (known or is_decorator or name in _FOREIGN | extensions.DECORATORS)

    def _is_ours(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
        """Whether what is decorated is a flow, a step, or left out of the fragment."""
        others = {ast.unparse(item).partition("(")[0] for item in node.decorator_list}
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        is_flow = any("Flow" in ast.unparse(base) for base in bases)
        return is_flow or node.name == "_" or "step" in others or "metaflow.step" in others

    def _no_decorator(self, name: str) -> tuple[str, str]:
        decorators = {
            item.short: item for item in self._api.symbols.values() if "decorator" in item.kind
        }
        like = nearest(name, list(decorators), ALIKE)
        what = f"`@{name}` does not exist in Metaflow {self._api.version}"
        return what, shown(decorators[like]) if like else ""
