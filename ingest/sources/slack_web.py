"""Slack's Web API as far as reading goes: waits, tries again, and says in one line why not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from metaflowbot.errors import SourceError
from metaflowbot.settings import Settings

_PATIENCE = 60.0  # seconds that one call may wait for Slack, all its tries together
_TRIES = 3  # of a call that fails on the way, or at Slack's own fault
_OWN_FAULTS = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_TOKEN_FAULTS = frozenset(
    "invalid_auth not_authed account_inactive token_revoked token_expired "
    "not_allowed_token_type org_login_required team_access_not_granted".split()
)


class SlackRefusalError(SourceError):
    """Slack answered a call with an error; `code` is Slack's own."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class WebApi:
    """The bot's calls; each raises SlackRefusalError or SourceError."""

    def __init__(self, settings: Settings) -> None:
        from metaflowbot.slack.clients import web_client

        self._client = web_client(settings)
        # The client's own retries honour a wait of any length: here one place counts the minute.
        self._client.retry_handlers.clear()

    def call(self, method: str, **arguments: str | int) -> Mapping[str, Any]:
        """The answer's fields, after waiting for a minute in all where Slack asks for that."""
        from metaflowbot.slack.clients import SLACK_FAILURES

        waited, tries = 0.0, 1
        while True:
            try:
                answer = self._client.api_call(method, http_verb="GET", params=arguments).data
                return answer if isinstance(answer, dict) else {}
            except SLACK_FAILURES as error:
                wait = _wait(error, tries)
                if wait is None or waited + wait > _PATIENCE:
                    raise self._translated(method, error) from None
            time.sleep(wait)
            waited, tries = waited + wait, tries + 1

    def pages(self, method: str, key: str, **arguments: str | int) -> Iterator[Any]:
        """Every entry of a list that Slack gives in pages, by its cursors.

        Raises SlackRefusalError 'ended_early' after the last where Slack says that there are more.
        """
        cursor: dict[str, str] = {}
        while True:
            answer = self.call(method, **arguments, **cursor)
            yield from answer.get(key) or ()
            following = (answer.get("response_metadata") or {}).get("next_cursor")
            if not following and answer.get("has_more"):
                raise SlackRefusalError("ended_early", f"Slack's pages of {method} ended early")
            if not following:
                return
            cursor = {"cursor": following}

    def _translated(self, method: str, error: BaseException) -> SourceError:
        from metaflowbot.slack.clients import refused, why

        code = why(error)
        if not hasattr(error, "response") or code in _TOKEN_FAULTS:
            return SourceError(str(refused("SLACK_BOT_TOKEN", error, self._client.base_url)))
        if code == "ratelimited":
            return SourceError(
                "Slack asks to wait for more than a minute: what was read is kept; try again later"
            )
        if code == "missing_scope":
            scope = getattr(error, "response", {}).get("needed")
            text = f"SLACK_BOT_TOKEN lacks the scope {scope}: add it to the app and install it anew"
            return SlackRefusalError(code, text)
        return SlackRefusalError(code, f"Slack refuses {method} ({code})")


def _wait(error: BaseException, tries: int) -> float | None:
    """Seconds until a call is worth another try, None where it never is."""
    from metaflowbot.slack.clients import why

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if status == 429 or why(error) == "ratelimited":
        named = {name.lower(): value for name, value in getattr(response, "headers", {}).items()}
        seconds = str(named.get("retry-after", ""))
        return max(1.0, float(seconds)) if seconds.isdigit() else 1.0
    passing = response is None or status >= 500 or why(error) in _OWN_FAULTS
    return 1.0 if passing and tries < _TRIES else None
