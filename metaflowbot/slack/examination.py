"""Whether the app is set up in Slack as it must be: scopes, tokens, and the channels it is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from slack_sdk import WebClient

from metaflowbot.errors import SettingsError
from metaflowbot.settings import Settings
from metaflowbot.slack.clients import (
    SLACK_FAILURES,
    check_app_token,
    granted_scopes,
    web_client,
    why,
)

# Every scope of slack-manifest.yaml, with what does not work without it (a test compares them).
SCOPES: Mapping[str, str] = MappingProxyType(
    {
        "app_mentions:read": "questions in channels",
        "channels:history": "follow-ups, and finding an answer again after a crash",
        "channels:read": "the names of channels, for their rules",
        "chat:write": "answers",
        "commands": "the slash command and the shortcuts",
        "files:read": "attached traces and snippets, whole",
        "groups:history": "follow-ups in private channels",
        "groups:read": "the names of private channels",
        "im:history": "direct messages",
        "reactions:read": "👍 and 👎 as verdicts",
        "reactions:write": "the sign of life where Slack offers no status",
        "usergroups:read": "user groups among the maintainers",
        "users:read": "the names that are taken out of threads",
    }
)
# The agent's pane is not in every workspace.
OPTIONAL: Mapping[str, str] = MappingProxyType(
    {"assistant:write": "suggested prompts in the agent's pane"}
)


def examine(settings: Settings) -> str:
    """What is in order, in one line; SettingsError names the faults and how to mend them."""
    client = web_client(settings)
    granted = granted_scopes(client)
    missing = SCOPES.keys() - granted
    if missing:
        lost = "; ".join(f"{scope} ({SCOPES[scope]})" for scope in sorted(missing))
        raise SettingsError(
            f"SLACK_BOT_TOKEN lacks the scopes {lost}: update the app from slack-manifest.yaml, "
            "then install it again"
        )
    if settings.slack_mode == "socket":
        check_app_token(settings)
    absent = sorted(_absent(settings, client))
    if absent:
        raise SettingsError(
            f"the bot is not in {', '.join(absent)}: write `/invite @metaflowbot` there, or take "
            "the channel out of metaflowbot.toml"
        )
    without = "".join(f"; without {OPTIONAL[scope]}" for scope in OPTIONAL.keys() - granted)
    return f"{settings.slack_mode} mode, token and scopes accepted{without}"


def _absent(settings: Settings, client: WebClient) -> Iterator[str]:
    """The channels of the settings in which the bot is not, or that there are not."""
    named = {*(settings.channels.keys() - {"default"}), *settings.sources.slack.channels}
    named |= {settings.trenches.channel} - {""}
    if not named:
        return
    channels = list(_channels(client))
    for name in sorted(each.lstrip("#") for each in named):
        found = next((each for each in channels if name in (each["id"], each.get("name"))), None)
        if found is None:
            yield f"#{name} (there is no such channel, or it is private)"
        elif not found.get("is_member"):
            yield f"#{found['name']}"


def _channels(client: WebClient) -> Iterator[Mapping[str, Any]]:
    try:
        for page in client.conversations_list(
            types="public_channel,private_channel", exclude_archived=True, limit=200
        ):
            yield from page["channels"]
    except SLACK_FAILURES as error:
        raise SettingsError(f"Slack does not list the channels ({why(error)})") from None
