"""Code in an answer, held against the real Metaflow.

    checker = CodeChecker(load())
    checker.check("from metaflow import Flaw")       -> (Fault(...),)
    checker.check_markdown(answer.text)              -> the faults of each fence and inline piece
    text, checks = checker.without_faults(text)      -> what can be shown, and what was taken out

Nothing that is checked is ever run.
"""

from metaflowbot.code_check.checker import CodeChecker
from metaflowbot.code_check.faults import BlockFaults, Fault

__all__ = ["BlockFaults", "CodeChecker", "Fault"]
