"""Talking to Slack's Web API: the clients, who we are there, and what a call may raise."""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import (
    ConnectionErrorRetryHandler,
    RateLimitErrorRetryHandler,
    ServerErrorRetryHandler,
)

from metaflowbot.errors import SettingsError
from metaflowbot.settings import Settings

# What a call of Slack's Web API may raise.
SLACK_FAILURES = (SlackClientError, OSError, HTTPException)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are in the workspace, as Slack says; `url` is the workspace's own, ending in '/'."""

    team_id: str
    user_id: str
    bot_id: str
    url: str = ""

    def link(self, channel: str, ts: str, thread: str = "") -> str:
        """The address of a message in a browser; '' where the workspace's is unknown."""
        if not self.url:
            return ""
        address = f"{self.url}archives/{channel}/p{ts.replace('.', '')}"
        in_thread = thread and thread != ts
        return f"{address}?thread_ts={thread}&cid={channel}" if in_thread else address


@dataclass(frozen=True, slots=True)
class Clients:
    """One client for each way in which a call may be tried again.

    `patient` is for what may be done twice: it waits out rate limits and retries what failed.
    `posting` tries again only what Slack refused for now: a message whose confirmation was lost
    may stand in the thread all the same. `hasty` tries once, and not for long: it is for signs of
    life, which must not hold up an answer.
    """

    patient: WebClient
    posting: WebClient
    hasty: WebClient

    @classmethod
    def of(cls, settings: Settings) -> Clients:
        """The clients for the settings' token and address."""
        token = settings.slack_bot_token.get_secret_value()
        base = settings.slack_api_url
        limits = RateLimitErrorRetryHandler(max_retry_count=2)
        return cls(
            web_client(settings),
            WebClient(token, base_url=base, retry_handlers=[limits]),
            WebClient(token, base_url=base, timeout=5, retry_handlers=[]),
        )


def web_client(settings: Settings) -> WebClient:
    """A client for what may be done twice: it waits out rate limits and retries what failed."""
    return WebClient(
        token=settings.slack_bot_token.get_secret_value(),
        base_url=settings.slack_api_url,
        retry_handlers=[
            RateLimitErrorRetryHandler(max_retry_count=2),
            ServerErrorRetryHandler(max_retry_count=2),
            ConnectionErrorRetryHandler(max_retry_count=2),
        ],
    )


def is_slacks(url: str, api_url: str) -> bool:
    """Whether an address is Slack's own, or that of the Web API which the settings name."""
    try:
        parts = urlsplit(url)
        slacks = parts.scheme == "https" and f".{parts.hostname}".endswith(".slack.com")
    except ValueError:
        return False
    return slacks or (bool(url) and parts[:2] == urlsplit(api_url)[:2])


def why(error: BaseException) -> str:
    """Slack's own code for a refusal, else the kind of the failure; never anybody's text."""
    if isinstance(error, SlackApiError) and isinstance(error.response.get("error"), str):
        return str(error.response["error"])
    return type(error).__name__


def refusal(error: BaseException) -> str:
    """Slack's code where it says that it did not do what was asked; '' where that is unknown."""
    known = isinstance(error, SlackApiError) and int(error.response.status_code or 0) < 500
    return why(error) if known else ""


def identify(client: WebClient) -> Identity:
    """Ask Slack who the bot's token is; SettingsError when Slack refuses it or can't be reached."""
    try:
        said = client.auth_test()
    except SLACK_FAILURES as error:
        raise refused("SLACK_BOT_TOKEN", error, client.base_url) from None
    ids = said.get("team_id", ""), said["user_id"], said.get("bot_id", "")
    return Identity(*ids, said.get("url", ""))


def granted_scopes(client: WebClient) -> frozenset[str]:
    """The scopes of the bot's token; SettingsError as `identify`."""
    try:
        headers = client.auth_test().headers
    except SLACK_FAILURES as error:
        raise refused("SLACK_BOT_TOKEN", error, client.base_url) from None
    named = next((value for key, value in headers.items() if key.lower() == "x-oauth-scopes"), "")
    return frozenset(scope.strip() for scope in named.split(",") if scope.strip())


def check_app_token(settings: Settings) -> None:
    """Ask Slack for a socket and leave it unused; SettingsError when it refuses the app's token."""
    client = web_client(settings)
    try:
        client.apps_connections_open(app_token=settings.slack_app_token.get_secret_value())
    except SLACK_FAILURES as error:
        raise refused("SLACK_APP_TOKEN", error, client.base_url) from None


def refused(setting: str, error: BaseException, base_url: str) -> SettingsError:
    """The error for a token that Slack refused with `error`."""
    if not isinstance(error, SlackApiError):
        return SettingsError(
            f"SLACK_API_URL: Slack does not answer at {base_url} ({why(error)}): "
            "check the network, or leave the setting out for Slack's own address"
        )
    kind, where = {
        "SLACK_BOT_TOKEN": ("xoxb-…", "OAuth & Permissions"),
        "SLACK_APP_TOKEN": ("xapp-… with connections:write", "Basic Information, App-Level Tokens"),
    }[setting]
    return SettingsError(
        f"{setting}: Slack refuses the token ({why(error)}): "
        f"set the app's own token ({kind}), found under {where}"
    )
