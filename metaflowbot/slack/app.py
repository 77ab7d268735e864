"""The Bolt app: listeners that parse what Slack sends and put it into the inbox, no more."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from slack_bolt import Ack, App
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_handlers import (
    ConnectionErrorRetryHandler,
    RateLimitErrorRetryHandler,
    ServerErrorRetryHandler,
)

from metaflowbot.domain import Feedback, Verdict
from metaflowbot.errors import MetaflowbotError, SettingsError
from metaflowbot.settings import Settings
from metaflowbot.slack.markdown import escape
from metaflowbot.slack.rendering import FEEDBACK_ACTION
from metaflowbot.slack.replies import SLACK_FAILURES, Bot, unexpected, why
from metaflowbot.store import Store

_THANKS = {
    "up": "Thank you, noted as a good answer.",
    "down": "Thank you, noted. The maintainers look at answers that fell short.",
}
# A person's own words; every other subtype is an edit, a notice of Slack's, or a bot.
_SUBTYPES = (None, "file_share", "thread_broadcast")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are in the workspace, as Slack says."""

    team_id: str
    user_id: str
    bot_id: str


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


def posting_client(settings: Settings) -> WebClient:
    """A client for what must not be done twice: it tries again only what Slack refused for now.

    A message whose confirmation was lost on the way may stand in the thread all the same.
    """
    return WebClient(
        token=settings.slack_bot_token.get_secret_value(),
        base_url=settings.slack_api_url,
        retry_handlers=[RateLimitErrorRetryHandler(max_retry_count=2)],
    )


def hasty_client(settings: Settings) -> WebClient:
    """A client for signs of life: one try, and not for long."""
    return WebClient(
        token=settings.slack_bot_token.get_secret_value(),
        base_url=settings.slack_api_url,
        timeout=5,
        retry_handlers=[],
    )


def identify(client: WebClient) -> Identity:
    """Ask Slack who the bot's token is; SettingsError when Slack refuses it or can't be reached."""
    try:
        said = client.auth_test()
    except SLACK_FAILURES as error:
        raise refused("SLACK_BOT_TOKEN", error, client.base_url) from None
    return Identity(said.get("team_id", ""), said["user_id"], said.get("bot_id", ""))


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


def build_app(
    settings: Settings,
    bot: Bot,
    store: Store,
    identity: Identity,
    received: Callable[[], None],
) -> App:
    """The app with its listeners; `received` is called when something new is in the inbox.

    Slack is told that an event arrived only after it is stored (`process_before_response`): where
    storing fails Slack sends the event again.
    """
    token = settings.slack_bot_token.get_secret_value()
    authorized = AuthorizeResult(
        enterprise_id=None,
        team_id=identity.team_id,
        bot_user_id=identity.user_id,
        bot_id=identity.bot_id,
        bot_token=token,
    )
    logging.getLogger("slack_bolt.App").addFilter(_is_news)
    app = App(
        name="metaflowbot",
        client=WebClient(
            base_url=settings.slack_api_url, retry_handlers=web_client(settings).retry_handlers
        ),
        signing_secret=settings.slack_signing_secret.get_secret_value(),
        authorize=lambda: authorized,
        token_verification_enabled=False,
        process_before_response=True,
    )
    _listen_for_questions(app, store, identity, received)
    _listen_for_feedback(app, bot)
    app.event(re.compile(".*"))(_nothing)
    return app


def _is_news(record: logging.LogRecord) -> bool:
    """Bolt warns that it leaves SLACK_BOT_TOKEN alone when it is given a client, as it is here."""
    return "`token` will be unused" not in record.getMessage()


def _nothing() -> None:
    """For events the manifest may bring later: known, and not acted on."""


def _listen_for_questions(
    app: App, store: Store, identity: Identity, received: Callable[[], None]
) -> None:
    """A mention comes as two events, and Slack repeats what it thinks was lost: one key each."""

    def take(event: dict[str, Any], body: dict[str, Any]) -> None:
        if not _is_for_us(event, identity):
            return
        team = body.get("team_id") or identity.team_id
        payload = {
            "channel": event["channel"],
            "thread": event.get("thread_ts") or event["ts"],
            "message": event["ts"],
            "user": event["user"],
            "text": event.get("text") or "",
        }
        key = f"{team}/{event['channel']}/{event['ts']}"
        if store.receive(key, "question", payload, person=f"slack:{event['user']}"):
            received()

    app.event("app_mention")(take)
    app.event("message")(take)


def _is_for_us(event: Mapping[str, Any], identity: Identity) -> bool:
    """A person's new message that mentions us or is written to us alone."""
    if event.get("subtype") not in _SUBTYPES or event.get("bot_id") or event.get("edited"):
        return False
    if event.get("user") in (None, identity.user_id, "USLACKBOT"):
        return False
    mentioned = re.search(rf"<@{re.escape(identity.user_id)}[|>]", event.get("text") or "")
    return event.get("channel_type") == "im" or mentioned is not None


def _listen_for_feedback(app: App, bot: Bot) -> None:
    def rate(ack: Ack, body: dict[str, Any], action: dict[str, Any], client: WebClient) -> None:
        person = body["user"]["id"]
        line = _rate(bot, action.get("value", ""), person)
        ack()
        place = body["container"]
        try:
            client.chat_postEphemeral(
                channel=place["channel_id"],
                user=person,
                thread_ts=place.get("thread_ts") or body.get("message", {}).get("thread_ts"),
                text=escape(line),
            )
        except SLACK_FAILURES as error:
            _log.warning("can't confirm a verdict: %s", why(error))

    app.action(FEEDBACK_ACTION)(rate)


def _rate(bot: Bot, value: str, person: str) -> str:
    """Keep a verdict; the line to tell the person."""
    verdict, _, answer_id = value.partition(":")
    try:
        thanks = _THANKS[verdict]
        bot.rate(Feedback(answer_id, f"slack:{person}", cast("Verdict", verdict)))
    except MetaflowbotError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
        return unexpected("keeping a verdict")
    return thanks
