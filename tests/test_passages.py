from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.passages import TARGET_CHARS, split
from ingest.sections import fenced
from metaflowbot.domain import Document, Passage, Section

SENTENCE = "A step that fails is tried again after a while, up to three times in all. "


def page(*texts: str) -> Document:
    """A document with a section for each text, the first of them its lead."""
    lead, *others = (
        Section((f"H{number}",), f"h{number}", text) for number, text in enumerate(texts)
    )
    first = Section((), "", lead.text)
    return Document("docs/a.md", "metaflow-docs", "A", "https://site.example/a", (first, *others))


def passages(*texts: str) -> list[Passage]:
    return list(split(page(*texts)))


def test_a_passage_carries_what_is_needed_to_find_and_cite_it() -> None:
    assert passages("Lead.", "More.") == [
        Passage(
            id="docs/a.md#0",
            document_id="docs/a.md",
            source="metaflow-docs",
            title="A",
            headings=(),
            url="https://site.example/a",
            text="Lead.",
        ),
        Passage(
            id="docs/a.md#1",
            document_id="docs/a.md",
            source="metaflow-docs",
            title="A",
            headings=("H1",),
            url="https://site.example/a#h1",
            text="More.",
        ),
    ]


def test_ordinals_count_through_the_document() -> None:
    found = passages(SENTENCE * 30, SENTENCE * 30)
    assert [passage.id for passage in found] == [f"docs/a.md#{n}" for n in range(len(found))]
    assert len(found) > 4


def test_a_document_without_text_has_no_passages() -> None:
    assert list(split(Document("a", "s", "A", "u", ()))) == []
    assert passages("\n \n") == []


def test_a_passage_never_crosses_a_heading() -> None:
    assert [passage.text for passage in passages("One.", "Two.", "Three.")] == [
        "One.",
        "Two.",
        "Three.",
    ]


def test_short_paragraphs_share_a_passage_up_to_the_target() -> None:
    paragraph = SENTENCE.strip()
    found = passages("\n\n".join([paragraph] * 40))
    lengths = [len(passage.text) for passage in found]
    assert max(lengths) <= TARGET_CHARS
    assert min(lengths[:-1]) > TARGET_CHARS / 2


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    found = passages((SENTENCE * 60).strip())
    assert len(found) > 1
    assert all(passage.text.startswith("A step") for passage in found)
    assert all(passage.text.endswith("in all.") for passage in found)


def test_a_long_fence_is_never_cut() -> None:
    fence = "```python\n" + "x = 1\n\n- not a list\n\n" * 200 + "```"
    found = passages(f"{SENTENCE * 8}\n\n{fence}\n\n{SENTENCE * 8}")
    assert [passage.text for passage in found if "```" in passage.text] == [fence]


def test_what_introduces_code_stays_with_it() -> None:
    fence = "```python\n" + "x = 1  # a line of code\n" * 50 + "```"
    for before in ("", f"{SENTENCE * 2}\n\n", f"{SENTENCE * 9}\n\n"):
        found = passages(f"{before}Run it like this:\n\n{fence}")
        assert any(f"Run it like this:\n\n{fence}" in passage.text for passage in found)


def test_a_few_words_before_code_do_not_stand_alone() -> None:
    fence = "```python\n" + "x = 1  # a line of code\n" * 50 + "```"
    assert [passage.text for passage in passages(f"Now.\n\n{fence}")] == [f"Now.\n\n{fence}"]


def test_a_table_stays_whole() -> None:
    table = "| a | b |\n| --- | --- |\n" + "| `@retry` | tries again |\n" * 25
    found = passages(f"{SENTENCE * 8}\n\n{table}\n{SENTENCE * 8}")
    assert any(table.strip() in passage.text for passage in found)


def test_a_list_is_cut_between_its_items() -> None:
    found = passages("\n".join(f"- {SENTENCE}" for _ in range(40)))
    assert len(found) > 1
    assert all(passage.text.startswith("- A step") for passage in found)


LINES = st.sampled_from(
    [
        *("", " ", "Words of a sentence. And one more.", (SENTENCE * 12).strip(), "lead:"),
        *("- item", "  its rest", "1. first", "| a | b |", "    indented"),
        *("```", "```python", "~~~~", "# in code"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=30).map("\n".join))
def test_passages_are_verbatim_spans_that_leave_nothing_out(text: str) -> None:
    at = 0
    for passage in passages(text):
        start = text.find(passage.text, at)
        assert start >= at
        assert not text[at:start].strip()
        at = start + len(passage.text)
    assert not text[at:].strip()


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=30).map("\n".join))
def test_no_passage_begins_or_ends_within_code(text: str) -> None:
    code = [line for line, in_code in fenced(text.split("\n")) if in_code and line.strip()]
    kept = [
        line
        for passage in passages(text)
        for line, in_code in fenced(passage.text.split("\n"))
        if in_code and line.strip()
    ]
    assert kept == code


def test_every_passage_of_a_page_can_be_quoted_from_its_section() -> None:
    document = page(SENTENCE * 20, f"{SENTENCE}\n\n```\ncode\n```\n\n{SENTENCE * 30}")
    for passage in split(document):
        (section,) = (part for part in document.sections if part.headings == passage.headings)
        assert passage.text in section.text
