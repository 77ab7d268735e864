"""A stateful double of Slack: what a test sees of it.

People act through the methods of `SlackDouble` (`say`, `react`, `click`, …); the app under test
talks to `api_url` with the real SDK. What people do is delivered to the app by Socket Mode, or
signed to `http_endpoint` when that is set, with Slack's acknowledgement limit and retries.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from . import chat, conversations, people, streams, views  # noqa: F401  they declare the methods
from . import interactions as payloads
from .chat import rich_text
from .clock import Clock
from .delivery import Ack, Attempt, Delivery, Parcel
from .delivery import Kind as ParcelKind
from .methods import Call, Fault, Install, WebApi
from .server import Server
from .workspace import Channel, Ephemeral, Json, Kind, Workspace

BOT_SCOPES = {
    "app_mentions:read",
    "assistant:write",
    "channels:history",
    "channels:join",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "im:write",
    "reactions:read",
    "reactions:write",
    "usergroups:read",
    "users:read",
    "users:read.email",
}
SUBSCRIPTIONS = {
    "agent_session_stopped",
    "app_home_opened",
    "app_mention",
    "app_uninstalled",
    "member_joined_channel",
    "message",
    "reaction_added",
    "reaction_removed",
    "tokens_revoked",
}


class SlackDouble:
    """One workspace with one app, for the length of a `with` block.

    `clock_scale` is how many real seconds pass for one of Slack's; 1.0 is real time, and
    `advance` skips Slack's time without waiting. Facts of the workspace that a test may set
    directly: `scopes`, `subscriptions` and the `workspace` itself.
    """

    def __init__(self, clock_scale: float = 1.0, name: str = "Double") -> None:
        self.clock = Clock(clock_scale)
        self.workspace = Workspace(self.clock, name)
        self.workspace.publish = self._publish
        self.signing_secret = secrets.token_hex(16)
        self.subscriptions = set(SUBSCRIPTIONS)
        tokens = f"xoxb-{secrets.token_hex(8)}", f"xapp-1-{secrets.token_hex(8)}"
        self._install = Install(*tokens, set(BOT_SCOPES))
        self._api = WebApi(self.workspace, self._install)
        self._delivery = Delivery(self.clock, self.signing_secret, self.workspace.app_id)
        self._server = Server(self._api, self._delivery)
        self.workspace.base_url = self._server.base_url

    def __enter__(self) -> SlackDouble:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    # -- what the app is configured with

    @property
    def api_url(self) -> str:
        return f"{self._server.base_url}/api/"

    @property
    def bot_token(self) -> str:
        return self._install.bot_token

    @property
    def app_token(self) -> str:
        return self._install.app_token

    @property
    def scopes(self) -> set[str]:
        """What the bot token may do; changing the set changes it at once."""
        return self._install.scopes

    @property
    def team_id(self) -> str:
        return self.workspace.team_id

    @property
    def bot_user_id(self) -> str:
        return self.workspace.bot_user_id

    def revoke_token(self) -> None:
        """Every further call answers account_inactive."""
        self._install.revoked = True

    # -- the workspace

    def add_user(self, name: str) -> str:
        """A new person's id."""
        return self.workspace.add_user(name)

    def add_channel(self, name: str, members: list[str], kind: Kind = "channel") -> str:
        """A new channel's id; kind "group" makes it private. The bot is in it only as a member."""
        return self.workspace.add_channel(name, members, kind).id

    def add_usergroup(self, members: list[str]) -> str:
        """A new user group's id."""
        group = self.workspace.new_id("S")
        self.workspace.groups[group] = members
        return group

    def open_dm(self, user: str) -> str:
        """The id of the DM channel between the bot and `user`."""
        return self.workspace.open_dm(user).id

    def archive(self, channel: str) -> None:
        self._channel(channel).archived = True

    def join(self, channel: str, user: str) -> None:
        """Someone (or the bot) joins; a bot that is a member is told."""
        self.workspace.join(self._channel(channel), user)

    # -- what people do

    def say(
        self,
        channel: str,
        user: str,
        text: str,
        thread_ts: str | None = None,
        at: float | None = None,
        *,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Posts as `user`, delivers the events, and gives the message's ts.

        `text` is as Slack carries it: mentions as <@U…>, and & < > as entities. `at` (epoch
        seconds) makes it a message of the past. `files` are snippets to attach, text by name.
        """
        said: Json = {"user": user, "text": text, "client_msg_id": secrets.token_hex(8)}
        if files:
            held = [self.workspace.add_snippet(name, body) for name, body in files.items()]
            said |= {"subtype": "file_share", "files": held}
        fresh = said | {"blocks": rich_text(text), "ts": self.workspace.new_ts(at)}
        return str(self.workspace.post(self._channel(channel), fresh, thread_ts)["ts"])

    def edit(self, channel: str, ts: str, text: str) -> None:
        """The author edits a message."""
        changes = {"text": text, "blocks": rich_text(text)}
        place = self._channel(channel)
        author = str(self.workspace.message(place, ts)["user"])
        self.workspace.edit(place, ts, changes, author)

    def delete(self, channel: str, ts: str) -> None:
        self.workspace.delete(self._channel(channel), ts)

    def react(self, channel: str, ts: str, user: str, name: str) -> None:
        self.workspace.react(self._channel(channel), ts, user, name)

    def unreact(self, channel: str, ts: str, user: str, name: str) -> None:
        self.workspace.unreact(self._channel(channel), ts, user, name)

    def open_home(self, user: str, tab: str = "home") -> None:
        """Opens the app's page: its "home" or its "messages" tab."""
        dm, now = self.open_dm(user), self.workspace.new_ts()
        event = {"type": "app_home_opened", "user": user, "channel": dm, "tab": tab}
        home = self.home(user)
        self._publish([event | {"event_ts": now} | ({"view": home} if home else {})])

    def stop_answer(self, channel: str, ts: str, user: str) -> None:
        """Presses the stop button of a streamed answer."""
        self.workspace.streams[channel, ts].ended = "stopped_by_user"
        thread_ts = self._channel(channel).messages[ts]["thread_ts"]
        event: Json = {"type": "agent_session_stopped", "user": user, "channel": channel}
        event |= {"thread_ts": thread_ts, "streaming_message_ts": [ts]}
        self._publish([event | {"event_ts": self.workspace.new_ts()}])

    # -- interactions: each waits for the app's acknowledgement, three of Slack's seconds at most

    def click(self, channel: str, ts: str, action_id: str, user: str, value: Any = None) -> Ack:
        """Uses an element of a message; `value` picks an option or a feedback button."""
        return self.send_payload(self.click_payload(channel, ts, action_id, user, value))

    def click_payload(
        self, channel: str, ts: str, action_id: str, user: str, value: Any = None
    ) -> Json:
        """What Slack sends for a click on the message as it is now, for `send_payload`."""
        with self.workspace.lock:
            place = self._channel(channel)
            message, _ = payloads.seen_message(self.workspace, place, ts, user)
            blocks = message["blocks"]
            action = payloads.action_of(self.workspace, blocks, action_id, user, value)
            return payloads.block_actions(self.workspace, place, ts, user, action)

    def click_view(self, view_id: str, action_id: str, user: str, value: Any = None) -> Ack:
        """Uses an element of a modal or of the App Home."""
        with self.workspace.lock:
            blocks = self.workspace.views[view_id]["blocks"]
            action = payloads.action_of(self.workspace, blocks, action_id, user, value)
            payload = payloads.view_actions(self.workspace, view_id, user, action)
        return self._interact("interactive", payload)

    def shortcut(
        self, callback_id: str, channel: str | None = None, ts: str = "", user: str = ""
    ) -> Ack:
        """Uses a message shortcut, or without a channel a global one."""
        with self.workspace.lock:
            if channel is None:
                payload = payloads.global_shortcut(self.workspace, user, callback_id)
            else:
                place = self._channel(channel)
                payload = payloads.message_action(self.workspace, place, ts, user, callback_id)
        return self._interact("interactive", payload)

    def command(self, name: str, text: str, user: str, channel: str) -> Ack:
        """Types a slash command; an answer in the acknowledgement is shown in the channel."""
        with self.workspace.lock:
            place = self._channel(channel)
            payload = payloads.command(self.workspace, name, text, user, place)
        ack = self._interact("slash_commands", payload)
        if ack.body.get("text") or ack.body.get("blocks"):
            payloads.answer_in(self.workspace, channel, user, ack.body)
        return ack

    def send_payload(self, payload: Json) -> Ack:
        """Sends an interaction as it is: one that was made before, or that no person sets off."""
        return self._interact("interactive", payload)

    def submit(self, view_id: str, user: str, values: Json | None = None) -> Ack:
        """Submits a modal; `values` maps block ids to entries (or to {action_id: entry})."""
        with self.workspace.lock:
            payload = payloads.view_submission(self.workspace, view_id, user, values or {})
        ack = self._interact("interactive", payload)
        if ack.acknowledged:
            with self.workspace.lock:
                payloads.apply_submission(self.workspace, user, view_id, ack.body)
        return ack

    # -- what can be seen

    def thread(self, channel: str, ts: str) -> list[Json]:
        """Root and replies, oldest first, metadata included; [] when there is no such root."""
        return self.workspace.thread(self._channel(channel), ts)

    def messages(self, channel: str) -> list[Json]:
        """Everything in the channel, threads included, oldest first."""
        with self.workspace.lock:
            found = sorted(self._channel(channel).messages.items())
            return [dict(message) for _, message in found]

    @property
    def ephemerals(self) -> list[Ephemeral]:
        return list(self.workspace.ephemerals)

    def status(self, channel: str, thread_ts: str) -> str:
        """The loading state shown under a thread, "" when there is none (any more)."""
        status = self.workspace.statuses.get((channel, thread_ts))
        return status.text if status and self.clock.now() < status.until else ""

    def home(self, user: str) -> Json | None:
        """The App Home that was published for `user`."""
        return self.workspace.views.get(self.workspace.homes.get(user, ""))

    def modal(self, user: str) -> Json | None:
        """The modal on top of `user`'s screen."""
        stack = self.workspace.modals.get(user)
        return self.workspace.views[stack[-1]] if stack else None

    @property
    def calls(self) -> list[Call]:
        """Every Web API call, oldest first, failed ones included; also posts to response_urls."""
        return list(self._api.calls)

    def calls_of(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    @property
    def events(self) -> list[Json]:
        """Every event sent to the app, in the order of sending, redeliveries included."""
        sent = [p for p in self._delivery.sent if p.kind == "events_api"]
        return [parcel.payload["event"] for parcel in sent]

    @property
    def deliveries(self) -> list[Attempt]:
        """Every finished attempt to deliver something to the app."""
        return list(self._delivery.attempts)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 40.0) -> Any:
        """The first truthy value of `condition`; AssertionError with the calls after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                made = "\n".join(f"  {c.method} {c.arguments} -> {c.response}" for c in self.calls)
                raise AssertionError(f"not within {seconds} s; calls made:\n{made or '  none'}")
            time.sleep(0.01)
        return value

    # -- time and trouble

    @property
    def clock_scale(self) -> float:
        return self.clock.scale

    @clock_scale.setter
    def clock_scale(self, scale: float) -> None:
        self.clock.scale = scale

    def advance(self, seconds: float) -> None:
        """Skips Slack's time: due retries go out, streams, states and triggers expire."""
        self.clock.advance(seconds)

    def fail_next(
        self, method: str, status: int = 429, retry_after: int = 1, times: int = 1, error: str = ""
    ) -> None:
        """The next `times` calls fail: with HTTP `status`, or with `error` in a normal answer."""
        wait = retry_after if status == 429 and not error else 0
        self._api.faults.extend([Fault(method, status, error, wait)] * times)

    def drop_reply_of(self, method: str, times: int = 1) -> None:
        """The next calls are carried out, but the connection ends without a reply."""
        self._api.faults.extend([Fault(method, drop=True)] * times)

    @property
    def weather(self) -> Callable[[str], Fault | None]:
        """What befalls a call of that method, where neither of the two above was asked for."""
        return self._api.weather

    @weather.setter
    def weather(self, weather: Callable[[str], Fault | None]) -> None:
        self._api.weather = weather

    @property
    def http_endpoint(self) -> str | None:
        """Where events go, signed; None sends them through the connected sockets."""
        return self._delivery.endpoint

    @http_endpoint.setter
    def http_endpoint(self, url: str | None) -> None:
        self._delivery.endpoint = url

    def verify_url(self) -> bool:
        """Whether the endpoint answers Slack's url_verification with the challenge."""
        challenge = secrets.token_hex(16)
        payload = {"type": "url_verification", "token": "verification", "challenge": challenge}
        answer = self._on_loop(self._delivery.post(Parcel("events_api", payload), {}))
        return bool(answer.status_code == 200 and challenge in answer.text)

    @property
    def sockets(self) -> int:
        """How many Socket Mode connections can get events now."""
        return sum(not socket.retired for socket in self._delivery.sockets)

    def disconnect_sockets(self, reason: str = "refresh_requested", linger: float = 1.0) -> None:
        """Asks every socket to reconnect and closes it `linger` of Slack's seconds later."""
        asyncio.run_coroutine_threadsafe(self._delivery.disconnect(reason, linger), self._loop)

    def redeliver(self, last: int = 1) -> None:
        """Sends the last events again, with the same event ids and envelope ids."""
        events = [p for p in self._delivery.sent if p.kind == "events_api"]
        self._delivery.dispatch(events[-last:])

    def lose_next_delivery(self, attempts: int = 1, events: int = 1) -> None:
        """The next events are lost on the way `attempts` times each; 4 loses them for good."""
        self._delivery.losses.extend([attempts] * events)

    @property
    def delivery_order(self) -> Callable[[list[Parcel]], list[Parcel]]:
        """Puts the events of one action (or of `hold_deliveries`) in the order of delivery."""
        return self._delivery.order

    @delivery_order.setter
    def delivery_order(self, order: Callable[[list[Parcel]], list[Parcel]]) -> None:
        self._delivery.order = order

    @contextmanager
    def hold_deliveries(self) -> Iterator[None]:
        """Keeps events back until the block ends; then all go out in `delivery_order`."""
        held: list[Parcel] = []
        self._delivery.held = held
        try:
            yield
        finally:
            self._delivery.held = None
        self._delivery.dispatch(self.delivery_order(held))

    # -- inside

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._delivery.loop is None:
            raise RuntimeError("the double is used outside its with block")
        return self._delivery.loop

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _channel(self, channel: str) -> Channel:
        return self.workspace.channels[channel]

    def _interact(self, kind: ParcelKind, payload: Json) -> Ack:
        ack: Ack = self._on_loop(self._delivery.attempt(Parcel(kind, copy.deepcopy(payload))))
        return ack

    def _publish(self, events: list[Json]) -> None:
        wanted = [event for event in events if event["type"] in self.subscriptions]
        envelopes = [payloads.event_callback(self.workspace, event) for event in wanted]
        self._delivery.send([Parcel("events_api", payload) for payload in envelopes])
