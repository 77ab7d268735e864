"""Metaflow's sources and stubs, read with `ast`: what is defined where, and what it says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from metaflowbot.docstrings import Parameter, ParameterKind, tidy_type
from metaflowbot.errors import SourceError

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Assign | ast.AnnAssign

_STAR = "*"
_UPDATE = "current._update_env"
_VARIABLE = re.compile(r"\bMETAFLOW_[A-Z0-9_]*[A-Z0-9]\b")

# Special methods that people use through syntax; the rest of the underscored names is internal.
_SPECIAL = {"__getitem__", "__setitem__", "__iter__", "__contains__"}


@dataclass(frozen=True)
class Module:
    """A parsed module: its definitions, and what it imports as (module, name)."""

    name: str
    path: str
    text: str
    tree: ast.Module
    definitions: Mapping[str, Definition]
    imports: Mapping[str, tuple[str, str]]


class Package:
    """Finds definitions in a tree of sources by dotted name, following imports.

    With no `root` there is nothing to find.
    """

    def __init__(self, root: Path | None, suffix: str) -> None:
        self._root = root
        self._suffix = suffix
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """The module called `name` ('metaflow.client.core'), None when there is none."""
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> Module | None:
        head, *rest = name.split(".")
        if head != "metaflow" or self._root is None:
            return None
        base = self._root.joinpath(*rest)
        paths = (base / f"__init__{self._suffix}", base.with_name(base.name + self._suffix))
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return None
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError) as error:
            raise SourceError(f"Metaflow's {path.name} can't be read: {error}") from error
        home = name if path.stem == "__init__" else name.rpartition(".")[0]
        shown = f"metaflow/{path.relative_to(self._root).as_posix()}"
        return Module(name, shown, text, tree, *_top_level(tree, home))

    def find(self, module: str, name: str) -> tuple[Module, Definition] | None:
        """Where `name`, used in `module`, is defined; a dotted name is taken as absolute."""
        if "." in name:
            module, _, name = name.rpartition(".")
        source = self.module(module)
        if source is None:
            return None
        if name in source.definitions:
            return source, source.definitions[name]
        origin = source.imports.get(name)
        return self.find(*origin) if origin and origin != (module, name) else None

    def is_module(self, name: str) -> bool:
        """Whether there is a module, a folder of modules, or an alias called `name`."""
        base = self._path(self._unaliased(name))
        return base is not None and (
            base.is_dir() or base.with_name(base.name + self._suffix).is_file()
        )

    def bound(self, name: str) -> frozenset[str] | None:
        """The names that a module binds, and its submodules; None if only running it can tell."""
        name = self._unaliased(name)
        base, module = self._path(name), self.module(name)
        if base is None or module is None or _STAR in module.imports or "globals()" in module.text:
            return None
        inside = base.iterdir() if base.is_dir() else ()
        imported = {alias.asname or alias.name for alias in _plain_imports(module.tree)}
        submodules = {path.stem for path in inside}
        return frozenset({*module.definitions, *module.imports, *imported, *submodules})

    def variables(self) -> frozenset[str]:
        """The names of environment variables that begin with METAFLOW_ anywhere in the sources."""
        return frozenset(name for text in self._texts() for name in _VARIABLE.findall(text))

    def kept_in_current(self) -> frozenset[str]:
        """The attributes that any module of the sources adds to `metaflow.current`."""
        trees = (ast.parse(text) for text in self._texts() if _UPDATE in text)
        return frozenset(
            str(key.value)
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == _UPDATE
            for key in getattr(node.args[0], "keys", ())
            if isinstance(key, ast.Constant)
        )

    def _texts(self) -> Iterator[str]:
        for path in sorted(self._root.rglob(f"*{self._suffix}")) if self._root else ():
            yield path.read_text(encoding="utf-8", errors="replace")

    def _path(self, name: str) -> Path | None:
        head, *rest = name.split(".")
        return self._root.joinpath(*rest) if head == "metaflow" and self._root else None

    def _unaliased(self, name: str) -> str:
        """The real name of a module that the package offers under an older one."""
        top = self.module("metaflow")
        for call in (
            [node for node in ast.walk(top.tree) if isinstance(node, ast.Call)] if top else []
        ):
            if ast.unparse(call.func) == "lazy_load_aliases" and isinstance(call.args[0], ast.Dict):
                for alias, real in ast.literal_eval(call.args[0]).items():
                    if name == alias or name.startswith(f"{alias}."):
                        return str(real) + name.removeprefix(alias)
        return name

    def plugins(self, module: str, kind: str) -> Iterator[tuple[str, str, str, str]]:
        """(list, name, module, object) for each entry of the lists with `kind` in the name."""
        source = self.module(module)
        for key, node in (source.definitions if source else {}).items():
            for pair in getattr(node.value, "elts", ()) if isinstance(node, ast.Assign) else ():
                if kind in key:
                    name, path = ast.literal_eval(pair)
                    # A path is relative to the plugins, an alias to the package.
                    base = "metaflow.plugins" if module == "metaflow.plugins" else "metaflow"
                    where, _, original = (base + path).rpartition(".")
                    yield key, name, where, original


def _top_level(
    tree: ast.Module, home: str
) -> tuple[dict[str, Definition], dict[str, tuple[str, str]]]:
    definitions: dict[str, Definition] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            parts = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            imports |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
        elif isinstance(node, Definition):
            definitions[bound_name(node)] = node
    return definitions, imports


def _plain_imports(tree: ast.Module) -> Iterator[ast.alias]:
    for node in statements(tree.body):
        if isinstance(node, ast.Import):
            yield from node.names


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if`, `for` and `try` among them."""
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.For):
            yield from statements([*node.body, *node.orelse])
        else:
            yield node


