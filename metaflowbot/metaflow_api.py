"""The real Metaflow API as a symbol table: what exists, with which arguments, and what it says.

Read from the installed package's sources and its stubs with `ast`; Metaflow itself is never
imported, because that reads configuration, loads plugins and takes most of a second.

The package says where things are and what their docstrings are. The stubs add what Metaflow makes
at run time, such as `Deployer.argo_workflows`, and the decorators of extensions. Public is what
`metaflow`, `metaflow.cards`, `metaflow.integrations` and `metaflow.exception` offer by name, and
the classes that the public members of those take or return. The latter are named as the docs name
them (`metaflow.ExecutingRun`); `Symbol.module` says where they are imported from.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from metaflowbot.errors import SourceError

Kind = Literal[
    "class",
    "function",
    "method",
    "property",
    "decorator",
    "flow-decorator",
    "variable",
    "attribute",
    "config",
]
ParameterKind = Literal["positional", "keyword", "*", "**"]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Assign | ast.AnnAssign

# Special methods that people use through syntax; the rest of the underscored names is internal.
_SPECIAL = {"__getitem__", "__setitem__", "__iter__", "__contains__"}
# Annotations mention classes from here that nobody is meant to use.
_INTERNAL = ("metaflow._vendor", "metaflow.datastore", "metaflow.decorators", "metaflow.graph")


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


@dataclass(frozen=True, slots=True)
class Symbol:
    """A public name of Metaflow.

    `name` is dotted, e.g. 'metaflow.Task.parent_tasks', or a variable, e.g. 'METAFLOW_USER'.
    `type` is what a call returns or an attribute holds, '' if unknown. `module` is where the
    outermost object is imported from. `default` is a configuration variable's, as source.
    `defined_in` is the public class that an inherited member comes from, '' for the class's own.
    `path` is relative to the folder that holds the package, `line` counts from 1.
    """

    name: str
    kind: Kind
    module: str
    path: str
    line: int
    version: str
    type: str = ""
    default: str = ""
    parameters: tuple[Parameter, ...] = ()
    doc: Docstring = Docstring()
    defined_in: str = ""

    @property
    def docstring(self) -> str:
        """The description as Markdown, without parameters, returns and raises; '' if none."""
        return self.doc.text

    @property
    def returns(self) -> tuple[Outcome, ...]:
        """What a call returns, or yields one by one; empty if the docstring does not say."""
        return self.doc.returns or self.doc.yields

    @property
    def raises(self) -> tuple[Outcome, ...]:
        """The exceptions that the docstring names."""
        return self.doc.raises

    @property
    def short(self) -> str:
        """The name as it is written after the import, e.g. 'Run.add_tag'."""
        inside = self.name.startswith(f"{self.module}.")
        return self.name.removeprefix(f"{self.module if inside else _home(self.module)}.")

    @property
    def arguments(self) -> tuple[str, ...]:
        """The parameters as a signature writes them, with the lone '*' before keywords."""
        return tuple(_arguments(self.parameters, starred="decorator" in self.kind))

    @property
    def signature(self) -> str:
        """One line of Python, e.g. 'Run.add_tag(tag: str)' or '@retry(times: int = 3)'."""
        if self.kind in ("property", "attribute", "variable", "config"):
            return f"{self.short}: {self.type}" if self.type else self.short
        if self.kind in ("decorator", "flow-decorator"):
            return f"@{self.short}({', '.join(self.arguments)})".removesuffix("()")
        arrow = f" -> {self.type}" if self.type and self.kind != "class" else ""
        return f"{self.short}({', '.join(self.arguments)}){arrow}"


def _home(module: str) -> str:
    """The package under whose name the docs list the classes of `module`."""
    return "metaflow.cards" if module.startswith("metaflow.plugins.cards") else "metaflow"


def _arguments(parameters: Iterable[Parameter], *, starred: bool = False) -> Iterator[str]:
    for parameter in parameters:
        if parameter.kind == "keyword" and not starred:
            yield "*"
        starred = starred or parameter.kind in ("*", "keyword")
        stars = parameter.kind if parameter.kind in ("*", "**") else ""
        text = f"{stars}{parameter.name}" + (f": {parameter.type}" if parameter.type else "")
        equals = " = " if parameter.type else "="
        yield text + (f"{equals}{parameter.default}" if parameter.default else "")


@dataclass(frozen=True)
class MetaflowAPI:
    """All public symbols by dotted name, read from the installed package in the folder `package`.

    `stubs` is the version of the installed stubs, '' when there are none: then what Metaflow makes
    at run time is missing from the table.
    """

    package: Path
    version: str
    stubs: str
    symbols: Mapping[str, Symbol]

    def get(self, name: str) -> Symbol | None:
        """The symbol called `name`, with or without 'metaflow.', or by its full import path."""
        for candidate in (name, f"metaflow.{name}"):
            if candidate in self.symbols:
                return self.symbols[candidate]
        parts = name.split(".")
        for cut in range(1, len(parts)):
            module, rest = ".".join(parts[:cut]), ".".join(parts[cut:])
            found = self.symbols.get(f"{_home(module)}.{rest}")
            if found and found.module == module:
                return found
        return None

    def members(self, name: str) -> tuple[Symbol, ...]:
        """The members of the class or object called `name`; empty when it has none."""
        outer = f"{name}."
        return tuple(
            symbol
            for key, symbol in self.symbols.items()
            if key.startswith(outer) and "." not in key.removeprefix(outer)
        )

    def importable(self, module: str) -> frozenset[str]:
        """The public names that `from module import …` can take; empty for an unknown module."""
        named = (item.short for item in self.symbols.values() if item.module == module)
        return frozenset(name for name in named if "." not in name)


def load(site: Path | None = None) -> MetaflowAPI:
    """Read the API of the installed Metaflow, in about a second.

    `site` is a folder of installed packages, by default this interpreter's. Raises SourceError
    when Metaflow is not installed there; without its stubs the table has the package alone.
    """
    path, version = _locate("metaflow", site)
    if path is None:
        raise SourceError("Metaflow is not installed: install the package 'metaflow'")
    stubs_path, stubs_version = _locate("metaflow-stubs", site)
    symbols = _Reader(_Package(path, ".py"), _Package(stubs_path, ".pyi"), version).read()
    return MetaflowAPI(path, version, stubs_version, MappingProxyType(symbols))


def _locate(name: str, site: Path | None) -> tuple[Path | None, str]:
    found = Distribution.discover(name=name, path=[str(site)] if site else sys.path)
    for distribution in found:
        folder = Path(str(distribution.locate_file(name)))
        if folder.is_dir():
            return folder, distribution.version
    return None, ""


@dataclass(frozen=True)
class _Module:
    """A parsed module: its definitions, and what it imports as (module, name)."""

    name: str
    path: str
    text: str
    tree: ast.Module
    definitions: Mapping[str, Definition]
    imports: Mapping[str, tuple[str, str]]


class _Package:
    """Finds definitions in a tree of sources by dotted name, following imports.

    With no `root` there is nothing to find.
    """

    def __init__(self, root: Path | None, suffix: str) -> None:
        self._root = root
        self._suffix = suffix
        self._modules: dict[str, _Module | None] = {}

    def module(self, name: str) -> _Module | None:
        """The module called `name` ('metaflow.client.core'), None when there is none."""
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> _Module | None:
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
        return _Module(name, shown, text, tree, *_top_level(tree, home))

    def find(self, module: str, name: str) -> tuple[_Module, Definition] | None:
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
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            parts = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            imports |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
        elif isinstance(node, Definition):
            definitions[_bound_name(node)] = node
    return definitions, imports


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if`, `for` and `try` among them."""
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.For):
            yield from _statements([*node.body, *node.orelse])
        else:
            yield node


