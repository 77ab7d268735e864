"""To what the bot listens, and when it stays silent."""

from __future__ import annotations

import json

import pytest

from metaflowbot.domain import Question
from metaflowbot.slack.listening import is_greeting, is_question, is_thanks, is_trouble
from metaflowbot.slack.rendering import SOLVED_ACTION
from tests.slack_world import World, signed, until

pytest_plugins = ["tests.slack_world"]


def test_a_direct_message_needs_no_mention(live: World) -> None:
    dm = live.slack.open_dm(live.ann)
    ts = live.slack.say(dm, live.ann, "how do I branch?")
    live.reply(ts, channel=dm)
    assert live.bot.asked == [Question("how do I branch?", channel=dm)]


def test_talk_that_is_not_to_us_is_left_alone(live: World) -> None:
    live.say("just talking about metaflow")
    live.say("does anybody know how to retry?")
    live.reply(live.ask("now you"))
    assert [question.text for question in live.bot.asked] == ["now you"]


def test_another_bot_and_a_broken_event_are_not_answered(world: World) -> None:
    event = {"type": "message", "bot_id": "BOTHER", "user": "UOTHER", "channel": world.channel}
    event |= {"text": f"<@{world.slack.bot_user_id}> hello", "ts": "1700000000.000100"}
    with world.serving("http") as service:
        no_ids = {"type": "app_mention", "channel": "C1", "ts": [], "user": "U1"}
        odd = {"type": "app_mention", "channel": 7}
        for sent, status in ((event, 200), ({"type": "message"}, 200), (no_ids, 200), (odd, 400)):
            body = json.dumps({"type": "event_callback", "team_id": "T1", "event": sent}).encode()
            assert service.dispatch(body, signed(world.slack.signing_secret, body))[0] == status
    assert world.store.health().depth == 0
    assert world.bot.asked == []


# What was said before


def history(world: World) -> list[str]:
    return [turn.content for turn in world.bot.asked[-1].history]


def test_a_mention_under_what_people_said_carries_their_words(live: World) -> None:
    ts = live.say("My foreach fails with a PicklingError.")
    live.say("Which version?", thread=ts, user=live.bob)
    live.ask("and with a lock in it?", thread=ts, user=live.bob)
    live.reply(ts)
    assert live.bot.asked[0].text == "and with a lock in it?"
    assert history(live) == ["My foreach fails with a PicklingError.", "Which version?"]
    live.say("I use 2.19.", thread=ts)
    live.ask("and now?", thread=ts)
    live.reply(ts, count=2)
    assert history(live) == [
        "and with a lock in it?",
        "You asked: and with a lock in it? [1].",
        "I use 2.19.",
    ]


@pytest.mark.parametrize("words", ["", "any idea?", "can you help here please?"])
def test_a_bare_mention_under_a_question_answers_it_for_who_asked_it(
    live: World, words: str
) -> None:
    ts = live.slack.say(
        live.channel, live.ann, "why does this fail?", files={"trace.txt": "ValueError: x"}
    )
    live.ask(words, thread=ts, user=live.bob)
    live.reply(ts)
    (question,) = live.bot.asked
    assert question.text == "why does this fail?\n\ntrace.txt:\n```\nValueError: x\n```"
    assert live.bot.askings[0].person == f"slack:{live.ann}"
    live.click(ts, SOLVED_ACTION)
    until(lambda: live.bot.resolved)


def test_words_of_people_who_opted_out_are_not_looked_at(live: World) -> None:
    live.store.threads.opt_out(f"slack:{live.ann}")
    ts = live.say("My foreach fails with a PicklingError.")
    live.ask("and with a lock in it?", thread=ts, user=live.bob)
    live.reply(ts)
    assert history(live) == []


def test_where_a_thread_may_not_be_read_a_mention_is_answered_by_its_own_words(
    live: World,
) -> None:
    ts = live.say("My foreach fails with a PicklingError.")
    live.slack.fail_next("conversations.replies", error="missing_scope")
    live.ask("and with a lock in it?", thread=ts, user=live.bob)
    live.reply(ts)
    assert history(live) == []


