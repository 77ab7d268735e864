"""Code held against the installed Metaflow: what is wrong is found, what is right is left alone."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from evals.cases import OWN
from metaflowbot.code_check import CodeChecker, Fault
from metaflowbot.code_check.flows import whole_flows
from metaflowbot.code_check.fragments import parse
from metaflowbot.code_check.metaflow_process import MetaflowProcess
from metaflowbot.metaflow_api import load
from tests.test_metaflow_api import install

CASES = [json.loads(line) for line in (OWN / "code.jsonl").read_text("utf-8").splitlines()]
WHOLE = """
from metaflow import FlowSpec, step

class Tiny(FlowSpec):
    @step
    def start(self):
        self.next(self.a, self.b)

    @step
    def a(self):
        self.next(self.join)

    @step
    def b(self):
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@cache
def checker() -> CodeChecker:
    return CodeChecker(load())


def said(code: str, language: str = "python", context: str = "") -> list[str]:
    return [fault.what for fault in checker().check(code, language, context)]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_own_case_is_judged_as_it_says(case: dict[str, object]) -> None:
    found = said(str(case["code"]), str(case["language"]))
    expected = case["faults"]
    assert isinstance(expected, list)
    assert bool(found) == bool(expected)
    assert all(any(name in what for what in found) for name in expected), found


def test_loading_and_checking_never_imports_metaflow() -> None:
    code = (
        "import sys; from metaflowbot.code_check import CodeChecker\n"
        "from metaflowbot.metaflow_api import load\n"
        "checker = CodeChecker(load()); checker.check('!python flow.py run --x'); checker.close()\n"
        "sys.exit('metaflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fault_says_where_what_and_what_there_is_instead() -> None:
    code = "from metaflow import step\n\n@retry(\n    tims=3,\n)\n@step\ndef a(self):\n    pass\n"
    (fault,) = checker().check(code)
    assert fault == Fault(
        line=4,
        what="`@retry` has no argument `tims`",
        instead="@retry(times: int = 3)",
        span=(3, 5),
    )
    assert str(fault).endswith("there is `@retry(times: int = 3)`")


def test_faults_come_in_the_order_of_their_lines() -> None:
    found = checker().check("current.nope\nfrom metaflow import Nope\nRun('a/1').nope\n")
    assert [fault.line for fault in found] == [1, 2, 3]


@pytest.mark.parametrize(
    "code",
    [
        "",
        "...",
        "not code at all, but a sentence",
        "{'a': 1",
        "@retry(times=3)",
        "@card(type='blank', ...)",
        "    @step\n    def a(self):\n        self.next(self.b)",
        "@step\n    def a(self):\n        self.next(self.b)",
        "def a(self):",
        "In [3]: Flow('F').latest_run.data\nOut[3]: <MetaflowData: x>",
        ">>> for run in Flow('F'):\n...     print(run.id)\n17",
        "%pip install metaflow\n!ls\nfrom metaflow import Flow",
        "Run(<run_id>).data",
        "print Run('F/1').data.x",
        "Flow('F')['17']['start'].task.data.model.predict(x).anything",
        "run = load()\nrun.whatever()",
        "def use(run):\n    run.log({'loss': 1})",
        "from wandb import Run\nRun('x').log({})",
        "from tenacity import retry\n@retry(stop=3)\ndef f(): ...",
        "try:\n    run = Flow('F').latest_run\nexcept Exception:\n    run = mine()\nrun.anything",
        "flow = Flow('F') if old else other()\nflow.anything",
        "self.cmd.run()\nself.inputs = 3\nself.nextval(3)",
        "from metaflow.metaflow_config import DATASTORE_SYSROOT_S3",
        "from metaflow.datatools.s3 import S3GetObject\nS3GetObject(key='k', offset=0, length=9)",
        "import metaflow as mf\nmf.Flow('F').latest_run.data",
        "Parameter('x', type=mine, is_flag=True, default=lambda context: 3)",
        "os.environ['METAFLOW_RUN_ALPHA'] = '1'\nMETAFLOW_MINE = 3\nprint(METAFLOW_MINE)",
        "Runner('f.py', environment='pypi').run(**given)",
    ],
)
def test_what_is_right_or_not_metaflows_is_no_fault(code: str) -> None:
    assert said(code) == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from metaflow import Run as R\nR('F/1').nope", "nope"),
        ("import metaflow\nmetaflow.Nope('F')", "Nope"),
        ("from metaflow import Flow\nruns = list(Flow('F'))\nruns[-1].nope", "nope"),
        ("[r.nope for r in Flow('F').runs('tag')]", "nope"),
        ("for i, r in enumerate(Flow('F')):\n    r.nope", "nope"),
        ("max(Flow('F'), key=mine).nope", "nope"),
        ("async def f():\n    with await Runner('f.py').async_run() as r:\n        r.nope", "nope"),
        ("def f(run: Run):\n    return run.nope", "nope"),
        ("class m(StepMutator):\n    def mutate(self, s):\n        s.nope()", "nope"),
        ("print(f'{current.nope}')", "nope"),
        ("current.card['a'].appendd(3)", "appendd"),
        ("current.trigger.run.nope", "nope"),
        ("with S3() as s3:\n    for o in s3.list_paths():\n        print o.nope", "nope"),
        ("run.successfull", "successfull"),
        ("Table.from_frame(df)", "from_frame"),
        ("ArgoEvent(name='a').publsh()", "publsh"),
        ("{\n  broken\n}\ncurrent.nope", "nope"),
        ("print(1)\n1 missing here\nRun('F/1').nope()", "nope"),
        ("!python flow.py run --max-wrkers 4", "--max-wrkers"),
        ("python my_flow.py run --max-wrkers 4", "--max-wrkers"),
        ("os.environ['METAFLOW_NOPE']", "METAFLOW_NOPE"),
        ("@trace_it\n@step\ndef a(self): ...", "@trace_it"),
        ("@nope\nclass A(FlowSpec): ...", "@nope"),
        ("@retry\nclass A(FlowSpec): ...", "@retry"),
        ("self.next(self.a, self.b, foreach='x')", "foreach"),
        ("self.next(self.a, foreach='x', num_parallel=2)", "foreach, num_parallel"),
        ("self.next(self.a, condition='x')", "condition"),
    ],
)
def test_a_false_name_is_found_wherever_it_stands(code: str, name: str) -> None:
    assert any(name in what for what in said(code)), said(code)


