"""Markers survive only with a span that bears them out, in one piece or in many."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaflowbot.citations import Verified, Verifier, best_quote, plain, sentences, verify
from metaflowbot.domain import Passage
from metaflowbot.markdown import segments

DATA = """\
Metaflow stores *all* artifacts in the `datastore` automatically. Artifacts are
content-addressed, so [identical data](https://docs.metaflow.org/dedup) is stored only once.

* Use `@resources(memory=16000)` to request more memory for a step.
* Don’t keep secrets in artifacts.

## Loading artifacts

The Client API loads artifacts of any past run. It can't change them.

```python
from metaflow import Flow
print(Flow("Train").latest_run.data.model)
```
"""
FOREACH = "A foreach branches over a list. Each branch sees its item as `self.input`."


def passage(
    text: str = DATA,
    document_id: str = "docs/data.md",
    headings: tuple[str, ...] = (),
    title: str = "Data",
) -> Passage:
    url = "https://docs.metaflow.org/data" + "".join(f"#{heading.lower()}" for heading in headings)
    return Passage(f"{document_id}#0", document_id, "metaflow-docs", title, headings, url, text)


SOURCES = [
    [passage()],
    [passage(FOREACH, "docs/foreach.md", ("Foreach", "Items"), "Branching")],
]


def quotes(verified: Verified) -> list[str]:
    return [citation.quote for citation in verified.citations]


# -- quotes ------------------------------------------------------------------------------------


def test_a_quote_that_stands_in_its_source_leaves_the_text_and_becomes_the_citation() -> None:
    found = verify('Data goes to the datastore [1: "artifacts in the datastore"].', SOURCES)

    assert found.text == "Data goes to the datastore [1]."
    assert quotes(found) == ["artifacts in the `datastore`"]


def test_a_citation_names_the_section_and_opens_it() -> None:
    (citation,) = verify('It branches [2: "branches over a list"].', SOURCES).citations

    assert citation.n == 1
    assert citation.document_id == "docs/foreach.md"
    assert citation.title == "Branching › Foreach › Items"
    assert citation.url == "https://docs.metaflow.org/data#foreach#items"


@pytest.mark.parametrize(
    ("given_quote", "verbatim"),
    [
        ("METAFLOW stores all   artifacts", "Metaflow stores *all* artifacts"),
        ("Don't keep secrets in artifacts", "Don’t keep secrets in artifacts."),
        (
            "so identical data is stored",
            "so [identical data](https://docs.metaflow.org/dedup) is stored",
        ),
        ("artifacts are content-addressed", "Artifacts are\ncontent-addressed,"),
        ("request more memory … for ever", "request more memory"),
        ('print(Flow(\\"Train\\").latest_run', 'print(Flow("Train").latest_run'),
        ("metaflow import Flow", "metaflow import Flow"),
    ],
)
def test_case_space_markup_and_typographic_quotes_do_not_matter(
    given_quote: str, verbatim: str
) -> None:
    found = verify(f'Nothing alike [1: "{given_quote}"].', SOURCES)

    assert quotes(found) == [verbatim]
    assert verbatim in DATA


@pytest.mark.parametrize(
    ("given_quote", "kept"),
    [
        ("for a step. Don't keep secrets in artifacts", "Don’t keep secrets in artifacts."),
        ("Loading artifacts The Client API loads artifacts", "The Client API loads artifacts"),
        ("It can't change them. from metaflow", "It can't change them."),
        ("from metaflow import Flow print", "from metaflow import Flow"),
    ],
)
def test_a_quote_ends_at_a_sentence_a_list_item_a_heading_or_a_line_of_code(
    given_quote: str, kept: str
) -> None:
    assert quotes(verify(f'Nothing alike [1: "{given_quote}"].', SOURCES)) == [kept]


def test_a_quote_that_is_not_in_the_source_is_replaced_by_the_span_that_supports_the_sentence() -> (
    None
):
    found = verify('Each branch has its item in self.input [2: "made up by a model"].', SOURCES)

    assert quotes(found) == ["Each branch sees its item as `self.input`."]


@pytest.mark.parametrize("marker", ["[1]", '[1: "made up by a model"]', '[1: "the"]'])
def test_a_marker_that_nothing_in_the_source_supports_goes(marker: str) -> None:
    assert verify(f"Kubernetes needs a cluster {marker}.", SOURCES) == Verified(
        "Kubernetes needs a cluster.", ()
    )


@pytest.mark.parametrize(
    ("marker", "shown"),
    [
        ("[1: “stores all artifacts”]", "[1]"),
        ('[1: “stores all artifacts”; 2: "branches over a list"]', "[1][2]"),
        ('[2: "branches over a list"][1: "stores all artifacts"]', "[1][2]"),
        ('[1: "stores all artifacts"] [1: "Artifacts are content"]', "[1]"),
        ('[1: "print(Flow("Train").latest_run.data.model)"]', "[1]"),
        ('[1: "stores all artifacts" ]', "[1]"),
    ],
)
def test_every_form_of_marker_is_read(marker: str, shown: str) -> None:
    assert verify(f"Nothing alike {marker}.", SOURCES).text == f"Nothing alike {shown}."


def test_a_quote_may_hold_brackets_and_a_broken_one_never_reaches_the_reader() -> None:
    sources = [[passage('Use `current.card["first"].append(x)` in the step to add to a card.')]]

    whole = verify('Append to it [1: "Use `current.card["first"].append(x)` in"]. More.', sources)
    broken = verify('Append to it [1: "in the step to add', sources)

    assert whole.text == "Append to it [1]. More."
    assert quotes(whole) == ['Use `current.card["first"].append(x)` in']
    assert broken.text == "Append to it [1]"
    assert quotes(broken) == ["in the step to add"]


# -- numbers -----------------------------------------------------------------------------------


def test_bare_numbers_are_held_against_their_source() -> None:
    text = "A foreach branches over a list [2]. Artifacts are stored in the datastore [1]."

    found = verify(text, SOURCES)

    assert found.text == (
        "A foreach branches over a list [1]. Artifacts are stored in the datastore [2]."
    )
    assert [citation.document_id for citation in found.citations] == [
        "docs/foreach.md",
        "docs/data.md",
    ]


def test_sources_may_be_a_mapping_by_number() -> None:
    found = verify("A foreach branches over a list [7].", {7: SOURCES[1]})

    assert found.text == "A foreach branches over a list [1]."


@pytest.mark.parametrize("marker", ["[9]", "[0]", "[1, 9]", '[9: "stores all artifacts"; 1]'])
def test_unknown_numbers_are_dropped(marker: str) -> None:
    found = verify(f"The datastore stores artifacts {marker}.", SOURCES)

    assert len(found.citations) == ("1" in marker)
    assert "9" not in found.text
    assert "0" not in found.text


def test_one_section_has_one_number_and_its_best_quote() -> None:
    text = (
        'Loads artifacts of any past run [1]. It loads them [1: "loads artifacts of any past run"].'
    )

    found = verify(text, SOURCES)

    assert found.text == "Loads artifacts of any past run [1]. It loads them [1]."
    assert quotes(found) == ["loads artifacts of any past run."]


def test_two_sections_of_a_document_have_two_numbers() -> None:
    sources = [[passage(FOREACH, headings=("A",)), passage(DATA, headings=("B",))]]

    found = verify('Lists [1: "branches over a list"], memory [1: "request more memory"].', sources)

    assert found.text == "Lists [1], memory [2]."
    assert [citation.title for citation in found.citations] == ["Data › A", "Data › B"]


def test_a_marker_on_its_own_line_stands_for_the_sentence_before() -> None:
    assert verify("A foreach branches over a list.\n\n[2]", SOURCES).text.endswith("[1]")


def test_a_marker_behind_the_full_stop_belongs_to_the_sentence_before_it() -> None:
    found = verify("A foreach branches over a list. [2] Nothing else is known.", SOURCES)

    assert found.text == "A foreach branches over a list. [1] Nothing else is known."


# -- what is no marker, and links --------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Take `list[0]` or x[1] or f(x)[1] or a[1][2].",
        "Take ``a `[1]` b`` and `[2]`.",
        "- [ ] open\n- [x] done\n",
        "A footnote[^1].\n\n[^1]: Its text.",
        "```python\nx = [1]\ny = [1, 2]\n```\n",
        "Before\n\n  ~~~\n[1]\n\n[9]\n  ~~~\nAfter",
        "Not closed\n```\n[1]",
        "foo[0](bar) and [a] and [1:2] and [1-3]",
        "  \n\n Spaces  stay .  \n",
    ],
)
def test_what_only_looks_like_a_marker_is_left_alone(text: str) -> None:
    assert verify(text, SOURCES) == Verified(text, ())


def test_links_to_addresses_of_the_sources_stay() -> None:
    text = (
        "See [this](https://docs.metaflow.org/dedup) and <https://docs.metaflow.org/data>, "
        "or https://docs.metaflow.org/data#foreach#items."
    )

    assert verify(text, SOURCES).text == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See [the page](https://bad.example/a_(b)) now.", "See the page now."),
        ("See [1](https://bad.example) now.", "See 1 now."),
        ("See <https://bad.example|the page> now.", "See the page now."),
        ("See https://bad.example/x?y=1. Then", "See. Then"),
        ("See (https://bad.example) now.", "See now."),
        ("See www.bad.example now.", "See now."),
        ("See [x](javascript:alert) now.", "See x now."),
        ("See [x](/relative) now.", "See x now."),
        ("See (a)[x](bad.example/y) now.", "See (a)x now."),
        ("See ![alt](https://bad.example/x.png) now.", "See alt now."),
        ("See [x](https://docs.metaflow.org/dedup.bad.example) now.", "See x now."),
        ("See [1].\n\n[1]: https://docs.metaflow.org/dedup", "See.\n\n"),
        ("See [a].\n\n[a]: https://bad.example 'x'\nend", "See [a].\n\nend"),
    ],
)
def test_links_to_other_addresses_lose_their_target(text: str, shown: str) -> None:
    assert verify(text, SOURCES).text == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("One [9], two [9].", "One, two."),
        ("[9] One.", "One."),
        ("- [9] One\n- Two [9]\n", "- One\n- Two\n"),
        ("One ([9]) two", "One two"),
        ("One ([9], see there)", "One (, see there)"),
        ("One [9] two", "One two"),
        ("One [9][8] two", "One two"),
        ("[[9]9]", ""),
        ("One. [9] Two.", "One. Two."),
    ],
)
def test_what_is_taken_out_leaves_no_untidy_spaces(text: str, shown: str) -> None:
    assert verify(text, SOURCES).text == shown


def test_a_marker_glued_to_a_word_or_a_bracket_is_set_apart() -> None:
    found = verify('Stored[1: "stores all artifacts"](see there).', SOURCES)

    assert found.text == "Stored [1] (see there)."


# -- in pieces ---------------------------------------------------------------------------------


def test_a_sentence_is_shown_as_soon_as_it_is_complete_and_not_before() -> None:
    verifier = Verifier(SOURCES)

    assert verifier.feed("A foreach branches over a list") == ""
    assert verifier.feed(' [2: "A foreach. It') == ""
    assert verifier.feed(' branches"].') == ""
    assert verifier.feed(" N") == "A foreach branches over a list [1]. "
    assert verifier.verified.citations[0].quote == "A foreach branches over a list."
    assert verifier.feed("ext:\n```python\nx = 1\n\n") == "Next:\n"
    assert verifier.feed("```\nEnd") == "```python\nx = 1\n\n```\n"
    assert verifier.finish() == "End"
    assert verifier.verified.text == (
        "A foreach branches over a list [1]. Next:\n```python\nx = 1\n\n```\nEnd"
    )


BITS = [
    *["[1]", "[2]", "[9]", "[1, 2]", '[1: "stores all artifacts"]', '[2: "a list. Each"; 1]'],
    *["[", "]", "(", ")", "`", "```\n", "~~~", '"', ":", "1", "2", "!", ".", ". ", ", ", " ", "\n"],
    *["\n\n", "- ", "# ", "> ", "| ", "**", "A foreach branches over a list", "artifacts", "e.g. "],
    *["https://bad.example", "https://docs.metaflow.org/data", "[x](https://bad.example)", "\\"],
    *['[1: "all', "www.x", "Datastore", "_", "<", ">", "1. ", "[^1]", "[1]: https://bad.example"],
]
TEXTS = st.lists(st.sampled_from(BITS), max_size=25).map("".join)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_no_number_is_shown_without_a_citation_and_every_quote_is_in_its_passage(text: str) -> None:
    found = verify(text, SOURCES)

    numbers = [citation.n for citation in found.citations]
    assert numbers == list(range(1, len(numbers) + 1))
    assert set(re.findall(r"(?<![\w)\]])\[(\d+)\](?!\()", _prose(found.text))) <= set(
        map(str, numbers)
    )
    for citation in found.citations:
        sources = {"docs/data.md": DATA, "docs/foreach.md": FOREACH}
        assert citation.quote
        assert citation.quote in sources[citation.document_id]


@given(TEXTS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_pieces_give_the_same_answer_as_the_whole(text: str, random: object) -> None:
    verifier, at, shown = Verifier(SOURCES), 0, ""
    while at < len(text):
        size = random.randint(1, 9)  # type: ignore[attr-defined]
        shown += verifier.feed(text[at : at + size])
        at += size
    shown += verifier.finish()

    assert verifier.verified == verify(text, SOURCES)
    assert shown == verifier.verified.text


@given(st.text(st.characters(exclude_characters="[]<:w", exclude_categories=["Cs"]), max_size=200))
@settings(max_examples=200, deadline=None)
def test_text_without_markers_and_links_is_unchanged(text: str) -> None:
    assert verify(text, SOURCES) == Verified(text, ())


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_read_as_answer_and_as_source(text: str) -> None:
    verify(text + ' All of it [1: "artifacts in the datastore"].', [[passage(text)]])
    quote = best_quote(text, passage(text))
    assert quote is None or quote in text
    assert all(sentence in text for sentence in sentences(text))
    assert plain(text).strip() == plain(text)


def _prose(text: str) -> str:
    """The text without code."""
    prose = "".join(segment.text for segment in segments(text) if not segment.is_fence)
    return re.sub(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)", "x", prose)


# -- best_quote, sentences, plain --------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        (
            "Artifacts of past runs can be loaded with the Client API.",
            "The Client API loads artifacts of any past run.",
        ),
        (
            "Request more memory with `@resources`.",
            "Use `@resources(memory=16000)` to request more memory for a step.",
        ),
        ("Print `Flow('Train').latest_run.data`", 'print(Flow("Train").latest_run.data.model)'),
        ("Loading artifacts", "The Client API loads artifacts of any past run."),
        ("The scheduler is Argo Workflows.", None),
        ("The", None),
        ("", None),
    ],
)
def test_the_best_quote_is_the_span_that_shares_most_with_the_claim(
    claim: str, quote: str | None
) -> None:
    assert best_quote(claim, passage()) == quote


def test_a_long_span_is_cut_after_a_word() -> None:
    quote = best_quote("many words", passage("many words " * 60))

    assert quote is not None
    assert len(quote) <= 300
    assert quote.endswith("words")


def test_sentences_keep_code_whole_and_leave_out_headings_and_bullets() -> None:
    text = (
        "# Title\n\nUse it, e.g. like 3.5 or x.y. Then\nstop! [1]\n\n1. First\n"
        "- [ ] Second. Third\n:::note\n\n```sh\nrun. Now\n\nmore\n```\n\n---\n> said"
    )

    assert sentences(text) == [
        "Use it, e.g. like 3.5 or x.y.",
        "Then\nstop! [1]",
        "First",
        "Second.",
        "Third",
        "```sh\nrun. Now\n\nmore\n```",
        "said",
    ]
    assert sentences("") == []


def test_plain_text_has_no_markup() -> None:
    text = (
        "## A *title*\n\n- **Bold** and _soft_ `self.my_var` in [a `link`](https://x.example).\n"
        "\n```py\nx_1 = a * b\n```\n"
    )

    assert plain(text) == "A title Bold and soft self.my_var in a link. x_1 = a * b"
    assert plain("") == ""