def test_what_is_written_on_in_a_direct_message_carries_what_was_said_there(live: World) -> None:
    dm = live.slack.open_dm(live.ann)
    first = live.slack.say(dm, live.ann, "how do I branch?")
    live.reply(first, channel=dm)
    live.settle()
    live.reply(live.slack.say(dm, live.ann, "and how do I join?"), channel=dm)
    assert history(live) == ["how do I branch?", "You asked: how do I branch? [1]."]


# Follow-ups


def answered(world: World) -> str:
    ts = world.ask("how do I retry?")
    world.reply(ts)
    world.settle()
    return ts


def texts(world: World) -> list[str]:
    return [question.text for question in world.bot.asked[1:]]


def test_a_follow_up_question_in_a_thread_of_ours_needs_no_mention(live: World) -> None:
    ts = answered(live)
    live.say("and how often?", thread=ts)
    live.reply(ts, count=2)
    assert texts(live) == ["and how often?"]


def test_who_says_that_an_answer_did_not_help_is_answered_without_a_question_mark(
    live: World,
) -> None:
    ts = answered(live)
    live.say("that did not help, it still fails", thread=ts)
    live.reply(ts, count=2)
    assert texts(live) == ["that did not help, it still fails"]


def test_another_person_may_follow_up_right_after_our_answer(live: World) -> None:
    ts = answered(live)
    live.say("what about timeouts?", thread=ts, user=live.bob)
    live.reply(ts, count=2)
    assert texts(live) == ["what about timeouts?"]


@pytest.mark.parametrize("said", ["thank you, that works!", "<@{bob}> do you know?", "great"])
def test_what_is_no_question_or_is_to_somebody_else_is_left_alone(live: World, said: str) -> None:
    ts = answered(live)
    live.say(said.format(bob=live.bob), thread=ts)
    live.ask("the end", thread=ts)
    live.reply(ts, count=2)
    assert texts(live) == ["the end"]


def test_people_who_talk_to_each_other_in_the_thread_are_left_alone(live: World) -> None:
    ts = answered(live)
    live.say("I would use @catch here", thread=ts, user=live.bob)
    live.say("does that work on Batch?", thread=ts)
    live.settle()
    until(lambda: live.calls("conversations.replies"))
    live.ask("the end", thread=ts)
    live.reply(ts, count=2)
    assert texts(live) == ["the end"]


def test_follow_ups_can_be_switched_off(world: World) -> None:
    with world.serving(channels={"default": {"follow_ups": False}}):
        ts = answered(world)
        world.say("and how often?", thread=ts)
        world.ask("the end", thread=ts)
        world.reply(ts, count=2)
    assert texts(world) == ["the end"]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("how do I retry", True),
        ("Hi, can I use conda", True),
        ("I am stuck with cards", True),
        ("it fails:\nTraceback (most recent call last):\n  x", True),
        ("is this right?", True),
        ("thanks", False),
        ("that works", False),
        ("see <https://x.io/?a=1>", False),
        ("```\na = b ? c : d\n```", False),
        ("", False),
    ],
)
def test_a_question_is_told_from_talk(text: str, asks: bool) -> None:
    assert is_question(text) is asks


@pytest.mark.parametrize(
    "text",
    ["this", "that works?", "thanks, how do I retry?", "help with cards", "thank you " * 500 + "x"],
)
def test_what_may_be_a_question_is_no_small_talk(text: str) -> None:
    assert not is_thanks(text)
    assert not is_greeting(text)


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("that didn't work for me", True),
        ("it still fails on Batch", True),
        ("thanks, but I still get an error", True),
        ("now I get a KeyError, same problem", True),
        ("no luck", True),
        ("it no longer fails, thanks!", False),
        ("that works", False),
        ("I would use a foreach here", False),
        ("```\nthis fails\n```", False),
    ],
)
def test_under_an_answer_trouble_asks_for_another(text: str, asks: bool) -> None:
    assert is_trouble(text) is asks
