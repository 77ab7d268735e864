"""A runnable flow around the constructs that a question names, with the test that runs it.

The flow does not claim to reproduce the problem: it shows the constructs at work, locally, and is
the place into which the problem is brought. What needs a cluster, an account or a package index
can't run anywhere and is named instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What a text says when it is about a construct. Names in code count, and the plainest words for it.
_RUNNABLE: Mapping[str, str] = {
    "retry": r"@retry\b|\bretr(?:y|ies|ying|ied)\b",
    "catch": r"@catch\b",
    "timeout": r"@timeout\b",
    "card": r"@card\b|\bcurrent\.card\b",
    "resources": r"@resources\b",
    "environment": r"@environment\b",
    "foreach": r"\bforeach\b|\bfan[- ]?out\b",
    "branch": r"\bbranch(?:es|ing)?\b|\bparallel steps\b",
    "Parameter": r"\bParameters?\(|\b[Pp]arameter of (?:a|the) flow\b|`Parameter`",
    "project": r"@project\b",
    "schedule": r"@schedule\b",
}
_ELSEWHERE: Mapping[str, str] = {
    "@kubernetes": r"@kubernetes\b|\bkubernetes\b",
    "@batch": r"@batch\b|\bAWS Batch\b",
    "@conda": r"@conda(?:_base)?\b",
    "@pypi": r"@pypi(?:_base)?\b",
    "@secrets": r"@secrets\b",
    "@trigger": r"@trigger(?:_on_finish)?\b",
    "argo-workflows": r"\bargo[- ]workflows?\b",
    "step-functions": r"\bstep[- ]functions\b",
    "airflow": r"\bairflow\b",
    "metaflow.S3": r"\bmetaflow\.S3\b|\bS3\(",
    "resume": r"\bresume\b",
}
_HINTS: Mapping[str, str] = {
    "@kubernetes": "run the flow with `--with kubernetes`",
    "@batch": "run the flow with `--with batch`",
    "@conda": "add the decorator to `work` and run with `--environment=conda`",
    "@pypi": "add the decorator to `work` and run with `--environment=pypi`",
    "@secrets": "add the decorator with a source that your deployment knows",
    "@trigger": "deploy the flow; triggers do nothing in a local run",
    "argo-workflows": "deploy the flow with `argo-workflows create`",
    "step-functions": "deploy the flow with `step-functions create`",
    "airflow": "deploy the flow with `airflow create`",
    "metaflow.S3": "read from a bucket of your own in `work`",
    "resume": "let `work` fail, mend it, and call `python flow.py resume`",
}
_DECORATORS: Mapping[str, str] = {
    "retry": "@retry(times=2, minutes_between_retries=0)",
    "catch": '@catch(var="failure")',
    "timeout": "@timeout(minutes=1)",
    "card": "@card",
    "resources": "@resources(cpu=1, memory=512)",
    "environment": '@environment(vars={"EXAMPLE": "isolated"})',
}
_PURPOSE = """A minimal flow in which the problem is to be isolated.

It runs as it is and shows the constructs below at work. It was put together from their names, so
it is not the problem itself yet: bring that into the step that does the work."""
# What the last worker's number is, by how it gets its number.
_LAST = {"self.input": 3, "2": 2, "self.number": 1}
_CAUGHT = '"fails in every attempt: @catch keeps the exception"'
_FLOW_DECORATORS: Mapping[str, str] = {
    "project": '@project(name="from_the_trenches")',
    "schedule": "@schedule(daily=True)",
}


@dataclass(frozen=True, slots=True)
class Constructs:
    """What of Metaflow a text is about: what runs anywhere, and what needs more than that."""

    runnable: tuple[str, ...]
    elsewhere: tuple[str, ...]

    @classmethod
    def named_in(cls, text: str) -> Constructs:
        """The constructs that the text names; both () for a text that names none."""
        return cls(
            tuple(name for name, sign in _RUNNABLE.items() if re.search(sign, text)),
            tuple(name for name, sign in _ELSEWHERE.items() if re.search(sign, text, re.I)),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All of them as they are written in code."""
        plain = ("foreach", "branch", "Parameter")
        runnable = (name if name in plain else f"@{name}" for name in self.runnable)
        return (*runnable, *self.elsewhere)

    @property
    def hints(self) -> tuple[str, ...]:
        """How each construct that does not run everywhere is brought in."""
        return tuple(f"`{name}`: {_HINTS[name]}" for name in self.elsewhere)


@dataclass(frozen=True, slots=True)
class ExampleFlow:
    """`flow.py` and `test_flow.py`."""

    source: str
    test: str

    @property
    def class_alone(self) -> str:
        """The flow without what stands above and below its class: what a slide has room for."""
        return self.source.split("\n\n\n")[1]


def example_flow(constructs: Constructs) -> ExampleFlow:
    """The flow over these constructs; without any that runs, one with an empty step `work`."""
    shape = next((s for s in ("foreach", "branch") if s in constructs.runnable), "line")
    lines = [
        *_head(constructs),
        *_class(constructs),
        *_start(shape),
        *_work(constructs, shape),
        *(_join(constructs, shape) if shape != "line" else []),
        *_end(constructs),
    ]
    expected = json.dumps(_expected(constructs, shape))
    return ExampleFlow("\n".join(lines) + "\n", _TEST.replace("EXPECTED", expected))


