"""Where a passage comes from is said where it is not official."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metaflowbot.domain import Answer, Hit, Passage, Search
from metaflowbot.extracts import quoted
from metaflowbot.sources import only_unofficial, provenance

PAGE = Passage("docs/a.md#0", "docs/a.md", "metaflow-docs", "A", (), "https://d/a", "Use `@retry`.")
DRAFT = replace(PAGE, id="labs:a#0", document_id="labs:a", source="labs")
THREAD = replace(
    PAGE,
    id="slack:ask/1.2#0",
    document_id="slack:ask/1.2",
    source="slack",
    text="A maintainer (2024-05-06): use `@retry`, since Metaflow 2.11.",
)
DRAFT_SAID = "This comes from a draft of Metaflowlabs, not from the documentation."
THREAD_SAID = (
    "This comes from a Slack thread, 2024-05-06, Metaflow 2.11, not from the documentation."
)


def search(*passages: Passage) -> Search:
    hits = tuple(Hit(rank, 9.0, (passage,)) for rank, passage in enumerate(passages, 1))
    return Search("q", hits, "g", 1.0)


@pytest.mark.parametrize(
    ("passage", "said"),
    [
        (PAGE, ""),
        (replace(PAGE, source="metaflow-api"), ""),
        (DRAFT, "a draft of Metaflowlabs"),
        (THREAD, "a Slack thread, 2024-05-06, Metaflow 2.11"),
    ],
)
def test_a_passage_says_what_it_is_unless_it_is_official(passage: Passage, said: str) -> None:
    assert provenance(passage) == said


@pytest.mark.parametrize(
    ("cited", "said"),
    [
        ([PAGE], ""),
        ([PAGE, DRAFT], ""),
        ([DRAFT], DRAFT_SAID),
        ([THREAD], THREAD_SAID),
        ([DRAFT, THREAD], THREAD_SAID),
        ([], ""),
    ],
)
def test_an_answer_that_nothing_official_bears_out_says_so(cited: list[Passage], said: str) -> None:
    found = search(PAGE, DRAFT, THREAD)
    assert only_unofficial(found, {passage.document_id for passage in cited}) == said


def test_passages_that_answer_themselves_say_what_they_are() -> None:
    draft = Answer("i", "How to retry?", "", (), False, 0.9, "none", "p", "g")
    answer = quoted(draft, search(DRAFT))
    assert "(a draft of Metaflowlabs)" in answer.text
    assert answer.notice == DRAFT_SAID
    assert quoted(draft, search(PAGE)).notice == ""
    assert quoted(replace(draft, notice="It fell short."), search(DRAFT)).notice == "It fell short."


ACTIVE = (
    "![spy](https://evil.example/p.png) <script>steal()</script>Use [this](javascript:x) or"
    " [that](https://docs.metaflow.org/a), <!channel>.\n\n```python\nif a <b> c:  # <kept>\n```"
)


def test_nothing_in_a_quoted_passage_is_active_and_code_stays_as_it_is() -> None:
    draft = Answer("i", "How?", "", (), False, 0.9, "none", "p", "g")
    text = quoted(draft, search(replace(PAGE, text=ACTIVE))).text
    assert ">  Use this or [that](https://docs.metaflow.org/a), ." in text
    assert "> if a <b> c:  # <kept>" in text
    for part in ("evil.example", "steal", "javascript:", "channel"):
        assert part not in text
