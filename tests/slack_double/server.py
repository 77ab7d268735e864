"""The double's HTTP and websocket server, in a thread of its own on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from .delivery import Delivery
from .interactions import respond
from .methods import WebApi
from .workspace import Json, SlackError


class Server:
    """Serves the Web API, response URLs and Socket Mode until it is stopped."""

    def __init__(self, api: WebApi, delivery: Delivery) -> None:
        self._api = api
        self._delivery = delivery
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        routes = [
            Route("/api/{method}", self._web_api, methods=["GET", "POST"]),
            Route("/response/{key}", self._response_url, methods=["POST"]),
            Route("/files/{key}", self._file, methods=["GET"]),
            WebSocketRoute("/link/", self._link),
        ]
        app = Starlette(routes=routes)
        # Pings often: the SDK's client lets go of a socket only when something arrives on it.
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, ws_ping_interval=0.2
        )
        self._server = uvicorn.Server(config)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def start(self) -> None:
        """Returns when calls and connections are accepted."""
        self._listening.listen(128)
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Ends every connection and the thread."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    async def _serve(self) -> None:
        self._delivery.loop = asyncio.get_running_loop()
        self._ready.set()
        await self._server.serve(sockets=[self._listening])

    async def _web_api(self, request: Request) -> Response:
        given = await _arguments(request)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        in_body = str(given.pop("token", "") or "")
        token = bearer if scheme.lower() == "bearer" else in_body
        answer = self._api.call(request.path_params["method"], given, token)
        if answer.dropped:
            self._hang_up(request)
        return JSONResponse(answer.body, answer.status, answer.headers)

    def _hang_up(self, request: Request) -> None:
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "client", None) == tuple(request.client or ()):
                transport: Any = getattr(connection, "transport", None)
                transport.abort()

    async def _response_url(self, request: Request) -> Response:
        given = await _arguments(request)
        try:
            respond(self._api.workspace, request.path_params["key"], given)
        except SlackError as error:
            return JSONResponse(error.body, 404)
        finally:
            self._api.note("response_url", given)
        return Response("ok", media_type="text/plain")

    async def _file(self, request: Request) -> Response:
        """A snippet; like Slack, a page to sign in for whoever may not read files."""
        _, _, token = request.headers.get("authorization", "").partition(" ")
        text = self._api.workspace.snippets.get(request.path_params["key"])
        if text is None:
            return Response("not found", 404)
        if token != self._api.install.bot_token or "files:read" not in self._api.install.scopes:
            return Response("<html>Sign in</html>", media_type="text/html")
        return Response(text, media_type="text/plain")

    async def _link(self, websocket: WebSocket) -> None:
        tickets = self._api.workspace.socket_tickets
        ticket = websocket.query_params.get("ticket", "")
        if ticket not in tickets:
            await websocket.close()
            return
        tickets.remove(ticket)
        await self._delivery.serve(websocket)


async def _arguments(request: Request) -> Json:
    given: Json = dict(request.query_params)
    body = (await request.body()).decode()
    if not body:
        return given
    if "json" in request.headers.get("content-type", ""):
        found = json.loads(body)
        return given | (found if isinstance(found, dict) else {})
    return given | dict(parse_qsl(body, keep_blank_values=True))
