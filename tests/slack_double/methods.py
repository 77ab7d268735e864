"""The Web API's methods: how one is declared, and how one is called.

A method is a function of the workspace and the call's arguments that gives the answer's fields, or
raises `SlackError`. The modules of the package declare theirs with `@method`.
"""

from __future__ import annotations

import base64
import copy
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .workspace import Json, SlackError, Workspace

JSON_ARGUMENTS = {"blocks", "attachments", "view", "metadata", "chunks", "prompts"}
JSON_ARGUMENTS |= {"loading_messages"}
MOST_PER_PAGE = 999


class Arguments:
    """One call's arguments, whichever way they came: JSON, form or query."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = {name: value for name, value in given.items() if value is not None}

    def text(self, name: str, default: str = "") -> str:
        return str(self.given.get(name, default))

    def required(self, name: str) -> str:
        """The argument; Slack's invalid_arguments when it is missing or empty."""
        value = self.text(name)
        if not value:
            note = f"[ERROR] missing required field: {name}"
            raise SlackError("invalid_arguments", response_metadata={"messages": [note]})
        return value

    def flag(self, name: str) -> bool:
        return self.text(name).lower() in {"1", "true"}

    def number(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not value.isdigit():
            raise SlackError("invalid_arguments")
        return int(value)

    def structure(self, name: str) -> Any:
        """A JSON argument as its value, also when it came as a string; None when not given."""
        value = self.given.get(name)
        if name not in JSON_ARGUMENTS or not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            blocks = name == "blocks"
            raise SlackError("invalid_blocks_format" if blocks else "invalid_arguments") from None

    def has(self, name: str) -> bool:
        return self.given.get(name) not in (None, "", [])


Handler = Callable[[Workspace, Arguments], Json]


@dataclass(frozen=True)
class Method:
    """A method, and the scopes of which one is needed to call it."""

    name: str
    scopes: tuple[str, ...]
    run: Handler
    with_app_token: bool


METHODS: dict[str, Method] = {}


def method(name: str, *scopes: str, with_app_token: bool = False) -> Callable[[Handler], Handler]:
    """Declares a function as the Web API method `name`."""

    def declare(run: Handler) -> Handler:
        METHODS[name] = Method(name, scopes, run, with_app_token)
        return run

    return declare


def page(found: list[Json], args: Arguments, name: str, default: int = 100) -> Json:
    """One page of `found`, with the cursor of the next in response_metadata."""
    limit = min(args.number("limit", default) or default, MOST_PER_PAGE)
    start = _decoded(args.text("cursor"))
    more = start + limit < len(found)
    cursor = base64.b64encode(f"next:{start + limit}".encode()).decode() if more else ""
    answer: Json = {name: found[start : start + limit]}
    return answer | {"has_more": more, "response_metadata": {"next_cursor": cursor}}


def _decoded(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        kind, number = base64.b64decode(cursor, validate=True).decode().split(":")
        return int(number) if kind == "next" else 0
    except ValueError:
        raise SlackError("invalid_cursor") from None


@dataclass(frozen=True)
class Call:
    """One Web API call as the double saw it; `at` is epoch seconds.

    `response` is the body that was answered; when the reply was dropped, the one that was lost.
    """

    method: str
    arguments: Json
    token: str
    at: float
    response: Json
    status: int = 200
    dropped: bool = False


@dataclass(frozen=True)
class Fault:
    """What to do with a coming call instead of answering it well."""

    method: str
    status: int = 200
    error: str = ""
    retry_after: int = 0
    drop: bool = False


@dataclass
class Install:
    """The app's installation: its tokens and what they may do."""

    bot_token: str
    app_token: str
    scopes: set[str]
    revoked: bool = False


@dataclass(frozen=True)
class Answer:
    status: int
    body: Json
    headers: dict[str, str] = field(default_factory=dict)
    dropped: bool = False


class WebApi:
    """Answers calls: checks the token and scopes, applies planned faults, keeps a record."""

    def __init__(self, workspace: Workspace, install: Install) -> None:
        self.workspace = workspace
        self.install = install
        self.calls: list[Call] = []
        self.faults: deque[Fault] = deque()
        self.weather: Callable[[str], Fault | None] = lambda _: None

    def call(self, name: str, given: Json, token: str) -> Answer:
        """Runs one method; every outcome, also a fault, is recorded as a `Call`."""
        with self.workspace.lock:
            fault = self._planned(name)
            answer = (
                self._failed(fault) if fault and not fault.drop else self._run(name, given, token)
            )
            dropped = fault is not None and fault.drop
            record = Call(name, given, token, time.time(), answer.body, answer.status, dropped)
            self.calls.append(record)
            return Answer(answer.status, answer.body, answer.headers, dropped)

    def note(self, name: str, given: Json) -> None:
        """Records what reached Slack beside the Web API, such as a post to a response_url."""
        self.calls.append(Call(name, given, "", time.time(), {}))

    def _planned(self, name: str) -> Fault | None:
        fault = next((f for f in self.faults if f.method == name), None)
        if fault is None:
            return self.weather(name)
        self.faults.remove(fault)
        return fault

    def _failed(self, fault: Fault) -> Answer:
        if fault.error:
            return Answer(200, {"ok": False, "error": fault.error})
        retry = {"retry-after": str(fault.retry_after)} if fault.retry_after else {}
        code = "ratelimited" if fault.status == 429 else "internal_error"
        return Answer(fault.status, {"ok": False, "error": code}, retry)

    def _run(self, name: str, given: Json, token: str) -> Answer:
        try:
            known = METHODS.get(name)
            if known is None:
                raise SlackError("unknown_method", req_method=name)
            self._admit(known, token)
            body = copy.deepcopy({"ok": True} | known.run(self.workspace, Arguments(given)))
        except SlackError as error:
            body = error.body
        needed = METHODS[name].scopes if name in METHODS else ()
        return Answer(200, body, self._scope_headers(needed))

    def _scope_headers(self, accepted: Iterable[str]) -> dict[str, str]:
        own = ",".join(sorted(self.install.scopes))
        return {"x-oauth-scopes": own, "x-accepted-oauth-scopes": ",".join(accepted)}

    def _admit(self, known: Method, token: str) -> None:
        if not token:
            raise SlackError("not_authed")
        if token not in (self.install.bot_token, self.install.app_token):
            raise SlackError("invalid_auth")
        if self.install.revoked:
            raise SlackError("account_inactive")
        if (token == self.install.app_token) != known.with_app_token:
            raise SlackError("not_allowed_token_type")
        if known.scopes and not self.install.scopes.intersection(known.scopes):
            provided = ",".join(sorted(self.install.scopes))
            raise SlackError("missing_scope", needed=known.scopes[0], provided=provided)
