"""A message leans on earlier ones where it points back to them."""

from __future__ import annotations

import pytest

from metaflowbot.conversation import leaned_on
from metaflowbot.domain import Question, Turn

BEFORE = "How do I retry a failing step of my flow?"


SAID = "Put `@retry` on the step."


def after(text: str, *said: str) -> str:
    """What the text leans on after these messages, each of them answered."""
    turns = [turn for one in said for turn in (Turn("user", one), Turn("assistant", SAID))]
    return leaned_on(Question(text, tuple(turns)))


@pytest.mark.parametrize(
    "text",
    [
        "and on kubernetes?",
        "ok, and with a longer delay between the attempts?",
        "does it also work for a foreach over many items?",
        "that didn't work:\nTraceback (most recent call last):\nValueError: boom",
        "doesn't help, the step of my flow still fails on Kubernetes",
        "with parameters",
        "why?",
    ],
)
def test_a_message_that_points_back_leans_on_the_one_before_and_its_answer(text: str) -> None:
    assert after(text, BEFORE) == f"{BEFORE}\n{SAID}"


@pytest.mark.parametrize(
    "text",
    [
        "How do I mount a persistent volume into my Kubernetes pods?",
        "different question: what does it take to install Metaflow on Windows?",
        "unrelated: is it possible to set breakpoints in VS Code?",
        "btw, how do I pass a list as a parameter on the command line? it must be short",
        "Is there a way to filter runs by tags that are set by the scheduler?",
    ],
)
def test_a_message_on_another_subject_stands_by_itself(text: str) -> None:
    assert after(text, BEFORE) == ""


def test_a_chain_of_follow_ups_leads_back_to_where_it_began() -> None:
    text = after("and on AWS?", "How do I pay for spot instances?", BEFORE, "and on kubernetes?")
    assert text == f"{BEFORE}\n{SAID}\nand on kubernetes?\n{SAID}"


def test_of_an_answer_its_beginning_counts() -> None:
    history = (Turn("user", BEFORE), Turn("assistant", SAID + " x" * 9000))
    text = leaned_on(Question("and on kubernetes?", history))
    assert text.startswith(f"{BEFORE}\n{SAID}")
    assert len(text) < 400


def test_what_the_bot_said_unasked_is_not_leaned_on() -> None:
    history = (Turn("assistant", "Use the decorator."),)
    assert leaned_on(Question("and on kubernetes?", history)) == ""


def test_a_long_conversation_counts_with_its_last_messages_alone() -> None:
    text = after("and there?", *(f"and {n}, {'x' * 9000}?" for n in range(200)))
    assert "and 199" in text
    assert "and 195" not in text
    assert len(text) < 10_000


def test_without_a_conversation_there_is_nothing_to_lean_on() -> None:
    assert leaned_on(Question("and on kubernetes?")) == ""
