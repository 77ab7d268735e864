"""A question that is edited or deleted after it was asked."""

from __future__ import annotations

from metaflowbot.slack.changes import AGAIN_ACTION
from tests.slack_world import World, shown, until

pytest_plugins = ["tests.slack_world"]


def asked(world: World, text: str = "once") -> str:
    ts = world.ask(text)
    world.reply(ts)
    world.settle()
    return ts


def edit(world: World, ts: str, text: str) -> None:
    world.slack.edit(world.channel, ts, f"<@{world.slack.bot_user_id}> {text}")


def test_an_edited_question_is_offered_a_new_answer_in_place_of_the_old(live: World) -> None:
    ts = asked(live)
    first = live.reply(ts)
    edit(live, ts, "twice")
    offer = until(lambda: [each for each in live.slack.ephemerals if "anew" in each.text])[-1]
    assert offer.user == live.ann
    assert [question.text for question in live.bot.asked] == ["once"]
    live.slack.click(live.channel, offer.message["ts"], AGAIN_ACTION, live.ann)
    until(lambda: "You asked: twice" in shown(live.reply(ts)))
    live.settle()
    assert [reply["ts"] for reply in live.replies(ts)] == [first["ts"]]
    assert [question.text for question in live.bot.asked] == ["once", "twice"]


def test_a_link_preview_is_no_edit(live: World) -> None:
    ts = asked(live)
    edit(live, ts, "once")
    live.reply(live.ask("a later one"))
    live.settle()
    assert live.told() == []


def test_a_mention_that_is_edited_in_is_a_question(live: World) -> None:
    ts = live.say("how do I retry?")
    edit(live, ts, "how do I retry?")
    live.reply(ts)
    assert [question.text for question in live.bot.asked] == ["how do I retry?"]


def test_a_deleted_question_takes_its_answer_with_it(live: World) -> None:
    ts = asked(live)
    live.slack.delete(live.channel, ts)
    until(lambda: live.replies(ts) == [])
    live.settle()


def test_a_question_deleted_while_it_is_answered_leaves_nothing_behind(live: World) -> None:
    def gone(n: int) -> None:
        if n == 1:
            ts = next(iter(live.slack.messages(live.channel)))["ts"]
            live.slack.delete(live.channel, ts)
            until(lambda: live.store.slack.was_received(key_of(live, ts) + "/deleted"))

    live.bot.before_piece = gone
    ts = live.ask("how?")
    until(lambda: live.bot.asked)
    live.settle()
    assert live.replies(ts) == []


def key_of(world: World, ts: str) -> str:
    return f"{world.slack.team_id}/{world.channel}/{ts}"


def test_an_answer_that_somebody_deleted_is_not_posted_again(live: World) -> None:
    ts = asked(live)
    live.slack.delete(live.channel, live.reply(ts)["ts"])
    until(lambda: not live.store.slack.posts_in(live.channel, ts))
    edit(live, ts, "twice")
    live.slack.redeliver(last=4)
    live.reply(live.ask("a later one"))
    assert live.replies(ts) == []
    assert live.told() == []


def test_other_peoples_deletions_cost_nothing(live: World) -> None:
    ts = live.say("just talk", user=live.bob)
    live.slack.delete(live.channel, ts)
    live.reply(live.ask("a later one"))
    assert not live.store.slack.was_received(key_of(live, ts) + "/deleted")
