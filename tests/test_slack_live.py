"""What happens in Slack is noted: a real Bolt app over a websocket, against a stateful double."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler

from metaflowbot.settings import Settings, SlackSource, Sources
from metaflowbot.slack import live
from metaflowbot.slack.clients import Clients, identify
from metaflowbot.store import Store
from tests.slack_double import SlackDouble
from tests.slack_double.scene import close


class Room:
    """A workspace whose events the listeners hear, and what they noted."""

    def __init__(self, slack: SlackDouble, store: Store) -> None:
        self.slack = slack
        self.store = store
        self.ann, self.bob = slack.add_user("ann"), slack.add_user("bob")
        self.ask = self.channel("ask")
        self.heard: list[str] = []

    def channel(self, name: str, kind: Any = "channel") -> str:
        return self.slack.add_channel(name, [self.ann, self.slack.bot_user_id], kind)

    @contextmanager
    def listening(self, *channels: str, location: str = "slack") -> Iterator[None]:
        settings = Settings(
            slack_bot_token=SecretStr(self.slack.bot_token),
            slack_api_url=self.slack.api_url,
            sources=Sources(slack=SlackSource(location=location, channels=channels)),
        )
        clients = Clients.of(settings)
        app = App(client=clients.patient, process_before_response=True)
        identity = identify(clients.patient)
        live.listen(app, settings, identity, clients.hasty, self.store.threads)
        app.event({"type": "message"})(lambda body: self.heard.append(body["event"]["type"]))
        for kind in ("reaction_added", "reaction_removed", "app_mention"):
            app.event(kind)(lambda body: self.heard.append(body["event"]["type"]))
        handler: Any = SocketModeHandler(app, self.slack.app_token)
        handler.connect()
        self.slack.wait_for(lambda: self.slack.sockets == 1)
        try:
            yield
        finally:
            close(handler)

    def noted(self, act: Callable[[], Any]) -> set[tuple[str, str]]:
        """Channel and thread of what is noted once an act was heard, and nothing before it."""
        self.store.threads.note([], self.store.threads.changes())
        self.store.threads.settle()
        before = len(self.heard)
        act()
        self.slack.wait_for(lambda: len(self.heard) > before)
        return {(change.channel, change.thread) for change in self.store.threads.changes()}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    store = Store.open(f"sqlite:///{tmp_path}/bot.db")
    # What nobody heard before we listen comes again after a second of Slack's: not in these tests.
    with SlackDouble(clock_scale=60) as slack:
        yield Room(slack, store)
    store.close()


def test_whatever_changes_a_thread_is_noted_by_its_channel_and_root(room: Room) -> None:
    slack, ask = room.slack, room.ask
    with room.listening():
        assert room.noted(lambda: slack.say(ask, room.ann, "why?"))
        (root,) = [message["ts"] for message in slack.messages(ask)]
        here = {(ask, root)}
        assert room.noted(lambda: slack.say(ask, room.bob, "so", root)) == here
        reply = slack.thread(ask, root)[1]["ts"]
        assert room.noted(lambda: slack.edit(ask, reply, "so be it")) == here
        assert room.noted(lambda: slack.delete(ask, reply)) == here
        assert room.noted(lambda: slack.delete(ask, root)) == here


def test_a_reaction_is_noted_by_the_message_it_stands_on(room: Room) -> None:
    slack, ask = room.slack, room.ask
    root = slack.say(ask, room.ann, "why?")
    reply = slack.say(ask, room.bob, "so", root)
    with room.listening():
        mark = (ask, reply, room.ann, "white_check_mark")
        assert room.noted(lambda: slack.react(*mark)) == {(ask, reply)}
        assert room.noted(lambda: slack.unreact(*mark)) == {(ask, reply)}


def test_a_mention_of_the_bot_is_noted_and_still_heard(room: Room) -> None:
    mention = f"<@{room.slack.bot_user_id}> why?"
    with room.listening():
        assert room.noted(lambda: room.slack.say(room.ask, room.ann, mention))
        room.slack.wait_for(lambda: {"app_mention", "message"} <= set(room.heard))


def test_what_bots_post_is_not_noted(room: Room) -> None:
    slack, ask = room.slack, room.ask
    root = slack.say(ask, room.ann, "why?")
    client = Clients.of(
        Settings(slack_bot_token=SecretStr(slack.bot_token), slack_api_url=slack.api_url)
    ).patient
    with room.listening():
        own = str(client.chat_postMessage(channel=ask, thread_ts=root, text="so")["ts"])
        client.chat_update(channel=ask, ts=own, text="so it is")
        client.reactions_add(channel=ask, timestamp=root, name="eyes")
        other = slack.workspace.channels[ask]
        slack.workspace.post(other, {"bot_id": "B1", "text": "build 7 is green"}, root)
        assert room.noted(lambda: slack.say(ask, room.ann, "thanks")) != {(ask, root)}
        assert (ask, root) not in {(it.channel, it.thread) for it in room.store.threads.changes()}


def test_private_channels_and_direct_messages_are_noted_only_when_named(room: Room) -> None:
    den, desk = room.channel("den", "group"), room.slack.open_dm(room.ann)
    with room.listening():
        assert room.noted(lambda: room.slack.say(den, room.ann, "why?")) == set()
        assert room.noted(lambda: room.slack.say(desk, room.ann, "why?")) == set()
    with room.listening("#den"):
        assert room.noted(lambda: room.slack.say(den, room.ann, "why?"))
        assert room.noted(lambda: room.slack.say(room.ask, room.ann, "why?")) == set()


def test_a_channel_is_looked_up_once(room: Room) -> None:
    with room.listening("ask"):
        for _ in range(3):
            assert room.noted(lambda: room.slack.say(room.ask, room.ann, "why?"))
    assert len(room.slack.calls_of("conversations.info")) == 1


def test_where_slack_does_not_say_what_a_channel_is_the_change_is_noted(room: Room) -> None:
    room.slack.fail_next("conversations.info", status=500)
    with room.listening():
        assert room.noted(lambda: room.slack.say(room.ask, room.ann, "why?"))


def test_where_no_threads_are_read_nothing_is_noted_or_asked(room: Room) -> None:
    with room.listening(location=""):
        assert room.noted(lambda: room.slack.say(room.ask, room.ann, "why?")) == set()
    assert room.slack.calls_of("conversations.info") == []


def test_a_database_that_does_not_answer_keeps_no_event_from_its_listener(
    room: Room, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with room.listening():
        room.noted(lambda: room.slack.say(room.ask, room.ann, "why?"))
        room.store.close()
        for path in tmp_path.glob("bot.db*"):
            path.unlink()
        room.slack.say(room.ask, room.ann, "a very private question")
        room.slack.wait_for(lambda: len(room.heard) == 2)
    assert "could not be noted" in caplog.text
    assert "very private" not in caplog.text


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message"},
        {"type": "message", "ts": 5, "channel": "C1"},
        {"type": "message", "ts": "1.0", "subtype": "channel_join", "channel": "C1"},
        {"type": "reaction_added", "user": "U1", "item": {"type": "file", "file": "F1"}},
        {"type": "reaction_added", "user": "U1"},
        {"type": "team_join"},
    ],
)
def test_an_event_without_a_place_is_passed_over(room: Room, event: dict[str, Any]) -> None:
    with room.listening():
        room.slack._publish([{"event_ts": "1.0", **event}])
        room.noted(lambda: room.slack.say(room.ask, room.ann, "why?"))
    assert {change.channel for change in room.store.threads.changes()} == {room.ask}
