"""The kinds of rule that a field of a block can be held to.

Faults name the place as Slack's answers do, with a JSON pointer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Rule(Protocol):
    def faults(self, value: Any, at: str) -> Iterator[str]:
        """One line for each thing wrong with `value`, which sits at the JSON pointer `at`."""


def _fault(what: str, at: str) -> str:
    return f"{what} [json-pointer:{at}]"


@dataclass(frozen=True)
class String:
    most: int = 0
    least: int = 1

    def faults(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield _fault("must be a string", at)
        elif len(value) < self.least:
            yield _fault(f"must be more than {self.least - 1} characters", at)
        elif self.most and len(value) > self.most:
            yield _fault(f"must be less than {self.most + 1} characters", at)


@dataclass(frozen=True)
class OneOf:
    values: frozenset[Any]

    def faults(self, value: Any, at: str) -> Iterator[str]:
        if value not in self.values:
            yield _fault("must be a valid enum value", at)


@dataclass(frozen=True)
class Number:
    least: int
    most: int

    def faults(self, value: Any, at: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield _fault("must be an integer", at)
        elif not self.least <= value <= self.most:
            yield _fault(f"must be between {self.least} and {self.most}", at)


@dataclass(frozen=True)
class Anything:
    def faults(self, value: Any, at: str) -> Iterator[str]:
        yield from ()


@dataclass(frozen=True)
class Shape:
    """An object with required (`must`) and optional (`may`) fields, and no others."""

    must: dict[str, Rule] = field(default_factory=dict)
    may: dict[str, Rule] = field(default_factory=dict)
    either: tuple[str, ...] = ()

    def faults(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _fault("must provide an object", at)
            return
        rules = self.must | self.may
        missing = [name for name in self.must if name not in value]
        if self.either and not any(name in value for name in self.either):
            missing.append(self.either[0])
        yield from (_fault(f"missing required field: {name}", at) for name in missing)
        for name, part in value.items():
            if name in rules:
                yield from rules[name].faults(part, f"{at}/{name}")
            elif name != "type":
                yield _fault(f"invalid additional property: {name}", at)


@dataclass(frozen=True)
class Typed:
    """An object whose `type`, one of `types`, says which row of the table it must satisfy."""

    types: frozenset[str]
    table: Mapping[str, Rule]

    def faults(self, value: Any, at: str) -> Iterator[str]:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in self.types:
            yield _fault(f"unsupported type: {kind}", f"{at}/type")
            return
        yield from self.table[kind].faults(value, at)


@dataclass(frozen=True)
class Items:
    most: int
    rule: Rule
    least: int = 1
    unique: str = ""

    def faults(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield _fault("must be an array", at)
            return
        if len(value) > self.most:
            yield _fault(f"no more than {self.most} items allowed", at)
        if len(value) < self.least:
            yield _fault(f"no fewer than {self.least} items allowed", at)
        for n, item in enumerate(value):
            yield from self.rule.faults(item, f"{at}/{n}")
        names = [item.get(self.unique) for item in value if isinstance(item, dict)]
        for name in {name for name in names if name and names.count(name) > 1}:
            yield _fault(f'`{self.unique}` "{name}" already exists for another element', at)
