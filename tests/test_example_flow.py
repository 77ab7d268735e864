"""The example flow runs, whatever constructs it is built around, and its own test says so."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaflowbot.example_flow import Constructs, example_flow

EVERYTHING = "@retry @catch @timeout @resources @environment @project @schedule foreach Parameter("


def test_constructs_are_known_by_their_names_and_by_the_plainest_words() -> None:
    named = Constructs.named_in("My @retry in a fan-out fails on Kubernetes; I use @conda.")
    assert named.runnable == ("retry", "foreach")
    assert named.elsewhere == ("@kubernetes", "@conda")
    assert named.names == ("@retry", "foreach", "@kubernetes", "@conda")
    assert "--with kubernetes" in named.hints[0]


def test_a_text_that_names_nothing_gives_the_bare_shape_of_a_flow() -> None:
    assert Constructs.named_in("") == Constructs((), ())
    flow = example_flow(Constructs((), ()))
    assert "names no construct" in flow.source
    assert "foreach" not in flow.source


@pytest.mark.parametrize("shape", ["foreach", "branch", "a line"])
def test_every_mix_of_decorators_is_a_python_program_that_imports_what_it_uses(shape: str) -> None:
    decorators = "@retry @catch @timeout @card @resources @environment @project @schedule".split()
    for used in itertools.combinations(decorators, 3):
        source = example_flow(Constructs.named_in(f"{shape} {' '.join(used)}")).source
        tree = ast.parse(source)
        imported = {
            a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
        }
        assert {name.lstrip("@") for name in used} <= imported


@pytest.mark.parametrize("text", [EVERYTHING, "branch @catch @retry", "nothing"])
def test_the_flow_runs_and_its_test_passes(text: str, tmp_path: Path) -> None:
    flow = example_flow(Constructs.named_in(text))
    (tmp_path / "flow.py").write_text(flow.source)
    (tmp_path / "test_flow.py").write_text(flow.test)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_flow.py"],
        cwd=tmp_path,
        env={**os.environ, "METAFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
