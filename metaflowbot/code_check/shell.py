"""Command lines, held against the commands and options that Metaflow has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metaflowbot.code_check import extensions
from metaflowbot.code_check.arguments import nearest, shown
from metaflowbot.code_check.faults import Fault
from metaflowbot.code_check.metaflow_process import Command, Option
from metaflowbot.code_check.values import Names
from metaflowbot.metaflow_api import Symbol

_PROMPT = re.compile(r"^\s*(?:\([\w.-]+\)\s*)?(?:[\w.@~-]*[\w~]\s*)?[$%❯]\s+")
_PLACEHOLDER = re.compile(r"<[^<>\s][^<>]*>|\{\{?[^{}]+\}\}?|\$\{?\w+\}?|\$\([^)]*\)")
_ELSEWHERE = "PLACEHOLDER"
_OPERATORS = {"&&", "||", ";", "|", "&", ">", ">>", "<", "2>", "2>&1"}
_PYTHON = re.compile(r"(?:.*/)?python[\d.]*$")
_SCRIPT = re.compile(r".*\.py$|.*flow$", re.I)
_OWN_SCRIPT = re.compile(r"(?:[\w./~-]*/)?[\w-]+\.py")
_RUNNERS = frozenset("uv uvx run poetry pipenv pixi conda time nohup sudo exec env".split())
_HELP = frozenset({"--help", "-h", "--version"})
ANY_OPTION = "--…"
"""Stands among known names for whatever a flow that nobody sees may have for parameters."""
_SLIP = 0.8
_ALIKE = 0.6
# Environments of extensions.
_VALUES = frozenset({"fast-bakery"})


@dataclass(frozen=True, slots=True)
class _Line:
    """A command line: where it begins and ends (from 1), and its words."""

    start: int
    end: int
    words: list[str]


def spelt(option: str) -> str:
    """An option with dashes, as which Metaflow takes it as well."""
    return option.replace("_", "-")


def is_command(line: str) -> bool:
    """Whether a line of text calls a flow or `metaflow`."""
    words = _words(_PROMPT.sub("", line))
    return any(_called(part) for part in _simple(words))


def command_faults(
    names: Names, commands: Mapping[str, Command], code: str, known: frozenset[str]
) -> Iterator[Fault]:
    """The faults of a shell text; () for a shell of which Metaflow's commands are unknown.

    `known` are names that stand for something else than Metaflow's, such as own decorators, and
    the options of own parameters.
    """
    for line in _lines(code):
        for words in _simple(line.words):
            program, rest = _called(words) or ("", [])
            if program in commands:
                reading = _Reading(names, known, program)
                for what, instead in reading.faults(commands[program], rest, words):
                    yield Fault(line.start, what, instead, (line.start, line.end))


def option_faults(
    names: Names, commands: Mapping[str, Command], written: str, known: frozenset[str]
) -> Iterator[Fault]:
    """The faults of an option that stands alone, e.g. '--with batch:cpu=2' or '--max-workers'.

    It may be any command's, or a flow's own parameter: only a slip of the pen is a fault.
    """
    name, _, value = written.replace("=", " ", 1).partition(" ")
    options = [item.options for item in _every(commands)]
    reading = _Reading(names, known, "flow")
    named = [given[name] for given in options if name in given]
    every = {key for given in options for key in given}
    found: list[Wrong] = []
    if named and value and all(option.values for option in named):
        each = [list(reading.valued(name, option, [value])) for option in named]
        found = each[0] if all(each) else []
    elif not named and (like := nearest(name, sorted(every), _SLIP)):
        found = [(f"Metaflow {names.api.version} has no option `{name}`", like)]
    for what, instead in found:
        yield Fault(1, what, instead, (1, 1))


def _values_of_unknown(command: Command, rest: list[str]) -> int:
    """How many words are taken for the values of an option that is not known."""
    if not command.commands:
        return 0
    ends = (n for n, word in enumerate(rest) if word in command.commands or word[:1] == "-")
    return next(ends, 0)


def _says_flow(words: list[str]) -> bool:
    return any("flow" in word.lower() for word in words)


def _every(commands: Mapping[str, Command]) -> Iterator[Command]:
    for command in commands.values():
        yield command
        yield from _every(command.commands)


def _lines(code: str) -> Iterator[_Line]:
    """Commands over several lines as one; where there are prompts the rest is output."""
    rows = code.splitlines()
    prompted = any(_PROMPT.match(row) for row in rows)
    start, whole = 0, ""
    for number, row in enumerate(rows, start=1):
        goes_on = bool(whole)
        if not goes_on and prompted and not _PROMPT.match(row):
            continue
        text = row if goes_on else _PROMPT.sub("", row)
        start = start if goes_on else number
        whole = f"{whole} {text.strip()}".strip()
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        yield _Line(start, number, _words(whole))
        whole = ""
    if whole:
        yield _Line(start, len(rows), _words(whole))


def _words(text: str) -> list[str]:
    """The words of a command, placeholders as one word; [] for what no shell would read."""
    text = _PLACEHOLDER.sub(_ELSEWHERE, text).replace("[OPTIONS]", "")
    text = re.sub(r"\[(-[^\]]*)\]", r"\1", text)
    try:
        words = shlex.split(text.replace(";", " ; "), comments=True)
    except ValueError:
        return []
    return words


def _simple(words: list[str]) -> Iterator[list[str]]:
    """The simple commands of a line, without what is set for them."""
    command: list[str] = []
    for word in [*words, ";"]:
        if word in _OPERATORS:
            yield command
            command = []
        elif command or not re.match(r"\w+=", word):
            command.append(word)


def _called(words: list[str]) -> tuple[str, list[str]] | None:
    """'flow' or 'metaflow' and the words behind the script; None for other programs."""
    at = 0
    while at < len(words) and (words[at] in _RUNNERS or words[at].startswith("-")):
        at += 1
    if at < len(words) and _PYTHON.match(words[at]):
        at += 1
        while at < len(words) and words[at].startswith("-"):
            if words[at] in ("-m", "-c"):
                return None
            at += 1
        is_script = at < len(words) and bool(_SCRIPT.match(words[at]) or words[at] == _ELSEWHERE)
        return ("flow", words[at + 1 :]) if is_script else None
    if at < len(words) and words[at] == "metaflow":
        return "metaflow", words[at + 1 :]
    is_script = at < len(words) and bool(_OWN_SCRIPT.fullmatch(words[at]))
    return ("flow", words[at + 1 :]) if is_script else None


Wrong = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads the words behind a program."""

    names: Names
    known: frozenset[str]
    program: str

    def faults(self, command: Command, rest: list[str], words: list[str]) -> Iterator[Wrong]:
        path: list[tuple[str, Command]] = [("", command)]
        unknown: list[Wrong] = []
        at = 0
        while at < len(rest):
            word = rest[at]
            at += 1
            current = path[-1][1]
            if word == "--":
                return
            if word.startswith("-") and len(word) > 1 and not re.match(r"-\d", word):
                name, equals, value = word.partition("=")
                option = current.options.get(name)
                if option is None:
                    unknown += self._unknown(name, path)
                    at += _values_of_unknown(current, rest[at:])
                elif option.values:
                    given = [value] if equals else rest[at : at + option.values]
                    at += 0 if equals else option.values
                    yield from self.valued(name, option, given)
            elif current.commands:
                if word not in current.commands:
                    unknown += self._no_command(word, path, words)
                    break
                path.append((word, current.commands[word]))
        # A script that is given no command of Metaflow's may be no flow.
        if len(path) > 1 or _says_flow(words):
            yield from unknown

    def _unknown(self, name: str, path: list[tuple[str, Command]]) -> Iterator[Wrong]:
        spoken = " ".join(filter(None, (word for word, _ in path)))
        current = path[-1][1]
        if name in _HELP or name.strip("-") in ("", "...", "…", "options", _ELSEWHERE):
            return
        if before := next(
            (item.options[name] for _, item in path[:-1] if name in item.options), None
        ):
            values = " …" * before.values
            yield f"`{name}` goes before `{path[1][0]}`", f"python flow.py {name}{values} {spoken}"
            return
        if current.takes_parameters and spelt(name) in self.known:
            return
        is_own = current.takes_parameters and ANY_OPTION in self.known
        like = nearest(name, list(current.options), _SLIP if current.takes_parameters else _ALIKE)
        if like or not is_own:
            of = f"`{spoken}`" if spoken else f"the command line of a {self.program}"
            yield f"{of} has no option `{name}` in Metaflow {self.names.api.version}", like

    def _no_command(
        self, word: str, path: list[tuple[str, Command]], words: list[str]
    ) -> Iterator[Wrong]:
        current = path[-1][1]
        extra = extensions.COMMANDS if self.program == "flow" else extensions.PROGRAMS
        if word in extra or not re.fullmatch(r"[a-z][a-z-]+", word):
            return
        like = nearest(word, list(current.commands), _SLIP)
        is_flow = self.program == "metaflow" or _says_flow(words)
        if like or len(path) > 1 or is_flow:
            spoken = " ".join(filter(None, (item for item, _ in path)))
            whole = "metaflow" if self.program == "metaflow" else "a flow"
            of = f"`{spoken}`" if spoken else f"`{whole}`" if whole == "metaflow" else whole
            like = like or nearest(word, list(current.commands), _ALIKE)
            instead = f"{spoken} {like}".strip() if like else ""
            yield f"{of} has no command `{word}` in Metaflow {self.names.api.version}", instead

    def valued(self, name: str, option: Option, given: list[str]) -> Iterator[Wrong]:
        value = given[0] if given else ""
        if name == "--with":
            yield from self._decorated(value)
        elif (
            option.choices
            and re.fullmatch(r"[a-z][a-z0-9_-]*", value)
            and value not in _VALUES.union(option.choices)
        ):
            what = f"`{name}` takes {', '.join(option.choices)}, not `{value}`"
            yield what, nearest(value, list(option.choices), _ALIKE)

    def _decorated(self, spec: str) -> Iterator[Wrong]:
        """`--with name:argument=value,…`; a dotted name is one's own."""
        name, _, given = spec.partition(":")
        if not re.fullmatch(r"[a-z]\w*", name) or name in extensions.DECORATORS | self.known:
            return
        symbol = self.names.api.symbols.get(f"metaflow.{name}")
        if symbol is None or symbol.kind != "decorator" or name == "step":
            like = nearest(name, self._step_decorators(), _ALIKE)
            instead = f"--with {like}" if like else ""
            yield f"`--with {name}`: Metaflow {self.names.api.version} has no `@{name}`", instead
            return
        yield from self._specified(symbol, given)

    def _specified(self, symbol: Symbol, given: str) -> Iterator[Wrong]:
        if re.search(r"[\[{\"']", given):
            return
        takes = [item.name for item in symbol.parameters]
        for argument in filter(None, (part.partition("=")[0] for part in given.split(","))):
            if argument not in takes and re.fullmatch(r"\w+", argument) and "=" in given:
                like = nearest(argument, takes, _ALIKE)
                instead = f"--with {symbol.short}:{like}=…" if like else shown(symbol)
                yield f"`@{symbol.short}` has no argument `{argument}`", instead

    def _step_decorators(self) -> list[str]:
        symbols = self.names.api.symbols.values()
        return [item.short for item in symbols if item.kind == "decorator"]
