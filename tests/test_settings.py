"""Settings come from the environment and metaflowbot.toml, and a wrong one is named, not shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaflowbot.errors import SettingsError
from metaflowbot.settings import _ENVIRONMENT, Channel, Settings, load

SECRET = "s3cr3t-never-to-be-seen"

# The contract's names, each with a value that is not its default, and the field it sets.
CONTRACT = {
    "METAFLOWBOT_HOME": ("/srv/bot", "home"),
    "METAFLOWBOT_DATABASE_URL": ("postgresql://bot@db/bot", "database_url"),
    "METAFLOWBOT_CHAT_MODEL": ("openai:gpt-4o", "chat_model"),
    "METAFLOWBOT_EMBEDDING_MODEL": ("openai:text-embedding-3-small", "embedding_model"),
    "METAFLOWBOT_API_TOKEN": (SECRET, "api_token"),
    "OPENAI_API_KEY": (SECRET, "openai_api_key"),
    "OPENAI_BASE_URL": ("http://127.0.0.1:9/v1", "openai_base_url"),
    "SLACK_BOT_TOKEN": (f"xoxb-{SECRET}", "slack_bot_token"),
    "SLACK_APP_TOKEN": (f"xapp-{SECRET}", "slack_app_token"),
    "SLACK_SIGNING_SECRET": (SECRET, "slack_signing_secret"),
    "SLACK_API_URL": ("http://127.0.0.1:9/api/", "slack_api_url"),
    "CHROMA_HOST": ("chroma.internal", "chroma_host"),
    "CHROMA_PORT": ("9000", "chroma_port"),
    "CHROMA_AUTH_TOKEN": (SECRET, "chroma_auth_token"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://collector:4317", "otel_endpoint"),
}
SECRETS = [name for name, (value, _) in CONTRACT.items() if SECRET in value]
# What a name can't be set without.
COMPANIONS = {
    "METAFLOWBOT_CHAT_MODEL": {"OPENAI_API_KEY": "k"},
    "METAFLOWBOT_EMBEDDING_MODEL": {"OPENAI_API_KEY": "k"},
    "SLACK_BOT_TOKEN": {"SLACK_APP_TOKEN": "xapp-1"},
    "SLACK_APP_TOKEN": {"SLACK_BOT_TOKEN": "xoxb-1"},
    "SLACK_SIGNING_SECRET": {"SLACK_BOT_TOKEN": "xoxb-1"},
}
WRONG = {
    "METAFLOWBOT_HOME": f"~{SECRET}/bot",
    "METAFLOWBOT_FALLBACK_MODEL": SECRET,
    "OPENAI_BASE_URL": SECRET,
    "GITHUB_API_URL": SECRET,
    "CHROMA_HOST": f"http://{SECRET}",
    "METAFLOWBOT_CHAT_MODEL": SECRET,
    "METAFLOWBOT_EMBEDDING_MODEL": SECRET,
    "METAFLOWBOT_MODEL_TIMEOUT": SECRET,
    "SLACK_BOT_TOKEN": SECRET,
    "SLACK_APP_TOKEN": SECRET,
    "SLACK_API_URL": f"https://slack.example/{SECRET}",
    "CHROMA_PORT": SECRET,
    "OTEL_EXPORTER_OTLP_ENDPOINT": SECRET,
}
# What is found to be wrong only when it is used, at the start of a process that serves.
WRONG_AT_START = {
    "METAFLOWBOT_DATABASE_URL": "nonsense",
    "METAFLOWBOT_PROMPTS": "/nowhere",
}
# What may be anything: whether it is right is for others to say.
FREE = {
    "METAFLOWBOT_API_TOKEN",
    "OPENAI_API_KEY",
    "SLACK_SIGNING_SECRET",
    "GITHUB_TOKEN",
    "CHROMA_AUTH_TOKEN",
}


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "metaflowbot.toml"


def load_with(toml: Path, text: str = "", **environment: str) -> Settings:
    toml.write_text(text, encoding="utf-8")
    return load({"METAFLOWBOT_CONFIG": str(toml), **environment})


def fault_of(toml: Path, text: str = "", **environment: str) -> str:
    """The one line that says what is wrong with these settings."""
    with pytest.raises(SettingsError) as raised:
        load_with(toml, text, **environment)
    line = str(raised.value)
    assert "\n" not in line
    return line


def shown(value: object) -> str:
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal() if reveal else value)


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    names = {**kept, "HOME": str(folder), **environment}
    line = [sys.executable, "-c", "from metaflowbot.cli import main; main()", *arguments]
    return subprocess.run(
        line, cwd=folder, env=names, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", CONTRACT)
def test_every_name_of_the_contract_sets_its_field(toml: Path, name: str) -> None:
    value, field = CONTRACT[name]
    settings = load_with(toml, **{**COMPANIONS.get(name, {}), name: value})
    assert shown(getattr(settings, field)) == value


def test_without_any_setting_everything_has_a_working_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load({})
    assert settings.home == Path.home() / ".metaflowbot"
    assert settings.sqlalchemy_url == f"sqlite:///{settings.home}/metaflowbot.db"
    assert settings.model == "none"
    assert settings.embedding_model == "local"
    assert settings.slack_mode == "off"
    assert settings.slack_api_url == "https://slack.com/api/"
    assert settings.sources.docs.location == "https://github.com/Netflix/metaflow-docs"


def test_an_openai_key_alone_chooses_an_openai_chat_model(toml: Path) -> None:
    assert load_with(toml, OPENAI_API_KEY="k").model.startswith("openai:")
    assert load_with(toml, OPENAI_API_KEY="k", METAFLOWBOT_CHAT_MODEL="none").model == "none"


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "off"),
        ({"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1"}, "socket"),
        ({"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_SIGNING_SECRET": "s"}, "http"),
    ],
)
def test_the_tokens_that_are_set_choose_how_slack_reaches_us(
    toml: Path, given: dict[str, str], mode: str
) -> None:
    assert load_with(toml, **given).slack_mode == mode


def test_the_environment_wins_over_the_file(toml: Path) -> None:
    text = 'home = "/from/file"\nembedding_model = "openai:from-file"\n'
    settings = load_with(toml, text, METAFLOWBOT_HOME="/from/environment", OPENAI_API_KEY="k")
    assert settings.home == Path("/from/environment")
    assert settings.embedding_model == "openai:from-file"


def test_an_empty_variable_counts_as_not_set(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toml.parent)
    settings = load_with(toml, **dict.fromkeys(CONTRACT, ""))
    assert settings == load_with(toml)
    toml.unlink()
    assert load({"METAFLOWBOT_CONFIG": ""}) == load({})


def test_the_file_holds_sources_channels_and_trenches_as_the_contract_shows(toml: Path) -> None:
    settings = load_with(
        toml,
        """
        [sources.docs]
        location = "/docs"
        [sources.slack]
        channels = ["ask-metaflow"]
        [trenches]
        channel = "from-the-trenches"
        maintainers = ["U0123", "S0123"]
        [channels.default]
        answer = "mentions"
        [channels.ask-metaflow]
        answer = "questions"
        """,
    )
    assert settings.sources.docs.location == "/docs"
    assert settings.sources.slack.channels == ("ask-metaflow",)
    assert settings.trenches.maintainers == ("U0123", "S0123")
    assert settings.channels["ask-metaflow"].answer == "questions"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 1", "colour"),
        ("[sources.docs]\nlocaton = '/docs'", "sources.docs.locaton"),
        ("[sources.wiki]\nlocation = '/w'", "sources.wiki"),
        ("[channels.ask-metaflow]\nreply = 'off'", "channels.ask-metaflow.reply"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_it(toml: Path, text: str, key: str) -> None:
    line = fault_of(toml, text)
    assert f"unknown key '{key}'" in line
    assert str(toml) in line


def test_a_wrong_value_of_the_file_is_named_with_what_it_may_be(toml: Path) -> None:
    line = fault_of(toml, "[channels.general]\nanswer = 'always'")
    assert "channels.general.answer" in line
    assert "'mentions', 'questions', 'suggest' or 'off'" in line


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variable_is_named_and_its_value_is_not_shown(toml: Path, name: str) -> None:
    given = {**COMPANIONS.get(name, {}), name: WRONG[name]}
    line = fault_of(toml, **given)
    assert line.startswith(name)
    assert SECRET not in line


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"SLACK_APP_TOKEN": f"xapp-{SECRET}"}, "SLACK_BOT_TOKEN"),
        ({"SLACK_SIGNING_SECRET": SECRET}, "SLACK_BOT_TOKEN"),
        ({"METAFLOWBOT_CHAT_MODEL": "openai:gpt-5-mini"}, "OPENAI_API_KEY"),
        ({"METAFLOWBOT_EMBEDDING_MODEL": "openai:text-embedding-3-small"}, "OPENAI_API_KEY"),
    ],
)
def test_a_setting_that_lacks_its_companion_says_which(
    toml: Path, given: dict[str, str], missing: str
) -> None:
    line = fault_of(toml, **given)
    assert missing in line
    assert SECRET not in line


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_the_file_is_refused_and_not_shown(toml: Path, name: str) -> None:
    line = fault_of(toml, f'{CONTRACT[name][1]} = "{SECRET}"')
    assert name in line
    assert SECRET not in line


@pytest.mark.parametrize("text", ["home = ", f"openai_api_key = {SECRET}", "[sources\n"])
def test_a_file_that_is_not_toml_is_named_in_one_line(toml: Path, text: str) -> None:
    line = fault_of(toml, text)
    assert f"{toml} can't be read as TOML" in line
    assert SECRET not in line


def test_a_binary_file_is_named_in_one_line(toml: Path) -> None:
    toml.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="can't be read as TOML"):
        load({"METAFLOWBOT_CONFIG": str(toml)})


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="METAFLOWBOT_CONFIG: there is no file"):
        load({"METAFLOWBOT_CONFIG": str(tmp_path / "none.toml")})


def test_a_home_of_somebody_unknown_is_named_in_one_line(toml: Path) -> None:
    assert fault_of(toml, METAFLOWBOT_HOME="~no-such-user/bot").startswith("METAFLOWBOT_HOME")


@pytest.mark.parametrize("name", [*SECRETS, "METAFLOWBOT_DATABASE_URL"])
def test_every_secret_may_come_from_a_file_and_an_empty_file_counts_as_not_set(
    toml: Path, name: str
) -> None:
    value, field = CONTRACT[name]
    file = toml.with_name("secret")
    file.write_text(f"{value}\n", encoding="utf-8")
    given = {**COMPANIONS.get(name, {}), f"{name}_FILE": str(file)}
    assert shown(getattr(load_with(toml, **given), field)) == value
    file.write_text("\n", encoding="utf-8")
    assert load_with(toml, **{f"{name}_FILE": str(file)}) == load_with(toml)


def test_what_is_no_secret_has_no_file(toml: Path) -> None:
    assert load_with(toml, METAFLOWBOT_HOME_FILE="/nowhere") == load_with(toml)


def test_a_secret_given_twice_is_an_error(toml: Path) -> None:
    file = toml.with_name("secret")
    given = {"METAFLOWBOT_API_TOKEN": SECRET, "METAFLOWBOT_API_TOKEN_FILE": str(file)}
    file.write_text("", encoding="utf-8")
    assert shown(load_with(toml, **given).api_token) == SECRET
    file.write_text(SECRET, encoding="utf-8")
    line = fault_of(toml, **given)
    assert "METAFLOWBOT_API_TOKEN and METAFLOWBOT_API_TOKEN_FILE" in line
    assert SECRET not in line


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_secret_file_that_cant_be_read_is_named(toml: Path, content: bytes | None) -> None:
    file = toml.with_name("secret")
    if content is not None:
        file.write_bytes(content)
    line = fault_of(toml, GITHUB_TOKEN_FILE=str(file))
    assert line.startswith(f"GITHUB_TOKEN_FILE: {file} can't be read")


def test_the_example_of_the_environment_names_every_variable_and_no_other() -> None:
    example = Path(__file__).parent.parent / ".env.example"
    lines = example.read_text(encoding="utf-8").splitlines()
    names = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(names) == sorted({"METAFLOWBOT_CONFIG", *_ENVIRONMENT})
    assert load(dict.fromkeys(names, "")) == load({})


def test_the_example_of_the_file_holds_every_default() -> None:
    example = Path(__file__).parent.parent / "metaflowbot.toml"
    settings = load({"METAFLOWBOT_CONFIG": str(example)})
    assert settings.channels["default"] == Channel()
    assert settings.model_copy(update={"channels": {}}) == Settings()


def test_no_secret_is_in_any_print_of_the_settings(toml: Path) -> None:
    given = {name: value for name, (value, _) in CONTRACT.items()}
    given["METAFLOWBOT_DATABASE_URL"] = f"postgresql://bot:{SECRET}@db/bot"
    settings = load_with(toml, **given)
    for text in (str(settings), repr(settings), settings.model_dump_json()):
        assert SECRET not in text


def test_every_setting_can_be_wrong_or_is_free() -> None:
    assert {*WRONG, *WRONG_AT_START, *FREE} == {*_ENVIRONMENT}


@pytest.mark.parametrize("name", WRONG_AT_START)
def test_a_process_does_not_start_with_a_wrong_setting(tmp_path: Path, name: str) -> None:
    given = {"METAFLOWBOT_HOME": str(tmp_path), name: WRONG_AT_START[name]}
    done = command(tmp_path, "serve", "--port", "0", **given)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"metaflowbot: {name}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", WRONG)
def test_the_command_ends_with_2_and_one_line_for_a_wrong_setting(
    tmp_path: Path, name: str
) -> None:
    given = {**COMPANIONS.get(name, {}), name: WRONG[name]}
    done = command(tmp_path, "index", "list", **given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"metaflowbot: {name}")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr


def test_the_command_shows_no_secret_of_the_database_that_does_not_answer(tmp_path: Path) -> None:
    absent, unknown = f"postgresql://bot:{SECRET}@127.0.0.1:9/bot", f"mysql://bot:{SECRET}@db/bot"
    for url, code in ((absent, 1), (unknown, 2)):
        done = command(tmp_path, "search", "retry", METAFLOWBOT_DATABASE_URL=url)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
        assert SECRET not in done.stderr + done.stdout
