"""Who may come in, and who it is: the API token, the sign-in cookie and the visitor's cookie."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from metaflowbot.errors import UsageError

SESSION_COOKIE = "metaflowbot_session"
VISITOR_COOKIE = "metaflowbot_visitor"
ANONYMOUS = "web:anonymous"
_SESSION_SECONDS = 30 * 24 * 3600
_VISITOR_SECONDS = 365 * 24 * 3600
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/sign-in", "/slack/events"})


class StaleFormError(UsageError):
    """The form was not made for this browser, or the server was started anew since (HTTP 403)."""


class Access:
    """Admits whoever shows the token, or the cookie that signing in with it gave.

    An empty token admits everybody. The cookie is an expiry date and an HMAC of it keyed by the
    token, so it does not hold the token, and a new token ends every session.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._clock = clock
        # Without a token there is one process, so its forms may end with it.
        self._form_key = self._token or secrets.token_bytes(32)

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether the caller may use the guarded routes."""
        return not self._token or self._has_token(connection) or self._has_session(connection)

    def shows_sign_in(self, path: str) -> bool:
        """Whether a person reads it, who signs in there rather than being refused."""
        return path.startswith(("/dashboard", "/answers/"))

    def guards(self, path: str) -> bool:
        """Whether `path` wants the token: everything does, but for the few that are open."""
        return path not in _OPEN_PATHS and not path.startswith("/static/")

    def sign_in(self, token: str) -> str | None:
        """A session for the right token, None for a wrong one."""
        if not self._token or not hmac.compare_digest(token.encode(), self._token):
            return None
        expires = str(int(self._clock()) + _SESSION_SECONDS)
        return f"{expires}.{self._seal(expires)}"

    def form_token(self, visitor: Visitor) -> str:
        """What a form carries to show that it was made for this browser."""
        message = f"metaflowbot form of {visitor.key}".encode()
        return hmac.new(self._form_key, message, hashlib.sha256).hexdigest()

    def takes_form(self, connection: HTTPConnection, token: str) -> bool:
        """Whether a form came from a page of ours; a script shows the API token instead."""
        if self._token and self._has_token(connection):
            return True
        expected = self.form_token(Visitor.of(connection))
        return hmac.compare_digest(token.encode(), expected.encode())

    def _has_token(self, connection: HTTPConnection) -> bool:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        # Starlette decodes headers as Latin-1: encoding so restores the bytes that were sent.
        sent = token.strip().encode("latin-1")
        return scheme.lower() == "bearer" and hmac.compare_digest(sent, self._token)

    def _has_session(self, connection: HTTPConnection) -> bool:
        expires, _, seal = connection.cookies.get(SESSION_COOKIE, "").partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(expires).encode()):
            return False
        return int(expires) > self._clock()

    def _seal(self, expires: str) -> str:
        message = f"metaflowbot session until {expires}".encode()
        return hmac.new(self._token, message, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Visitor:
    """One browser, known by a random cookie; what is stored is only the cookie's hash."""

    key: str
    is_new: bool

    @classmethod
    def of(cls, connection: HTTPConnection) -> Self:
        key = connection.cookies.get(VISITOR_COOKIE, "")
        return cls(key or secrets.token_urlsafe(24), is_new=not key)

    @property
    def person(self) -> str:
        """The name under which questions and verdicts are stored."""
        return "web:" + hashlib.sha256(self.key.encode()).hexdigest()[:24]

    def remember(self, connection: HTTPConnection, response: Response) -> None:
        """Give a new visitor the cookie."""
        if self.is_new:
            set_cookie(connection, response, VISITOR_COOKIE, self.key, _VISITOR_SECONDS)


def rater(connection: HTTPConnection) -> str:
    """Who gives a verdict.

    Callers without a cookie are one person: else each verdict of a script would be another's.
    """
    visitor = Visitor.of(connection)
    return ANONYMOUS if visitor.is_new else visitor.person


def start_session(connection: HTTPConnection, response: Response, session: str) -> None:
    """Keep the session in the browser, out of reach of scripts and of other sites."""
    set_cookie(connection, response, SESSION_COOKIE, session, _SESSION_SECONDS)


def set_cookie(
    connection: HTTPConnection, response: Response, name: str, value: str, seconds: int
) -> None:
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=connection.url.scheme == "https",
    )


def is_cross_site(connection: HTTPConnection) -> bool:
    """Whether another site's page sent this request.

    The order of Go's CrossOriginProtection: Sec-Fetch-Site decides where the browser sends it
    (it does to https and localhost), since a proxy may have changed the Host header; else
    Origin must name the host. A request with neither comes from no browser.
    """
    site = connection.headers.get("sec-fetch-site")
    if site:
        return site not in ("same-origin", "none")
    origin = connection.headers.get("origin", "")
    try:
        return bool(origin) and urlsplit(origin).netloc != connection.headers.get("host")
    except ValueError:
        return True
