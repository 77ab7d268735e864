"""Traces and files read whole, long messages, and what other people's Slack throws at us."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.slack_world import World, elsewhere, shown, until

pytest_plugins = ["tests.slack_world"]
TRACE = "Traceback (most recent call last):\n" + "".join(
    f'  File "flow.py", line {n}, in step_{n}\n' for n in range(60)
)


def test_an_attached_trace_is_read_whole(live: World) -> None:
    mention = f"<@{live.slack.bot_user_id}> why does this fail?"
    ts = live.slack.say(live.channel, live.ann, mention, files={"trace.txt": TRACE})
    live.reply(ts)
    (question,) = live.bot.asked
    assert question.text.startswith("why does this fail?\n\ntrace.txt:\n```\nTraceback")
    assert "step_59" in question.text


def test_without_the_scope_the_preview_of_a_file_is_read(live: World) -> None:
    live.slack.scopes.discard("files:read")
    mention = f"<@{live.slack.bot_user_id}> why does this fail?"
    ts = live.slack.say(live.channel, live.ann, mention, files={"trace.txt": TRACE})
    live.reply(ts)
    assert "step_1" in live.bot.asked[0].text
    assert "step_59" not in live.bot.asked[0].text
    assert "Sign in" not in live.bot.asked[0].text


def test_the_token_is_sent_to_slack_alone(live: World) -> None:
    with elsewhere() as (url, was_called):
        with live.slack.hold_deliveries():
            mention = f"<@{live.slack.bot_user_id}> why?"
            ts = live.slack.say(live.channel, live.ann, mention, files={"trace.txt": TRACE})
            for parcel in live.slack._delivery.held or []:
                for file in parcel.payload["event"].get("files", []):
                    file["url_private"] = url
        live.reply(ts)
        assert not was_called()
    assert "step_1" in live.bot.asked[0].text


def test_of_a_file_that_is_too_large_the_preview_is_read(live: World) -> None:
    mention = f"<@{live.slack.bot_user_id}> why?"
    files = {"trace.txt": TRACE + "more\n" * 300_000}
    ts = live.slack.say(live.channel, live.ann, mention, files=files)
    live.reply(ts)
    assert "step_1" in live.bot.asked[0].text
    assert "step_59" not in live.bot.asked[0].text


def test_a_message_of_40000_characters_is_answered_by_its_two_ends(live: World) -> None:
    ts = live.ask("begins so " + "x " * 20_000 + "ends so")
    live.reply(ts)
    (question,) = live.bot.asked
    assert len(question.text) < 16_000
    assert question.text.startswith("begins so")
    assert question.text.endswith("ends so")
    assert "characters left out" in question.text


def test_a_busy_channel_costs_no_answers(live: World) -> None:
    for n in range(60):
        live.say(f"talk {n}", user=live.bob)
    live.reply(live.ask("how?"))
    assert [question.text for question in live.bot.asked] == ["how?"]


def test_nothing_that_is_asked_or_answered_pings_anybody(live: World) -> None:
    ts = live.ask(f"is &lt;!channel&gt; or <!here> or <@{live.bob}> or @everyone a decorator?")
    reply = live.reply(ts)
    for ping in ("<!", f"<@{live.bob}>", "@everyone", "@here"):
        assert ping not in shown(reply)
        assert ping not in reply["text"]


def test_a_button_on_a_gone_message_does_no_harm(live: World) -> None:
    ts = live.ask("how?")
    reply = live.reply(ts)
    live.settle()
    held = dict(live.slack.workspace.channels[live.channel].messages[reply["ts"]])
    live.slack.delete(live.channel, reply["ts"])
    live.slack.workspace.channels[live.channel].messages[reply["ts"]] = held
    assert live.slack.click(live.channel, reply["ts"], "metaflowbot_human", live.ann).acknowledged
    until(live.told)
    live.reply(live.ask("still there?"))


def of_an_older_version(live: World) -> str:
    """A message of ours with a button that is not known any more."""
    button = {"type": "button", "action_id": "gone", "text": {"type": "plain_text", "text": "Go"}}
    posted = live.client.chat_postMessage(
        channel=live.channel, text="old", blocks=[{"type": "actions", "elements": [button]}]
    )
    return str(posted["ts"])


def test_who_uses_what_is_not_known_any_more_is_told_so_with_one_line_in_the_log(
    live: World, caplog: pytest.LogCaptureFixture
) -> None:
    ts = of_an_older_version(live)
    with caplog.at_level(logging.WARNING):
        assert live.slack.click(live.channel, ts, "gone", live.ann).acknowledged
        assert live.slack.shortcut("gone too", live.channel, ts, live.bob).acknowledged
        assert live.slack.command("/other", "words", live.mia or live.ann, live.channel)
        until(lambda: len(live.told()) >= 2 and live.told(live.bob))
    assert "older version" in live.told()[0]
    assert "older version" in live.told(live.bob)[0]
    lines = [each.getMessage() for each in caplog.records]
    assert sorted(lines) == [
        "message_action 'gone too' from Slack is not taken in: nobody listens for it",
        "the action 'gone' from Slack is not taken in: nobody listens for it",
        "the command '/other' from Slack is not taken in: nobody listens for it",
    ]
    live.reply(live.ask("still there?"))


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "block_actions", "actions": [{"action_id": "metaflowbot_feedback"}]},
        {
            "type": "view_submission",
            "view": {"type": "modal", "callback_id": "metaflowbot_rules", "state": {}},
        },
        {"type": "view_submission", "view": {"type": "modal", "callback_id": "metaflowbot_reason"}},
        {
            "type": "view_submission",
            "view": {"type": "modal", "callback_id": "metaflowbot_resolve_view"},
        },
        {"type": "message_action", "callback_id": "metaflowbot_ask_about"},
        {"type": "something_new"},
    ],
)
def test_a_payload_that_lacks_its_parts_costs_one_line_in_the_log(
    live: World, caplog: pytest.LogCaptureFixture, payload: dict[str, Any]
) -> None:
    dm = live.slack.open_dm(live.ann)
    with caplog.at_level(logging.WARNING):
        ack = live.slack.send_payload({"user": {"id": live.ann}, **payload})
        assert ack.acknowledged
        until(lambda: live.slack.messages(dm))
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None
    live.reply(live.ask("still there?"))


@pytest.mark.parametrize("code", ["user_not_in_channel", "channel_not_found"])
def test_a_person_who_left_before_being_told_does_no_harm(live: World, code: str) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    live.slack.fail_next("chat.postEphemeral", error=code)
    live.click(ts, "metaflowbot_solved")
    until(lambda: live.bot.resolved)
    live.reply(live.ask("still there?"))