def _bound_name(node: ast.stmt) -> str:
    """The name that a statement binds, '' when it binds none or several."""
    if isinstance(node, Function | ast.ClassDef):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else ""


class _Reader:
    """Walks the public names of a package and its stubs into symbols."""

    def __init__(self, package: _Package, stubs: _Package, version: str) -> None:
        self._package = package
        self._stubs = stubs
        self._version = version
        self._symbols: dict[str, Symbol] = {}
        self._public: dict[tuple[str, str], str] = {}  # (module, class) -> public name
        self._owners: dict[str, tuple[str, str]] = {}  # member -> (module, class) that defines it
        self._bases: set[tuple[str, str]] = set()  # of the classes that are public by name
        self._reached: list[tuple[str, str]] = []

    def read(self) -> dict[str, Symbol]:
        self._add_decorators()
        self._add_current()
        for name, module, original in self._public_names():
            self._add(name, name.rpartition(".")[0], module, original)
            self._bases |= set(self._owners.values())
        while self._reached:
            module, name = self._reached.pop(0)
            if (module, name) not in self._public and (module, name) not in self._bases:
                self._add(f"{_home(module)}.{name}", module, module, name)
        self._add_configuration()
        return {name: self._with_owner(symbol) for name, symbol in self._symbols.items()}

    def _with_owner(self, symbol: Symbol) -> Symbol:
        owner = self._public.get(self._owners.get(symbol.name, ("", "")), "")
        inherited = owner != symbol.name.rpartition(".")[0]
        return replace(symbol, defined_in=owner) if inherited else symbol

    def _put(self, symbol: Symbol) -> None:
        self._symbols.setdefault(symbol.name, symbol)

    def _public_names(self) -> Iterator[tuple[str, str, str]]:
        """Each public dotted name, with the module and the name it comes from."""
        for source in (self._package, self._stubs):
            for home in ("metaflow", "metaflow.cards"):
                module = source.module(home)
                for name, (origin, original) in (module.imports if module else {}).items():
                    # The extension support is what metaflow/__init__.py itself works with.
                    internal = name.startswith("_") or "extension_support" in origin
                    if origin.startswith("metaflow.") and not internal:
                        yield f"{home}.{name}", origin, original
        for home, module_name, kind in (
            ("metaflow", "metaflow.plugins", "TL_PLUGINS"),
            ("metaflow.integrations", "metaflow.integrations", "ALIASES"),
        ):
            for _, name, origin, original in self._package.plugins(module_name, kind):
                yield f"{home}.{name}", origin, original
        exceptions = self._package.module("metaflow.exception")
        for name, node in (exceptions.definitions if exceptions else {}).items():
            if isinstance(node, ast.ClassDef):
                yield f"metaflow.exception.{name}", "metaflow.exception", name

    def _add(self, name: str, home: str, module: str, original: str) -> None:
        found = self._package.find(module, original) or self._stubs.find(module, original)
        if found is None or name in self._symbols:
            return
        source, node = found
        if isinstance(node, ast.ClassDef):
            self._add_class(self._symbol(name, "class", home, source, node), source, node)
        elif isinstance(node, Function):
            kind: Kind = "decorator" if name == "metaflow.step" else "function"
            self._put(self._function(self._symbol(name, kind, home, source, node), node))
            self._reached += self._mentions(source, node)
        elif fields := _namedtuple_fields(node):
            self._add_namedtuple(self._symbol(name, "class", home, source, node), source, fields)
        else:
            self._add_variable(self._symbol(name, "variable", home, source, node), source, node)

    def _symbol(self, name: str, kind: Kind, home: str, source: _Module, node: ast.stmt) -> Symbol:
        return Symbol(name, kind, home, source.path, node.lineno, self._version)

    def _function(self, symbol: Symbol, node: Function) -> Symbol:
        doc = parse_docstring(ast.get_docstring(node) or "")
        bound = symbol.kind in ("method", "property") and "staticmethod" not in _decorators(node)
        parameters = _described(_parameters(node, bound=bound), doc.parameters)
        returned = _type(node.returns) or next((item.type for item in doc.returns), "")
        return replace(symbol, type=returned, parameters=parameters, doc=doc)

    def _add_variable(self, symbol: Symbol, source: _Module, node: Definition) -> None:
        """An instance that is made at import, such as `current`, has the members of its class."""
        value = getattr(node, "value", None)
        made = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
        found = self._package.find(source.name, made)
        if found and isinstance(found[1], ast.ClassDef):
            self._add_class(replace(symbol, type=made), found[0], found[1])
        else:
            self._put(symbol)

    def _add_namedtuple(
        self, symbol: Symbol, source: _Module, fields: tuple[Parameter, ...]
    ) -> None:
        stub = self._stubs.find(source.name, symbol.short)
        written = ast.get_docstring(stub[1]) if stub and isinstance(stub[1], ast.ClassDef) else None
        doc = parse_docstring(written or "")
        # A docstring without attributes is the one that namedtuple itself makes of the fields.
        doc = doc if doc.attributes else Docstring()
        texts = {attribute.name: attribute for attribute in doc.attributes}
        fields = tuple(texts.get(item.name, item) for item in fields)
        self._put(replace(symbol, parameters=fields, doc=doc))
        self._public[source.name, symbol.short] = symbol.name
        self._add_attributes(symbol, fields)

    def _add_attributes(self, owner: Symbol, attributes: Iterable[Parameter]) -> None:
        for item in attributes:
            name = f"{owner.name}.{item.name}"
            symbol = replace(owner, name=name, kind="attribute", type=item.type, parameters=())
            self._put(replace(symbol, doc=Docstring(item.description)))

    def _add_class(self, symbol: Symbol, source: _Module, node: ast.ClassDef) -> None:
        self._public.setdefault((source.name, node.name), symbol.name)
        lineage = self._lineage(source, node)
        doc = parse_docstring(ast.get_docstring(node) or _headline(node))
        inits = [item for _, cls in lineage for item in cls.body if _is_init(item)]
        init = inits[0] if inits and isinstance(inits[0], Function) else None
        if symbol.kind == "class":
            arguments = _parameters(init, bound=True) if init else ()
            symbol = replace(symbol, parameters=_described(arguments, doc.parameters))
        self._put(replace(symbol, doc=doc))
        members = [(owner, cls, item) for owner, cls in lineage for item in cls.body]
        stub = self._stubs.find(source.name, node.name)
        if stub and isinstance(stub[1], ast.ClassDef):
            members += [(source, node, item) for item in stub[1].body]
        bases = {cls.name for _, cls in lineage}
        for owner, cls, item in members:
            self._add_member(symbol, owner, cls, item, bases)
        self._add_attributes(symbol, [*doc.attributes, *_instance_attributes(init)])

    def _add_member(
        self, symbol: Symbol, owner: _Module, cls: ast.ClassDef, item: ast.stmt, bases: set[str]
    ) -> None:
        name = f"{symbol.name}.{_public_member(item)}"
        if not _public_member(item) or name in self._symbols:
            return
        self._owners[name] = (owner.name, cls.name)
        # A member that only the stubs have is shown where its class is.
        at = item if item in cls.body else cls
        if isinstance(item, Function):
            kind: Kind = "property" if "property" in _decorators(item) else "method"
            member = self._symbol(name, kind, symbol.module, owner, at)
            self._put(self._function(member, item))
            self._reached += [
                found for found in self._mentions(owner, item) if found[1] not in bases
            ]
        else:
            self._put(self._symbol(name, "attribute", symbol.module, owner, at))

    def _lineage(self, source: _Module, node: ast.ClassDef) -> list[tuple[_Module, ast.ClassDef]]:
        """The class and its bases inside the package, nearest first."""
        line = [(source, node)]
        for base in node.bases:
            found = self._package.find(source.name, ast.unparse(base))
            if found and isinstance(found[1], ast.ClassDef):
                line += self._lineage(found[0], found[1])
        return line

    def _mentions(self, source: _Module, node: Function) -> Iterator[tuple[str, str]]:
        """The package's classes in a function's annotations, as (module, class)."""
        arguments = [*node.args.args, *node.args.kwonlyargs]
        annotations = [node.returns, *(argument.annotation for argument in arguments)]
        for text in map(ast.unparse, filter(None, annotations)):
            for name in re.findall(r"[A-Za-z][\w.]*", text):
                found = self._package.find(source.name, name)
                if found and not found[0].name.startswith(_INTERNAL) and _is_class(found[1]):
                    yield found[0].name, _bound_name(found[1])

    def _add_decorators(self) -> None:
        for key, name, module, original in self._package.plugins("metaflow.plugins", "DECORATORS"):
            found = self._package.find(module, original)
            if found and isinstance(found[1], ast.ClassDef) and not name.endswith("_internal"):
                kind: Kind = "decorator" if key.startswith("STEP") else "flow-decorator"
                doc = parse_docstring(ast.get_docstring(found[1]) or "")
                accepted = _described(_accepted(found[1]), doc.parameters, extra=True)
                symbol = self._symbol(f"metaflow.{name}", kind, "metaflow", *found)
                self._put(replace(symbol, doc=doc, parameters=accepted))
        stub = self._stubs.module("metaflow")
        for name, node in (stub.definitions if stub else {}).items():
            if stub and isinstance(node, Function) and name != "step":
                # An extension's; those for flows are typed to take and to return a class.
                flows = "Type[FlowSpecDerived]" in ast.unparse(node)
                kind = "flow-decorator" if flows else "decorator"
                symbol = self._symbol(f"metaflow.{name}", kind, "metaflow", stub, node)
                symbol = self._function(symbol, node)
                accepted = tuple(item for item in symbol.parameters if item.kind == "keyword")
                self._put(replace(symbol, parameters=accepted, type=""))

    def _add_current(self) -> None:
        """What decorators add to `current`: documented in their docstrings, or seen in code."""
        places: dict[str, list[tuple[Symbol, Parameter]]] = {}
        for decorator in [item for item in self._symbols.values() if "decorator" in item.kind]:
            module = self._package.module(decorator.path.removesuffix(".py").replace("/", "."))
            for item in (*decorator.doc.current, *(_set_in_current(module) if module else ())):
                places.setdefault(item.name, []).append((decorator, item))
        for name, found in places.items():
            decorator, item = found[0]
            which = " or ".join(dict.fromkeys(f"`@{place.short}`" for place, _ in found))
            doc = parse_docstring(item.description)
            text = f"{doc.text}\n\nAvailable in steps with {which} only.".strip()
            symbol = replace(decorator, name=f"metaflow.current.{name}", kind="attribute")
            doc = replace(doc, text=text)
            self._put(replace(symbol, type=_tidy(item.type), parameters=(), doc=doc))

    def _add_configuration(self) -> None:
        """The METAFLOW_* variables that metaflow_config reads, with the comments above them."""
        module = self._package.module("metaflow.metaflow_config")
        for node in _statements(module.tree.body) if module else ():
            calls = (call for call in ast.walk(node) if isinstance(call, ast.Call))
            for call in calls:
                if module and ast.unparse(call.func) == "from_conf":
                    symbol = self._symbol("", "config", module.name, module, node)
                    doc = Docstring(_comment_above(module.text, node.lineno))
                    symbol = replace(symbol, default=_default(call), doc=doc)
                    for name in _configured(call.args[0], module):
                        self._put(replace(symbol, name=f"METAFLOW_{name}"))


