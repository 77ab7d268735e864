"""A loopback GitHub: issues and comments by REST, discussions by GraphQL, as GitHub gives them.

    with GitHubDouble() as hub:
        hub.add_repository("garden/flows")
        number = hub.add_issue("garden/flows", "ada", "`train` fails", "Why?")
        hub.comment("garden/flows", number, "grace", "Set `@retry`.", association="MEMBER")
        ...                              # point the client at hub.url with hub.token
        assert hub.calls("/comments") == 1

Time is its own and goes on by a minute with each change.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

START = 1_700_000_000
_KINDS = {"+1": "THUMBS_UP", "-1": "THUMBS_DOWN", "heart": "HEART", "confused": "CONFUSED"}
_BOTS = re.compile(r"\[bot\]$")


@dataclass
class _Comment:
    author: str
    body: str
    at: int
    association: str = "NONE"
    reactions: list[tuple[str, str]] = field(default_factory=list)
    hidden: bool = False
    replies: list[_Comment] = field(default_factory=list)


@dataclass
class _Thread(_Comment):
    number: int = 0
    title: str = ""
    pull: bool = False
    updated: int = 0
    state: str = "open"
    reason: str | None = None
    comments: list[_Comment] = field(default_factory=list)
    answer: tuple[_Comment, str, int] | None = None


@dataclass
class _Repository:
    private: bool = False
    has_issues: bool = True
    has_discussions: bool = True
    issues: dict[int, _Thread] = field(default_factory=dict)
    discussions: dict[int, _Thread] = field(default_factory=dict)


@dataclass
class _Failure:
    """The answer to the next `times` requests whose path contains `path`."""

    status: int
    times: int
    headers: Mapping[str, str]
    message: str
    path: str


class GitHubDouble:
    """Serves while it is entered. `requests` are (path with query, status), in order."""

    def __init__(self, token: str = "github-token-of-the-double") -> None:
        self.token = token
        self.page_size = 100
        self.requests: list[tuple[str, int]] = []
        self.repositories: dict[str, _Repository] = {}
        self.moved: dict[str, str] = {}
        self.forbidden: set[str] = set()
        self._failures: list[_Failure] = []
        self._now = START
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.double = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> GitHubDouble:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What happens on GitHub

    def add_repository(self, name: str, **kinds: bool) -> None:
        self.repositories[name] = _Repository(**kinds)

    def add_issue(
        self, repository: str, author: str, title: str, body: str | None, *, pull: bool = False
    ) -> int:
        return self._add(repository, "issues", author, title, body or "", pull=pull)

    def add_discussion(self, repository: str, author: str, title: str, body: str) -> int:
        return self._add(repository, "discussions", author, title, body)

    def comment(
        self,
        repository: str,
        number: int,
        author: str,
        body: str,
        *,
        association: str = "NONE",
        reactions: tuple[tuple[str, str], ...] = (),
        reply_to: _Comment | None = None,
        hidden: bool = False,
    ) -> _Comment:
        """`reactions` are (kind as REST names it, login)."""
        thread = self.thread(repository, number)
        thread.updated = at = self._tick()
        made = _Comment(author, body, at, association, list(reactions), hidden)
        (reply_to.replies if reply_to else thread.comments).append(made)
        return made

    def close(self, repository: str, number: int, reason: str | None = "completed") -> None:
        thread = self.thread(repository, number)
        thread.state, thread.reason, thread.updated = "closed", reason, self._tick()

    def edit(self, repository: str, number: int, body: str) -> None:
        thread = self.thread(repository, number)
        thread.body, thread.updated = body, self._tick()

    def choose(self, repository: str, number: int, answer: _Comment, by: str) -> None:
        thread = self.thread(repository, number)
        thread.updated = at = self._tick()
        thread.answer = (answer, by, at)

    def delete(self, repository: str, number: int) -> None:
        """Delete it, or transfer it to where nobody looks."""
        place = self.repositories[repository]
        place.issues.pop(number, None)
        place.discussions.pop(number, None)

    def thread(self, repository: str, number: int) -> _Thread:
        place = self.repositories[repository]
        return {**place.issues, **place.discussions}[number]

    # How GitHub answers

    def fail(
        self,
        status: int,
        times: int = 1,
        message: str = "scripted failure",
        path: str = "",
        **headers: object,
    ) -> None:
        """Answer so; `headers` have _ for -."""
        named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        self._failures.append(_Failure(status, times, named, message, path))

    def mend(self) -> None:
        """Answer as ever again."""
        self._failures.clear()

    def calls(self, part: str, status: int = 200) -> int:
        """How many requests with `part` in their path were answered so."""
        return sum(part in path and answered == status for path, answered in self.requests)

    def failure(self, path: str) -> _Failure | None:
        with self._lock:
            for failure in self._failures:
                if failure.times and failure.path in path:
                    failure.times -= 1
                    return failure
        return None

    def _add(
        self, repository: str, kind: str, author: str, title: str, body: str, *, pull: bool = False
    ) -> int:
        place = self.repositories[repository]
        number = max([0, *place.issues, *place.discussions]) + 1
        at = self._tick()
        thread = _Thread(author, body, at, number=number, title=title, pull=pull, updated=at)
        getattr(place, kind)[number] = thread
        return number

    def _tick(self) -> int:
        self._now += 60
        return self._now


# REST


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _user(login: str) -> dict[str, Any] | None:
    """An account that was closed is null."""
    return {"login": login, "type": "Bot" if _BOTS.search(login) else "User"} if login else None


def _rest_comment(comment: _Comment) -> dict[str, Any]:
    kinds = [kind for kind, _ in comment.reactions]
    counts = {kind: kinds.count(kind) for kind in ("+1", "-1", "laugh", "hooray", "heart")}
    return {
        "user": _user(comment.author),
        "body": comment.body or None,
        "created_at": _time(comment.at),
        "author_association": comment.association,
        "reactions": {"url": "https://api.example/r", "total_count": len(kinds), **counts},
    }


def _rest_issue(repository: str, issue: _Thread) -> dict[str, Any]:
    more = {"pull_request": {"url": "https://api.example/p"}} if issue.pull else {}
    return {
        **_rest_comment(issue),
        "number": issue.number,
        "title": issue.title,
        "html_url": f"https://github.example/{repository}/issues/{issue.number}",
        "state": issue.state,
        "state_reason": issue.reason,
        "updated_at": _time(issue.updated),
        "comments": len(issue.comments),
        **more,
    }


def _rest(double: GitHubDouble, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
    """The status and the whole object or list."""
    _, _, owner, name, *rest = path.split("/")
    place = double.repositories.get(f"{owner}/{name}")
    if place is None:
        return 404, {"message": "Not Found"}
    if not rest:
        flags = {key: getattr(place, key) for key in ("private", "has_issues", "has_discussions")}
        return 200, {**flags, "visibility": "private" if place.private else "public"}
    if rest == ["issues"]:
        assert (query["state"], query["sort"], query["direction"]) == ("all", "created", "asc")
        return 200, [_rest_issue(f"{owner}/{name}", issue) for issue in place.issues.values()]
    issue = place.issues.get(int(rest[1]))
    if issue is None:
        return 404, {"message": "Not Found"}
    return 200, [_rest_comment(comment) for comment in issue.comments]


# GraphQL


def _actor(login: str) -> dict[str, Any] | None:
    kind = "Bot" if _BOTS.search(login) else "User"
    return {"login": _BOTS.sub("", login), "__typename": kind} if login else None


def _post(comment: _Comment, answer: _Comment | None) -> dict[str, Any]:
    reactions = [{"content": _KINDS[kind], "user": _actor(who)} for kind, who in comment.reactions]
    return {
        "body": comment.body,
        "createdAt": _time(comment.at),
        "author": _actor(comment.author),
        "authorAssociation": comment.association,
        "isAnswer": comment is answer,
        "isMinimized": comment.hidden,
        "reactions": {"nodes": reactions},
        "replies": {"nodes": [_post(reply, answer) for reply in comment.replies]},
    }


def _discussion(repository: str, it: _Thread) -> dict[str, Any]:
    answer, by, at = it.answer or (None, "", 0)
    values = _post(it, answer)
    return values | {
        "number": it.number,
        "title": it.title,
        "url": f"https://github.example/{repository}/discussions/{it.number}",
        "updatedAt": _time(it.updated),
        "answerChosenAt": _time(at) if at else None,
        "answerChosenBy": _actor(by),
        "closed": it.state == "closed",
        "stateReason": it.reason,
        "comments": [_post(comment, answer) for comment in it.comments],
    }


_TOKEN = re.compile(r"[{}()]|[\w!$]+|[^\s{}()]+")


def _selection(tokens: Iterator[str]) -> dict[str, Any]:
    """What stands between braces: field -> (its arguments as text, its own selection)."""
    fields: dict[str, Any] = {}
    last = ""
    for token in tokens:
        if token == "}":
            return fields
        if token == "{":
            fields[last] = (fields[last][0], _selection(tokens))
        elif token == "(":
            arguments = []
            while (word := next(tokens)) != ")":
                arguments.append(word)
            fields[last] = (" ".join(arguments), {})
        else:
            last = token
            fields[last] = ("", {})
    return fields


def _chosen(value: Any, selection: Mapping[str, Any], page: tuple[int, str | None]) -> Any:
    """`value` down to the fields that were asked for; one that there is not is a KeyError."""
    if value is None or not selection:
        return value
    if isinstance(value, list) and "nodes" in selection:
        size, after = page
        first = int(after or 0)
        end = min(first + size, len(value))
        more = {"hasNextPage": end < len(value), "endCursor": str(end)}
        value = {"nodes": value[first:end], "pageInfo": more, "totalCount": len(value)}
    elif isinstance(value, list) and "totalCount" in selection:
        value = {"totalCount": len(value)}
    if isinstance(value, list):
        return [_chosen(entry, selection, page) for entry in value]
    return {name: _chosen(value[name], below, page) for name, (_, below) in selection.items()}


def _graphql(double: GitHubDouble, body: Mapping[str, Any]) -> dict[str, Any]:
    variables = body["variables"]
    name = f"{variables['owner']}/{variables['name']}"
    tokens = iter(_TOKEN.findall(body["query"]))
    while next(tokens) != "{":
        continue
    repository = double.repositories.get(name)
    _, asked = _selection(tokens)["repository"]
    if repository is None:
        return _fault("NOT_FOUND", f"Could not resolve to a Repository with the name '{name}'.")
    if "discussions" in double.forbidden:
        return _fault("FORBIDDEN", "Resource not accessible by personal access token")
    if "discussion" in asked and variables["number"] not in repository.discussions:
        return _fault("NOT_FOUND", "Could not resolve to a Discussion.")
    known = {number: _discussion(name, it) for number, it in repository.discussions.items()}
    values = {
        "discussions": list(known.values()),
        "discussion": known.get(variables.get("number", 0)),
    }
    page = (double.page_size, variables["after"])
    return {"data": {"repository": _chosen(values, asked, page)}}


def _fault(kind: str, message: str) -> dict[str, Any]:
    return {"data": {"repository": None}, "errors": [{"type": kind, "message": message}]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    double: GitHubDouble


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        double = self.server.double
        if self._refused():
            return
        parts = urlsplit(self.path)
        owner_and_name = "/".join(parts.path.split("/")[2:4])
        if moved := double.moved.get(owner_and_name):
            target = f"{double.url}{self.path.replace(owner_and_name, moved)}"
            self._send(301, {"message": "Moved Permanently"}, {"Location": target})
            return
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        status, value = _rest(double, parts.path, query)
        headers = {}
        if isinstance(value, list):
            value, headers = self._page(value, parts.path, query)
        tag = f'W/"{hashlib.sha256(json.dumps([value, headers]).encode()).hexdigest()[:16]}"'
        if status == 200 and self.headers.get("If-None-Match") == tag:
            self._send(304, None, {"ETag": tag})
            return
        self._send(status, value, {"ETag": tag, **headers})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._refused():
            self._send(200, _graphql(self.server.double, body))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _refused(self) -> bool:
        double = self.server.double
        if self.headers.get("Authorization") != f"Bearer {double.token}":
            self._send(401, {"message": "Bad credentials"})
            return True
        if failure := double.failure(self.path):
            self._send(failure.status, {"message": failure.message}, failure.headers)
            return True
        return False

    def _page(
        self, entries: list[Any], path: str, query: Mapping[str, str]
    ) -> tuple[list[Any], dict[str, str]]:
        double = self.server.double
        size = min(int(query.get("per_page", "30")), double.page_size)
        number = int(query.get("page", "1"))
        following = urlencode({**query, "page": number + 1})
        more = {"Link": f'<{double.url}{path}?{following}>; rel="next"'}
        shown = entries[(number - 1) * size : number * size]
        return shown, more if number * size < len(entries) else {}

    def _send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self.server.double.requests.append((self.path, status))
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def in_seconds(seconds: float) -> int:
    """A time as X-RateLimit-Reset has it."""
    return int(time.time() + seconds)