@pytest.mark.parametrize(
    "line",
    [
        "python flow.py run --alpha 0.6 --my-own-parameter x",
        "python train.py --epochs 3 --lr 0.1",
        "python -m pip install metaflow --upgrade",
        "uv run my_flow.py run --with my_module.my_decorator",
        "python flow.py --with retry run --with 'kubernetes:image=a/b:c,labels={\"a\": 1}'",
        "python flow.py [--production] step-functions create",
        "python flow.py --config config other.json run",
        "METAFLOW_PROFILE=dev python flow.py run && echo done | cat",
        "$ python flow.py show\nMetaflow 2.19 executing flow --not-an-option",
        "python flow.py run \\\n  --max-workers 4 \\\n  --tag a",
        "kubectl get pods --nope",
        "metaflow configure show",
        "python flow.py <command> --help",
        "it's an unclosed 'quote",
    ],
)
def test_a_right_command_is_no_fault(line: str) -> None:
    assert said(line, "bash") == []


def test_a_command_over_many_lines_is_one() -> None:
    (fault,) = checker().check("ls\npython flow.py resume \\\n  --origin-run 3\n", "bash")
    assert (fault.line, fault.span) == (2, (2, 3))
    assert fault.instead == "--origin-run-id"


def test_other_languages_are_not_checked() -> None:
    assert said("current.nope", "r") == []
    assert said("current.nope", "yaml") == []


