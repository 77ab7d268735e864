"""The double's Web API answers as Slack's does, as the real SDK sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.models.messages.chunk import TaskUpdateChunk

from tests.slack_double import Fault, SlackDouble
from tests.slack_double.scene import Scene

Json = dict[str, Any]
TEXT = {"type": "mrkdwn", "text": "words"}


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def scene(slack: SlackDouble) -> Scene:
    return Scene(slack)


# -- messages


def test_a_reply_stands_in_the_thread_of_its_root(scene: Scene) -> None:
    root = scene.slack.say(scene.channel, scene.alice, "hello")
    scene.post(text="hi", thread_ts=root)
    first, reply = scene.slack.thread(scene.channel, root)
    assert (first["reply_count"], first["latest_reply"]) == (1, reply["ts"])
    assert (reply["thread_ts"], reply["text"]) == (root, "hi")
    assert reply["bot_id"] == scene.client.auth_test()["bot_id"]


def test_timestamps_rise_with_every_message(scene: Scene) -> None:
    stamps = [scene.slack.say(scene.channel, scene.alice, str(n)) for n in range(50)]
    assert stamps == sorted(set(stamps))


def test_replies_come_in_pages_that_each_begin_with_the_root(scene: Scene) -> None:
    root = scene.slack.say(scene.channel, scene.alice, "root")
    for n in range(5):
        scene.post(text=f"reply {n}", thread_ts=root)
    pages = [
        [message["text"] for message in page["messages"]]
        for page in scene.client.conversations_replies(channel=scene.channel, ts=root, limit=3)
    ]
    assert pages == [["root", "reply 0", "reply 1", "reply 2"], ["root", "reply 3", "reply 4"]]
    history = scene.client.conversations_history(channel=scene.channel)
    assert [message["text"] for message in history["messages"]] == ["root"]


def test_history_is_cut_by_oldest_and_latest(scene: Scene) -> None:
    old = scene.slack.say(scene.channel, scene.alice, "old", at=time.time() - 1000)
    scene.slack.say(scene.channel, scene.alice, "new")
    since = scene.client.conversations_history(channel=scene.channel, oldest=old)
    assert [message["text"] for message in since["messages"]] == ["new"]


def test_metadata_is_shown_only_where_it_is_asked_for(scene: Scene) -> None:
    scene.post(text="x", metadata={"event_type": "answer", "event_payload": {"id": "1"}})
    plain = scene.client.conversations_history(channel=scene.channel)["messages"][0]
    full = scene.client.conversations_history(channel=scene.channel, include_all_metadata=True)
    assert "metadata" not in plain
    assert full["messages"][0]["metadata"]["event_payload"] == {"id": "1"}


def test_an_ephemeral_message_is_not_in_the_history(scene: Scene) -> None:
    scene.client.chat_postEphemeral(channel=scene.channel, user=scene.alice, text="psst")
    assert [shown.text for shown in scene.slack.ephemerals] == ["psst"]
    assert scene.slack.messages(scene.channel) == []


def test_a_deleted_root_leaves_a_tombstone_over_its_replies(scene: Scene) -> None:
    root = scene.slack.say(scene.channel, scene.alice, "root")
    scene.post(text="reply", thread_ts=root)
    scene.slack.delete(scene.channel, root)
    grave, reply = scene.slack.thread(scene.channel, root)
    assert (grave["subtype"], reply["text"]) == ("tombstone", "reply")


def test_the_app_changes_and_deletes_its_own_messages_alone(scene: Scene) -> None:
    own, other = scene.post(text="a"), scene.slack.say(scene.channel, scene.alice, "b")
    scene.client.chat_update(channel=scene.channel, ts=own, text="c")
    assert scene.slack.thread(scene.channel, own)[0]["text"] == "c"
    update = partial(scene.client.chat_update, channel=scene.channel, ts=other, text="c")
    assert scene.refusal(update) == "cant_update_message"
    scene.client.chat_delete(channel=scene.channel, ts=own)
    assert scene.slack.thread(scene.channel, own) == []


def test_a_permalink_of_a_reply_names_its_thread(scene: Scene) -> None:
    root = scene.slack.say(scene.channel, scene.alice, "root")
    reply = scene.post(text="reply", thread_ts=root)
    answer = scene.client.chat_getPermalink(channel=scene.channel, message_ts=reply)
    assert answer["permalink"].endswith(f"?thread_ts={root}&cid={scene.channel}")


def test_a_reaction_counts_once_for_each_person(scene: Scene) -> None:
    ts = scene.post(text="x")
    scene.slack.react(scene.channel, ts, scene.alice, "thumbsup")
    add = {"channel": scene.channel, "timestamp": ts, "name": "thumbsup"}
    scene.client.reactions_add(**add)
    assert scene.refusal(lambda: scene.client.reactions_add(**add)) == "already_reacted"
    found = scene.client.reactions_get(channel=scene.channel, timestamp=ts)
    assert found["message"]["reactions"][0]["count"] == 2
    scene.client.reactions_remove(**add)
    assert scene.refusal(lambda: scene.client.reactions_remove(**add)) == "no_reaction"


def test_people_channels_and_groups_can_be_looked_up(scene: Scene) -> None:
    group = scene.slack.add_usergroup([scene.alice])
    client = scene.client
    assert client.users_info(user=scene.alice)["user"]["name"] == "alice"
    assert {user["name"] for user in client.users_list()["members"]} == {"alice", "metaflowbot"}
    assert client.conversations_info(channel=scene.channel)["channel"]["name"] == "ask-metaflow"
    assert scene.alice in client.conversations_members(channel=scene.channel)["members"]
    assert [each["id"] for each in client.conversations_list()["channels"]] == [scene.channel]
    assert client.usergroups_users_list(usergroup=group)["users"] == [scene.alice]
    assert client.bots_info(bot=client.auth_test()["bot_id"])["bot"]["name"] == "metaflowbot"


# -- refusals


def test_a_call_without_a_good_token_is_refused(scene: Scene) -> None:
    other = WebClient("xoxb-other", base_url=scene.slack.api_url)
    assert scene.refusal(other.auth_test) == "invalid_auth"
    assert scene.refusal(WebClient(base_url=scene.slack.api_url).auth_test) == "not_authed"
    app = WebClient(scene.slack.app_token, base_url=scene.slack.api_url)
    assert scene.refusal(app.auth_test) == "not_allowed_token_type"
    scene.slack.revoke_token()
    assert scene.refusal(scene.client.auth_test) == "account_inactive"


def test_a_missing_scope_is_named(scene: Scene) -> None:
    scene.slack.scopes.discard("chat:write")
    with pytest.raises(SlackApiError) as refused:
        scene.post(text="x")
    assert refused.value.response["needed"] == "chat:write"
    assert "chat:write" not in scene.client.auth_test().headers["x-oauth-scopes"].split(",")


def test_a_channel_that_cannot_be_posted_in_says_why(scene: Scene) -> None:
    foreign = scene.slack.add_channel("elsewhere", members=[scene.alice])
    private = scene.slack.add_channel("secret", members=[scene.alice], kind="group")
    scene.slack.archive(scene.channel)
    codes = {
        channel: scene.refusal(partial(scene.client.chat_postMessage, channel=channel, text="x"))
        for channel in (foreign, private, scene.channel, "C999")
    }
    assert list(codes.values()) == [
        "not_in_channel",
        "channel_not_found",
        "is_archived",
        "channel_not_found",
    ]


def test_arguments_are_taken_as_json_form_and_query(scene: Scene) -> None:
    url, auth = scene.slack.api_url, {"Authorization": f"Bearer {scene.slack.bot_token}"}
    given = {"channel": scene.channel, "text": "x"}
    with httpx.Client(headers=auth, trust_env=False) as http:
        answers = [
            http.post(f"{url}chat.postMessage", json=given),
            http.post(f"{url}chat.postMessage", data=given),
            http.get(f"{url}chat.postMessage", params=given),
        ]
    assert [answer.json()["ok"] for answer in answers] == [True] * 3
    assert [message["text"] for message in scene.slack.messages(scene.channel)] == ["x"] * 3


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        ([{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}], "invalid_blocks"),
        ([{"type": "section"}], "invalid_blocks"),
        ([{"type": "divider"}] * 51, "invalid_blocks"),
        ([{"type": "header", "text": TEXT}], "invalid_blocks"),
        ([{"type": "section", "text": TEXT, "colour": "red"}], "invalid_blocks"),
        ([{"type": "alert", "text": TEXT}], "invalid_blocks"),
        ([{"type": "divider", "block_id": "a"}] * 2, "invalid_blocks"),
        ([{"type": "context", "elements": [TEXT] * 11}], "invalid_blocks"),
        ([{"type": "markdown", "text": "x" * 7000}] * 2, "msg_blocks_too_long"),
        ("{not json", "invalid_blocks_format"),
    ],
)
def test_blocks_beyond_the_limits_are_refused(scene: Scene, blocks: Any, code: str) -> None:
    given = {"channel": scene.channel, "text": "x", "blocks": blocks}
    assert scene.refusal(lambda: scene.client.api_call("chat.postMessage", json=given)) == code


def test_a_refused_block_is_pointed_at(scene: Scene) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]
    with pytest.raises(SlackApiError) as refused:
        scene.post(text="x", blocks=blocks)
    assert refused.value.response["errors"] == [
        "must be less than 3001 characters [json-pointer:/blocks/0/text/text]"
    ]


def test_texts_beyond_the_limits_are_cut_or_refused(scene: Scene) -> None:
    ts = scene.post(text="x" * 50_000)
    assert len(scene.slack.thread(scene.channel, ts)[0]["text"]) == 40_000
    update = partial(scene.client.chat_update, channel=scene.channel, ts=ts, text="x" * 4001)
    assert scene.refusal(update) == "msg_too_long"
    assert scene.refusal(lambda: scene.post(text="")) == "no_text"
    assert scene.refusal(lambda: scene.post(markdown_text="x" * 12_001)) == "msg_too_long"


def test_a_rate_limited_call_succeeds_when_it_waits(scene: Scene) -> None:
    scene.client.retry_handlers.append(RateLimitErrorRetryHandler())
    scene.slack.fail_next("chat.postMessage", status=429, retry_after=1)
    started = time.monotonic()
    scene.post(text="x")
    assert time.monotonic() - started >= 1
    assert [call.status for call in scene.slack.calls_of("chat.postMessage")] == [429, 200]


def test_the_weather_befalls_the_calls_that_no_fault_was_planned_for(scene: Scene) -> None:
    scene.slack.weather = lambda method: Fault(method, 503) if method == "auth.test" else None
    scene.slack.fail_next("auth.test", error="account_inactive")
    bare = WebClient(scene.slack.bot_token, base_url=scene.slack.api_url, retry_handlers=[])
    for _ in range(2):
        with pytest.raises(SlackApiError):
            bare.auth_test()
    scene.post(text="x")
    assert [call.status for call in scene.slack.calls_of("auth.test")[-2:]] == [200, 503]


def test_a_dropped_reply_leaves_the_work_done(scene: Scene) -> None:
    bare = WebClient(scene.slack.bot_token, base_url=scene.slack.api_url, retry_handlers=[])
    scene.slack.drop_reply_of("chat.postMessage")
    with pytest.raises(OSError):
        bare.chat_postMessage(channel=scene.channel, text="x")
    assert [message["text"] for message in scene.slack.messages(scene.channel)] == ["x"]
    assert scene.slack.calls[-1].dropped


# -- streams and loading states


def stream(scene: Scene, **given: Any) -> Any:
    root = scene.slack.say(scene.channel, scene.alice, "q")
    who = {"recipient_team_id": scene.slack.team_id, "recipient_user_id": scene.alice}
    return scene.client.chat_stream(channel=scene.channel, thread_ts=root, **(who | given))


def test_a_streamed_answer_ends_as_one_message(scene: Scene) -> None:
    streamer = stream(scene, buffer_size=1)
    streamer.append(markdown_text="Hel")
    task: Json = {"id": "t", "title": "Search", "status": "in_progress", "details": "a"}
    streamer.append(markdown_text="lo", chunks=[TaskUpdateChunk(**task)])
    streamer.append(chunks=[TaskUpdateChunk(**(task | {"status": "complete", "details": "b"}))])
    ended = streamer.stop(blocks=[{"type": "section", "text": TEXT}])
    assert ended["message"]["text"] == "Hello"
    kinds = [block["type"] for block in ended["message"]["blocks"]]
    assert kinds == ["task_card", "markdown", "section"]
    card = ended["message"]["blocks"][0]
    assert card["status"] == "complete"
    assert card["details"]["elements"][0]["elements"][0]["text"] == "ab"


def test_a_stream_in_a_channel_needs_its_recipient(scene: Scene) -> None:
    nobody = stream(scene, recipient_user_id=None)
    assert scene.refusal(nobody.stop) == "missing_recipient_user_id"
    dm = scene.slack.open_dm(scene.alice)
    root = scene.slack.say(dm, scene.alice, "q")
    assert scene.client.chat_startStream(channel=dm, thread_ts=root)["ok"]


def test_a_stream_ends_after_five_minutes_and_is_then_only_updated(scene: Scene) -> None:
    streamer = stream(scene, buffer_size=1)
    streamer.append(markdown_text="a")
    ts = str(streamer.ts)
    update = partial(scene.client.chat_update, channel=scene.channel, ts=ts, text="whole")
    assert scene.refusal(update) == "streaming_state_conflict"
    scene.slack.advance(300)
    assert scene.refusal(lambda: streamer.append(markdown_text="b")) == (
        "message_not_in_streaming_state"
    )
    assert scene.refusal(streamer.stop) == "message_not_in_streaming_state"
    assert update()["text"] == "whole"


def test_a_stream_keeps_to_one_way_of_sending_text(scene: Scene) -> None:
    streamer = stream(scene, buffer_size=1)
    streamer.append(markdown_text="a")
    place = {"channel": scene.channel, "ts": str(streamer.ts)}
    append = partial(scene.client.api_call, "chat.appendStream")
    other, odd = {"markdown_text": "b"}, {"chunks": [{"type": "odd"}]}
    assert scene.refusal(partial(append, json=place | other)) == "streaming_mode_mismatch"
    assert scene.refusal(partial(append, json=place | odd)) == "invalid_chunks"


def test_a_person_can_stop_a_stream(scene: Scene) -> None:
    streamer = stream(scene, buffer_size=1)
    streamer.append(markdown_text="a")
    scene.slack.stop_answer(scene.channel, str(streamer.ts), scene.alice)
    assert scene.refusal(lambda: streamer.append(markdown_text="b")) == "stopped_by_user"


def test_a_loading_state_goes_with_the_next_post_or_after_two_minutes(scene: Scene) -> None:
    root = scene.slack.say(scene.channel, scene.alice, "q")
    given: Json = {"channel_id": scene.channel, "thread_ts": root, "status": "is thinking…"}
    ends: list[Callable[[], object]] = [
        partial(scene.post, text="a", thread_ts=root),
        partial(scene.slack.advance, 121),
    ]
    for end in ends:
        scene.client.assistant_threads_setStatus(**given)
        assert scene.slack.status(scene.channel, root) == "is thinking…"
        end()
        assert scene.slack.status(scene.channel, root) == ""
