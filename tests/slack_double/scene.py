"""What the double's own tests begin with: a channel, one person, and an app made with Bolt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from slack_bolt import App
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.app.app import SlackAppDevelopmentServer
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from .double import SlackDouble
from .workspace import Json


def _keep(events: list[Json]) -> Callable[..., None]:
    def keep(body: Json) -> None:
        events.append(body)

    return keep


class Scene:
    """A channel with Alice and the bot in it, and the bot's own SDK client."""

    def __init__(self, slack: SlackDouble) -> None:
        self.slack = slack
        self.alice = slack.add_user("alice")
        self.channel = slack.add_channel("ask-metaflow", members=[self.alice, slack.bot_user_id])
        self.client = WebClient(slack.bot_token, base_url=slack.api_url)
        self.mention = f"<@{slack.bot_user_id}> how do I retry?"

    def refusal(self, call: Callable[[], object]) -> str:
        """The error code with which Slack refuses a call."""
        with pytest.raises(SlackApiError) as refused:
            call()
        return str(refused.value.response["error"])

    def post(self, **given: Any) -> str:
        return str(self.client.chat_postMessage(channel=self.channel, **given)["ts"])

    def wait_for_deliveries(self, count: int) -> None:
        self.slack.wait_for(lambda: len(self.slack.deliveries) == count)

    def app(self, events: list[Json]) -> App:
        """A Bolt app that keeps the bodies of all events it gets."""
        app = App(
            client=self.client,
            signing_secret=self.slack.signing_secret,
            ignoring_self_events_enabled=False,
            raise_error_for_unhandled_request=False,
        )
        for name in ("message", "app_mention", "reaction_added", "app_home_opened"):
            app.event(name)(_keep(events))
        app.event({"type": "message", "subtype": "message_changed"})(lambda body: None)
        return app

    @contextmanager
    def by_socket(self, app: App) -> Iterator[None]:
        handler: Any = SocketModeHandler(app, self.slack.app_token)
        handler.connect()
        self.slack.wait_for(lambda: self.slack.sockets == 1)
        try:
            yield
        finally:
            close(handler)

    @contextmanager
    def by_http(self, app: App) -> Iterator[None]:
        server = SlackAppDevelopmentServer(
            port=0, path="/slack/events", app=app, http_server_logger_enabled=False
        )
        http: Any = server._server
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.slack.http_endpoint = f"http://127.0.0.1:{http.server_port}/slack/events"
        try:
            yield
        finally:
            self.slack.http_endpoint = None
            http.shutdown()
            http.server_close()
            thread.join()


def close(handler: SocketModeHandler) -> None:
    """Close a socket, also one that was only just opened: its thread may miss that it is to end.

    Where it does not close all the same it is left to end with the tests.
    """
    closing = threading.Thread(target=handler.close, daemon=True)
    closing.start()
    for _ in range(100):
        handler.client.current_session_state.terminated = True
        closing.join(0.1)
        if not closing.is_alive():
            return