def bound_name(node: ast.stmt) -> str:
    """The name that a statement binds, '' when it binds none or several."""
    if isinstance(node, Function | ast.ClassDef):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else ""


def configured_by(node: ast.expr, module: Module) -> list[str]:
    """The names that one call reads; 'DEBUG_%s' stands for each of DEBUG_OPTIONS."""
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
        options = getattr(module.definitions.get("DEBUG_OPTIONS"), "value", None)
        elements = getattr(options, "elts", ())
        return [str(node.left.value) % option.value.upper() for option in elements]
    return [str(node.value)] if isinstance(node, ast.Constant) else []


def default_of(call: ast.Call) -> str:
    """A setting's default as source; another setting's name as the variable that sets it."""
    given = [item.value for item in call.keywords if item.arg == "default"]
    node = next(iter([*call.args[1:2], *given]), None)
    if isinstance(node, ast.Name):
        return f"METAFLOW_{node.id}"
    return ast.unparse(node) if node else "None"


def comment_above(text: str, line: int) -> str:
    """The comment that ends right above `line`, line by line; '' if there is none."""
    comment: list[str] = []
    for above in reversed(text.splitlines()[: line - 1]):
        words = above.strip()
        if not words.startswith("#") or not words.strip("#"):
            break
        comment.insert(0, words.strip("# "))
    return "\n".join(filter(None, comment))


