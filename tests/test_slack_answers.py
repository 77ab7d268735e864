"""An answer in Slack: seen at once, whole, and standing once, whatever Slack or we do meanwhile."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from metaflowbot.domain import Answer, Hit, Question, Turn
from metaflowbot.errors import IndexUnavailableError, StoreError
from metaflowbot.store import MAX_ATTEMPTS, Asking
from tests.slack_world import THREAD, World, is_whole, shown, until

pytest_plugins = ["tests.slack_world"]


def test_a_mention_is_answered_as_a_stream_with_steps_sources_and_buttons(live: World) -> None:
    ts = live.ask("how do I &lt;retry&gt;?")
    reply = live.reply(ts)
    assert live.bot.asked == [Question("how do I <retry>?", channel=live.channel)]
    kinds = [block["type"] for block in reply["blocks"]]
    assert kinds == ["plan", "markdown", "container", "context", "context_actions", "actions"]
    assert reply["thread_ts"] == ts
    assert reply["blocks"][0]["title"] == "Looked it up"
    steps = reply["blocks"][0]["tasks"]
    assert [(step["title"], step["status"]) for step in steps] == [
        ("Searching", "complete"),
        ("Reading", "complete"),
        ("Checking the citations", "complete"),
    ]
    assert steps[1]["sources"][0]["url"] == "https://docs.io/a"
    assert "You asked: how do I <retry>? [1]." in shown(reply)
    assert "https://docs.io/a" in shown(reply)
    payload = reply["metadata"]["event_payload"]
    assert reply["metadata"]["event_type"] == "metaflowbot_answer"
    assert payload["answer_id"] == "answer-1"
    assert payload["inbox_key"] == f"{live.slack.team_id}/{live.channel}/{ts}"
    start = live.calls("chat.startStream")[0].arguments
    assert start["recipient_user_id"] == live.ann
    assert start["recipient_team_id"] == live.slack.team_id


def test_the_text_is_seen_while_it_is_being_written(live: World) -> None:
    seen: list[str] = []

    def look(n: int) -> None:
        if n == 1:
            ts = next(iter(live.slack.messages(live.channel)))["ts"]
            until(lambda: live.replies(ts))
            seen.append(shown(live.replies(ts)[0]))

    live.bot.before_piece = look
    live.reply(live.ask("tell me more, with some words to go on?"))
    assert "Searching" in seen[0]
    assert "[1]." not in seen[0]


def test_a_sign_of_life_comes_before_the_answer_and_is_cleared_after_it(live: World) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    assert live.slack.status(live.channel, ts) == ""
    wanted = ("assistant.threads.setStatus", "chat.startStream")
    calls = [call for call in live.slack.calls if call.method in wanted]
    assert [call.method for call in calls] == [wanted[0], wanted[1], wanted[0]]
    assert calls[0].arguments["loading_messages"]
    assert calls[2].arguments["status"] == ""


def test_where_slack_refuses_the_status_eyes_are_shown_and_taken_away(live: World) -> None:
    live.slack.fail_next("assistant.threads.setStatus", error="not_allowed_token_type")
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    assert [call.arguments["name"] for call in live.calls("reactions.add")] == ["eyes"]
    assert len(live.calls("reactions.remove")) == 1


def test_a_thread_that_answered_it_before_is_linked_first_and_at_once(live: World) -> None:
    seen: list[str] = []

    def look(n: int) -> None:
        if n == 0:
            ts = next(iter(live.slack.messages(live.channel)))["ts"]
            until(lambda: "An old thread" in "".join(map(shown, live.replies(ts))))
            seen.append("before the answer")

    live.bot.thread = Hit(1, 1.0, (THREAD,))
    live.bot.before_piece = look
    reply = live.reply(live.ask("how?"))
    assert seen == ["before the answer"]
    assert reply["blocks"][1]["text"].startswith(
        "**Asked before:** [An old thread](https://x.slack.com/t)\n\nYou asked"
    )


def test_a_follow_up_carries_the_thread_as_its_history(live: World) -> None:
    ts = live.ask("first")
    live.reply(ts)
    live.ask("second", thread=ts)
    live.reply(ts, count=2)
    assert live.bot.asked[1].history == (
        Turn("user", "first"),
        Turn("assistant", "You asked: first [1]."),
    )


def test_a_mention_without_a_question_is_told_how_to_ask(live: World) -> None:
    ts = live.say(f"<@{live.slack.bot_user_id}>")
    reply = live.reply(ts)
    assert "Ask me anything" in shown(reply)
    assert [block["type"] for block in reply["blocks"]] == ["markdown"]
    assert live.bot.asked == []


@pytest.mark.parametrize(
    ("said", "answered"),
    [("hi!", "Ask me anything"), ("hello there", "Ask me anything"), ("thanks a lot!", "welcome")],
)
def test_small_talk_is_answered_in_a_line_and_searches_nothing(
    live: World, said: str, answered: str
) -> None:
    reply = live.reply(live.ask(said))
    assert answered in shown(reply)
    assert [block["type"] for block in reply["blocks"]] == ["markdown"]
    assert live.bot.asked == []


def test_a_thread_is_never_linked_as_the_answer_to_itself(live: World) -> None:
    ts = live.ask("how?")
    live.reply(ts)
    own = replace(THREAD, document_id=f"slack:ask-metaflow/{ts}")
    live.bot.thread = Hit(1, 1.0, (own,))
    live.ask("and again?", thread=ts)
    assert "Asked before" not in shown(live.reply(ts, count=2))


def test_a_redelivered_mention_is_answered_once(live: World) -> None:
    ts = live.ask("once")
    live.reply(ts)
    live.slack.redeliver(last=2)
    other = live.ask("a later one")
    live.reply(other)
    live.settle()
    assert len(live.replies(ts)) == 1
    assert [question.text for question in live.bot.asked] == ["once", "a later one"]


def test_many_mentions_at_once_are_all_answered_once(live: World) -> None:
    stamps = [live.ask(f"q{n}") for n in range(12)]
    for ts in stamps:
        live.reply(ts)
    live.settle()
    assert [len(live.replies(ts)) for ts in stamps] == [1] * 12


def test_a_long_answer_goes_on_in_further_messages_and_the_last_has_the_sources(
    live: World,
) -> None:
    long = "\n\n".join(["A paragraph. " * 30] * 40)
    live.bot.does = lambda answer: replace(answer, text=long)
    ts = live.ask("a long one")
    live.reply(ts, count=2)
    first, second = live.replies(ts)
    assert "context_actions" not in [block["type"] for block in first["blocks"]]
    assert "context_actions" in [block["type"] for block in second["blocks"]]
    texts = [b["text"] for m in (first, second) for b in m["blocks"] if b["type"] == "markdown"]
    assert "\n\n".join(texts) == long


# When streaming fails


@pytest.mark.parametrize("code", ["not_allowed_token_type", "feature_not_enabled", "ratelimited"])
def test_where_streaming_is_refused_a_message_is_posted_and_updated(live: World, code: str) -> None:
    live.slack.fail_next("chat.startStream", error=code)
    ts = live.ask("how?")
    reply = live.reply(ts)
    assert [block["type"] for block in reply["blocks"]][:2] == ["markdown", "container"]
    assert "You asked: how?" in shown(reply)
    assert len(live.replies(ts)) == 1
    assert live.calls("chat.postMessage")
    assert live.calls("chat.update")


@pytest.mark.parametrize("end", ["append", "stop"])
def test_a_stream_that_slack_ended_after_five_minutes_is_replaced_by_the_whole_answer(
    live: World, end: str
) -> None:
    def late(n: int) -> None:
        if n == (1 if end == "stop" else 0):
            live.slack.advance(301)

    live.bot.before_piece = late
    ts = live.ask("how?")
    reply = live.reply(ts)
    assert "You asked: how? [1]." in shown(reply)
    assert len(live.replies(ts)) == 1
    assert live.calls("chat.update")


def test_after_a_stream_broke_the_text_is_still_seen_while_it_is_written(
    live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("_APPEND_SECONDS", "_UPDATE_SECONDS"):
        monkeypatch.setattr(f"metaflowbot.slack.writing.{pause}", 0.0)
    seen: list[str] = []

    def look(n: int) -> None:
        if n == 1:
            live.slack.advance(301)
        if n == 3:
            (_, reply) = live.slack.messages(live.channel)
            seen.append(shown(reply))

    words = "Some words to go on with. " * 20
    live.bot.does = lambda answer: replace(answer, text=words)
    live.bot.pieces = 4
    live.bot.before_piece = look
    ts = live.ask("how?")
    reply = live.reply(ts)
    assert len(seen[0]) > len(words) / 2
    assert seen[0].endswith("…")
    assert words.strip() in shown(reply)
    assert len(live.replies(ts)) == 1


@pytest.mark.parametrize("method", ["chat.appendStream", "chat.stopStream"])
@pytest.mark.parametrize("trouble", ["refused", "500", "lost"])
def test_a_stream_that_breaks_never_leaves_half_an_answer(
    live: World, method: str, trouble: str
) -> None:
    if trouble == "lost":
        live.slack.drop_reply_of(method)
    elif trouble == "500":
        live.slack.fail_next(method, status=500)
    else:
        live.slack.fail_next(method, error="fatal_error")
    ts = live.ask("how?")
    reply = live.reply(ts)
    live.settle()
    assert shown(reply).count("You asked: how? [1].") == 1
    assert len(live.replies(ts)) == 1
    assert len(live.bot.asked) == 1


def test_a_message_that_can_not_be_updated_is_replaced_by_a_new_one(live: World) -> None:
    live.slack.fail_next("chat.stopStream", error="fatal_error", times=2)
    live.slack.fail_next("chat.update", error="edit_window_closed")
    ts = live.ask("how?")
    live.reply(ts)
    live.settle()
    (reply,) = live.replies(ts)
    assert "You asked: how? [1]." in shown(reply)


def test_blocks_that_slack_refuses_give_way_to_simpler_ones(live: World) -> None:
    live.slack.fail_next("chat.stopStream", error="invalid_blocks")
    kinds = [block["type"] for block in live.reply(live.ask("how?"))["blocks"]]
    assert "container" not in kinds
    assert kinds[-3:] == ["context", "context_actions", "actions"]


def test_where_slack_takes_no_blocks_at_all_the_text_is_complete(live: World) -> None:
    live.slack.fail_next("chat.startStream", error="not_allowed_token_type")
    live.slack.fail_next("chat.update", error="invalid_blocks", times=2)
    reply = live.reply(live.ask("how?"))
    assert not reply["blocks"]
    assert "You asked: how?" in reply["text"]
    assert "https://docs.io/a" in reply["text"]


def test_a_person_who_stops_the_answer_is_told_that_it_stopped(live: World) -> None:
    def stop(n: int) -> None:
        if n == 1:
            ts = next(iter(live.slack.messages(live.channel)))["ts"]
            live.slack.stop_answer(live.channel, live.replies(ts)[0]["ts"], live.ann)

    live.bot.before_piece = stop
    ts = live.ask("how?")
    assert "Stopped" in shown(live.reply(ts))
    live.settle()


# When things go wrong


def test_an_error_meant_for_people_is_told_in_its_own_line(live: World) -> None:
    def fail(answer: Answer) -> Answer:
        raise IndexUnavailableError("there is no index: run metaflowbot ingest")

    live.bot.does = fail
    reply = live.reply(live.ask("how?"))
    assert "run metaflowbot ingest" in shown(reply)
    plan = reply["blocks"][0]
    assert plan["title"] == "Could not look it up"
    assert [task["status"] for task in plan["tasks"]] == ["complete", "error"]


def test_an_answer_that_the_database_did_not_take_is_tried_again(live: World) -> None:
    live.bot.fail_once(StoreError("the database does not answer"))
    ts = live.ask("why?")
    assert "You asked: why? [1]." in shown(live.reply(ts))
    live.settle()
    assert len(live.replies(ts)) == 1


def test_any_other_error_is_a_kind_line_whose_number_is_in_the_log(
    live: World, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(answer: Answer) -> Answer:
        raise ZeroDivisionError("internal detail")

    live.bot.does = fail
    with caplog.at_level(logging.ERROR):
        text = shown(live.reply(live.ask("my private words")))
    assert "internal detail" not in text
    number = text.partition("(request ")[2].partition(")")[0]
    assert number
    assert number in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "private words" not in caplog.text


def test_a_busy_slack_is_waited_for(live: World) -> None:
    live.slack.fail_next("chat.startStream", status=429)
    live.reply(live.ask("how?"))


@pytest.mark.parametrize("status", [500, 503])
def test_an_answer_that_met_a_failing_slack_is_posted_later_and_once(
    live: World, status: int
) -> None:
    live.slack.fail_next("chat.startStream", status=status)
    ts = live.ask("how?")
    assert "You asked: how?" in shown(live.reply(ts))
    live.settle()
    assert len(live.replies(ts)) == 1
    assert len(live.bot.asked) == 1


def test_a_stream_whose_start_was_lost_on_the_way_back_is_found_and_finished(live: World) -> None:
    live.slack.drop_reply_of("chat.startStream")
    ts = live.ask("how?")
    assert "You asked: how?" in shown(live.reply(ts))
    live.settle()
    assert len(live.replies(ts)) == 1


def test_an_archived_channel_is_given_up_on_with_one_line_in_the_log(
    live: World, caplog: pytest.LogCaptureFixture
) -> None:
    def archive(n: int) -> None:
        live.slack.archive(live.channel)

    live.bot.before_piece = archive
    with caplog.at_level(logging.WARNING):
        live.ask("how?")
        until(lambda: live.bot.asked)
        live.settle()
    assert len([r for r in caplog.records if "lets nobody post" in r.getMessage()]) == 1


def test_the_log_never_holds_what_people_write(
    live: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        live.reply(live.ask("my private words"))
        live.settle()
    assert "private words" not in caplog.text


# After a crash


def test_half_a_stream_left_by_a_dead_process_is_made_whole_by_the_next(world: World) -> None:
    ts = world.ask("how?")
    key = world.leave_behind(ts, "how?")
    half = world.half_stream(ts, key)
    with world.serving():
        reply = world.reply(ts)
        world.settle()
    assert reply["ts"] == half
    assert shown(reply).count("You asked: how? [1].") == 1
    assert len(world.replies(ts)) == 1


def test_where_the_thread_can_not_be_read_again_just_now_nothing_is_posted_twice(
    world: World,
) -> None:
    ts = world.ask("how?")
    world.leave_behind(ts, "how?")
    world.slack.fail_next("conversations.replies", status=500, times=3)
    with world.serving():
        until(lambda: world.calls("conversations.replies"))
        assert world.replies(ts) == []
        until(lambda: world.store.health().depth == 1)


def test_where_the_thread_may_not_be_read_the_answer_is_posted_all_the_same(world: World) -> None:
    ts = world.ask("how?")
    world.leave_behind(ts, "how?")
    world.slack.fail_next("conversations.replies", error="missing_scope")
    with world.serving():
        world.reply(ts)


def test_what_was_posted_before_a_crash_is_not_posted_again(world: World) -> None:
    with world.serving():
        ts = world.ask("how?")
        world.reply(ts)
        world.settle()
    world.store.forget(f"slack:{world.ann}")  # makes room to put the item back, unsettled
    world.leave_behind(ts, "how?")
    with world.serving():
        world.settle()
    assert len(world.replies(ts)) == 1
    assert len(world.bot.asked) == 1


def test_the_missing_part_of_a_long_answer_alone_is_posted_after_a_crash(world: World) -> None:
    long = "\n\n".join(["A paragraph. " * 30] * 40)
    world.bot.does = lambda answer: replace(answer, text=long)
    ts = world.ask("a long one")
    key = world.leave_behind(ts, "a long one")
    asking = Asking(f"slack:{world.ann}", world.channel, ts, ts)
    *_, answer = world.bot.stream(Question("a long one"), asking)
    world.posted_part(ts, key, answer.id, part=0, parts=2)
    with world.serving():
        world.settle()
    _, second = world.replies(ts)
    assert is_whole(second)
    assert second["metadata"]["event_payload"]["part"] == "1"
    assert len(world.bot.asked) == 1


def test_a_question_left_by_a_dead_process_is_answered_by_the_next(world: World) -> None:
    ts = world.ask("left behind")
    world.leave_behind(ts, "left behind")
    with world.serving():
        world.reply(ts)


def test_a_question_given_up_on_is_said_to_be_and_answered_when_it_is_tried_again(
    world: World,
) -> None:
    ts = world.ask("deadly")
    key = world.leave_behind(ts, "deadly")
    for _ in range(MAX_ATTEMPTS - 1):
        world.store.claim(0)
    with world.serving():
        until(lambda: any("could not answer" in shown(each) for each in world.replies(ts)))
        world.settle()
        assert world.bot.asked == []
        assert [each.key for each in world.store.dead()] == [key]
        until(lambda: world.store.retry(key))
        assert "You asked: deadly" in shown(world.reply(ts))
    assert len(world.replies(ts)) == 1
