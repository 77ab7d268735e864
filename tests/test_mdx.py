from __future__ import annotations

from urllib.parse import urljoin

import pytest

from ingest.mdx import ApiObject, split_api_objects, to_markdown


def resolve(target: str) -> str:
    return urljoin("https://site.example/", target)


def convert(text: str) -> str:
    return to_markdown(text, resolve).strip("\n")


def api_object(body: str, *, kind: str = "function", name: str = "f", rest: str = "") -> ApiObject:
    text = (
        f'<DocSection type="{kind}" name="{name}" module="metaflow" {rest}>\n{body}\n</DocSection>'
    )
    prose, found, end = split_api_objects(text)
    assert isinstance(found, ApiObject)
    assert (prose, end) == ("", "")
    return found


@pytest.mark.parametrize(
    ("mdx", "markdown"),
    [
        ("a &mdash; b&#x20;&lt;c&gt; &amp; d", "a — b <c> & d"),
        ("<div className='x'>\n\nkept\n\n</div>", "kept"),
        ('<Card style={{color: "red"}} on={() => go()}>kept</Card>', "kept"),
        ("one<br/>two", "one two"),
        ("<!-- gone\n\nstill gone -->kept", "kept"),
        ("kept {/* gone */}", "kept "),
        ("import A from '@theme/A';\nexport const b = 1;\nkept", "kept"),
        ("import metaflow\nis how you begin", "import metaflow\nis how you begin"),
        ('<TabItem label="R" value="r">\nkept\n</TabItem>', "**R**\n\nkept"),
        ("![image](/a.png)kept", "kept"),
        ("![What a card looks like](/a.png)", "What a card looks like"),
        ('<ReactPlayer controls url="https://v.example/1" />', "[Video](https://v.example/1)"),
        (r"a list\[0\] in \<angle\> brackets\.", "a list[0] in <angle> brackets."),
        ("", ""),
    ],
)
def test_prose_reads_as_on_the_site(mdx: str, markdown: str) -> None:
    assert convert(mdx) == markdown


@pytest.mark.parametrize(
    ("mdx", "markdown"),
    [
        (":::info\ntext\n:::", "**Info**\n\ntext"),
        (":::caution Mind the size\ntext\n:::", "**Caution: Mind the size**\n\ntext"),
        ("::::note Note\ntext\n::::", "**Note**\n\ntext"),
    ],
)
def test_an_admonition_is_named_and_its_text_kept(mdx: str, markdown: str) -> None:
    assert convert(mdx) == markdown


@pytest.mark.parametrize(
    ("mdx", "markdown"),
    [
        ("[a](b/c)", "[a](https://site.example/b/c)"),
        ("[`a[0]`](b)", "[`a[0]`](https://site.example/b)"),
        ('[a](b "a title")', "[a](https://site.example/b)"),
        ("[a](wiki/B_(c))", "[a](https://site.example/wiki/B_(c))"),
        ("[two\nlines](b)", "[two\nlines](https://site.example/b)"),
        ("`[a](b)` and `x[0](1)`", "`[a](b)` and `x[0](1)`"),
    ],
)
def test_links_are_resolved_and_code_is_left_alone(mdx: str, markdown: str) -> None:
    assert convert(mdx) == markdown


@pytest.mark.parametrize(
    "code",
    [
        "```jsx\n<Tabs>&amp;<!-- kept --></Tabs>\nimport A from 'a';\n:::info\n```",
        "  ~~~\n  [a](b) \\* &lt;\n  ~~~",
        "`<Namespace>` and ``a ` &amp; b``",
        "`<run-id>/<step>`",
    ],
)
def test_code_stays_as_it_is_written(code: str) -> None:
    assert to_markdown(code, resolve) == code


def test_an_unknown_tag_in_lower_case_is_text() -> None:
    assert convert("run/<run-id>/<step>") == "run/<run-id>/<step>"


def test_a_comparison_is_no_tag() -> None:
    assert convert("a < b and b > c") == "a < b and b > c"


def test_the_output_of_code_is_kept_unless_it_is_a_stack_trace() -> None:
    block = '<CodeOutputBlock lang="python">\n\n```\n{}\n```\n\n</CodeOutputBlock>'
    assert "42 rows" in convert(block.format("42 rows"))
    assert convert(block.format("Traceback (most recent call last):\n  boom")) == ""


FUNCTION = r"""
<SigArgSection>
<SigArg name="self" /><SigArg name="key" type="str" /><SigArg name="size" default="5" />
</SigArgSection>
<Description summary="Reads\na key." extended_summary="Second &#34;part&#34;." />
<ParamSection name="Parameters">
	<Parameter name="key" type="str" desc="What\nto read." />
	<Parameter name="size" type="int, default 5" />
</ParamSection>
<ParamSection name="Raises">
	<Parameter type="KeyError" desc="No such key." />
</ParamSection>
"""


def test_a_function_shows_its_import_signature_description_and_parameters() -> None:
    found = api_object(FUNCTION, rest='show_import="True" heading_level="4"')
    assert (found.heading, found.level) == ("f", 4)
    assert found.text == (
        "```python\nfrom metaflow import f\nf(key: str, size=5)\n```\n\n"
        'Reads\na key.\n\nSecond "part".\n\n'
        "**Parameters:**\n- `key` (str): What to read.\n- `size` (int, default 5)\n\n"
        "**Raises:**\n- `KeyError`: No such key."
    )


def test_a_decorator_is_headed_and_called_with_its_at_sign() -> None:
    found = api_object('<SigArg name="..." />', kind="decorator", name="retry")
    assert found.heading == "@retry"
    assert found.text == "```python\n@retry(...)\n```"


def test_a_property_has_no_signature() -> None:
    found = api_object('<Description summary="The number." />', kind="property", name="A.b")
    assert found.text == "The number."


def test_a_class_names_its_attributes() -> None:
    found = api_object(
        '<ParamSection name="Parameters"><Parameter name="path" /></ParamSection>\n'
        '<ParamSection name="Attributes"><Parameter name="data" /><Parameter name="id:str" />'
        "</ParamSection>",
        kind="class",
        name="Run",
    )
    assert found.attributes == ("data", "id")
    assert "- `id` (str)" in found.text


def test_lists_and_code_in_a_parameter_stay_in_its_item() -> None:
    found = api_object(
        '<Parameter name="how" desc="One of:\\n- a\\n- b\\n```\\nx = 1\\n```" />', kind="property"
    )
    assert found.text == "- `how`: One of:\n  - a\n  - b\n  ```\n  x = 1\n  ```"


def test_what_a_docstring_writes_in_angle_brackets_is_marked_as_code() -> None:
    found = api_object(
        '<Description summary="Takes &lt;flow&gt;/&lt;run&gt; or `<x>`." />', kind="property"
    )
    assert found.text == "Takes `<flow>/<run>` or `<x>`."


def test_prose_between_objects_keeps_its_place() -> None:
    one = '<DocSection type="property" name="{}">\n<Description summary="s" />\n</DocSection>'
    parts = split_api_objects(f"# T\n\n{one.format('A')}\n\nBetween.\n\n{one.format('B')}\nEnd.")
    shown = [part.name if isinstance(part, ApiObject) else part.strip() for part in parts]
    assert shown == ["# T", "A", "Between.", "B", "End."]


def test_a_page_without_objects_is_one_piece_of_prose() -> None:
    assert split_api_objects("text") == ["text"]
    assert split_api_objects("") == [""]
