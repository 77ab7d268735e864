"""What the asker and maintainers may do with an answer, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack.rendering import (
    DELETE_ACTION,
    HUMAN_ACTION,
    RESOLVE_ACTION,
    SOLVED_ACTION,
)
from tests.slack_world import World, until

pytest_plugins = ["tests.slack_world"]


@pytest.fixture
def maintained(world: World) -> Iterator[World]:
    """The bot with a maintainer, Mia, who is one by her user group."""
    world.mia = world.slack.add_user("mia")
    world.slack.workspace.channels[world.channel].members.append(world.mia)
    group = world.slack.add_usergroup([world.mia])
    with world.serving(trenches={"maintainers": [group]}):
        yield world


def asked(world: World) -> str:
    ts = world.ask("how do I retry?")
    world.reply(ts)
    world.settle()
    return ts


def forged(world: World, ts: str, action: str, user: str) -> None:
    """A press by somebody to whom the button is not shown."""
    reply = world.reply(ts)
    for block in world.slack.workspace.channels[world.channel].messages[reply["ts"]]["blocks"]:
        for element in block.get("elements", []):
            element.pop("visible_to_user_ids", None)
    world.click(ts, action, user)


def test_the_asker_marks_the_question_as_solved(maintained: World) -> None:
    ts = asked(maintained)
    reply = maintained.reply(ts)
    assert maintained.click(ts, SOLVED_ACTION).acknowledged
    until(lambda: any("solved" in line for line in maintained.told()))
    assert maintained.bot.resolved == [
        (maintained.channel, ts, reply["ts"], f"slack:{maintained.ann}")
    ]


def test_the_buttons_are_shown_to_the_asker_and_the_maintainers_alone(maintained: World) -> None:
    ts = asked(maintained)
    for action in (HUMAN_ACTION, RESOLVE_ACTION, DELETE_ACTION):
        with pytest.raises(LookupError, match="not visible"):
            maintained.click(ts, action, maintained.bob)
    with pytest.raises(LookupError, match="not visible"):
        maintained.click(ts, SOLVED_ACTION, maintained.mia)


@pytest.mark.parametrize("action", [SOLVED_ACTION, HUMAN_ACTION, RESOLVE_ACTION, DELETE_ACTION])
def test_who_gets_at_a_button_all_the_same_is_refused(maintained: World, action: str) -> None:
    ts = asked(maintained)
    forged(maintained, ts, action, maintained.bob)
    until(lambda: maintained.told(maintained.bob))
    assert "Only the person who asked" in maintained.told(maintained.bob)[-1]
    assert (maintained.bot.resolved, maintained.bot.escalated) == ([], [])
    assert maintained.replies(ts)


@pytest.mark.parametrize("who", ["ann", "mia"])
def test_a_human_is_asked_for_by_the_asker_or_a_maintainer(maintained: World, who: str) -> None:
    ts = asked(maintained)
    user = getattr(maintained, who)
    maintained.click(ts, HUMAN_ACTION, user)
    ((asking, answer_id, person),) = until(lambda: maintained.bot.escalated)
    assert (asking.person, asking.thread, asking.message) == (f"slack:{maintained.ann}", ts, ts)
    assert (answer_id, person) == ("answer-1", f"slack:{user}")
    until(lambda: any("maintainers" in line for line in maintained.told(user)))


def test_marking_resolved_asks_which_message_was_the_answer(maintained: World) -> None:
    ts = asked(maintained)
    helped = maintained.say("use *@retry* on the step", thread=ts, user=maintained.bob)
    maintained.click(ts, RESOLVE_ACTION, maintained.mia)
    modal = maintained.modal(maintained.mia)
    options = modal["blocks"][0]["element"]["options"]
    assert [option["text"]["text"] for option in options] == [
        "My answer above",
        "use *@retry* on the step",
    ]
    for _ in range(2):
        maintained.slack.submit(modal["id"], maintained.mia, {"answer": helped})
    until(lambda: any("resolved" in line for line in maintained.told(maintained.mia)))
    mark = (maintained.channel, ts, helped, f"slack:{maintained.mia}")
    assert set(maintained.bot.resolved) == {mark}


def test_the_answer_is_deleted_for_everybody_and_not_posted_again(maintained: World) -> None:
    ts = asked(maintained)
    maintained.click(ts, DELETE_ACTION)
    until(lambda: maintained.replies(ts) == [])
    maintained.slack.redeliver(last=2)
    maintained.settle()
    assert maintained.replies(ts) == []


def test_a_button_on_an_answer_that_was_forgotten_says_so(maintained: World) -> None:
    ts = asked(maintained)
    maintained.store.forget(f"slack:{maintained.ann}")
    maintained.click(ts, HUMAN_ACTION)
    until(lambda: any("any more" in line for line in maintained.told()))


def test_what_the_bot_refuses_is_told_in_its_own_line(maintained: World) -> None:
    def refuse(*_: object) -> None:
        raise MetaflowbotError("no channel is set for that: see [trenches]")

    ts = asked(maintained)
    maintained.bot.resolve = refuse  # type: ignore[method-assign]
    maintained.click(ts, SOLVED_ACTION)
    until(lambda: any("see [trenches]" in line for line in maintained.told()))
