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

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution
from pathlib import Path
from types import MappingProxyType

from metaflowbot.errors import SourceError
from metaflowbot.metaflow_reader import Reader
from metaflowbot.metaflow_source import Package
from metaflowbot.metaflow_symbols import Symbol, home_of

__all__ = ["MetaflowAPI", "Symbol", "load"]


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
            found = self.symbols.get(f"{home_of(module)}.{rest}")
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

    def bound(self, module: str) -> frozenset[str] | None:
        """Every name, public or not, that `module` of the package binds, its submodules included.

        None when there is no such module, or when it makes names at run time.
        """
        return self._sources.bound(module)

    def has_module(self, module: str) -> bool:
        """Whether the package has a module, public or not, called `module`."""
        return self._sources.is_module(module)

    @cached_property
    def variables(self) -> frozenset[str]:
        """The METAFLOW_* environment variables that the package reads or sets anywhere."""
        configured = {item.name for item in self.symbols.values() if item.kind == "config"}
        return self._sources.variables() | configured

    @cached_property
    def kept_in_current(self) -> frozenset[str]:
        """The names of all attributes of `metaflow.current`, documented or not."""
        documented = (item.name.rpartition(".")[2] for item in self.members("metaflow.current"))
        return self._sources.kept_in_current() | frozenset(documented)

    @cached_property
    def _sources(self) -> Package:
        return Package(self.package, ".py")


def load(site: Path | None = None) -> MetaflowAPI:
    """Read the API of the installed Metaflow, in about a second.

    `site` is a folder of installed packages, by default this interpreter's. Raises SourceError
    when Metaflow is not installed there; without its stubs the table has the package alone.
    """
    path, version = _locate("metaflow", site)
    if path is None:
        raise SourceError("Metaflow is not installed: install the package 'metaflow'")
    stubs_path, stubs_version = _locate("metaflow-stubs", site)
    symbols = Reader(Package(path, ".py"), Package(stubs_path, ".pyi"), version).read()
    return MetaflowAPI(path, version, stubs_version, MappingProxyType(symbols))


def _locate(name: str, site: Path | None) -> tuple[Path | None, str]:
    found = Distribution.discover(name=name, path=[str(site)] if site else sys.path)
    for distribution in found:
        folder = Path(str(distribution.locate_file(name)))
        if folder.is_dir():
            return folder, distribution.version
    return None, ""
