"""The forms of `self.next`, and what Metaflow's own rules need of a flow to judge its graph."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from metaflowbot.code_check import extensions

_FORMS = "self.next(self.step, foreach='artifact')"
_SWITCH = "self.next({'a': self.a, 'b': self.b}, condition='artifact')"
_LINEAR = "self.next(self.step)"
_KEYWORDS = {"foreach": _FORMS, "num_parallel": "self.next(self.step, num_parallel=4)"} | {
    "condition": _SWITCH
}
_LEFT_OUT = re.compile(r"^\s*#.*(?:\.\.\.|…|\b(?:rest|other|more|same|remaining)\b.*)", re.M)
Wrong = tuple[ast.AST, str, str]


def is_transition(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "self.next"


def transition_faults(node: ast.Call) -> Iterator[Wrong]:
    """What is wrong with a call of `self.next`: the place, why, and the right form."""
    given = {item.arg: item.value for item in node.keywords if item.arg}
    for keyword in node.keywords:
        if keyword.arg and keyword.arg not in _KEYWORDS:
            yield keyword, f"`self.next` has no argument `{keyword.arg}`", _FORMS
    if len(given) > 1 and set(given) <= set(_KEYWORDS):
        yield node, f"`self.next` takes one of {', '.join(given)} at a time", _FORMS
    switched = bool(node.args) and isinstance(node.args[0], ast.Dict)
    if switched and "condition" not in given:
        yield node, "a switch in `self.next` needs `condition`", _SWITCH
    if "condition" in given and node.args and isinstance(node.args[0], ast.Attribute):
        yield node, "`condition` of `self.next` goes with a dictionary of steps", _SWITCH
    if {"foreach", "num_parallel"} & set(given) and len(node.args) > 1:
        yield node, "a foreach in `self.next` leads to one step", _FORMS
    yield from _wrong_names(given)
    yield from _wrong_steps(node.args)


def _wrong_names(given: dict[str, ast.expr]) -> Iterator[Wrong]:
    for name in ("foreach", "condition"):
        if name in given and _is_no_name(given[name]):
            what = f"`{name}` of `self.next` takes the name of an artifact as a string"
            yield given[name], what, _KEYWORDS[name]


def _wrong_steps(given: list[ast.expr]) -> Iterator[Wrong]:
    for item in given:
        is_other = isinstance(item, ast.Constant | ast.Call | ast.List | ast.Tuple | ast.Lambda)
        if is_other and not (isinstance(item, ast.Constant) and item.value is ...):
            yield item, f"`self.next` takes steps, not `{ast.unparse(item)[:40]}`", _LINEAR


def _is_no_name(node: ast.expr) -> bool:
    """Whether an expression can't be a string: `self.items`, a list, a number."""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node.value) == "self"
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) and node.value is not ...
    return isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.ListComp | ast.Set)


@dataclass(frozen=True, slots=True)
class Step:
    """A step as the rules need it: its first line, arguments and last statement, and its marks.

    `source` keeps the lines, so that the rules name the right ones.
    """

    name: str
    source: str
    line: int
    is_start: bool
    is_end: bool
    is_parallel: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """A whole flow: every step is there, and none is only hinted at."""

    name: str
    line: int
    steps: tuple[Step, ...]


def whole_flows(tree: ast.Module, code: str) -> Iterator[Flow]:
    """The flows of a text that Metaflow could build; not those of which a part is left out."""
    if _LEFT_OUT.search(code):
        return
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _derives_from_spec(node):
            steps = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            steps = [item for item in steps if _marks(item)]
            if steps and not any(map(_is_hint, [*node.body, *(s for i in steps for s in i.body)])):
                flow = Flow(node.name, node.lineno, tuple(_reduced(item, steps) for item in steps))
                starts = any(step.is_start or step.name == "start" for step in flow.steps)
                if starts and any(step.is_end or step.name == "end" for step in flow.steps):
                    yield flow


def _derives_from_spec(node: ast.ClassDef) -> bool:
    return [ast.unparse(base) for base in node.bases] in (["FlowSpec"], ["metaflow.FlowSpec"])


def _is_hint(node: ast.stmt) -> bool:
    """Whether a statement stands for something that was left out."""
    return isinstance(node, ast.Expr) and (
        isinstance(node.value, ast.Constant) and node.value.value is ...
    )


def _marks(node: ast.FunctionDef) -> list[str]:
    """The names of a step's decorators, [] for a method that is no step."""
    names = [ast.unparse(item).partition("(")[0] for item in node.decorator_list]
    names = [name.removeprefix("metaflow.") for name in names]
    return names if "step" in names else []


def _reduced(node: ast.FunctionDef, steps: list[ast.FunctionDef]) -> Step:
    tail = node.body[-1]
    header = f"def {node.name}({', '.join(item.arg for item in node.args.args)}):"
    lines = "\n" * max(tail.lineno - node.lineno, 1)
    last = ast.unparse(tail) if _is_simple(tail) else "pass"
    marked = {
        item.arg
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("step")
        for item in decorator.keywords
        if isinstance(item.value, ast.Constant) and item.value.value is True
    }
    return Step(
        name=node.name,
        source=f"{header}{lines}    {last}",
        line=node.lineno,
        is_start="start" in marked,
        is_end="end" in marked,
        is_parallel=_is_parallel(node, steps),
    )


def _is_simple(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _is_parallel(node: ast.FunctionDef, steps: list[ast.FunctionDef]) -> bool:
    """Whether a step runs on many nodes; a decorator that is not known may make it so."""
    marks = set(_marks(node)) - {"step"}
    called = any(
        f"self.next(self.{node.name}, num_parallel=" in ast.unparse(item) for item in steps
    )
    return bool(marks & extensions.PARALLEL) or (called and bool(marks - _KNOWN))


_KNOWN = frozenset(
    "batch kubernetes resources retry timeout catch environment secrets card pypi conda".split()
)
