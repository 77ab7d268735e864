"""One public name of Metaflow, as the table of its API holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from metaflowbot.docstrings import Docstring, Outcome, Parameter

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


@dataclass(frozen=True, slots=True)
class Symbol:
    """A public name of Metaflow.

    `name` is dotted, e.g. 'metaflow.Task.parent_tasks', or a variable, e.g. 'METAFLOW_USER'.
    `type` is what a call returns or an attribute holds, '' if unknown. `module` is where the
    outermost object is imported from. `default` is a configuration variable's, as source.
    `defined_in` is the public class that an inherited member comes from, '' for the class's own.
    `bases` are the names of a class's bases within the package, nearest first; a class that
    `is_open` has members besides those of the table, because it makes them at run time or has a
    base elsewhere.
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
    doc: Docstring = field(default_factory=Docstring)
    defined_in: str = ""
    bases: tuple[str, ...] = ()
    is_open: bool = False

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
        return self.name.removeprefix(f"{self.module if inside else home_of(self.module)}.")

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


def home_of(module: str) -> str:
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