def _configured(node: ast.expr, module: _Module) -> list[str]:
    """The names that one call reads; 'DEBUG_%s' stands for each of DEBUG_OPTIONS."""
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
        options = getattr(module.definitions.get("DEBUG_OPTIONS"), "value", None)
        elements = getattr(options, "elts", ())
        return [str(node.left.value) % option.value.upper() for option in elements]
    return [str(node.value)] if isinstance(node, ast.Constant) else []


def _default(call: ast.Call) -> str:
    """A setting's default as source; another setting's name as the variable that sets it."""
    given = [item.value for item in call.keywords if item.arg == "default"]
    node = next(iter([*call.args[1:2], *given]), None)
    if isinstance(node, ast.Name):
        return f"METAFLOW_{node.id}"
    return ast.unparse(node) if node else "None"


def _comment_above(text: str, line: int) -> str:
    """The comment that ends right above `line`, as one paragraph; '' if there is none."""
    comment: list[str] = []
    for above in reversed(text.splitlines()[: line - 1]):
        words = above.strip()
        if not words.startswith("#") or not words.strip("#"):
            break
        comment.insert(0, words.strip("# "))
    return " ".join(filter(None, comment))


def _set_in_current(module: _Module) -> Iterator[Parameter]:
    """The attributes of `current` that the code sets to a constant, with the comment above."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "current._update_env":
            keys, values = getattr(node.args[0], "keys", ()), getattr(node.args[0], "values", ())
            for key, value in zip(keys, values, strict=True):
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    comment = _comment_above(module.text, node.lineno)
                    remark = f' The source says there: "{comment}"' if comment else ""
                    text = f"Set to `{value.value!r}`.{remark}"
                    yield Parameter(ast.literal_eval(key), "str", "", text)


def _namedtuple_fields(node: Definition) -> tuple[Parameter, ...]:
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
        Parameter(ast.literal_eval(name), _type(types[0]) if types else "", default)
        for (name, *types), default in zip(pairs, padded, strict=True)
    )


def _is_class(node: Definition) -> bool:
    return isinstance(node, ast.ClassDef) or bool(_namedtuple_fields(node))


def _public_member(item: ast.stmt) -> str:
    """The name of the public member that `item` defines in a class body, else ''."""
    name = _bound_name(item)
    if isinstance(item, Function):
        special = name in _SPECIAL and ast.get_docstring(item)
        written = any(part.endswith((".setter", ".deleter")) for part in _decorators(item))
        return "" if written or (name.startswith("_") and not special) else name
    is_value = isinstance(item, ast.Assign | ast.AnnAssign)
    return name if is_value and not name.startswith("_") else ""


def _is_init(item: ast.stmt) -> bool:
    return isinstance(item, Function) and item.name == "__init__"


def _instance_attributes(init: Function | None) -> Iterator[Parameter]:
    for node in ast.walk(init) if init else ():
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        own = isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
        if isinstance(target, ast.Attribute) and own and not target.attr.startswith("_"):
            yield Parameter(target.attr)


def _decorators(node: Function) -> list[str]:
    return [ast.unparse(decorator) for decorator in node.decorator_list]


def _constant_of(node: ast.ClassDef, name: str) -> ast.expr | None:
    found = (item for item in node.body if _bound_name(item) == name)
    return next((item.value for item in found if isinstance(item, ast.Assign)), None)


def _headline(node: ast.ClassDef) -> str:
    """What an exception without a docstring prints above its message."""
    headline = _constant_of(node, "headline")
    return f"Its headline: {headline.value!s}." if isinstance(headline, ast.Constant) else ""


def _accepted(node: ast.ClassDef) -> tuple[Parameter, ...]:
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


def _parameters(node: Function, *, bound: bool) -> tuple[Parameter, ...]:
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
        Parameter(item.arg, _type(item.annotation), ast.unparse(value) if value else "", "", kind)
        for kind, pairs in groups
        for item, value in pairs
        if item and not item.arg.startswith("_")
    )


def _described(
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


def _type(annotation: ast.expr | None) -> str:
    return _tidy(ast.unparse(annotation)) if annotation else ""


def _tidy(text: str) -> str:
    """A type as a reader would write it: no quotes around names, no paths to classes."""
    text = re.sub(r"ForwardRef\(([^)]*)\)", r"\1", text)
    if "Literal[" not in text:
        text = re.sub(r"['\"]", "", text)
    return re.sub(r"\b(?:typing|metaflow(?:\.[a-z_0-9]+)*)\.(?=\w)", "", text)


# Docstrings

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
            kind = _tidy(typed["type"]) if typed else ""
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
    return (Outcome(_tidy(typed), _markdown(textwrap.dedent(text))),)


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
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(_outdent(_fence(lines))).strip()


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
