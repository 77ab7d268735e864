"""The JSON API: what comes in, what goes out, and the calls between."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from anyio import CancelScope, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from metaflowbot.domain import (
    Answer,
    AnswerEvent,
    Delta,
    Feedback,
    Hit,
    Progress,
    Question,
    Search,
    Turn,
)
from metaflowbot.store import Asking
from metaflowbot.web.access import Visitor, rater
from metaflowbot.web.faults import explain
from metaflowbot.web.shapes import (
    AnswerShape,
    AskBody,
    FeedbackBody,
    SearchBody,
    SearchShape,
    Text,
    responses,
)

if TYPE_CHECKING:
    from metaflowbot.bot import Bot


class Api:
    """The /api routes over one bot. Endpoints are sync: FastAPI runs them in threads."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/api")
        post = partial(router.add_api_route, methods=["POST"])
        post("/search", self.search, responses=responses(SearchShape))
        post("/ask", self.ask, responses=responses(AnswerShape))
        rated = responses(None, 404)
        post("/answers/{answer_id}/feedback", self.rate, status_code=204, responses=rated)
        post("/answers/{answer_id}/escalate", self.escalate, status_code=204, responses=rated)
        return router

    def search(self, body: SearchBody) -> JSONResponse:
        found = self._bot.search(body.query, body.k, frozenset(body.sources or ()))
        return JSONResponse(search_json(found))

    def ask(self, request: Request, body: AskBody) -> Response:
        visitor = Visitor.of(request)
        question = Question(
            text=body.question,
            history=tuple(Turn(turn.role, turn.content) for turn in body.history or ()),
            sources=frozenset(body.sources or ()),
        )
        events = self._bot.stream(question, Asking(person=visitor.person))
        if "text/event-stream" in request.headers.get("accept", ""):
            response = self._streamed(events, request.state.request_id)
        else:
            response = _last(events)
        visitor.remember(request, response)
        return response

    def rate(self, request: Request, answer_id: Text, body: FeedbackBody) -> Response:
        self._bot.rate(Feedback(answer_id, rater(request), body.verdict, body.reason or ""))
        return Response(status_code=204)

    def escalate(self, request: Request, answer_id: Text) -> Response:
        self._bot.hand_on(answer_id, rater(request))
        return Response(status_code=204)

    def _streamed(self, events: Iterator[AnswerEvent], request_id: str) -> Response:
        # The first event is awaited here: a question the bot refuses still gets its status code.
        first = next(events)
        return _Stream(_frames(first, events, request_id))


class _Stream(EventSourceResponse):
    """Server-sent events that stop the bot when the reader leaves."""

    def __init__(self, frames: Generator[bytes]) -> None:
        # nginx would hold the pieces back.
        super().__init__(frames, headers={"X-Accel-Buffering": "no"})
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._frames.close)


def _last(events: Iterator[AnswerEvent]) -> Response:
    answer = None
    for event in events:
        answer = event
    assert isinstance(answer, Answer), "a stream of answer events ends with the answer"
    return JSONResponse(answer_json(answer))


def _frames(first: AnswerEvent, rest: Iterator[AnswerEvent], request_id: str) -> Generator[bytes]:
    """Server-sent events: progress, delta and answer; the status is out, so error is one too."""
    try:
        yield _frame(first)
        for event in rest:
            yield _frame(event)
    except Exception as error:  # noqa: BLE001 - the reader of the stream still gets a line
        status, line = explain(error, request_id)
        yield _sse("error", {"error": line, "status": status})


def _frame(event: AnswerEvent) -> bytes:
    if isinstance(event, Progress):
        return _sse("progress", {"step": event.step, "hits": [hit_json(hit) for hit in event.hits]})
    if isinstance(event, Delta):
        return _sse("delta", {"text": event.text})
    return _sse("answer", answer_json(event))


def _sse(event: str, data: dict[str, object]) -> bytes:
    return format_sse_event(event=event, data_str=json.dumps(data))


def search_json(search: Search) -> dict[str, object]:
    return {
        "hits": [hit_json(hit) for hit in search.hits],
        "generation": search.generation,
        "took_ms": search.took_ms,
    }


def hit_json(hit: Hit) -> dict[str, object]:
    """A hit, shown by its best passage."""
    best = hit.best
    return {
        "rank": hit.rank,
        "score": hit.score,
        "source": best.source,
        "document_id": best.document_id,
        "title": best.title,
        "heading": best.heading,
        "url": best.url,
        "text": best.text,
    }


def answer_json(answer: Answer) -> dict[str, object]:
    return {
        "answer_id": answer.id,
        "text": answer.text,
        "citations": [
            {
                "n": c.n,
                "document_id": c.document_id,
                "title": c.title,
                "url": c.url,
                "quote": c.quote,
            }
            for c in answer.citations
        ],
        "abstained": answer.abstained,
        "confidence": answer.confidence,
        "model": answer.model,
        "prompt_version": answer.prompt_version,
        "generation": answer.generation,
        "timings_ms": dict(answer.timings_ms),
        "usage": asdict(answer.usage),
        "notice": answer.notice,
    }