def test_what_the_context_defines_is_no_fault() -> None:
    code = "@traced(level=1)\n@step\ndef a(self): ..."
    assert said(code) != []
    assert said(code, context="def traced(step_name, flow): ...") == []
    assert said(code, context="from metaflow import traced") != []


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ("self.next(self.a, self.b)", "print(self.a)", 6),
        ("self.next(self.end)", "self.next(self.nope)", 19),
        ("def join(self, inputs)", "def join(self)", 22),
        ("def a(self)", "def A(self)", 10),
        ("@step\n    def a", "@retry\n    def a", 7),
        (
            "def b(self):\n        self.next(self.join)",
            "def b(self):\n        self.next(self.end)",
            18,
        ),
    ],
)
def test_a_whole_flow_is_held_against_metaflows_own_rules(was: str, now: str, line: int) -> None:
    assert said(WHOLE) == []
    assert was in WHOLE
    (fault,) = checker().check(WHOLE.replace(was, now))
    assert fault.what.startswith("Metaflow refuses `Tiny`: ")
    assert fault.line == line


@pytest.mark.parametrize("hint", ["        ...\n", "        # the rest is the same\n"])
def test_a_flow_of_which_a_part_is_left_out_is_not_held_against_the_rules(hint: str) -> None:
    code = WHOLE.replace("        self.next(self.a, self.b)\n", hint)
    assert said(code) == []


def test_the_graph_is_judged_without_running_anything(tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'run')!r}, 'w')"
    code = f"{trap}\n{WHOLE}".replace("pass", f"{trap}\n        pass")
    code = code.replace("class Tiny(FlowSpec):", f"class Tiny(FlowSpec):\n    x = {trap}")
    assert said(code) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the environment from /proc")
def test_metaflow_gets_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOWBOT_PLANTED", "secret")
    process = MetaflowProcess(load().package.parent)
    try:
        assert process.commands()
        child = process._child
        assert child is not None
        assert b"PLANTED" not in Path(f"/proc/{child.pid}/environ").read_bytes()
    finally:
        process.close()


def test_metaflow_is_asked_also_by_a_process_with_very_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("the machine lets nobody open very many files")
    process = MetaflowProcess(load().package.parent)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open("rb"))
        stack.callback(process.close)
        assert process.commands()


def test_a_process_that_ended_is_started_again() -> None:
    process = MetaflowProcess(load().package.parent)
    (flow,) = whole_flows(parse(WHOLE), WHOLE)
    try:
        assert process.broken_rule(flow) is None
        assert process._child is not None
        os.kill(process._child.pid, 9)
        process._child.wait()
        assert process.broken_rule(flow) is None
        broken = WHOLE.replace("def join(self, inputs)", "def join(self)")
        (flow,) = whole_flows(ast.parse(broken), broken)
        assert process.broken_rule(flow) is not None
    finally:
        process.close()


def test_where_metaflow_can_not_be_started_the_rest_is_checked(tmp_path: Path) -> None:
    checker = CodeChecker(load(install(tmp_path)))
    try:
        assert [fault.line for fault in checker.check("from metaflow import Nope")] == [1]
        assert checker.check("python flow.py run --nope", "bash") == ()
        assert checker.check(WHOLE.replace("def join(self, inputs)", "def join(self)")) != ()
        assert checker.version == "1.2.3"
    finally:
        checker.close()


def test_warming_returns_at_once_and_leaves_metaflow_started() -> None:
    checker = CodeChecker(load())
    checker.warm()
    try:
        assert checker.check("python flow.py runn", "bash") != ()
    finally:
        checker.close()


def test_many_threads_share_one_checker() -> None:
    code = WHOLE.replace("def join(self, inputs)", "def join(self)")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tuple(said(code)), range(40)))
    assert len(set(found)) == 1
    assert found[0]


@pytest.mark.parametrize(
    "code",
    [
        "x = " + "(" * 5000,
        "x = " + "+".join(["a"] * 3000),
        "a" + ".b" * 3000,
        "\x00",
        "def f(:\n" * 200,
        "`" * 2000,
        "python flow.py run " + "--x " * 2000,
    ],
)
def test_no_text_makes_the_check_fail(code: str) -> None:
    assert said(code) == []
    assert said(code, "bash") == []
    assert checker().without_faults(code) == (code, ())
