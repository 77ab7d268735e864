"""Reads the public names of a package and of its stubs into symbols."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from metaflowbot.docstrings import Docstring, Parameter, parse_docstring, tidy_type
from metaflowbot.metaflow_source import (
    Definition,
    Function,
    Module,
    Package,
    accepted_by,
    bound_name,
    comment_above,
    configured_by,
    decorators_of,
    default_of,
    describe,
    headline_of,
    instance_attributes,
    is_class,
    is_init,
    makes_members,
    namedtuple_fields,
    public_member,
    set_in_current,
    signature_of,
    statements,
    type_of,
)
from metaflowbot.metaflow_symbols import Kind, Symbol, home_of

# Annotations mention classes from here that nobody is meant to use.
_INTERNAL = (
    "metaflow._vendor",
    "metaflow.datastore",
    "metaflow.decorators",
    "metaflow.graph",
    "metaflow.runner.deployer_impl",
    "metaflow.runner.subprocess_manager",
)

# Bases that add no member that people use.
_PLAIN_BASES = {"object", "ABC", "abc.ABC"}


class Reader:
    """Walks the public names of a package and its stubs into symbols."""

    def __init__(self, package: Package, stubs: Package, version: str) -> None:
        self._package = package
        self._stubs = stubs
        self._version = version
        self._symbols: dict[str, Symbol] = {}
        self._public: dict[tuple[str, str], str] = {}  # (module, class) -> public name
        self._owners: dict[str, tuple[str, str]] = {}  # member -> (module, class) that defines it
        self._bases: set[tuple[str, str]] = set()  # of the classes that are public by name
        self._reached: list[tuple[str, str]] = []
        self._held: dict[str, str] = {}  # attribute of `current` -> class of its value

    def read(self) -> dict[str, Symbol]:
        self._add_decorators()
        self._add_current()
        for name, module, original in self._public_names():
            self._add(name, name.rpartition(".")[0], module, original)
            self._bases |= set(self._owners.values())
        while self._reached:
            module, name = self._reached.pop(0)
            if (module, name) not in self._public and (module, name) not in self._bases:
                self._add(f"{home_of(module)}.{name}", module, module, name)
        self._add_held()
        self._add_configuration()
        return {name: self._finished(symbol) for name, symbol in self._symbols.items()}

    def _finished(self, symbol: Symbol) -> Symbol:
        """With the base that a member comes from, and settings called by their public names."""
        owner = self._public.get(self._owners.get(symbol.name, ("", "")), "")
        inherited = owner != symbol.name.rpartition(".")[0]
        parameters = tuple(
            replace(item, default=setting) if setting in self._symbols else item
            for item in symbol.parameters
            for setting in [f"METAFLOW_{item.default}"]
        )
        return replace(symbol, defined_in=owner if inherited else "", parameters=parameters)

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
        elif fields := namedtuple_fields(node):
            self._add_namedtuple(self._symbol(name, "class", home, source, node), source, fields)
        else:
            self._add_variable(self._symbol(name, "variable", home, source, node), source, node)

    def _symbol(self, name: str, kind: Kind, home: str, source: Module, node: ast.stmt) -> Symbol:
        return Symbol(name, kind, home, source.path, node.lineno, self._version)

    def _function(self, symbol: Symbol, node: Function) -> Symbol:
        doc = parse_docstring(ast.get_docstring(node) or "")
        bound = symbol.kind in ("method", "property") and "staticmethod" not in decorators_of(node)
        parameters = describe(signature_of(node, bound=bound), doc.parameters)
        returned = type_of(node.returns) or next((item.type for item in doc.returns), "")
        return replace(symbol, type=returned, parameters=parameters, doc=doc)

    def _add_variable(self, symbol: Symbol, source: Module, node: Definition) -> None:
        """An instance that is made at import, such as `current`, has the members of its class."""
        value = getattr(node, "value", None)
        made = ast.unparse(value.func) if isinstance(value, ast.Call) else ""
        found = self._package.find(source.name, made)
        if found and isinstance(found[1], ast.ClassDef):
            self._add_class(replace(symbol, type=made), found[0], found[1])
        else:
            self._put(symbol)

    def _add_namedtuple(
        self, symbol: Symbol, source: Module, fields: tuple[Parameter, ...]
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
            symbol = replace(symbol, bases=(), is_open=False)
            self._put(replace(symbol, doc=Docstring(item.description)))

    def _add_class(self, symbol: Symbol, source: Module, node: ast.ClassDef) -> None:
        self._public.setdefault((source.name, node.name), symbol.name)
        lineage = self._lineage(source, node)
        doc = parse_docstring(ast.get_docstring(node) or headline_of(node))
        inits = [item for _, cls in lineage for item in cls.body if is_init(item)]
        init = inits[0] if inits and isinstance(inits[0], Function) else None
        self._reached += self._mentions(source, init) if init else ()
        self._reached += self._named(source, doc.text)
        if symbol.kind == "class":
            arguments = signature_of(init, bound=True) if init else ()
            symbol = replace(symbol, parameters=describe(arguments, doc.parameters))
        names = tuple(cls.name for _, cls in lineage[1:])
        is_open = any(makes_members(cls) for _, cls in lineage) or self._has_foreign_base(lineage)
        self._put(replace(symbol, doc=doc, bases=names, is_open=is_open))
        members = [(owner, cls, item) for owner, cls in lineage for item in cls.body]
        stub = self._stubs.find(source.name, node.name)
        if stub and isinstance(stub[1], ast.ClassDef):
            members += [(source, node, item) for item in stub[1].body]
        bases = {cls.name for _, cls in lineage}
        for owner, cls, item in members:
            self._add_member(symbol, owner, cls, item, bases)
        self._add_attributes(symbol, [*doc.attributes, *instance_attributes(init)])

    def _add_member(
        self, symbol: Symbol, owner: Module, cls: ast.ClassDef, item: ast.stmt, bases: set[str]
    ) -> None:
        name = f"{symbol.name}.{public_member(item)}"
        if not public_member(item) or name in self._symbols:
            return
        self._owners[name] = (owner.name, cls.name)
        # A member that only the stubs have is shown where its class is.
        at = item if item in cls.body else cls
        if isinstance(item, Function):
            kind: Kind = "property" if "property" in decorators_of(item) else "method"
            member = self._symbol(name, kind, symbol.module, owner, at)
            self._put(self._function(member, item))
            self._reached += [
                found for found in self._mentions(owner, item) if found[1] not in bases
            ]
        else:
            self._put(self._symbol(name, "attribute", symbol.module, owner, at))

    def _lineage(self, source: Module, node: ast.ClassDef) -> list[tuple[Module, ast.ClassDef]]:
        """The class and its bases inside the package, nearest first."""
        line = [(source, node)]
        for base in node.bases:
            found = self._package.find(source.name, ast.unparse(base))
            if found and isinstance(found[1], ast.ClassDef):
                line += self._lineage(found[0], found[1])
        return line

    def _has_foreign_base(self, lineage: list[tuple[Module, ast.ClassDef]]) -> bool:
        bases = ((source, ast.unparse(base)) for source, cls in lineage for base in cls.bases)
        return any(
            base not in _PLAIN_BASES and not self._package.find(source.name, base)
            for source, base in bases
        )

    def _named(self, source: Module, text: str) -> Iterator[tuple[str, str]]:
        """The classes of the module that a description names as code, such as `Card`."""
        for name in re.findall(r"`([A-Z]\w+)`", text):
            if isinstance(source.definitions.get(name), ast.ClassDef):
                yield source.name, name

    def _mentions(self, source: Module, node: Function) -> Iterator[tuple[str, str]]:
        """The package's classes in a function's annotations, as (module, class)."""
        arguments = [*node.args.args, *node.args.kwonlyargs]
        annotations = [node.returns, *(argument.annotation for argument in arguments)]
        for text in map(ast.unparse, filter(None, annotations)):
            for name in re.findall(r"[A-Za-z][\w.]*", text):
                found = self._package.find(source.name, name)
                if found and not found[0].name.startswith(_INTERNAL) and is_class(found[1]):
                    yield found[0].name, bound_name(found[1])

    def _add_decorators(self) -> None:
        for key, name, module, original in self._package.plugins("metaflow.plugins", "DECORATORS"):
            found = self._package.find(module, original)
            if found and isinstance(found[1], ast.ClassDef) and not name.endswith("_internal"):
                kind: Kind = "decorator" if key.startswith("STEP") else "flow-decorator"
                doc = parse_docstring(ast.get_docstring(found[1]) or "")
                accepted = describe(accepted_by(found[1]), doc.parameters, extra=True)
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
            for item in (*decorator.doc.current, *(set_in_current(module) if module else ())):
                places.setdefault(item.name, []).append((decorator, item))
        for name, found in places.items():
            decorator, item = found[0]
            which = " or ".join(dict.fromkeys(f"`@{place.short}`" for place, _ in found))
            doc = parse_docstring(item.description)
            where = "steps" if decorator.kind == "decorator" else "flows"
            text = f"{doc.text}\n\nAvailable in {where} with {which} only.".strip()
            symbol = replace(decorator, name=f"metaflow.current.{name}", kind="attribute")
            doc = replace(doc, text=text)
            self._put(replace(symbol, type=tidy_type(item.type), parameters=(), doc=doc))
            self._held[symbol.name] = item.type

    def _add_held(self) -> None:
        """The members of what `current` holds, for classes that have no public name."""
        for name, held in self._held.items():
            symbol = self._symbols[name]
            source, node = self._package.find("metaflow", held) or (None, None)
            if source and isinstance(node, ast.ClassDef):
                if (source.name, node.name) not in self._public:
                    self._add_class(symbol, source, node)
            elif node:
                self._add_attributes(symbol, namedtuple_fields(node))

    def _add_configuration(self) -> None:
        """The METAFLOW_* variables that metaflow_config reads, with the comments above them."""
        module = self._package.module("metaflow.metaflow_config")
        for node in statements(module.tree.body) if module else ():
            calls = (call for call in ast.walk(node) if isinstance(call, ast.Call))
            for call in calls:
                if module and ast.unparse(call.func) == "from_conf":
                    symbol = self._symbol("", "config", module.name, module, node)
                    doc = Docstring(comment_above(module.text, node.lineno))
                    symbol = replace(symbol, default=default_of(call), doc=doc)
                    for name in configured_by(call.args[0], module):
                        self._put(replace(symbol, name=f"METAFLOW_{name}"))
