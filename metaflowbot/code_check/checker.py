"""Checks a piece of code, or all code of a Markdown text."""

from __future__ import annotations

from metaflowbot.code_check.faults import BlockFaults, Fault
from metaflowbot.metaflow_api import MetaflowAPI


class CodeChecker:
    """Holds code against the API of the installed Metaflow. Thread-safe."""

    def __init__(self, api: MetaflowAPI) -> None:
        self._api = api

    @property
    def version(self) -> str:
        """The version of Metaflow that code is held against."""
        return self._api.version

    def check(self, code: str, language: str = "python") -> tuple[Fault, ...]:
        """The faults of one piece of code in order of their lines; () where nothing is wrong.

        A language that is neither Python nor a shell is not checked, nor is text that can't be
        parsed.
        """
        return ()

    def check_markdown(self, text: str) -> tuple[BlockFaults, ...]:
        """The faults of every fence and of every inline piece of code that names Metaflow's."""
        return ()

    def without_faults(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text without what is false, and a line for each thing that was taken out.

        A fence with a fault is replaced by one line that says why; a sentence with false inline
        code is taken out, and a line below says so. A text without faults comes back unchanged.
        """
        return text, ()
