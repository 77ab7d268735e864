"""The slash command, the message shortcuts, and a channel's rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from metaflowbot.domain import Hit
from metaflowbot.errors import StoreError
from metaflowbot.slack.commands import (
    ASK_ABOUT,
    FORGET_ACTION,
    MARK_RESOLVED,
    SAVE_FAQ,
    TO_TRENCHES,
)
from metaflowbot.slack.rendering import FEEDBACK_ACTION, SHARE_ACTION
from tests.slack_world import THREAD, World, shown, until

pytest_plugins = ["tests.slack_world"]


@pytest.fixture
def maintained(world: World) -> Iterator[World]:
    world.mia = world.slack.add_user("mia")
    world.slack.workspace.channels[world.channel].members.append(world.mia)
    with world.serving(trenches={"maintainers": [world.mia]}):
        yield world


def command(world: World, text: str, user: str = "") -> str:
    """Type a command; what that person is told at once."""
    ack = world.slack.command("/metaflow", text, user or world.ann, world.channel)
    assert ack.acknowledged
    return str(ack.body.get("text", ""))


def private(world: World, part: str, user: str = "") -> Any:
    """What that person alone is shown that has this part."""
    wanted = user or world.ann

    def found() -> list[Any]:
        return [e for e in world.slack.ephemerals if e.user == wanted and part in shown(e.message)]

    return until(found)[-1]


# Asking for oneself


def test_a_command_is_answered_to_the_asker_alone_and_can_be_shared(live: World) -> None:
    assert "Looking it up" in command(live, "ask how do I retry?")
    answer = private(live, "You asked: how do I retry?")
    assert live.slack.messages(live.channel) == []
    for _ in range(2):
        live.slack.click(live.channel, answer.message["ts"], SHARE_ACTION, live.ann)
    (message,) = until(lambda: live.slack.messages(live.channel))
    private(live, "You shared this answer already.")
    live.settle()
    assert "You asked: how do I retry?" in shown(message)
    assert message["metadata"]["event_payload"]["answer_id"] == "answer-1"
    assert len(live.slack.messages(live.channel)) == 1
    live.slack.react(live.channel, message["ts"], live.bob, "+1")
    until(lambda: [rated.verdict for rated in live.store.rated()] == ["up"])


@pytest.mark.parametrize(
    "text", ["forget about a step in a foreach?", "settings for memory?", "Ask escalate how?"]
)
def test_a_question_that_begins_like_a_command_is_a_question(live: World, text: str) -> None:
    assert "Looking it up" in command(live, text)
    private(live, f"You asked: {text.removeprefix('Ask ')}")
    assert live.slack.modal(live.ann) is None


def test_a_private_answer_links_the_thread_that_answered_it_and_can_be_rated(live: World) -> None:
    live.bot.thread = Hit(1, 1.0, (THREAD,))
    command(live, "ask how?")
    answer = private(live, "**Asked before:** [An old thread](https://x.slack.com/t)")
    value = "down:answer-1"
    live.slack.click(live.channel, answer.message["ts"], FEEDBACK_ACTION, live.ann, value=value)
    live.slack.submit(live.modal()["id"], live.ann, {"reason": "wrong"})
    assert [rated.reason for rated in live.store.rated()] == ["wrong"]


def test_an_answer_that_comes_after_its_address_ran_out_comes_as_a_direct_message(
    live: World,
) -> None:
    told = threading.Event()  # a clock that jumps before it would make the acknowledgement late

    def late(n: int) -> None:
        assert told.wait(40)
        live.slack.advance(1801)

    live.bot.before_piece = late
    command(live, "ask how?")
    told.set()
    dm = live.slack.open_dm(live.ann)
    (message,) = until(lambda: live.slack.messages(dm))
    assert "You asked: how? [1]." in shown(message)
    assert SHARE_ACTION not in str(message)


@pytest.mark.parametrize("text", ["", "help", "ask"])
def test_a_command_without_a_question_says_how_to_ask(live: World, text: str) -> None:
    assert "/metaflow ask QUESTION" in command(live, text)


def test_a_command_that_is_a_question_is_answered(live: World) -> None:
    command(live, "how do I retry?")
    private(live, "You asked: how do I retry?")


def test_a_command_works_where_the_bot_is_not_a_member(live: World) -> None:
    elsewhere = live.slack.add_channel("elsewhere", [live.ann])
    live.slack.command("/metaflow", "ask how?", live.ann, elsewhere)
    answer = private(live, "You asked: how?")
    live.slack.click(elsewhere, answer.message["ts"], SHARE_ACTION, live.ann)
    private(live, "/invite")
    live.slack.join(elsewhere, live.slack.bot_user_id)
    live.slack.click(elsewhere, answer.message["ts"], SHARE_ACTION, live.ann)
    (shared,) = until(lambda: live.slack.messages(elsewhere))
    assert "You asked: how?" in shown(shared)


def test_an_answer_to_a_command_fails_in_one_kind_line(live: World) -> None:
    def fail(answer: object) -> Any:
        raise ZeroDivisionError

    live.bot.does = fail
    command(live, "ask how?")
    private(live, "Something went wrong on my side")


def test_an_answer_to_a_command_that_the_database_did_not_take_is_tried_again(live: World) -> None:
    live.bot.fail_once(StoreError("the database does not answer"))
    command(live, "ask how?")
    private(live, "You asked: how?")


def test_escalating_hands_on_the_latest_question_of_the_channel(live: World) -> None:
    assert "no question of yours" in command(live, "escalate")
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    assert "maintainers" in command(live, "escalate")
    ((asking, answer_id, person),) = live.bot.escalated
    assert (asking.thread, asking.message, answer_id) == (ts, ts, "answer-1")
    assert person == f"slack:{live.ann}"


def test_forgetting_is_asked_back_and_then_done(live: World) -> None:
    live.reply(live.ask("how?"))
    live.settle()
    command(live, "forget me")
    (asked,) = live.slack.ephemerals
    assert live.bot.forgotten == []
    live.slack.click(live.channel, asked.message["ts"], FORGET_ACTION, live.ann)
    private(live, "I erased")
    assert live.bot.forgotten == [f"slack:{live.ann}"]
    assert live.store.slack.questions_of(f"slack:{live.ann}") == ()


# Shortcuts


def test_asking_about_a_message_answers_the_one_who_asked(live: World) -> None:
    ts = live.say("how does a foreach work?", user=live.bob)
    assert live.slack.shortcut(ASK_ABOUT, live.channel, ts, live.ann).acknowledged
    private(live, "You asked: how does a foreach work?")
    assert live.replies(ts) == []


def test_asking_about_a_message_reads_what_hangs_on_it(live: World) -> None:
    ts = live.slack.say(live.channel, live.bob, "why?", files={"trace.txt": "ValueError: x"})
    live.slack.shortcut(ASK_ABOUT, live.channel, ts, live.ann)
    private(live, "ValueError: x")


def test_a_message_is_marked_as_the_answer_by_the_asker_or_a_maintainer(maintained: World) -> None:
    ts = maintained.say("how?")
    helped = maintained.say("like this", thread=ts, user=maintained.bob)
    maintained.slack.shortcut(MARK_RESOLVED, maintained.channel, helped, maintained.bob)
    private(maintained, "Only the person who asked", maintained.bob)
    for user in (maintained.ann, maintained.mia):
        maintained.slack.shortcut(MARK_RESOLVED, maintained.channel, helped, user)
        private(maintained, "marked as resolved", user)
    place = (maintained.channel, ts, helped)
    assert maintained.bot.resolved == [
        (*place, f"slack:{maintained.ann}"),
        (*place, f"slack:{maintained.mia}"),
    ]


def test_a_thread_is_sent_to_the_trenches_by_the_asker_or_a_maintainer(maintained: World) -> None:
    ts = maintained.ask("how?")
    maintained.reply(ts)
    maintained.settle()
    maintained.slack.shortcut(TO_TRENCHES, maintained.channel, ts, maintained.bob)
    private(maintained, "Only maintainers", maintained.bob)
    maintained.slack.shortcut(TO_TRENCHES, maintained.channel, ts, maintained.mia)
    private(maintained, "maintainers", maintained.mia)
    ((asking, _, person),) = maintained.bot.escalated
    assert (asking.person, person) == (f"slack:{maintained.ann}", f"slack:{maintained.mia}")


def test_an_answer_is_saved_for_good_by_maintainers_alone(maintained: World) -> None:
    ts = maintained.say("how?")
    helped = maintained.say("like this", thread=ts, user=maintained.bob)
    maintained.slack.shortcut(SAVE_FAQ, maintained.channel, helped, maintained.ann)
    private(maintained, "Only maintainers")
    maintained.slack.shortcut(SAVE_FAQ, maintained.channel, helped, maintained.mia)
    private(maintained, "Saved", maintained.mia)
    assert maintained.bot.resolved == [(maintained.channel, ts, helped, f"slack:{maintained.mia}")]


# A channel's rules


def test_a_maintainer_sets_how_the_bot_behaves_in_a_channel(maintained: World) -> None:
    command(maintained, "settings")
    private(maintained, "Only maintainers")
    command(maintained, "settings", maintained.mia)
    modal = maintained.modal(maintained.mia)
    given = {"answer": "questions", "sources": ["metaflow-docs"], "follow_ups": []}
    maintained.slack.submit(modal["id"], maintained.mia, given)
    private(maintained, "every question", maintained.mia)
    ts = maintained.say("how do I retry?")
    maintained.reply(ts)
    (question,) = maintained.bot.asked
    assert question.sources == {"metaflow-docs"}
    maintained.say("and how often?", thread=ts)
    maintained.ask("the end", thread=ts)
    maintained.reply(ts, count=2)
    assert [each.text for each in maintained.bot.asked[1:]] == ["the end"]


def test_a_channel_of_the_file_answers_every_question(world: World) -> None:
    with world.serving(channels={"ask-metaflow": {"answer": "questions"}}):
        world.say("good morning")
        ts = world.say("how do I retry?")
        world.reply(ts)
    assert [question.text for question in world.bot.asked] == ["how do I retry?"]


def test_a_channel_has_its_own_language(world: World) -> None:
    with world.serving(channels={"ask-metaflow": {"language": "German"}}):
        world.reply(world.ask("how?"))
    assert [question.language for question in world.bot.asked] == ["German"]


def test_a_suggestion_is_shown_to_the_asker_alone(world: World) -> None:
    with world.serving(channels={"default": {"answer": "suggest"}}):
        world.say("how do I retry?")
        private(world, "You asked: how do I retry?")
        assert len(world.slack.messages(world.channel)) == 1


def test_a_channel_that_is_off_says_so_to_who_asks(world: World) -> None:
    with world.serving(channels={"default": {"answer": "off"}}):
        world.ask("how?")
        private(world, "switched off")
        dm = world.slack.open_dm(world.ann)
        world.reply(world.slack.say(dm, world.ann, "how?"), channel=dm)


def test_only_the_people_named_are_answered(world: World) -> None:
    group = world.slack.add_usergroup([world.ann])
    with world.serving(channels={"default": {"people": [group]}}):
        world.reply(world.ask("how?"))
        world.ask("and me?", user=world.bob)
        private(world, "only the people", world.bob)
    assert len(world.bot.asked) == 1


def test_a_person_and_a_channel_that_ask_too_much_are_asked_to_wait(world: World) -> None:
    with world.serving(limits={"person": 2, "channel": 3}):
        stamps = [world.ask(f"q{n}") for n in range(2)]
        for ts in stamps:
            world.reply(ts)
        world.ask("one too many")
        private(world, "give me a break")
        world.reply(world.ask("me", user=world.bob))
        world.ask("me again", user=world.bob)
        private(world, "This channel asked a lot", world.bob)
    assert len(world.bot.asked) == 3
