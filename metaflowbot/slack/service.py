"""The Slack side of a running process: Socket Mode or HTTP in front, the workers behind."""

from __future__ import annotations

import importlib.metadata
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_bolt.request import BoltRequest
from slack_sdk.socket_mode.builtin import SocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient

from metaflowbot.settings import Settings
from metaflowbot.slack import changes, digest, home, outdated, private, questions, trenches
from metaflowbot.slack.app import build_app
from metaflowbot.slack.clients import SLACK_FAILURES, Clients, identify, refused
from metaflowbot.slack.desk import Bot, Desk, Handler
from metaflowbot.slack.errands import Errands
from metaflowbot.slack.people import People
from metaflowbot.slack.replies import Replies
from metaflowbot.slack.rules import Rules
from metaflowbot.slack.signs import Signs
from metaflowbot.slack.strays import MALFORMED, malformed
from metaflowbot.slack.trenches_board import Clock
from metaflowbot.slack.worker import Workers
from metaflowbot.store import InboxItem, Store

# Requests of HTTP mode that are worked on at once, as many as Socket Mode takes: more of them only
# wait for each other at the database.
_AT_ONCE = 10
# The kinds of items that a person waits for, and whose handlers say so when they are given up on.
_AWAITED = ("question", "private")
_CLOSE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class SlackService:
    """Answers in Slack from `start` to `stop`, in the mode that the settings ask for."""

    def __init__(self, settings: Settings, bot: Bot, store: Store) -> None:
        """Ask Slack who we are; SettingsError when it refuses the bot's token."""
        clients = Clients.of(settings)
        self._settings = settings
        self._workers = Workers(store, self._work)
        self._errands = Errands()
        desk = Desk(
            settings,
            bot,
            store,
            identify(clients.patient),
            clients,
            People(clients.patient, settings.trenches.maintainers),
            Rules(settings, store, clients.patient),
            self._workers.wake,
            self._errands.run,
        )
        self._signs = Signs(clients.hasty)
        self._handlers = self._handlers_of(desk)
        self._app = build_app(desk, self._signs)
        self._clock = Clock(desk)
        self._digest = digest.Daily(desk)
        self._socket: SocketModeHandler | None = None
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def _handlers_of(self, desk: Desk) -> Mapping[str, Handler]:
        """What works off each kind of inbox item."""
        metaflow = importlib.metadata.version("metaflow")
        return {
            "question": Replies(desk, self._signs, metaflow),
            **questions.handlers(desk),
            **private.handlers(desk, metaflow),
            **home.handlers(desk),
            **changes.handlers(desk),
            **digest.handlers(desk),
            **outdated.handlers(desk, metaflow),
            **trenches.handlers(desk),
        }

    def _work(self, item: InboxItem) -> None:
        handler = self._handlers.get(item.kind)
        if handler is None:
            _log.error("an inbox item of the unknown kind %s is passed over", item.kind)
            return
        if item.dead and item.kind not in _AWAITED:
            return
        handler(item)

    def start(self) -> None:
        """Begin to answer; SettingsError when Slack refuses the app's token."""
        if self._settings.slack_mode == "socket":
            self._socket = self._connect()
        self._workers.start()
        self._clock.start()
        self._digest.start()

    def _connect(self) -> SocketModeHandler:
        socket = SocketModeHandler(self._app, self._settings.slack_app_token.get_secret_value())
        if self._settings.is_alone:
            socket.client.message_listeners.append(_warn_of_others)
        try:
            socket.client.connect()
        except SLACK_FAILURES as error:
            _close(socket.client)
            raise refused("SLACK_APP_TOKEN", error, self._settings.slack_api_url) from None
        return socket

    @property
    def connected(self) -> bool:
        """Whether events can reach us: over HTTP always, else while the socket is open."""
        return self._socket is None or self._socket.client.is_connected()

    def dispatch(
        self, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request of Slack's HTTP mode: status, headers, body. Call it in a thread.

        404 where no SLACK_SIGNING_SECRET is set, 401 for a bad or old signature, 400 for a body
        that is no payload of Slack's, 500 where it could not be stored: Slack sends it again.
        """
        if not self._settings.slack_signing_secret.get_secret_value():
            return 404, {}, b"Slack's HTTP mode is off"
        try:
            # Bolt reads the ids of the payload here, before it checks anything.
            request = BoltRequest(body=body.decode(errors="replace"), headers=dict(headers))
            with self._turns:
                answer = self._app.dispatch(request)
        except MALFORMED as error:
            answer = malformed(error)
        first = {name: values[0] for name, values in answer.headers.items() if values}
        return answer.status, first, answer.body.encode()

    def stop(self) -> None:
        """Take nothing more in, and finish what is in hand (10 s at most)."""
        if self._socket is not None:
            _close(self._socket.client)
        self._clock.stop()
        self._digest.stop()
        self._workers.stop()
        self._errands.close()
        self._signs.close()


def _close(client: SocketModeClient) -> None:
    """Close the socket, also where it has only just been opened.

    The client's thread takes back what it was told of its end if it begins to listen just then, and
    its `close` waits for that thread: so it is told again until it has heard, for a while. What is
    in hand must be handed back in any case.
    """
    closing = threading.Thread(target=client.close, name="socket-close", daemon=True)
    closing.start()
    deadline = time.monotonic() + _CLOSE_SECONDS
    while closing.is_alive() and time.monotonic() < deadline:
        client.current_session_state.terminated = True
        closing.join(0.1)


def _warn_of_others(client: BaseSocketModeClient, message: Mapping[str, Any], _: object) -> None:
    """Slack shares an app's events out among its sockets, and counts them in its greeting.

    Only the first greeting counts: when Slack renews a socket, the old one is open for a while.
    """
    if message.get("type") != "hello":
        return
    client.message_listeners.remove(_warn_of_others)
    count = message.get("num_connections", 0)
    if count > 1:
        _log.warning(
            "SLACK_APP_TOKEN: Slack has %d connections open with this token. If another bot runs "
            "with it, each hears a part of the questions, and some are answered twice: stop the "
            "other one, or set METAFLOWBOT_DATABASE_URL of both to the same PostgreSQL database",
            count,
        )
