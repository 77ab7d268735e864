"""What a fault looks like over HTTP: a status and `{"error": "one line"}`, never a traceback."""

from __future__ import annotations

import logging

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from metaflowbot.errors import (
    IndexUnavailableError,
    MetaflowbotError,
    NotFoundError,
    StoreError,
    UsageError,
)

MAX_BODY = 256 * 1024  # bytes
TOO_LARGE = f"the body is over {MAX_BODY // 1024} KiB: send less"

_log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[MetaflowbotError], int], ...] = (
    (UsageError, 422),
    (NotFoundError, 404),
    (IndexUnavailableError, 503),
    (StoreError, 503),
)


def refuse(status: int, line: str) -> JSONResponse:
    """The error body every route answers with."""
    return JSONResponse({"error": line}, status)


def explain(error: Exception, request_id: str) -> tuple[int, str]:
    """Status and one line for the person; what only we can mend is logged under `request_id`."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status, _one_line(str(error))
    _log.error("request %s failed", request_id, exc_info=error)
    return 500, f"something went wrong on our side; name request {request_id} when you report it"


def on_error(request: Request, error: Exception) -> JSONResponse:
    """Handle what the bot raises."""
    return refuse(*explain(error, request.state.request_id))


def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Handle a route that does not exist, or not with this method, and unreadable bodies."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    lines = {
        404: (404, f"there is nothing at {path}"),
        405: (405, f"{path} does not take {request.method}"),
        400: (422, "body: it can't be read as JSON"),
        413: (413, TOO_LARGE),
    }
    status, line = lines.get(error.status_code, (error.status_code, error.detail))
    return JSONResponse({"error": line}, status, headers=error.headers)


def on_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Handle a body that is not what the route takes: name the first field at fault."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return refuse(422, f"body: it is not valid JSON: {fault['ctx']['error']}")
    where = ".".join(str(part) for part in fault["loc"][1:])
    if not where:
        return refuse(422, "body: it must be a JSON object, sent as application/json")
    what = str(fault["msg"]).removeprefix("Value error, ")
    return refuse(422, f"{where}: {what[:1].lower()}{what[1:]}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
