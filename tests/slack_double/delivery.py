"""How events and interactions reach the app: Socket Mode or signed HTTP, with Slack's retries.

An event that is not acknowledged within three seconds is sent again nearly at once, then after one
minute and after five. Interactions are sent once. Seconds are the clock's.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlencode

import httpx
from starlette.websockets import WebSocket, WebSocketDisconnect

from .clock import Clock
from .workspace import Json

Kind = Literal["events_api", "interactive", "slash_commands"]
ACK_SECONDS = 3.0
RETRY_SECONDS = (1.0, 60.0, 300.0)  # Slack says of the first: nearly at once
MOST_SOCKETS = 10
CONNECTION_SECONDS = 3600


@dataclass(eq=False)
class Parcel:
    """One thing to deliver; `lose` counts its attempts that get lost on the way."""

    kind: Kind
    payload: Json
    envelope_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    lose: int = 0

    @property
    def event_type(self) -> str:
        return str(self.payload.get("event", {}).get("type", self.kind))


@dataclass(frozen=True)
class Attempt:
    """One attempt to deliver; `number` is 0 for the first. Lost ones are not acknowledged."""

    event_type: str
    event_id: str
    number: int
    acknowledged: bool
    failure: str = ""


@dataclass(frozen=True)
class Ack:
    """What the app answered, `at` by the clock; `body` is {} for a bare acknowledgement."""

    acknowledged: bool
    body: Json = field(default_factory=dict)
    failure: str = ""
    final: bool = False
    at: float = 0.0


@dataclass(eq=False)
class Socket:
    """One Socket Mode connection; a retired one is used only while there is no other."""

    websocket: WebSocket
    retired: bool = False


class Delivery:
    """Sends parcels from Slack to the app. Lives on the server's event loop."""

    def __init__(self, clock: Clock, signing_secret: str, app_id: str) -> None:
        self.clock = clock
        self.signing_secret = signing_secret
        self.app_id = app_id
        self.endpoint: str | None = None
        self.order: Callable[[list[Parcel]], list[Parcel]] = list
        self.losses: deque[int] = deque()
        self.held: list[Parcel] | None = None
        self.sent: list[Parcel] = []
        self.attempts: list[Attempt] = []
        self.sockets: list[Socket] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self._turns = itertools.count()
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    # -- in: from any thread

    def send(self, parcels: list[Parcel]) -> None:
        """Delivers parcels in `order`, or keeps them while deliveries are held."""
        for parcel in parcels:
            parcel.lose = self.losses.popleft() if self.losses else 0
        if self.held is not None:
            self.held += parcels
            return
        self.dispatch(self.order(parcels))

    def dispatch(self, parcels: list[Parcel]) -> None:
        """Starts the delivery of each parcel, in this order."""
        self.sent += parcels
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._start, parcels)

    def _start(self, parcels: list[Parcel]) -> None:
        for parcel in parcels:
            task = asyncio.ensure_future(self._deliver(parcel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -- out: on the loop

    async def _deliver(self, parcel: Parcel) -> None:
        due, reason = self.clock.now(), ""
        for number, pause in enumerate((*RETRY_SECONDS, 0.0)):
            await self.clock.until(due)
            ack = await self.attempt(parcel, number, reason)
            if ack.acknowledged or ack.final:
                return
            due, reason = ack.at + pause, ack.failure

    async def attempt(self, parcel: Parcel, number: int = 0, reason: str = "") -> Ack:
        """One attempt; an unacknowledged `Ack` names the failure as Slack's retry reason."""
        ack = await self._carry(parcel, number, reason)
        ack = replace(ack, at=self.clock.now())
        event_id = str(parcel.payload.get("event_id", ""))
        self.attempts.append(
            Attempt(parcel.event_type, event_id, number, ack.acknowledged, ack.failure)
        )
        return ack

    async def _carry(self, parcel: Parcel, number: int, reason: str) -> Ack:
        if parcel.lose:
            parcel.lose -= 1
            return Ack(False, failure="lost")
        try:
            if self.endpoint:
                return await self.clock.within(ACK_SECONDS, self._by_http(parcel, number, reason))
            return await self.clock.within(ACK_SECONDS, self._by_socket(parcel, number, reason))
        except TimeoutError:
            return Ack(False, failure="http_timeout" if self.endpoint else "timeout")

    async def _by_http(self, parcel: Parcel, number: int, reason: str) -> Ack:
        retry = {"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": reason}
        try:
            answer = await self.post(parcel, retry if number else {})
        except httpx.HTTPError:
            return Ack(False, failure="connection_failed")
        final = answer.headers.get("x-slack-no-retry") == "1"
        if not answer.is_success:
            return Ack(False, failure="http_error", final=final)
        return Ack(True, _body_of(answer))

    async def post(self, parcel: Parcel, headers: dict[str, str]) -> httpx.Response:
        """Posts a parcel to the endpoint, signed with the present time."""
        body, content_type = _encoded(parcel)
        signed = headers | self.signature(body) | {"Content-Type": content_type}
        if self._client is None:
            most = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            self._client = httpx.AsyncClient(
                trust_env=False, verify=False, timeout=None, limits=most
            )
        return await self._client.post(str(self.endpoint), content=body, headers=signed)

    def signature(self, body: bytes) -> dict[str, str]:
        """The headers that prove a body comes from Slack."""
        stamp = str(int(time.time()))
        base = f"v0:{stamp}:".encode() + body
        digest = hmac.new(self.signing_secret.encode(), base, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}

    async def _by_socket(self, parcel: Parcel, number: int, reason: str) -> Ack:
        ready = [socket for socket in self.sockets if not socket.retired] or self.sockets
        if not ready:
            return Ack(False, failure="connection_failed")
        socket = ready[next(self._turns) % len(ready)]
        envelope: Json = {"envelope_id": parcel.envelope_id, "type": parcel.kind}
        envelope |= {"payload": parcel.payload}
        envelope["accepts_response_payload"] = parcel.kind != "events_api"
        if parcel.kind == "events_api":
            envelope |= {"retry_attempt": number, "retry_reason": reason}
        waiting = self._waiting.setdefault(
            parcel.envelope_id, asyncio.get_running_loop().create_future()
        )
        try:
            await socket.websocket.send_text(json.dumps(envelope))
            return Ack(True, await asyncio.shield(waiting))
        except (WebSocketDisconnect, RuntimeError):
            return Ack(False, failure="connection_failed")
        finally:
            self._waiting.pop(parcel.envelope_id, None)

    # -- sockets

    async def serve(self, websocket: WebSocket) -> None:
        """Holds one Socket Mode connection until either side ends it."""
        await websocket.accept()
        if len(self.sockets) >= MOST_SOCKETS:
            await websocket.send_text(_disconnect("too_many_websockets"))
            await websocket.close()
            return
        socket = Socket(websocket)
        self.sockets.append(socket)
        try:
            await websocket.send_text(self._hello())
            while True:
                self._acknowledged(await websocket.receive_text())
        except WebSocketDisconnect:
            pass
        finally:
            self.sockets.remove(socket)

    def _hello(self) -> str:
        limits = {"host": "applink-1", "approximate_connection_time": CONNECTION_SECONDS}
        info = {"app_id": self.app_id}
        count = len(self.sockets)
        hello = {"type": "hello", "num_connections": count, "debug_info": limits}
        return json.dumps(hello | {"connection_info": info})

    def _acknowledged(self, text: str) -> None:
        answer = json.loads(text)
        waiting = self._waiting.get(str(answer.get("envelope_id")))
        if waiting and not waiting.done():
            waiting.set_result(answer.get("payload") or {})

    async def disconnect(self, reason: str, linger: float) -> None:
        """Tells every socket to reconnect, and closes it after `linger` seconds."""
        going = [socket for socket in self.sockets if not socket.retired]
        for socket in going:
            socket.retired = True
            await socket.websocket.send_text(_disconnect(reason))
        await self.clock.until(self.clock.now() + linger)
        for socket in going:
            if socket in self.sockets:
                await socket.websocket.close()


def _disconnect(reason: str) -> str:
    debug = {"debug_info": {"host": "applink-1"}}
    return json.dumps({"type": "disconnect", "reason": reason} | debug)


def _encoded(parcel: Parcel) -> tuple[bytes, str]:
    if parcel.kind == "events_api":
        return json.dumps(parcel.payload).encode(), "application/json"
    form = parcel.payload
    if parcel.kind == "interactive":
        form = {"payload": json.dumps(parcel.payload)}
    return urlencode(form).encode(), "application/x-www-form-urlencoded"


def _body_of(answer: httpx.Response) -> Json:
    if not answer.content:
        return {}
    if "json" in answer.headers.get("content-type", ""):
        found = answer.json()
        return found if isinstance(found, dict) else {}
    return {"text": answer.text}
