"""What SECURITY.md promises has its test, and nothing that is read from outside becomes code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for room in ("metaflowbot", "ingest", "evals") for path in (ROOT / room).rglob("*.py")
)
# Modules that make objects, and so code, of bytes.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "yaml.unsafe_load",
    "yaml.full_load",
    "langchain_core.load.load",
    "langchain_core.load.loads",
}


def tables(text: str) -> list[list[str]]:
    """The rows of each table that is beneath a head."""
    found = re.findall(r"^\| --- .*\n((?:\| .*\n)+)", text, re.MULTILINE)
    return [table.splitlines() for table in found]


def test_every_threat_has_a_test_that_is_there() -> None:
    threats, risks = tables((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (summary,) = tables(readme.partition("\n## Security\n")[2].partition("\n## ")[0])
    assert len(risks) == 10
    assert len(threats) > len(summary) > 10
    for row in (*threats, *risks, *summary):
        named = re.findall(r"`((?:fuzz/)?test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_is_read_can_become_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not UNSAFE_MODULES & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in UNSAFE_MODULES
            assert not (node.module or "").startswith("langchain_core.load")
        elif isinstance(node, ast.Call):
            assert not is_unsafe(node), f"line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_model_is_given_no_tools(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("bind_tools", "create_agent"), f"line {node.lineno}"
        if isinstance(node, ast.Call):
            assert not {"tools", "functions"} & {each.arg for each in node.keywords}
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(("langchain.agents", "langchain.tools"))


def is_unsafe(call: ast.Call) -> bool:
    name, given = ast.unparse(call.func), {each.arg: each.value for each in call.keywords}
    for option in ("shell", "allow_pickle"):
        value = given.get(option)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
            return True
    if name == "yaml.load":
        return ast.unparse(given.get("Loader", call)) not in ("yaml.BaseLoader", "yaml.SafeLoader")
    return name in UNSAFE_CALLS
