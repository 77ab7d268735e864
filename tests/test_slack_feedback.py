"""What readers think of an answer reaches the store, by button, reaction or form."""

from __future__ import annotations

import pytest

from metaflowbot.slack.feedback import REASON_VIEW
from metaflowbot.slack.rendering import FEEDBACK_ACTION
from tests.slack_world import World, until

pytest_plugins = ["tests.slack_world"]


def verdicts(world: World) -> list[tuple[str, str, str]]:
    return [(rated.answer_id, rated.verdict, rated.reason) for rated in world.store.rated()]


def press(world: World, ts: str, verdict: str, user: str = "") -> str:
    """Press a verdict's button; what that person is told."""
    reply = world.reply(ts)
    value = f"{verdict}:{reply['metadata']['event_payload']['answer_id']}"
    before = len(world.told(user))
    ack = world.click(ts, FEEDBACK_ACTION, user, value)
    assert ack.acknowledged
    until(lambda: len(world.told(user)) > before)
    return world.told(user)[-1]


def test_a_verdict_is_kept_and_confirmed_and_the_last_one_of_a_person_counts(live: World) -> None:
    ts = live.ask("how?")
    assert "good answer" in press(live, ts, "up")
    assert "fell short" in press(live, ts, "down")
    assert verdicts(live) == [("answer-1", "down", "")]
    press(live, ts, "up", live.bob)
    assert len(verdicts(live)) == 2


def test_a_bad_verdict_asks_for_the_reason_which_is_kept(live: World) -> None:
    ts = live.ask("how?")
    press(live, ts, "down")
    modal = live.modal(live.ann)
    assert modal["callback_id"] == REASON_VIEW
    given = {"reason": "outdated", "words": "It is @pypi now."}
    for _ in range(2):  # a view that is submitted twice changes nothing
        assert live.slack.submit(modal["id"], live.ann, given).acknowledged
    assert verdicts(live) == [("answer-1", "down", "outdated: It is @pypi now.")]
    live.slack.react(live.channel, live.reply(ts)["ts"], live.ann, "-1")
    until(lambda: "reaction_added" in {each.event_type for each in live.slack.deliveries})
    press(live, ts, "down")
    assert verdicts(live) == [("answer-1", "down", "outdated: It is @pypi now.")]
    press(live, ts, "up")
    assert verdicts(live) == [("answer-1", "up", "")]


def test_a_reason_without_words_is_kept_as_it_is(live: World) -> None:
    ts = live.ask("how?")
    press(live, ts, "down")
    modal = live.modal(live.ann)
    live.slack.submit(modal["id"], live.ann, {"reason": "wrong"})
    assert verdicts(live) == [("answer-1", "down", "wrong")]


def test_where_the_form_can_not_be_opened_the_verdict_counts_all_the_same(live: World) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    live.slack.fail_next("views.open", error="expired_trigger_id")
    press(live, ts, "down")
    assert verdicts(live) == [("answer-1", "down", "")]


@pytest.mark.parametrize(
    ("reaction", "verdict"), [("+1", "up"), ("-1::skin-tone-3", "down"), ("thumbsup", "up")]
)
def test_a_thumb_on_the_answer_is_a_verdict_until_it_is_taken_away(
    live: World, reaction: str, verdict: str
) -> None:
    ts = live.ask("how?")
    reply = live.reply(ts)
    live.settle()
    live.slack.react(live.channel, reply["ts"], live.bob, reaction)
    until(lambda: verdicts(live) == [("answer-1", verdict, "")])
    live.slack.unreact(live.channel, reply["ts"], live.bob, reaction)
    until(lambda: verdicts(live) == [])


def test_other_reactions_and_thumbs_on_peoples_messages_are_no_verdicts(live: World) -> None:
    ts = live.ask("how?")
    reply = live.reply(ts)
    live.settle()
    live.slack.react(live.channel, ts, live.bob, "+1")
    live.slack.react(live.channel, reply["ts"], live.bob, "tada")
    live.slack.react(live.channel, reply["ts"], live.ann, "+1")
    until(lambda: verdicts(live))
    assert verdicts(live) == [("answer-1", "up", "")]


def test_a_verdict_on_a_forgotten_answer_is_said_to_be_too_late(live: World) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    live.store.forget(f"slack:{live.ann}")
    assert "no answer" in press(live, ts, "up")
