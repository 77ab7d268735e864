"""Builds the web application over one bot; nothing is opened or read until `build` is called."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.staticfiles import StaticFiles

from metaflowbot.domain import Answer
from metaflowbot.errors import MetaflowbotError, NotFoundError
from metaflowbot.ingest_run import IngestRun
from metaflowbot.settings import Settings
from metaflowbot.web.access import Access, Visitor, start_session
from metaflowbot.web.api import Api, answer_json
from metaflowbot.web.changes import Changes
from metaflowbot.web.dashboard import Dashboard
from metaflowbot.web.faults import MAX_BODY, on_error, on_http_error, on_invalid, refuse
from metaflowbot.web.gate import Gate
from metaflowbot.web.metrics import Metrics
from metaflowbot.web.rendering import page
from metaflowbot.web.shapes import SharedShape, Text, responses

if TYPE_CHECKING:
    from metaflowbot.bootstrap import Parts
    from metaflowbot.bot import Bot
    from metaflowbot.store import Store

SlackHandler = Callable[[bytes, Mapping[str, str]], tuple[int, dict[str, str], bytes]]

_STATIC = Path(__file__).parent / "static"
_SLACK_THREADS = 8
_OWN_PAGE = re.compile(r"(?:dashboard|answers)(?:/[\w/.-]*)?(?:\?[\w=&.%+-]*)?")


def build(
    bot: Bot,
    settings: Settings,
    slack: SlackHandler | None = None,
    metrics: Metrics | None = None,
    parts: Parts | None = None,
) -> FastAPI:
    """The application.

    `parts` are what the maintainers' pages show, and shared answers; without them there are none.

    `slack` answers Slack's HTTP mode: (body, headers) -> (status, headers, body), called in a
    worker thread; without it the route answers 404. `metrics` are those that watch the bot.
    """
    metrics = metrics or Metrics()
    access = Access(settings.api_token.get_secret_value())
    # The interactive docs of FastAPI load scripts from another site, which our policy forbids.
    app = FastAPI(
        title="Metaflowbot",
        version=importlib.metadata.version("metaflowbot"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.include_router(Api(bot).router())
    Pages(access).add_to(app)
    if parts:
        for pages in (Dashboard(parts, settings, access), Changes(parts, settings, access)):
            app.include_router(pages.router(), include_in_schema=False)
        SharedAnswers(parts.store).add_to(app)
    Operations(bot, metrics, settings.home).add_to(app)
    slack_events = _slack_endpoint(slack)
    app.add_api_route("/slack/events", slack_events, methods=["POST"], include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_STATIC))
    app.add_exception_handler(MetaflowbotError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY)
    a_minute = settings.limits.address
    app.add_middleware(Gate, access=access, metrics=metrics, a_minute=a_minute)  # last: outermost
    return app


class Operations:
    """What a load balancer and Prometheus ask."""

    def __init__(self, bot: Bot, metrics: Metrics, home: Path) -> None:
        self._bot = bot
        self._metrics = metrics
        self._home = home

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/healthz", self.health, include_in_schema=False)
        app.add_api_route("/readyz", self.readiness, include_in_schema=False)
        app.add_api_route("/metrics", self.metrics, include_in_schema=False)

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

    def add_to(self, app: FastAPI) -> None:
        app.add_api_route("/", self.home, include_in_schema=False)
        app.add_api_route("/sign-in", self.sign_in, methods=["POST"], include_in_schema=False)

    def home(self, request: Request) -> Response:
        if not self._access.admits(request):
            return page(request, "sign-in", notice="", next="")
        response = page(request, "ask", answer_id="")
        Visitor.of(request).remember(request, response)
        return response

    async def sign_in(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        session = self._access.sign_in(form.get("token", [""])[0].strip())
        # Only a page of this server: nothing that a browser could take for another host.
        asked = form.get("next", [""])[0]
        wanted = asked if _OWN_PAGE.fullmatch(asked) else ""
        if session is None:
            notice = "That is not the token of this server."
            return page(request, "sign-in", 401, notice=notice, next=wanted)
        # 303: the browser follows with GET. Relative: it holds behind a proxy's path too.
        response = RedirectResponse(f"./{wanted}", 303)
        start_session(request, response, session)
        return response


class SharedAnswers:
    """One answer for whoever has its link, where it was given in public."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add_to(self, app: FastAPI) -> None:
        shared = responses(SharedShape, 404)
        app.add_api_route("/api/answers/{answer_id}", self.values, responses=shared)
        app.add_api_route("/answers/{answer_id}", self.show, include_in_schema=False)

    def values(self, answer_id: Text) -> JSONResponse:
        answer = self._answer(answer_id)
        more = {"question": answer.question, "escalation": self._escalation(answer_id)}
        return JSONResponse({**answer_json(answer), **more})

    def _escalation(self, answer_id: str) -> dict[str, str] | None:
        """What became of it with people; what they answered is told where there is no thread."""
        found = self._store.escalations.of_answer(answer_id)
        if found is None:
            return None
        said = found.solution.text if found.solution and not found.thread else ""
        declined = found.history[-1].note if found.state == "declined" and not found.thread else ""
        return {"state": found.state, "text": said or declined, "url": found.url}

    def show(self, request: Request, answer_id: Text) -> Response:
        try:
            self._answer(answer_id)
        except NotFoundError as error:
            return page(request, "no-answer", 404, line=str(error))
        response = page(request, "ask", answer_id=answer_id)
        Visitor.of(request).remember(request, response)
        return response

    def _answer(self, answer_id: str) -> Answer:
        answer = self._store.answer(answer_id)
        if answer is None or not self._store.record.may_be_shared(answer_id):
            raise NotFoundError("There is no such answer, or it can't be shared.")
        return answer


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
