"""GitHub's REST and GraphQL APIs as far as reading goes: pages, limits, refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from metaflowbot.errors import SourceError
from metaflowbot.settings import Settings

_PATIENCE = 60.0  # seconds that one call may wait for GitHub, all its tries together
_UNNAMED_WAIT = 60.0  # what GitHub asks for where it names no time
_TRIES = 3  # of a call that fails on the way, or at GitHub's own fault
_MOVES = 3  # redirects in a row
_FIRST_PAUSE = 0.25  # seconds before the second of them, doubled before the third
_SECONDS_OF_SILENCE = 30.0
_HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": "metaflowbot",
}


class GitHubRefusalError(SourceError):
    """GitHub refuses one thing while others can be read; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class GitHubWaitError(SourceError):
    """GitHub asks to wait for longer than a call may."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of a list. `entries` is None where it stands as it did at `etag`."""

    entries: list[Any] | None
    etag: str
    following: str


class GitHub:
    """Calls with the token of the settings; a context manager, which closes the connections.

    Each call raises GitHubRefusalError, GitHubWaitError, or SourceError where no further call is
    worth a try.
    """

    def __init__(self, settings: Settings) -> None:
        self._base = settings.github_api_url.rstrip("/")
        # GitHub Enterprise has its GraphQL beside the version of its REST API.
        self._graphql = f"{self._base.removesuffix('/v3')}/graphql"
        token = settings.github_token.get_secret_value()
        if not token.isascii():
            raise SourceError("GITHUB_TOKEN is no token: it holds letters that none has")
        headers = {"Authorization": f"Bearer {token}", **_HEADERS}
        self._client = httpx2.Client(headers=headers, timeout=_SECONDS_OF_SILENCE)

    def __enter__(self) -> GitHub:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> Mapping[str, Any]:
        """One object, e.g. of '/repos/owner/name'."""
        value = _json(self._send("GET", self.url(path)))
        return value if isinstance(value, dict) else {}

    def url(self, path: str) -> str:
        """The whole URL of a path."""
        return self._base + path

    def page(self, url: str, etag: str = "") -> Answer:
        """One page of a list, asked for only if it changed since `etag`."""
        headers = {"If-None-Match": etag} if etag else {}
        response = self._send("GET", url, headers=headers)
        if response.status_code == 304:
            return Answer(None, etag, "")
        entries = _json(response)
        following = response.links.get("next", {}).get("url", "")
        if following and not self._is_own(following):
            raise SourceError(f"{_host(url)} sends to another server for its next page")
        etag = response.headers.get("ETag", "")
        return Answer(entries if isinstance(entries, list) else [], etag, following)

    def pages(self, path: str) -> Iterator[Any]:
        """Every entry of a list."""
        url = self.url(path)
        while url:
            answer = self.page(url)
            yield from answer.entries or ()
            url = answer.following

    def query(self, text: str, **variables: object) -> Mapping[str, Any]:
        """The data of a GraphQL query."""
        body = {"query": text, "variables": variables}
        value = _json(self._send("POST", self._graphql, json=body))
        faults = value.get("errors") if isinstance(value, dict) else [{}]
        if faults:
            fault = faults[0] if isinstance(faults[0], dict) else {}
            status = {"NOT_FOUND": 404, "FORBIDDEN": 403}.get(str(fault.get("type")), 400)
            raise GitHubRefusalError(status, _short(fault.get("message")))
        data = value.get("data")
        return data if isinstance(data, dict) else {}

    def _send(self, method: str, url: str, **more: Any) -> httpx2.Response:
        """The answer, of a renamed repository from where it is now, after waiting as asked."""
        waited, tries, moves = 0.0, 1, 0
        while True:
            response = self._try(method, url, tries, more)
            wait = _wait(response, tries) if response else _pause(tries)
            if response and wait is None:
                if not response.has_redirect_location or moves == _MOVES:
                    return self._checked(response)
                url, moves = self._moved(response, url), moves + 1
                continue
            wait = wait or 0.0
            if waited + wait > _PATIENCE:
                raise _too_long(wait)
            time.sleep(wait)
            waited, tries = waited + wait, tries + 1

    def _try(
        self, method: str, url: str, tries: int, more: Mapping[str, Any]
    ) -> httpx2.Response | None:
        """The answer; None where the call failed on its way and may be tried again."""
        try:
            return self._client.request(method, url, **more)
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            if tries < _TRIES:
                return None
            name = type(error).__name__
            raise SourceError(f"{_host(url)} can't be reached ({name})") from None

    def _moved(self, response: httpx2.Response, url: str) -> str:
        target = urljoin(url, response.headers["Location"])
        if not self._is_own(target):
            raise SourceError(f"{_host(url)} sends to another server")
        return target

    def _is_own(self, url: str) -> bool:
        """Whether a URL may be given the token."""
        return urlsplit(url)[:2] == urlsplit(self._base)[:2]

    def _checked(self, response: httpx2.Response) -> httpx2.Response:
        status = response.status_code
        if response.is_success or status == 304:
            return response
        if status == 401:
            raise SourceError("GITHUB_TOKEN is refused (401): make a new one that can read issues")
        if status >= 500:
            raise SourceError(f"{_host(str(response.url))} failed ({status}): try again later")
        raise GitHubRefusalError(status, f"{status}: {_message(response)}")


def _wait(response: httpx2.Response, tries: int) -> float | None:
    """Seconds until the call is worth another try; None where its answer is to be taken."""
    status, headers = response.status_code, response.headers
    if status >= 500 and tries < _TRIES:
        return _pause(tries)
    if status not in (403, 429) and not _is_limited_query(response):
        return None
    if (seconds := headers.get("Retry-After", "")).isdigit():
        return max(1.0, float(seconds))
    if headers.get("X-RateLimit-Remaining") == "0":
        reset = str(headers.get("X-RateLimit-Reset", ""))
        return max(1.0, float(reset) - time.time() + 1) if reset.isdigit() else _UNNAMED_WAIT
    limited = status == 429 or "rate limit" in _message(response).lower()
    return _UNNAMED_WAIT if limited or status == 200 else None


def _is_limited_query(response: httpx2.Response) -> bool:
    """GraphQL says it in an answer of 200."""
    return response.status_code == 200 and b'"RATE_LIMITED"' in response.content[:1000]


def _pause(tries: int) -> float:
    return _FIRST_PAUSE * 2.0 ** (tries - 1)


def _too_long(wait: float) -> GitHubWaitError:
    until = datetime.fromtimestamp(time.time() + wait, UTC).strftime("%H:%M")
    return GitHubWaitError(
        f"GitHub's rate limit is used up until {until} UTC: what was read is kept, "
        "and the next `metaflowbot ingest` goes on from there"
    )


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        host = _host(str(response.url))
        raise SourceError(
            f"{host} answered something else than JSON: correct GITHUB_API_URL"
        ) from None


def _message(response: httpx2.Response) -> str:
    try:
        value = response.json()
    except ValueError:
        return response.reason_phrase
    return _short(value.get("message") if isinstance(value, dict) else "")


def _short(message: object) -> str:
    """What GitHub says in one short line."""
    return " ".join(str(message or "no reason given").split())[:160]


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
