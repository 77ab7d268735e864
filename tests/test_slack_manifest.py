"""The manifest keeps to Slack's rules, and asks for what the app uses: neither less nor more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from metaflowbot.slack import commands
from metaflowbot.slack.examination import OPTIONAL, SCOPES
from metaflowbot.slack.home import PROMPTS
from tests.slack_world import World

pytest_plugins = ["tests.slack_world"]
MANIFEST = Path(__file__).parent.parent / "slack-manifest.yaml"


def text(most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "string", "minLength": least, "maxLength": most}


def table(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def listed(most: int, items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "maxItems": most, "uniqueItems": True, "items": items}


FLAG = {"type": "boolean"}
ONE_OF: Callable[..., dict[str, Any]] = lambda *values: {"enum": list(values)}  # noqa: E731
# What Slack's reference of app manifests says of the parts that ours has.
RULES = table(
    ["display_information"],
    _metadata=table([], major_version=ONE_OF(1, 2), minor_version={"type": "integer"}),
    display_information=table(
        ["name"],
        name=text(35),
        description=text(140),
        long_description=text(4000, 175),
        background_color={"type": "string", "pattern": "^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"},
    ),
    features=table(
        [],
        agent_view=table(
            ["agent_description"],
            agent_description=text(300),
            suggested_prompts=listed(
                4, table(["title", "message"], title=text(100), message=text(1000))
            ),
        ),
        app_home=table(
            [],
            home_tab_enabled=FLAG,
            messages_tab_enabled=FLAG,
            messages_tab_read_only_enabled=FLAG,
        ),
        bot_user=table(
            ["display_name"],
            display_name={**text(80), "pattern": "^[a-z0-9._-]+$"},
            always_online=FLAG,
        ),
        shortcuts=listed(
            10,
            table(
                ["name", "type", "callback_id", "description"],
                name=text(24),
                type=ONE_OF("message", "global"),
                callback_id=text(255),
                description=text(150),
            ),
        ),
        slash_commands=listed(
            50,
            table(
                ["command", "description"],
                command={**text(32), "pattern": r"^/\S+$"},
                description=text(2000),
                usage_hint=text(1000),
                should_escape=FLAG,
                url=text(3000),
            ),
        ),
    ),
    oauth_config=table([], scopes=table([], bot=listed(255, text(100)))),
    settings=table(
        [],
        event_subscriptions=table([], bot_events=listed(100, text(100)), request_url=text(3000)),
        interactivity=table(["is_enabled"], is_enabled=FLAG, request_url=text(3000)),
        org_deploy_enabled=FLAG,
        socket_mode_enabled=FLAG,
        token_rotation_enabled=FLAG,
    ),
)
# The scope without which Slack does not deliver an event.
EVENTS = {
    "app_home_opened": "",
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "reaction_added": "reactions:read",
    "reaction_removed": "reactions:read",
}


@pytest.fixture
def manifest() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return read


def scopes(manifest: dict[str, Any]) -> set[str]:
    return set(manifest["oauth_config"]["scopes"]["bot"])


def test_the_manifest_keeps_to_slacks_rules(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, RULES)


def test_the_rules_refuse_what_slack_refuses(manifest: dict[str, Any]) -> None:
    manifest["features"]["shortcuts"][0]["name"] = "A name of more than 24 characters"
    with pytest.raises(jsonschema.ValidationError, match="too long"):
        jsonschema.validate(manifest, RULES)


def test_its_scopes_are_those_that_the_doctor_asks_for(manifest: dict[str, Any]) -> None:
    assert scopes(manifest) == SCOPES.keys() | OPTIONAL.keys()


def test_every_event_it_wants_has_its_scope(manifest: dict[str, Any]) -> None:
    events = manifest["settings"]["event_subscriptions"]["bot_events"]
    assert set(events) == EVENTS.keys()
    assert {EVENTS[event] for event in events} - {""} <= scopes(manifest)


def test_its_command_and_shortcuts_are_those_that_are_listened_to(
    manifest: dict[str, Any],
) -> None:
    features = manifest["features"]
    assert [each["command"] for each in features["slash_commands"]] == [commands.COMMAND]
    assert {each["callback_id"] for each in features["shortcuts"]} == {
        commands.ASK_ABOUT,
        commands.MARK_RESOLVED,
        commands.TO_TRENCHES,
        commands.SAVE_FAQ,
    }
    prompts = features["agent_view"]["suggested_prompts"]
    assert [(each["title"], each["message"]) for each in prompts] == list(PROMPTS)


@pytest.mark.parametrize("transport", ["socket"], indirect=True)
def test_an_answer_needs_no_scope_beyond_the_manifests(
    world: World, manifest: dict[str, Any]
) -> None:
    world.slack.scopes.intersection_update(scopes(manifest))
    with world.serving():
        ts = world.ask("how?")
        world.reply(ts)
        world.say("and how often?", thread=ts)
        world.reply(ts, count=2)
    refusals = [call.response.get("error") for call in world.slack.calls]
    assert "missing_scope" not in refusals
