"""The doctor finds what is wrong, one line each, and says how to mend it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaflowbot.doctor import Finding, examine
from metaflowbot.settings import Settings
from tests.openai_double import OpenAIDouble
from tests.slack_double import SlackDouble

pytest_plugins = ["tests.prebuilt"]

CHECKS = ["home", "database", "embedding", "index", "chat model", "slack"]


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as running:
        yield running


def examined(home: Path, **values: object) -> dict[str, Finding]:
    """The findings by check, after what holds for every one of them was checked."""
    findings = list(examine(Settings.model_validate({"home": home, **values})))
    assert [finding.check for finding in findings] == CHECKS
    for finding in findings:
        assert finding.detail
        assert "\n" not in finding.detail
    return {finding.check: finding for finding in findings}


def faults(found: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.detail for check, finding in found.items() if not finding.ok}


def model_at(server: OpenAIDouble) -> dict[str, object]:
    return {"openai_api_key": server.key, "openai_base_url": server.url, "model_timeout": 0.5}


def socket_mode(slack: SlackDouble) -> dict[str, object]:
    tokens = {"slack_bot_token": slack.bot_token, "slack_app_token": slack.app_token}
    return {**tokens, "slack_api_url": slack.api_url}


def test_a_home_with_an_index_is_in_order(home: Path) -> None:
    found = examined(home)
    assert faults(found) == {}
    assert "12 passages" in found["index"].detail
    assert "384 dimensions" in found["embedding"].detail
    assert "none is set" in found["chat model"].detail
    assert "no tokens are set" in found["slack"].detail


def test_an_empty_home_lacks_an_index_and_says_how_to_make_it(
    tmp_path: Path, prebuilt: Path
) -> None:
    (tmp_path / "cache").symlink_to(prebuilt / "cache")
    assert faults(examined(tmp_path)).keys() == {"index"}
    assert "`metaflowbot ingest`" in faults(examined(tmp_path))["index"]


def test_one_fault_does_not_stop_the_other_checks(home: Path, server: OpenAIDouble) -> None:
    server.fail(500, times=9, retry_after=0.01)
    (home / "index" / "current").write_text("nosuch")
    (home / "metaflowbot.db").write_bytes(b"not a database" * 1000)
    found = faults(examined(home, **model_at(server)))
    assert found.keys() == {"database", "index", "chat model"}
    assert "500" in found["chat model"]


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert "METAFLOWBOT_HOME" in faults(examined(tmp_path / "home"))["home"]


def test_a_chat_model_that_answers_is_in_order(home: Path, server: OpenAIDouble) -> None:
    server.reply("ready")
    found = examined(home, **model_at(server))
    assert found["chat model"] == Finding("chat model", True, "openai:gpt-5-mini answers")


@pytest.mark.parametrize(
    ("status", "setting"), [(401, "OPENAI_API_KEY"), (404, "METAFLOWBOT_CHAT_MODEL")]
)
def test_a_model_that_is_refused_names_the_setting(
    home: Path, server: OpenAIDouble, status: int, setting: str
) -> None:
    server.fail(status, times=9)
    assert setting in faults(examined(home, **model_at(server)))["chat model"]


def test_a_model_server_that_hangs_is_given_up_on(home: Path, server: OpenAIDouble) -> None:
    server.hang()
    assert "0.5 s" in faults(examined(home, **model_at(server)))["chat model"]


def test_an_index_of_another_embedding_model_is_named(home: Path, server: OpenAIDouble) -> None:
    values = {**model_at(server), "chat_model": "none"}
    values["embedding_model"] = "openai:text-embedding-3-small"
    found = examined(home, **values)
    assert "64 dimensions" in found["embedding"].detail
    assert "METAFLOWBOT_EMBEDDING_MODEL now means" in faults(found)["index"]


def test_tokens_that_slack_accepts_are_in_order(home: Path, slack: SlackDouble) -> None:
    assert "socket mode" in examined(home, **socket_mode(slack))["slack"].detail
    http = {**socket_mode(slack), "slack_app_token": "", "slack_signing_secret": "s"}
    assert "http mode" in examined(home, **http)["slack"].detail


@pytest.mark.parametrize(
    ("field", "token", "name"),
    [
        ("slack_bot_token", "xoxb-wrong-and-secret", "SLACK_BOT_TOKEN"),
        ("slack_app_token", "xapp-wrong-and-secret", "SLACK_APP_TOKEN"),
    ],
)
def test_a_token_that_slack_refuses_is_named_and_not_shown(
    home: Path, slack: SlackDouble, field: str, token: str, name: str
) -> None:
    found = examined(home, **{**socket_mode(slack), field: token})
    assert name in faults(found)["slack"]
    assert "wrong-and-secret" not in str(found)


def test_scopes_that_are_missing_are_named(home: Path, slack: SlackDouble) -> None:
    slack.scopes.discard("reactions:write")
    line = faults(examined(home, **socket_mode(slack)))["slack"]
    assert "reactions:write" in line
    assert "slack-manifest.yaml" in line


def test_a_scope_that_is_not_in_every_workspace_is_only_mentioned(
    home: Path, slack: SlackDouble
) -> None:
    slack.scopes.discard("assistant:write")
    finding = examined(home, **socket_mode(slack))["slack"]
    assert finding.ok
    assert "without suggested prompts" in finding.detail


def test_channels_of_the_settings_in_which_the_bot_is_not_are_named(
    home: Path, slack: SlackDouble
) -> None:
    ann = slack.add_user("ann")
    slack.add_channel("ask-metaflow", [ann, slack.bot_user_id])
    trenches = slack.add_channel("from-the-trenches", [ann])
    settings = {"channels": {"ask-metaflow": {}, "gone": {}}, "trenches": {"channel": trenches}}
    line = faults(examined(home, **socket_mode(slack), **settings))["slack"]
    assert "#from-the-trenches" in line
    assert "#gone (there is no such channel" in line
    assert "#ask-metaflow" not in line
    assert "/invite" in line


def test_a_slack_that_does_not_answer_is_named(home: Path, slack: SlackDouble) -> None:
    gone = {**socket_mode(slack), "slack_api_url": "http://127.0.0.1:9/api/"}
    assert "SLACK_API_URL" in faults(examined(home, **gone))["slack"]


def test_the_command_ends_with_1_when_something_is_wrong(tmp_path: Path, prebuilt: Path) -> None:
    (tmp_path / "cache").symlink_to(prebuilt / "cache")
    done = _doctor(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert [line[5:17].strip() for line in lines] == CHECKS
    assert [line[5:17].strip() for line in lines if line.startswith("FAIL ")] == ["index"]


def test_the_command_prints_one_json_document(home: Path) -> None:
    done = _doctor(home, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [check["check"] for check in json.loads(done.stdout)["checks"]] == CHECKS


def _doctor(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", "from metaflowbot.cli import main; main()", "doctor", *arguments]
    names = {"PATH": os.environ["PATH"], "HOME": str(home), "METAFLOWBOT_HOME": str(home)}
    return subprocess.run(
        line, cwd=home, env=names, capture_output=True, text=True, timeout=60, check=False
    )
