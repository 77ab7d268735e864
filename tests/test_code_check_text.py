"""Code in Markdown: fences, inline pieces, and what is left of a text without the faults."""

from __future__ import annotations

import pytest

from tests.test_code_check import checker


def faults(text: str) -> list[str]:
    return [fault.what for block in checker().check_markdown(text) for fault in block.faults]


def test_each_fence_and_inline_piece_is_found_in_its_place() -> None:
    text = "Use `@gpu_pool`.\n\n```python\ncurrent.nope\n```\n\nOr `current.run_id`.\n"
    inline, fence = checker().check_markdown(text)
    assert text[inline.start : inline.end] == "`@gpu_pool`"
    assert (inline.inline, inline.language, inline.code) == (True, "python", "@gpu_pool")
    assert text[fence.start : fence.end] == "```python\ncurrent.nope\n```"
    assert (fence.inline, fence.code, fence.faults[0].line) == (False, "current.nope", 1)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Read `current.nope` there.", "nope"),
        ("Add `@retry(tims=3)`.", "tims"),
        ("Set `METAFLOW_NOPE`.", "METAFLOW_NOPE"),
        ("Run `python flow.py run --max-wrkers 4`.", "--max-wrkers"),
        ("Pass `--max-wrkers`.", "--max-wrkers"),
        ("Pass `--with gpu:count=2`.", "gpu"),
        ("Call `Run('F/1').nope()`.", "nope"),
        ("Write `from metaflow import Nope`.", "Nope"),
        ("Go on with `self.next(self.a, parallel=2)`.", "parallel"),
        ("`@gpu_pool` isn't in Metaflow: use `@gpu_boost`.", "@gpu_boost"),
        ("There is no need for a cluster: `@gpu_pool` gives GPUs.", "@gpu_pool"),
        ("`@gpu_pool` does not need any setup.", "@gpu_pool"),
        ("1. First:\n\n   ```python\n   current.nope\n   ```\n", "nope"),
        ("~~~py\ncurrent.nope\n~~~", "nope"),
        ("```\nfrom metaflow import Nope\n```", "Nope"),
        ("```\n$ python flow.py runn\n```", "runn"),
        ("```console\n$ python flow.py run --max-wrkers 4\n```", "--max-wrkers"),
        ("```python\ncurrent.nope", "nope"),
    ],
)
def test_a_false_name_in_a_text_is_found(text: str, name: str) -> None:
    assert any(name in what for what in faults(text)), faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "`code` and `x = 1` and ``a ` b``",
        "Use `@retry`, `@project(name)`, `Run.data`, `S3.get_many()` and `merge_artifacts()`.",
        "Pass `--alpha`, `--with batch`, `--environment=pypi` or `--tag`.",
        "Set `METAFLOW_PROFILE` or `METAFLOW_HOME=/tmp`.",
        "There is no `@gpu_pool` in Metaflow.",
        "`current.nope` does not exist.",
        "`@gpu_pool` isn't a Metaflow decorator.",
        "Use `@kubernetes(gpu=1)` instead of `@gpu_pool`.",
        "Don't use `@gpu_pool`.",
        "Neither `@gpu_pool` nor `@autoscale` exists.",
        "`@gpu_pool` and `@autoscale` do not exist.",
        "`METAFLOW_NOPE` was removed.",
        "The `@checkpoint` decorator is an extension's: see `current.checkpoint.save()`.",
        "```yaml\ncurrent.nope: 1\n```",
        "```\nMetaflow 2.19 executing TrainFlow\nValidating your flow...\n```",
    ],
)
def test_what_is_right_in_a_text_is_no_fault(text: str) -> None:
    assert faults(text) == []
    assert checker().without_faults(text) == (text, ())


def test_what_one_block_defines_is_known_in_the_others() -> None:
    text = (
        "```python\ndef traced(f): ...\n```\n\n```python\n@traced\n@step\ndef a(self): ...\n```\n"
    )
    assert faults(text) == []


def test_a_false_block_is_replaced_by_a_line_that_says_so_without_the_false_name() -> None:
    text = (
        "Do this [1].\n\n```python\n@gpu_pool\n@step\ndef a(self): ...\n```\n\nThen run it [2].\n"
    )
    shown, checks = checker().without_faults(text)
    version = checker().version
    assert shown == (
        "Do this [1].\n\n(A code example is left out: it uses what is not in Metaflow.)"
        "\n\nThen run it [2].\n"
    )
    assert checks == (f"`@gpu_pool` does not exist in Metaflow {version}",)


def test_a_sentence_with_a_false_name_is_taken_out_and_said_below() -> None:
    text = "Steps run in parallel [1]. Use `@gpu_pool` for GPUs [2]. Then wait [3]."
    shown, checks = checker().without_faults(text)
    head, _, told = shown.partition("\n\n")
    assert head == "Steps run in parallel [1]. Then wait [3]."
    assert told == "(Something that is not in Metaflow is left out.)"
    assert "`@gpu_pool`" in checks[0]


def test_what_there_is_instead_of_a_false_name_is_told() -> None:
    shown, _ = checker().without_faults("Use `@retri` [1].\n\n```py\n@retry(tims=3)\n@step\n```\n")
    assert "(Something that is not in Metaflow is left out. There is `@retry(times: int" in shown
    assert "it uses what is not in Metaflow. There is `@retry(times: int" in shown
    assert "retri`" not in shown


def test_the_lines_around_what_is_taken_out_stay_apart() -> None:
    text = (
        "Wait [1]. Use `@gpu_pool` [2].\n\n```py\ncurrent.a\ncurrent.b\ncurrent.c\n```\n\nDone.\n"
    )
    shown, checks = checker().without_faults(text)
    assert shown.startswith("Wait [1]. \n\n(A code example is left out: it uses what is not")
    assert ")\n\nDone.\n" in shown
    assert len(checks) == 4


def test_a_bullet_keeps_its_other_sentences() -> None:
    text = "- Use `@gpu_pool`. It is fast.\n- Use `@retry`.\n"
    shown, _ = checker().without_faults(text)
    assert shown.startswith("- It is fast.\n- Use `@retry`.")


def test_what_is_left_has_no_fault() -> None:
    text = (
        "# `@nope` title\n\nUse `current.nope`. Use `current.run_id`.\n\n- `@gpu_pool` here\n\n"
        "```bash\npython flow.py run --max-wrkers 3\n```\n\n| a | `@nope` |\n|---|---|\n| b | c |\n"
    )
    shown, checks = checker().without_faults(text)
    body = shown.partition("(Something")[0].replace("(A code", "\n(A code")
    kept = [line for line in body.splitlines() if not line.startswith("(A code example")]
    assert faults("\n".join(kept)) == []
    assert len(checks) >= 4
    assert "current.run_id" in shown
