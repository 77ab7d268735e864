"""What people see in Slack, and what Slack can never make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metaflowbot.domain import Answer, Citation
from metaflowbot.slack.markdown import escape, link, mrkdwn, question_text, split, tame
from metaflowbot.slack.rendering import (
    Setting,
    answer_messages,
    line_message,
    private_answer,
)

ANSWER = Answer(
    id="a1",
    question="How do I retry?",
    text="Use `@retry` [1].\n\n```python\n@retry(times=3)\n```",
    citations=(
        Citation(1, "docs/failures.md", "Failures › Retrying", "https://docs/x?a=1&b=2", "@retry"),
    ),
    abstained=False,
    confidence=0.9,
    model="openai:gpt-5-mini",
    prompt_version="p1",
    generation="g7",
)
PINGS = re.compile(r"<[!@#]|@(here|channel|everyone)\b", re.IGNORECASE)


# Coming in


def test_a_question_is_the_text_without_our_mention() -> None:
    assert question_text("<@UBOT> how do I retry?", "UBOT") == "how do I retry?"
    assert question_text("hey <@UBOT|bot> how?", "UBOT") == "hey how?"


def test_a_bare_mention_is_no_question() -> None:
    assert question_text("<@UBOT>  ", "UBOT") == ""


def test_slacks_entities_are_resolved_once() -> None:
    assert question_text("a &lt; b &amp;&amp; &amp;lt;", "UBOT") == "a < b && &lt;"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("<https://x.io/a>", "https://x.io/a"),
        ("<https://x.io/a|x.io/a>", "https://x.io/a"),
        ("<https://x.io/a|the docs>", "the docs (https://x.io/a)"),
        ("<mailto:a@b.io|a@b.io>", "a@b.io"),
        ("<@U2|ann>", "@ann"),
        ("<@U2>", "@U2"),
        ("<#C1|general>", "#general"),
        ("<!here>", "@here"),
        ("<!subteam^S1|@data>", "@data"),
        ("<!date^1700000000^{date}|Nov 14>", "Nov 14"),
    ],
)
def test_slacks_tokens_become_what_the_person_saw(written: str, meant: str) -> None:
    assert question_text(written, "UBOT") == meant


def test_the_lines_of_pasted_code_stay_as_they_are() -> None:
    code = "```\ndef f():\n    return 1\n```"
    assert question_text(f"<@UBOT> why?\n{code}", "UBOT") == f"why?\n{code}"


# Going out


@given(st.text("<>!@#here channel everyone|UC1`*_&;\n()[]lgt", max_size=80))
@settings(deadline=None, max_examples=150)
def test_no_text_whatever_can_ping_anybody(text: str) -> None:
    assert not PINGS.search(tame(text))
    assert not PINGS.search(mrkdwn(tame(text)))
    assert not PINGS.search(escape(text))


@pytest.mark.parametrize(
    ("text", "tamed"),
    [
        ("call __init__ now", "call `__init__` now"),
        ("Flow.__call__() and a.__b__.c", "`Flow.__call__()` and `a.__b__.c`"),
        ("edit __init__.py.", "edit `__init__.py`."),
        ("at https://x.io/__a__/b.", "at <https://x.io/__a__/b>."),
        ("(https://x.io/a_b)", "(<https://x.io/a_b>)"),
    ],
)
def test_a_dunder_in_prose_is_shown_as_a_name(text: str, tamed: str) -> None:
    assert tame(text) == tamed


def test_code_comes_out_of_a_quote_in_which_slack_shows_none() -> None:
    quoted = "> Add it:\n>\n> ```python\n> @retry\n>\n> def f():\n>     pass\n> ```\n> Done."
    code = "```python\n@retry\n\ndef f():\n    pass\n```"
    assert tame(quoted) == f"> Add it:\n>\n\n{code}\n> Done."
    assert tame("> ```\n> open\n") == "\n```\nopen\n"


@pytest.mark.parametrize(
    "text",
    [
        "`__init__` and ``a ` __b__``",
        "```\n__init__\n```",
        "- item\n  ~~~py\n  __init__\n  ~~~",
        "https://x.io/a-b?c=d",
        "[https://x.io/a_b](https://x.io/a_b)",
        "[name](https://x.io/__a__)",
        "<https://x.io/__a__>",
        "snake_case_name and **bold** and __two words__",
    ],
)
def test_code_links_and_bold_stay_as_they_are(text: str) -> None:
    assert tame(text) == text


@pytest.mark.parametrize(
    ("markdown", "slack"),
    [
        ("# Title **x**", "*Title x*"),
        ("**b** _i_ ~~s~~ `c<d`", "*b* _i_ ~s~ `c&lt;d`"),
        ("2 * 3 * 4 & <b>", "2 * 3 * 4 &amp; &lt;b&gt;"),
        ("[docs](https://x.io/?a=1&b=2)", "<https://x.io/?a=1&amp;b=2|docs>"),
        ("[bad](javascript:alert(1))", "[bad](javascript:alert(1))"),
        ("[rel](/docs)", "rel"),
        ("- a\n  - b\n- c", "• a\n    • b\n• c"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("> a\n> b", "> a\n> b"),
        ("| a | bb |\n|---|---|\n| `xyz` | 1 |", "```\na    bb\nxyz  1\n```"),
        ("```py\nx < 1\n```", "```\nx &lt; 1\n```"),
        ("", ""),
        ("&lt;b&gt; &amp;lt;", "&lt;b&gt; &amp;lt;"),
        ("1. a\n   - b\n     - c\n2. d", "1. a\n    • b\n        • c\n2. d"),
        ("```md\na `b` ``c``\n```", "```\na `b` ``c``\n```"),
        ("````md\n```py\nx\n```\n````", "```\n``\u2060`py\nx\n``\u2060`\n```"),
        (
            tame("see https://x.io/a_b?d=__e__."),
            "see <https://x.io/a_b?d=__e__|https://x.io/a_b?d=__e__>.",
        ),
        ("`__init__` and snake_case_name", "`__init__` and snake_case_name"),
        ("<https://x.io/a_b>", "<https://x.io/a_b|https://x.io/a_b>"),
        ("a\\*b", "a*b"),
    ],
)
def test_markdown_becomes_slacks_own_markup(markdown: str, slack: str) -> None:
    assert mrkdwn(markdown) == slack


def test_a_link_can_not_be_broken_out_of() -> None:
    assert link("https://x.io/a|b>c", "one|two> <!here>\nthree").count("<") == 1
    assert link("https://x.io/a|b>c", "t") == "<https://x.io/a%7Cb%3Ec|t>"


def test_text_is_split_between_paragraphs_and_nothing_is_lost() -> None:
    text = "\n\n".join(f"paragraph {n} " + "word " * 20 for n in range(40))
    pieces = split(text, 500)
    assert all(len(piece) <= 500 for piece in pieces)
    assert "\n\n".join(pieces) == text


def test_a_fence_is_not_cut_when_it_fits_a_message() -> None:
    fence = "```python\n" + "x = 1\n\n" * 40 + "```"
    pieces = split("before " * 40 + "\n" + fence + "\nafter", 400)
    assert sum(fence in piece for piece in pieces) == 1


def test_a_table_that_fits_no_message_keeps_its_head_in_every_part() -> None:
    head = "| name | what |\n|------|:----:|\n"
    rows = [f"| row {n} | words |" for n in range(40)]
    pieces = split(head + "\n".join(rows), 200)
    assert all(piece.startswith(head) and len(piece) <= 200 for piece in pieces)
    assert [line for piece in pieces for line in piece.split("\n")[2:]] == rows


def test_a_fence_that_fits_no_message_is_closed_and_opened_again() -> None:
    pieces = split("```python\n" + "\n".join(f"x = {n}" for n in range(300)) + "\n```", 400)
    assert all(len(piece) <= 400 for piece in pieces)
    assert all(p.startswith("```python\n") and p.endswith("\n```") for p in pieces)
    lines = [line for piece in pieces for line in piece.split("\n")[1:-1]]
    assert lines == [f"x = {n}" for n in range(300)]


@given(st.text("ab `~|-\n", max_size=400), st.integers(20, 60))
@example("```" + 80 * "a" + "\nb", 40)
@example("| a |\n|---|\n" + 20 * "| b |\n", 20)
@settings(deadline=None, max_examples=300)
def test_no_piece_is_ever_longer_than_the_limit(text: str, limit: int) -> None:
    assert all(len(piece) <= limit for piece in split(text, limit))


def test_empty_text_gives_no_piece() -> None:
    assert split("", 100) == []


# Messages


def kinds(blocks: Sequence[Mapping[str, object]]) -> list[object]:
    return [block["type"] for block in blocks]


def test_an_answer_is_one_message_with_text_folded_sources_footer_and_buttons() -> None:
    (message,) = answer_messages(ANSWER, Setting("UANN", ("UMIA",)))
    assert message.body == ANSWER.text
    sources, footer, buttons, further = message.below
    assert sources["type"] == "container"
    assert sources["title"]["text"] == "Sources (1)"
    (links,) = sources["child_blocks"]
    assert links["elements"][0]["text"] == "<https://docs/x?a=1&amp;b=2|1. Failures › Retrying>"
    assert footer["elements"][0]["text"] == "quite sure · openai:gpt-5-mini · index g7"
    verdicts, delete = buttons["elements"]
    assert verdicts["type"] == "feedback_buttons"
    assert verdicts["positive_button"]["value"] == "up:a1"
    assert verdicts["negative_button"]["value"] == "down:a1"
    solved, human, resolve = further["elements"]
    assert solved["visible_to_user_ids"] == ["UANN"]
    for element in (delete, human, resolve):
        assert element["visible_to_user_ids"] == ["UANN", "UMIA"]


def test_simpler_blocks_say_the_same_without_what_older_clients_lack() -> None:
    (message,) = answer_messages(ANSWER, Setting("UANN"))
    assert kinds(message.simple) == ["context", "context", "context_actions", "actions"]
    assert "visible_to_user_ids" not in str(message.simple)
    assert "icon_button" not in str(message.simple)


def test_the_fallback_text_says_all_that_the_blocks_say() -> None:
    (message,) = answer_messages(replace(ANSWER, notice="The model did not answer."))
    assert message.text == (
        "Use `@retry` [1].\n\n```\n@retry(times=3)\n```\n\n"
        "<https://docs/x?a=1&amp;b=2|1. Failures › Retrying>\n\n"
        "quite sure · openai:gpt-5-mini · index g7 · The model did not answer."
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"confidence": 0.7}, "fairly sure"),
        ({"confidence": 0.1}, "not very sure"),
        ({"abstained": True}, "no answer found"),
        ({"model": "none", "abstained": True}, "no answer found · index g7"),
        ({"model": "none"}, "quoted from the docs, no model"),
        ({"checked_with": "2.19.3"}, "Metaflow 2.19.3"),
        ({"generation": "20261124T031857Z-1"}, "index of 2026-11-24"),
    ],
)
def test_the_footer_says_how_sure_with_what_and_how_fresh(
    changed: dict[str, Any], said: str
) -> None:
    (message,) = answer_messages(replace(ANSWER, **changed))
    assert f" · {said} · " in f" · {message.below[1]['elements'][0]['text']} · "


def test_without_a_check_of_code_the_installed_metaflow_is_named() -> None:
    (message,) = answer_messages(ANSWER, Setting(metaflow="2.19.0"))
    assert "Metaflow 2.19.0" in message.text


def test_where_no_answer_was_found_nothing_is_solved_and_a_human_stands_out() -> None:
    (message,) = answer_messages(replace(ANSWER, abstained=True), Setting("UANN"))
    human, resolve = message.below[-1]["elements"]
    assert (human["text"]["text"], human["style"]) == ("Need a human", "primary")
    assert resolve["text"]["text"] == "Mark resolved…"


def test_an_answer_without_citations_has_no_sources_block() -> None:
    (message,) = answer_messages(replace(ANSWER, citations=()))
    assert kinds(message.below) == ["context", "context_actions", "actions"]


def test_a_long_answer_continues_and_keeps_within_slacks_limits() -> None:
    many = tuple(
        Citation(n, "d", f"A title of some length {n}", f"https://docs.io/{'p' * 90}/{n}", "q")
        for n in range(1, 60)
    )
    long = replace(ANSWER, text="\n\n".join(["A paragraph. " * 30] * 70), citations=many)
    messages = answer_messages(long)
    assert len(messages) == 4
    for message in messages:
        assert sum(len(str(block)) for block in message.variants[0]) < 13_200
        assert len(message.text) < 40_000
    assert [len(message.below) for message in messages] == [0, 0, 0, 4]
    assert re.search(r"… and \d+ more", messages[-1].text)


def test_an_answer_for_one_person_is_one_message_with_a_button_to_share_it() -> None:
    long = replace(ANSWER, text="\n\n".join(["A paragraph. " * 30] * 70))
    for answer in (ANSWER, long):
        message = private_answer(answer, Setting(), "share me")
        assert len(message.body) < 10_000
        assert message.below[-1]["elements"][0]["value"] == "share me"
        assert message.below[-2]["elements"][0]["positive_button"]["value"] == "up:a1"
        assert "feedback" not in str(message.simple)
    assert message.body.endswith("_The rest is in the sources._")


def test_an_empty_answer_still_gives_a_message() -> None:
    assert len(answer_messages(replace(ANSWER, text=""))) == 1


def test_titles_notices_and_our_own_lines_ping_nobody() -> None:
    nasty = "<!channel> @here <@U1>"
    citation = Citation(1, "d", nasty, "https://docs/x", "q")
    (message,) = answer_messages(replace(ANSWER, citations=(citation,), notice=nasty, model=nasty))
    assert not PINGS.search(message.text)
    assert not any(PINGS.search(str(block)) for block in message.variants[0])
    assert not PINGS.search(line_message(nasty).text)
