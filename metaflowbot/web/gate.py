"""The outermost layer: every request passes here, and no response leaves without its headers."""

from __future__ import annotations

import logging
import math
import re
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metaflowbot import telemetry
from metaflowbot.web.access import Access, is_cross_site
from metaflowbot.web.faults import MAX_BODY, TOO_LARGE, explain, refuse
from metaflowbot.web.metrics import Metrics
from metaflowbot.web.pace import GUESSES, Pace
from metaflowbot.web.rendering import page

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gate:
    """ASGI middleware: request id, access, size, security headers, metrics, the last resort.

    It is plain ASGI, since Starlette's BaseHTTPMiddleware would stand between a stream and the
    client that leaves it.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics, a_minute: int) -> None:
        """`a_minute` is how much one address may ask."""
        self._app = app
        self._access = access
        self._metrics = metrics
        self._questions = Pace(a_minute)
        self._guesses = Pace(GUESSES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        exchange = _Exchange(send, _request_id(connection))
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        with telemetry.request(exchange.request_id):
            try:
                refusal = self._refusal(connection, scope["method"])
                await (refusal or self._app)(scope, receive, exchange.send)
            except Exception as error:  # noqa: BLE001 - the caller still gets a line and an id
                await self._last_resort(error, exchange, scope, receive)
            finally:
                self._account(scope, exchange)

    def _account(self, scope: Scope, exchange: _Exchange) -> None:
        """Count the request, and log it unless it is a probe that all is well."""
        method, route, seconds = scope["method"], _route(scope), exchange.seconds()
        self._metrics.request(method, route, exchange.status, seconds)
        if exchange.status == 200 and route in _PROBES:
            return
        level = logging.WARNING if exchange.status >= 500 else logging.INFO
        ms = round(seconds * 1000, 1)
        telemetry.event("http", level, method=method, route=route, status=exchange.status, ms=ms)

    def _refusal(self, connection: HTTPConnection, method: str) -> Response | None:
        # scope["path"] is what routes match; url.path is also made of the caller's Host header.
        path = connection.scope["path"]
        if self._access.guards(path) and not self._access.admits(connection):
            guessed = "authorization" in connection.headers
            if guessed and (seconds := self._guesses.wait(connection)):
                return _later(seconds)
            return _with(self._unknown(connection, path), "WWW-Authenticate", "Bearer")
        pace = self._guesses if path == "/sign-in" else self._questions
        is_paced = method == "POST" and path.startswith(("/api/", "/sign-in"))
        if is_paced and (seconds := pace.wait(connection)):
            return _later(seconds)
        if method not in ("GET", "HEAD", "OPTIONS") and is_cross_site(connection):
            return refuse(403, "requests from other sites' pages are refused")
        length = connection.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY:
            return _with(refuse(413, TOO_LARGE), "Connection", "close")
        return None

    def _unknown(self, connection: HTTPConnection, path: str) -> Response:
        """What somebody without the token gets: a person the sign-in page, a program a line."""
        is_read = "text/html" in connection.headers.get("accept", "")
        if not (is_read and self._access.shows_sign_in(path)):
            line = "this wants the API token: send it as 'Authorization: Bearer <token>'"
            return refuse(401, line)
        query = connection.scope["query_string"].decode("latin-1")
        wanted = path.lstrip("/") + f"?{query}" * bool(query)
        return page(connection, "sign-in", 401, notice="", next=wanted)

    async def _last_resort(
        self, error: Exception, exchange: _Exchange, scope: Scope, receive: Receive
    ) -> None:
        status, line = explain(error, exchange.request_id)
        if exchange.status:
            raise error  # half a response is out: only breaking off tells the client
        await refuse(status, line)(scope, receive, exchange.send)


class _Exchange:
    """One response on its way out. `status` is 0 until it has started."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self.status = 0
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    def seconds(self) -> float:
        return time.perf_counter() - self._started


def _request_id(connection: HTTPConnection) -> str:
    """The caller's id when it is one a log line can carry, so that its logs and ours join."""
    given = connection.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The route's template: what was asked for in full would give a label for each answer."""
    return getattr(scope.get("route"), "path", "other")


def _later(seconds: float) -> Response:
    """The refusal of what comes too often, with when it may come again."""
    wait = math.ceil(seconds)
    line = f"too many requests from your address: try again in {wait} s"
    return _with(refuse(429, line), "Retry-After", str(wait))


def _with(response: Response, name: str, value: str) -> Response:
    response.headers[name] = value
    return response
