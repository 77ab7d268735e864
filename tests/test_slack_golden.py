"""The messages of the main cases, as they are sent to Slack, against readable files.

Renew them with `python -m tests.test_slack_golden`, and look at the difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metaflowbot.domain import Answer, Citation, Hit, Passage
from metaflowbot.manifest import Manifest, SourceCount
from metaflowbot.settings import Channel
from metaflowbot.slack.actions import resolve_view
from metaflowbot.slack.channels import rules_view
from metaflowbot.slack.feedback import reason_view
from metaflowbot.slack.home import Line, Page, home_view
from metaflowbot.slack.rendering import (
    Message,
    Setting,
    answer_messages,
    line_message,
    private_answer,
)
from metaflowbot.slack_records import Post
from tests.slack_double.limits import check_blocks, check_view

FOLDER = Path(__file__).parent / "golden"
ANSWER = Answer(
    id="a1",
    question="How do I retry a step?",
    text="Use `@retry` on the step [1]. It waits between attempts [2].\n\n"
    "```python\n@retry(times=3)\n@step\ndef start(self):\n    self.next(self.end)\n```",
    citations=(
        Citation(1, "docs/scaling/failures.md", "Failures › Retrying", "https://docs/f#r", "q"),
        Citation(2, "api:metaflow.retry", "metaflow.retry", "https://code/retry", "q"),
    ),
    abstained=False,
    confidence=0.9,
    model="openai:gpt-5-mini",
    prompt_version="p1",
    generation="20260102T030405Z",
    checked_with="2.19.0",
)
SETTING = Setting("UANN", ("UMIA",), "2.19.0")
THREAD = Passage("slack:a/1#0", "slack:a/1", "slack", "Retry with a pause", (), "https://t/1", "")
HARD = """# A title

Mind `__init__`, __init__ and 2 * 3 * 4, see https://x.io/a_b?c=__d__.

1. one
   - two <!channel> <@U1> @here
2. &lt;three&gt;

| a | b |
|---|---|
| `x` | 1 |

````md
```py
nested
```
````
"""


def messages(*shown: Message) -> list[dict[str, Any]]:
    return [{"text": each.text, "blocks": list(each.variants[0])} for each in shown]


def cases() -> Mapping[str, Any]:
    """What is sent, by the name of its file."""
    count = {"metaflow-docs": SourceCount(7, 42), "slack": SourceCount(2, 3)}
    manifest = Manifest("g", 1, "2026-01-02T03:04:05+00:00", "local", count, 45, {}, {})
    mine = (Line("How do I retry?", "https://t/1", "solved"), Line("And GPUs?", "", "answered"))
    asked_before = replace(SETTING, asked_before=Hit(1, 1.0, (THREAD,)))
    abstained = replace(ANSWER, text="I could not find it.", abstained=True, citations=())
    quoted = replace(ANSWER, model="none", confidence=0.6, checked_with="")
    post = Post("C1", "2.0", "1.0", "1.0", "T1/C1/1.0", "slack:UANN", "a1")
    return {
        "answer": messages(*answer_messages(ANSWER, SETTING)),
        "answer_asked_before": messages(*answer_messages(ANSWER, asked_before)),
        "answer_quoted": messages(*answer_messages(quoted, SETTING)),
        "answer_simpler_blocks": list(answer_messages(ANSWER, SETTING)[0].variants[1]),
        "abstention": messages(*answer_messages(abstained, SETTING)),
        "hard_markdown": messages(*answer_messages(replace(ANSWER, text=HARD))),
        "private_answer": messages(private_answer(ANSWER, SETTING, "a1")),
        "line": messages(line_message("there is no index: run `metaflowbot ingest`")),
        "modal_reason": reason_view("a1"),
        "modal_resolve": resolve_view(post, [("2.0", "My answer above"), ("3.0", "use @retry")]),
        "modal_rules": rules_view("C1", Channel(sources=("metaflow-docs",), people=("UANN",))),
        "home": home_view(Page(mine, manifest)),
        "home_of_a_maintainer": home_view(Page((), None, True, mine, ())),
    }


def as_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


@pytest.mark.parametrize("name", cases())
def test_what_is_sent_is_as_the_file_has_it(name: str) -> None:
    assert as_text(cases()[name]) == (FOLDER / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", cases())
def test_what_is_sent_keeps_to_slacks_limits(name: str) -> None:
    sent = cases()[name]
    if isinstance(sent, dict):
        check_view(sent)
    else:
        for each in sent:
            check_blocks(each.get("blocks", [each]))


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(cases())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for case, value in cases().items():
        (FOLDER / f"{case}.json").write_text(as_text(value), encoding="utf-8")
