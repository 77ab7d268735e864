"""The Bolt app: its listeners parse what Slack sends and put it into the inbox, or call the bot."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from slack_bolt import App, BoltResponse
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient

from metaflowbot.slack import (
    actions,
    changes,
    channels,
    commands,
    feedback,
    home,
    live,
    private,
    questions,
    strays,
    trenches,
)
from metaflowbot.slack.clients import is_slacks
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.signs import Signs

_log = logging.getLogger(__name__)


def build_app(desk: Desk, signs: Signs) -> App:
    """The app with its listeners.

    Slack is told that an event arrived only after it is stored (`process_before_response`): where
    storing fails Slack sends the event again.
    """
    app = _bare_app(desk)
    app.use(_whole_characters)
    app.use(_answers_go_to(desk.settings.slack_api_url))
    live.listen(app, desk.settings, desk.identity, desk.clients.hasty, desk.store.threads)
    questions.listen(app, desk, signs)
    feedback.listen(app, desk)
    changes.listen(app, desk)
    actions.listen(app, desk)
    private.listen(app, desk)
    commands.listen(app, desk)
    channels.listen(app, desk)
    home.listen(app, desk)
    trenches.listen(app, desk)
    app.event(re.compile(".*"))(_nothing)
    strays.listen(app, desk)
    return app


def _bare_app(desk: Desk) -> App:
    settings, identity = desk.settings, desk.identity
    authorized = AuthorizeResult(
        enterprise_id=None,
        team_id=identity.team_id,
        bot_user_id=identity.user_id,
        bot_id=identity.bot_id,
        bot_token=settings.slack_bot_token.get_secret_value(),
    )
    logging.getLogger("slack_bolt.App").addFilter(_is_news)
    handlers = desk.clients.patient.retry_handlers
    return App(
        # Bolt sets the level of the logger of this name: it must not be the package's.
        name="bolt",
        client=WebClient(base_url=settings.slack_api_url, retry_handlers=handlers),
        signing_secret=settings.slack_signing_secret.get_secret_value(),
        authorize=lambda: authorized,
        token_verification_enabled=False,
        # That somebody deleted a message of ours counts as our own doing: the listeners tell.
        ignoring_self_events_enabled=False,
        process_before_response=True,
        raise_error_for_unhandled_request=True,
    )


def _whole_characters(body: dict[str, Any], next: Callable[[], BoltResponse]) -> BoltResponse:  # noqa: A002
    """Put '?' for halves of characters, which JSON can name, and no database, hash or URL takes."""
    whole = _whole(body)
    body.clear()
    body.update(whole)
    return next()


def _whole(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case list():
            return [_whole(each) for each in value]
        case dict():
            return {_whole(key): _whole(each) for key, each in value.items()}
    return value


def _answers_go_to(api_url: str) -> Callable[..., BoltResponse]:
    """Take an address to answer at that is not Slack's out of a payload."""

    def pass_on(body: dict[str, Any], next: Callable[[], BoltResponse]) -> BoltResponse:  # noqa: A002
        if "response_url" in body and not is_slacks(str(body["response_url"]), api_url):
            _log.warning("a payload wants its answer at an address that is not Slack's")
            del body["response_url"]
        return next()

    return pass_on


def _is_news(record: logging.LogRecord) -> bool:
    """Bolt warns that it leaves SLACK_BOT_TOKEN alone when it is given a client, as it is here."""
    return "`token` will be unused" not in record.getMessage()


def _nothing() -> None:
    """For events the manifest may bring later: known, and not acted on."""
