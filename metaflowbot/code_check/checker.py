"""Checks a piece of code, or all code of a Markdown text."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Iterator

from metaflowbot.code_check.arguments import nearest
from metaflowbot.code_check.blocks import (
    PYTHON,
    Piece,
    commands_in,
    language_of,
    names_bound,
    options_in,
    pieces,
    variables_bound,
    without,
)
from metaflowbot.code_check.faults import BlockFaults, Fault
from metaflowbot.code_check.flows import whole_flows
from metaflowbot.code_check.fragments import parse
from metaflowbot.code_check.metaflow_process import MetaflowProcess
from metaflowbot.code_check.python import python_faults
from metaflowbot.code_check.shell import ANY_OPTION, command_faults, option_faults
from metaflowbot.code_check.values import Names
from metaflowbot.metaflow_api import MetaflowAPI

# Some graphs take Metaflow's rules exponential time; people's flows are smaller.
_MOST_STEPS = 40
_ALIKE = 0.8
_VARIABLE = re.compile(r"\bMETAFLOW_[A-Z0-9_]*[A-Z0-9]\b(?![*<{_-])")
# Any option of `run` and `init` can be set by a variable, those of a flow's parameters among them;
# the rest are what Metaflow's own services and extensions read.
_FREE = (
    "METAFLOW_RUN_",
    "METAFLOW_INIT_",
    "METAFLOW_PARAMETER",
    "METAFLOW_CONDA_",
    "METAFLOW_KUBEFLOW_",
)


class CodeChecker:
    """Holds code against the API and the rules of the installed Metaflow. Thread-safe.

    `context` is, wherever it is taken, text that the code was written from: what that defines,
    such as people's own decorators, is no fault; without any, any option may be a flow's own.
    Nothing that is checked is run. `api` is the table that code is held against.
    """

    def __init__(self, api: MetaflowAPI) -> None:
        self.api = api
        self._process = MetaflowProcess(api.package.parent)
        self._names = Names(api, self._process.commands)

    @property
    def version(self) -> str:
        """The version of Metaflow that code is held against."""
        return self.api.version

    def warm(self) -> None:
        """Load in the background what the first check would otherwise wait for, about a second.

        Returns at once.
        """
        threading.Thread(target=self._load, name="warm-code-check", daemon=True).start()

    def _load(self) -> None:
        self.check("current.run_id\nprint('METAFLOW_HOME')")
        self._process.commands()

    def close(self) -> None:
        """End the process that Metaflow runs in; a later check starts it again."""
        self._process.close()

    def check(self, code: str, language: str = PYTHON, context: str = "") -> tuple[Fault, ...]:
        """The faults of one piece of code in order of their lines; () where nothing is wrong.

        With the language '' it is guessed. A language that is neither Python nor a shell is not
        checked, nor are lines that can't be read.
        """
        kind = language_of(language, code)
        known = _known(context)
        return tuple(self._faults(code, kind, known)) if kind else ()

    def check_markdown(self, text: str, context: str = "") -> tuple[BlockFaults, ...]:
        """The faults of every fence and of every inline piece of code that names Metaflow's.

        Pieces without faults are left out. Names that one block defines are known in all.
        """
        return tuple(
            BlockFaults(item.start, item.end, item.code, item.language, item.inline, faults)
            for item, faults in self._found(text, context)
        )

    def without_faults(self, text: str, context: str = "") -> tuple[str, tuple[str, ...]]:
        """The text without what is false, and a line for each thing that was taken out.

        A fence with a fault is replaced by one line that says why; a sentence with false inline
        code is taken out, and a line below the text says so. A text without faults comes back
        unchanged, with ().
        """
        found = list(self._found(text, context))
        checks = (str(fault) for _, faults in found for fault in faults)
        return (without(text, found), tuple(dict.fromkeys(checks))) if found else (text, ())

    def _found(self, text: str, context: str) -> Iterator[tuple[Piece, tuple[Fault, ...]]]:
        known = names_bound(text) | _known(context)
        for piece in pieces(text):
            if faults := tuple(self._piece_faults(piece, known)):
                yield piece, faults

    def _piece_faults(self, piece: Piece, known: frozenset[str]) -> list[Fault]:
        if piece.inline and piece.code.startswith("-"):
            return list(option_faults(self._names, self._process.commands(), piece.code, known))
        return self._faults(piece.code, piece.language, known)

    def _faults(self, code: str, language: str, known: frozenset[str]) -> list[Fault]:
        faults = list(self._unknown_variables(code, known))
        if language == PYTHON:
            faults += self._python_faults(code, known)
        commands = commands_in(code) if language == PYTHON else code
        if commands.strip():
            tree = self._process.commands()
            faults += command_faults(self._names, tree, commands, known)
        return sorted(faults, key=lambda fault: fault.line)

    def _python_faults(self, code: str, known: frozenset[str]) -> list[Fault]:
        tree = parse(code)
        return python_faults(self._names, tree, known) or list(self._broken_rules(tree, code))

    def _broken_rules(self, tree: ast.Module, code: str) -> Iterator[Fault]:
        for flow in whole_flows(tree, code):
            broken = self._process.broken_rule(flow) if len(flow.steps) <= _MOST_STEPS else None
            if broken:
                line = broken.line or flow.line
                said = re.sub(r"\*([\w, .()]+)\*", r"`\1`", " ".join(broken.message.split()))
                yield Fault(line, f"Metaflow refuses `{flow.name}`: {said}", "", (line, line))

    def _unknown_variables(self, code: str, known: frozenset[str]) -> Iterator[Fault]:
        own = known | variables_bound(code)
        for number, line in enumerate(code.splitlines(), start=1):
            for name in _VARIABLE.findall(line):
                if name in own | self.api.variables or name.startswith(_FREE):
                    continue
                what = f"Metaflow {self.version} reads no variable `{name}`"
                instead = nearest(name, self.api.variables, _ALIKE)
                yield Fault(number, what, instead, (number, number))


def _known(context: str) -> frozenset[str]:
    """The names that stand for something else than Metaflow's, as far as a context tells."""
    own = options_in(context) if context else frozenset((ANY_OPTION,))
    return names_bound(context) | own
