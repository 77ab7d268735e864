from __future__ import annotations

import pytest

from ingest.sections import SectionWriter, Slugger, fenced, plain_heading
from metaflowbot.domain import Section


def sections(markdown: str) -> tuple[Section, ...]:
    writer = SectionWriter()
    writer.markdown(markdown)
    return writer.sections()


def code_lines(markdown: str) -> list[str]:
    return [line for line, in_code in fenced(markdown.split("\n")) if in_code]


def test_a_fence_ends_with_at_least_as_many_marks_of_its_own_kind() -> None:
    text = "before\n````md\n```\n~~~~\ninside\n`````\nafter"
    assert code_lines(text) == ["````md", "```", "~~~~", "inside", "`````"]


def test_a_line_with_more_than_marks_does_not_end_a_fence() -> None:
    text = "```python\nprint()\n```python\n```\nafter"
    assert code_lines(text) == ["```python", "print()", "```python", "```"]


def test_a_fence_that_is_never_closed_runs_to_the_end() -> None:
    assert code_lines("a\n  ```\nb\nc") == ["  ```", "b", "c"]


def test_a_text_without_fences_is_no_code() -> None:
    assert code_lines("a ``` b\n`c`") == []


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("Retrying with the `@retry` decorator", "Retrying with the @retry decorator"),
        ("**Bold** and __strong__", "Bold and strong"),
        ("The [client](/api/client) &amp; more", "The client & more"),
        ("METAFLOW__HOME stays", "METAFLOW__HOME stays"),
        (r"A \*literal\* star", "A *literal* star"),
        ("", ""),
    ],
)
def test_a_heading_reads_as_on_the_site(written: str, seen: str) -> None:
    assert plain_heading(written) == seen


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        (
            "Retrying tasks with the retry decorator",
            "retrying-tasks-with-the-retry-decorator",
        ),
        ("What's self.next & why?", "whats-selfnext--why"),
        ("snake_case and kebab-case", "snake_case-and-kebab-case"),
        ("Übergrößen, naïve", "übergrößen-naïve"),
        ("Pickled 🥒 artifacts", "pickled--artifacts"),
        ("@conda vs. @pypi (2.9+)", "conda-vs-pypi-29"),
    ],
)
def test_anchors_are_what_docusaurus_makes_of_a_heading(heading: str, anchor: str) -> None:
    assert Slugger().slug(heading) == anchor


def test_no_two_headings_of_a_page_share_an_anchor() -> None:
    slugger = Slugger()
    headings = ["Example", "Example", "Example 1", "example", "Example-1"]
    anchors = [slugger.slug(heading) for heading in headings]
    assert anchors == ["example", "example-1", "example-1-1", "example-2", "example-1-2"]


def test_sections_carry_the_path_of_headings_without_the_title() -> None:
    writer = SectionWriter()
    writer.markdown("# Title\nLead.\n## A\na\n### B\nb\n#### C\nc\n## D\nd\n")
    assert writer.sections() == (
        Section((), "", "Lead."),
        Section(("A",), "a", "a"),
        Section(("A", "B"), "b", "b"),
        Section(("A", "B", "C"), "c", "c"),
        Section(("D",), "d", "d"),
    )
    assert writer.title == "Title"


def test_a_second_heading_of_level_1_is_a_section() -> None:
    assert sections("# Title\n## A\na\n# Second\ntext") == (
        Section(("A",), "a", "a"),
        Section(("Second",), "second", "text"),
    )


def test_a_heading_without_text_gives_no_section_but_keeps_its_anchor() -> None:
    assert sections("## Same\n\n## Same\ntext") == (Section(("Same",), "same-1", "text"),)


@pytest.mark.parametrize("mark", ["{#own-id}", '<a id="own-id"></a>'])
def test_an_anchor_given_by_the_page_wins(mark: str) -> None:
    assert sections(f"## Some heading {mark}\ntext") == (
        Section(("Some heading",), "own-id", "text"),
    )


def test_hashes_in_code_are_no_headings() -> None:
    fence = "```bash\n# install\npip install metaflow\n```"
    assert sections(f"## A\n{fence}") == (Section(("A",), "a", fence),)


def test_closing_hashes_are_no_part_of_a_heading() -> None:
    assert sections("## A ##\ntext")[0].headings == ("A",)


def test_blank_lines_stay_in_code_and_are_thinned_outside() -> None:
    fence = "```python\nimport os\n\n\ndef f(): ...\n```"
    assert sections(f"\n\na\n\n \n\nb\n\n{fence}\n\n")[0].text == f"a\n\nb\n\n{fence}"


def test_a_page_without_text_has_no_sections() -> None:
    assert sections("") == ()
    assert sections("# Title only\n\n## And a heading\n \n") == ()