def _fails_first(constructs: Constructs) -> bool:
    return "retry" in constructs.runnable


def _fails_always(constructs: Constructs) -> bool:
    """Whether the last item fails in every attempt, for @catch to have something to catch."""
    return "catch" in constructs.runnable


def _expected(constructs: Constructs, shape: str) -> list[int | None]:
    squares = {"foreach": [1, 4, 9], "branch": [1, 4], "line": [1]}[shape]
    return [*squares[:-1], None] if _fails_always(constructs) else [*squares]


def _head(constructs: Constructs) -> list[str]:
    used = [name for name in (*_DECORATORS, *_FLOW_DECORATORS) if name in constructs.runnable]
    used += ["Parameter"] * ("Parameter" in constructs.runnable)
    used += ["current"] * _fails_first(constructs)
    names = sorted({"FlowSpec", "step", *used}, key=lambda name: (name.islower(), name))
    imports = ["from metaflow import (", *(f"    {name}," for name in names), ")"]
    return [
        '"""' + _PURPOSE,
        "",
        *_named(constructs),
        '"""',
        "",
        "import json",
        "",
        *imports,
        "",
        "",
    ]


def _named(constructs: Constructs) -> list[str]:
    """What the flow is built around, a construct a line."""
    if not constructs.names:
        return ["The question names no construct of Metaflow: this is only the shape of a flow."]
    there = [f"- {name}" for name in constructs.names if name not in constructs.elsewhere]
    away = [f"- {name} (needs more than this computer)" for name in constructs.elsewhere]
    return ["The question names:", "", *there, *away]


def _class(constructs: Constructs) -> list[str]:
    above = [text for name, text in _FLOW_DECORATORS.items() if name in constructs.runnable]
    return [*above, "class IsolatedFlow(FlowSpec):", *_parameter(constructs)]


def _parameter(constructs: Constructs) -> list[str]:
    if "Parameter" not in constructs.runnable:
        return []
    return ['    power = Parameter("power", default=2, help="What each number is raised to")', ""]


def _start(shape: str) -> list[str]:
    begin = {
        "foreach": ["self.numbers = [1, 2, 3]", 'self.next(self.work, foreach="numbers")'],
        "branch": ["self.next(self.work_one, self.work_two)"],
        "line": ["self.number = 1", "self.next(self.work)"],
    }[shape]
    return ["    @step", "    def start(self):", *_indented(begin), ""]


def _work(constructs: Constructs, shape: str) -> list[str]:
    if shape == "branch":
        return [
            *_worker(constructs, "work_one", "1", "join"),
            *_worker(constructs, "work_two", "2", "join"),
        ]
    number = "self.input" if shape == "foreach" else "self.number"
    return _worker(constructs, "work", number, "join" if shape == "foreach" else "end")


def _worker(constructs: Constructs, name: str, number: str, after: str) -> list[str]:
    above = [f"    {text}" for key, text in _DECORATORS.items() if key in constructs.runnable]
    power = "self.power" if "Parameter" in constructs.runnable else "2"
    body = [f"number = {number}"]
    if _fails_first(constructs):
        body += [
            "if current.retry_count == 0:",
            '    raise RuntimeError("fails on purpose once: @retry runs it again")',
        ]
    if _fails_always(constructs) and number in _LAST:
        body += [f"if number == {_LAST[number]}:", f"    raise ValueError({_CAUGHT})"]
    body += [f"self.result = number ** {power}", f"self.next(self.{after})"]
    return [*above, "    @step", f"    def {name}(self):", *_indented(body), ""]


def _join(constructs: Constructs, shape: str) -> list[str]:
    """The results in an order of their own: tasks come in as they end."""
    found = 'getattr(task, "result", None)' if _fails_always(constructs) else "task.result"
    tasks = {
        "foreach": "sorted(inputs, key=lambda task: task.index)",
        "branch": "[inputs.work_one, inputs.work_two]",
    }[shape]
    body = [f"tasks = {tasks}", f"self.results = [{found} for task in tasks]"]
    return [
        "    @step",
        "    def join(self, inputs):",
        *_indented([*body, "self.next(self.end)"]),
        "",
    ]


def _end(constructs: Constructs) -> list[str]:
    joined = {"foreach", "branch"} & set(constructs.runnable)
    alone = 'getattr(self, "result", None)' if _fails_always(constructs) else "self.result"
    results = "self.results" if joined else f"[{alone}]"
    return [
        "    @step",
        "    def end(self):",
        f'        print("RESULT", json.dumps({results}))',
        "",
        "",
        'if __name__ == "__main__":',
        "    IsolatedFlow()",
    ]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"        {line}" for line in lines]


_TEST = '''"""Runs the flow as a person would, with everything it keeps in a folder of the test."""

import os
import subprocess
import sys
from pathlib import Path

FLOW = Path(__file__).parent / "flow.py"


def test_the_flow_runs_and_ends_with_the_expected_result(tmp_path: Path) -> None:
    local = {
        "METAFLOW_HOME": str(tmp_path),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
        "METAFLOW_USER": "test",
    }
    ended = subprocess.run(
        [sys.executable, str(FLOW), "run"],
        cwd=tmp_path,
        env={**os.environ, **local},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "RESULT EXPECTED" in ended.stdout, ended.stdout
'''