def set_in_current(module: Module) -> Iterator[Parameter]:
    """The attributes of `current` that the code sets to a constant, with the comment above."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == _UPDATE:
            keys, values = getattr(node.args[0], "keys", ()), getattr(node.args[0], "values", ())
            for key, value in zip(keys, values, strict=True):
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    comment = comment_above(module.text, node.lineno)
                    remark = f' The source says there: "{comment}"' if comment else ""
                    text = f"Set to `{value.value!r}`.{remark}"
                    yield Parameter(ast.literal_eval(key), "str", "", text)


def namedtuple_fields(node: Definition) -> tuple[Parameter, ...]:
    """The fields of a `namedtuple(…)` call, () for any other definition."""
    call = node.value if isinstance(node, ast.Assign) else None
    if not isinstance(call, ast.Call) or "namedtuple" not in ast.unparse(call.func).lower():
        return ()
    names = getattr(call.args[1], "elts", ()) if len(call.args) > 1 else ()
    pairs = [getattr(name, "elts", [name]) for name in names]
    defaults = next((item.value for item in call.keywords if item.arg == "defaults"), None)
    values = [ast.unparse(value) for value in getattr(defaults, "elts", ())]
    padded = [""] * (len(pairs) - len(values)) + values
    return tuple(
        Parameter(ast.literal_eval(name), type_of(types[0]) if types else "", default)
        for (name, *types), default in zip(pairs, padded, strict=True)
    )


def is_class(node: Definition) -> bool:
    return isinstance(node, ast.ClassDef) or bool(namedtuple_fields(node))


def public_member(item: ast.stmt) -> str:
    """The name of the public member that `item` defines in a class body, else ''."""
    name = bound_name(item)
    if isinstance(item, Function):
        special = name in _SPECIAL and ast.get_docstring(item)
        written = any(part.endswith((".setter", ".deleter")) for part in decorators_of(item))
        return "" if written or (name.startswith("_") and not special) else name
    is_value = isinstance(item, ast.Assign | ast.AnnAssign)
    return name if is_value and not name.startswith("_") else ""


def makes_members(node: ast.ClassDef) -> bool:
    """Whether a class answers to attributes that are written nowhere."""
    made = {"__getattr__", "__getattribute__"}
    return any(isinstance(item, Function) and item.name in made for item in node.body)


def is_init(item: ast.stmt) -> bool:
    return isinstance(item, Function) and item.name == "__init__"


def instance_attributes(init: Function | None) -> Iterator[Parameter]:
    """What `__init__` sets on self; of the type of the argument that it is set to."""
    given = {item.arg: type_of(item.annotation) for item in init.args.args} if init else {}
    for node in ast.walk(init) if init else ():
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        own = isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
        if isinstance(target, ast.Attribute) and own and not target.attr.startswith("_"):
            value = node.value if isinstance(node, ast.Assign) else None
            held = given.get(value.id, "") if isinstance(value, ast.Name) else ""
            yield Parameter(target.attr, held)


def decorators_of(node: Function) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


def _constant_of(node: ast.ClassDef, name: str) -> ast.expr | None:
    found = (item for item in node.body if bound_name(item) == name)
    return next((item.value for item in found if isinstance(item, ast.Assign)), None)


def headline_of(node: ast.ClassDef) -> str:
    """What an exception without a docstring prints above its message."""
    headline = _constant_of(node, "headline")
    return f"Its headline: {headline.value!s}." if isinstance(headline, ast.Constant) else ""


def accepted_by(node: ast.ClassDef) -> tuple[Parameter, ...]:
    """The attributes that a decorator accepts: the keys of its class's `defaults`."""
    defaults = _constant_of(node, "defaults")
    pairs = (
        zip(defaults.keys, defaults.values, strict=True) if isinstance(defaults, ast.Dict) else ()
    )
    return tuple(
        Parameter(str(key.value), "", ast.unparse(value), "", "keyword")
        for key, value in pairs
        if isinstance(key, ast.Constant)
    )


def signature_of(node: Function, *, bound: bool) -> tuple[Parameter, ...]:
    """The public parameters of a signature; `bound` leaves out self or cls."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    padding: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults))
    groups: list[tuple[ParameterKind, Iterable[tuple[ast.arg | None, ast.expr | None]]]] = [
        ("positional", list(zip(plain, [*padding, *given.defaults], strict=True))[int(bound) :]),
        ("*", [(given.vararg, None)]),
        ("keyword", zip(given.kwonlyargs, given.kw_defaults, strict=True)),
        ("**", [(given.kwarg, None)]),
    ]
    return tuple(
        Parameter(item.arg, type_of(item.annotation), ast.unparse(value) if value else "", "", kind)
        for kind, pairs in groups
        for item, value in pairs
        if item and not item.arg.startswith("_")
    )


def describe(
    signature: tuple[Parameter, ...], documented: tuple[Parameter, ...], *, extra: bool = False
) -> tuple[Parameter, ...]:
    """The signature with what the docstring says of it.

    With `extra` the docstring comes first: its order, types and defaults, and what only it has.
    Otherwise what only it has is kept where the signature takes any keyword.
    """
    texts = {item.name: item for item in documented}
    known = {item.name: item for item in signature}
    if extra:
        told = tuple(replace(item, kind="keyword") for item in documented)
        return told + tuple(item for item in signature if item.name not in texts)
    described = [
        replace(item, type=item.type or text.type, description=text.description)
        if (text := texts.get(item.name))
        else item
        for item in signature
    ]
    if described and described[-1].kind == "**":
        only = [replace(item, kind="keyword") for item in documented if item.name not in known]
        described[-1:-1] = only
    return tuple(described)


def type_of(annotation: ast.expr | None) -> str:
    return tidy_type(ast.unparse(annotation)) if annotation else ""
