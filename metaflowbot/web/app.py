"""Builds the web application over one bot; nothing is opened or read until `build` is called."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.staticfiles import StaticFiles

from metaflowbot.errors import MetaflowbotError
from metaflowbot.ingest_run import IngestRun
from metaflowbot.settings import Settings
from metaflowbot.web.access import Access, Visitor, start_session
from metaflowbot.web.api import Api
from metaflowbot.web.faults import MAX_BODY, on_error, on_http_error, on_invalid, refuse
from metaflowbot.web.gate import Gate
from metaflowbot.web.metrics import Metrics

if TYPE_CHECKING:
    from metaflowbot.bot import Bot

SlackHandler = Callable[[bytes, Mapping[str, str]], tuple[int, dict[str, str], bytes]]

_STATIC = Path(__file__).parent / "static"
_SLACK_THREADS = 8


def build(
    bot: Bot,
    settings: Settings,
    slack: SlackHandler | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The application.

    `slack` answers Slack's HTTP mode: (body, headers) -> (status, headers, body), called in a
    worker thread; without it the route answers 404. `metrics` are those that watch the bot.
    """
    metrics = metrics or Metrics()
    access = Access(settings.api_token.get_secret_value())
    # The interactive docs of FastAPI load scripts from another site, which our policy forbids.
    app = FastAPI(title="Metaflowbot", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(Api(bot).router())
    Pages(access).add_to(app)
    Operations(bot, metrics, settings.home).add_to(app)
    app.add_api_route("/slack/events", _slack_endpoint(slack), methods=["POST"])
    app.mount("/static", StaticFiles(directory=_STATIC))
    app.add_exception_handler(MetaflowbotError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY)
    app.add_middleware(Gate, access=access, metrics=metrics)  # added last: outermost
    return app


class Operations:
    """What a load balancer and Prometheus ask."""

    def __init__(self, bot: Bot, metrics: Metrics, home: Path) -> None:
        self._bot = bot
        self._metrics = metrics
        self._home = home

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/healthz", self.health)
        app.add_api_route("/readyz", self.readiness)
        app.add_api_route("/metrics", self.metrics)

    async def health(self) -> JSONResponse:
        # On the event loop: it must answer while every worker thread waits for a model.
        return JSONResponse({"status": "ok"})

    def readiness(self) -> JSONResponse:
        missing = self._bot.missing()
        if missing:
            return JSONResponse({"ready": False, "missing": list(missing)}, 503)
        return JSONResponse({"ready": True, "generation": self._bot.generation()})

    def metrics(self) -> Response:
        text = self._metrics.render(self._bot.vitals(), IngestRun.last(self._home))
        return Response(text, media_type=CONTENT_TYPE_LATEST)


class Pages:
    """The page for asking, and the sign-in before it when a token is set."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._ask = (_STATIC / "index.html").read_text(encoding="utf-8")
        self._sign_in = (_STATIC / "sign-in.html").read_text(encoding="utf-8")

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/", self.home)
        app.add_api_route("/sign-in", self.sign_in, methods=["POST"])

    def home(self, request: Request) -> Response:
        if not self._access.admits(request):
            return self._sign_in_page(200)
        response = HTMLResponse(self._ask)
        Visitor.of(request).remember(request, response)
        return response

    async def sign_in(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        session = self._access.sign_in(form.get("token", [""])[0].strip())
        if session is None:
            return self._sign_in_page(401, "That is not the token of this server.")
        # 303: the browser follows with GET. Relative: it holds behind a proxy's path too.
        response = RedirectResponse("./", 303)
        start_session(request, response, session)
        return response

    def _sign_in_page(self, status: int, notice: str = "") -> Response:
        return HTMLResponse(self._sign_in.replace("$notice", html.escape(notice)), status)


def _slack_endpoint(slack: SlackHandler | None) -> Callable[[Request], object]:
    # Threads of its own: Slack waits three seconds, however many answers are being written.
    threads = CapacityLimiter(_SLACK_THREADS)

    async def events(request: Request) -> Response:
        if slack is None:
            line = (
                "Slack's HTTP mode is off: set SLACK_BOT_TOKEN and SLACK_SIGNING_SECRET, "
                "without SLACK_APP_TOKEN"
            )
            return refuse(404, line)
        status, headers, body = await anyio.to_thread.run_sync(
            slack, await request.body(), dict(request.headers), limiter=threads
        )
        return Response(body, status, headers)

    return events
