"""What is found wrong in code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in code that Metaflow does not have, or does not do.

    `line` counts from 1 within the code. `what` is one line for a reader, e.g. "`@gpu_pool` does
    not exist in Metaflow 2.19.39"; `instead` is the nearest real thing with its signature, '' if
    there is none. `span` are the first and the last line of the statement that is false.
    """

    line: int
    what: str
    instead: str
    span: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.what}; there is `{self.instead}`" if self.instead else self.what


@dataclass(frozen=True, slots=True)
class BlockFaults:
    """The faults of one fence, or of one inline piece of code, of a Markdown text.

    `start` and `end` are its place in the text, fences and backticks included; `code` is what is
    between them. `faults` is never empty.
    """

    start: int
    end: int
    code: str
    language: str
    inline: bool
    faults: tuple[Fault, ...]
