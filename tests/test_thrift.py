"""A repeated question costs nothing and says when; a spent budget leaves the passages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metaflowbot import bootstrap
from metaflowbot.answer import fell_short
from metaflowbot.bot import Bot
from metaflowbot.domain import Answer, Feedback, Question, Turn
from metaflowbot.settings import Answers, Settings
from metaflowbot.store import Asking
from tests.openai_double import OpenAIDouble
from tests.small_index import RETRY

pytest_plugins = ["tests.prebuilt"]

CITED = 'Use the `@retry` decorator to run a failing step again [1: "run a failing step again"].'


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        running.reply(CITED, usage=(1_000_000, 100_000))
        yield running


def bot_at(server: OpenAIDouble, home: Path, **limits: float) -> Bot:
    values = {
        "home": home,
        "openai_api_key": server.key,
        "openai_base_url": server.url,
        "chat_model": "openai:gpt-5-mini",
        "answers": Answers(**limits),
    }
    return bootstrap.build(Settings.model_validate(values)).bot


def ask(bot: Bot, text: str, person: str = "cli:a", *, channel: str = "") -> Answer:
    return bot.ask(Question(text, channel=channel), Asking(person))


@pytest.mark.parametrize(
    "again", [RETRY, "how do i retry a failing step with delay", f"  {RETRY.upper()} "]
)
def test_a_repeated_question_is_answered_from_memory_and_says_when(
    server: OpenAIDouble, home: Path, again: str
) -> None:
    bot = bot_at(server, home)
    first = ask(bot, RETRY)
    second = ask(bot, again, "cli:b")
    assert len(server.requests) == 1
    assert second.text == first.text
    assert second.citations == first.citations
    assert second.id != first.id
    assert second.usage.cost_usd == 0 < first.usage.cost_usd
    assert second.notice.startswith("Answered before, on 20")
    assert not fell_short(second)


@pytest.mark.parametrize(
    "other",
    [
        "How do I not retry a failing step with a delay?",
        "How do I retry a failing step without a delay?",
        "How do I retry a failing step?",
        "How do I retry a failing flow with a delay?",
    ],
)
def test_another_question_in_like_words_is_put_to_the_model(
    server: OpenAIDouble, home: Path, other: str
) -> None:
    bot = bot_at(server, home)
    ask(bot, RETRY)
    ask(bot, other)
    assert len(server.requests) == 2


def test_what_was_asked_in_one_channel_is_not_repeated_in_another(
    server: OpenAIDouble, home: Path
) -> None:
    bot = bot_at(server, home)
    ask(bot, RETRY, channel="C1")
    ask(bot, RETRY, channel="C2")
    assert len(server.requests) == 2


def test_within_a_conversation_nothing_is_repeated(server: OpenAIDouble, home: Path) -> None:
    bot = bot_at(server, home)
    ask(bot, RETRY)
    bot.ask(Question(RETRY, (Turn("user", "hello"),)), Asking("cli:a"))
    assert len(server.requests) == 2


def test_a_disliked_answer_is_not_given_again_even_where_a_copy_was_disliked(
    server: OpenAIDouble, home: Path
) -> None:
    bot = bot_at(server, home)
    ask(bot, RETRY)
    copy = ask(bot, RETRY)
    bot.rate(Feedback(copy.id, "cli:b", "down"))
    fresh = ask(bot, RETRY)
    assert (len(server.requests), fresh.notice) == (2, "")


def test_an_answer_that_fell_short_is_not_remembered(server: OpenAIDouble, home: Path) -> None:
    bot = bot_at(server, home)
    server.reply("The moon is made of cheese.")
    ask(bot, RETRY)
    server.reply(CITED)
    assert ask(bot, RETRY).notice == ""


@pytest.mark.parametrize("limit", ["daily_budget", "daily_budget_per_person"])
def test_after_a_days_budget_the_passages_answer_and_say_so(
    server: OpenAIDouble, home: Path, limit: str
) -> None:
    bot = bot_at(server, home, **{limit: 0.01})
    assert ask(bot, RETRY).usage.cost_usd > 0.01
    other = ask(bot, "How do I run a step on Kubernetes with a gpu?")
    assert (len(server.requests), other.model) == (1, "none")
    assert "budget" in other.notice
    assert other.citations


def test_one_persons_budget_is_not_another_persons(server: OpenAIDouble, home: Path) -> None:
    bot = bot_at(server, home, daily_budget_per_person=0.01)
    ask(bot, RETRY)
    ask(bot, "How do I run a step on Kubernetes with a gpu?", "cli:b")
    assert len(server.requests) == 2


def test_forgetting_a_person_forgets_what_would_be_given_again(
    server: OpenAIDouble, home: Path
) -> None:
    bot = bot_at(server, home)
    ask(bot, RETRY)
    bot.forget("cli:a")
    ask(bot, RETRY, "cli:b")
    assert len(server.requests) == 2
