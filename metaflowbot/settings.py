"""One Settings object: the only reader of the environment and of metaflowbot.toml.

Environment variables carry secrets and what differs between deployments; the TOML file carries
the rest; where both name a thing the environment wins. Every secret may also come from a file,
named by the variable with _FILE after it. Every key has a working default and an unknown key is an
error that names it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from metaflowbot.errors import SettingsError

DOCS_REPOSITORY = "https://github.com/Netflix/metaflow-docs"

# Environment variable -> field of Settings. The contract's names.
_ENVIRONMENT = {
    "METAFLOWBOT_HOME": "home",
    "METAFLOWBOT_DATABASE_URL": "database_url",
    "METAFLOWBOT_CHAT_MODEL": "chat_model",
    "METAFLOWBOT_EMBEDDING_MODEL": "embedding_model",
    "METAFLOWBOT_MODEL_TIMEOUT": "model_timeout",
    "METAFLOWBOT_FALLBACK_MODEL": "fallback_model",
    "METAFLOWBOT_PROMPTS": "prompts",
    "METAFLOWBOT_API_TOKEN": "api_token",
    "OPENAI_API_KEY": "openai_api_key",
    "OPENAI_BASE_URL": "openai_base_url",
    "SLACK_BOT_TOKEN": "slack_bot_token",
    "SLACK_APP_TOKEN": "slack_app_token",
    "SLACK_SIGNING_SECRET": "slack_signing_secret",
    "SLACK_API_URL": "slack_api_url",
    "GITHUB_TOKEN": "github_token",
    "GITHUB_API_URL": "github_api_url",
    "CHROMA_HOST": "chroma_host",
    "CHROMA_PORT": "chroma_port",
    "CHROMA_AUTH_TOKEN": "chroma_auth_token",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "otel_endpoint",
}
_SECRETS = {
    "api_token",
    "openai_api_key",
    "slack_bot_token",
    "slack_app_token",
    "slack_signing_secret",
    "github_token",
    "chroma_auth_token",
    "database_url",
}
_VARIABLES = {field: variable for variable, field in _ENVIRONMENT.items()}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DocsSource(_Table):
    """A Docusaurus tree; R pages and programme pages are left out unless `include` names them."""

    location: str = DOCS_REPOSITORY
    include: tuple[str, ...] = ()


class LabsSource(_Table):
    """`internal` names hosts inside the network whose published write-ups may be read."""

    location: str = ""
    internal: tuple[str, ...] = ()


class SlackSource(_Table):
    """An export (ZIP or folder), or "slack": the live workspace, through its Web API."""

    location: str = ""
    channels: tuple[str, ...] = ()


class GitHubSource(_Table):
    """Repositories whose issues and discussions are read, as "owner/name"."""

    location: str | tuple[str, ...] = ()

    @property
    def repositories(self) -> tuple[str, ...]:
        """Every repository that is named; a single one may be given without brackets."""
        return (self.location,) if isinstance(self.location, str) else self.location


class Sources(_Table):
    docs: DocsSource = DocsSource()
    labs: LabsSource = LabsSource()
    slack: SlackSource = SlackSource()
    github: GitHubSource = GitHubSource()


class Trenches(_Table):
    """Where and when a question is handed to people; 0 turns a rule off.

    A question is handed on when it stood unanswered for `after_hours`, or was asked `times_asked`
    times; maintainers are reminded of what nobody moved for `remind_hours`.
    """

    channel: str = ""
    maintainers: tuple[str, ...] = ()
    after_hours: float = Field(default=0, ge=0)
    times_asked: int = Field(default=0, ge=0)
    remind_hours: float = Field(default=48, ge=0)


class Channel(_Table):
    """How the bot behaves in a channel. Empty `sources` and `people` mean all of them."""

    answer: Literal["mentions", "questions", "suggest", "off"] = "mentions"
    sources: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    follow_ups: bool = True
    language: str = ""


class Answers(_Table):
    """How answers are made with a chat model. A budget in US dollars a day; 0 means no limit.

    `rewrite` and `rerank` each cost one more, short call of the model before it answers.
    """

    rewrite: bool = False
    rerank: bool = False
    daily_budget: float = Field(default=0, ge=0)
    daily_budget_per_person: float = Field(default=0, ge=0)


class Limits(_Table):
    """How much is answered; 0 means no limit.

    Questions in Slack an hour for one person and in one channel; questions and searches over HTTP
    a minute for one address, this machine's own left out.
    """

    person: int = Field(default=30, ge=0)
    channel: int = Field(default=300, ge=0)
    address: int = Field(default=120, ge=0)


class Record(_Table):
    """For how many days questions and answers are kept; 0 means for good."""

    keep_days: int = Field(default=0, ge=0)


class Settings(_Table):
    """All settings, checked. Secrets print as asterisks."""

    home: Path = Field(default=Path("~/.metaflowbot"), validate_default=True)
    database_url: SecretStr = SecretStr("")
    chat_model: str = ""
    fallback_model: str = ""
    prompts: Path | None = None
    embedding_model: str = "local"
    model_timeout: float = Field(default=30.0, gt=0, le=600)
    api_token: SecretStr = SecretStr("")
    openai_api_key: SecretStr = SecretStr("")
    openai_base_url: str = ""
    slack_bot_token: SecretStr = SecretStr("")
    slack_app_token: SecretStr = SecretStr("")
    slack_signing_secret: SecretStr = SecretStr("")
    slack_api_url: str = "https://slack.com/api/"
    github_token: SecretStr = SecretStr("")
    github_api_url: str = "https://api.github.com"
    chroma_host: str = ""
    chroma_port: int = Field(default=8000, gt=0, lt=65536)
    chroma_auth_token: SecretStr = SecretStr("")
    otel_endpoint: str = ""
    sources: Sources = Sources()
    trenches: Trenches = Trenches()
    answers: Answers = Answers()
    limits: Limits = Limits()
    record: Record = Record()
    channels: Mapping[str, Channel] = Field(default_factory=dict)

    @field_validator("home")
    @classmethod
    def _whole_path(cls, value: Path) -> Path:
        try:
            return value.expanduser().absolute()
        except RuntimeError:
            raise ValueError(
                "lies in the home of nobody known: set METAFLOWBOT_HOME to a whole path"
            ) from None

    @field_validator("chat_model", "fallback_model")
    @classmethod
    def _provider_and_model(cls, value: str) -> str:
        if value in ("", "none") or all(value.partition(":")):
            return value
        raise ValueError("must be 'none' or 'provider:model', e.g. 'openai:gpt-5-mini'")

    @field_validator("embedding_model")
    @classmethod
    def _local_or_provider(cls, value: str) -> str:
        if value == "local" or all(value.partition(":")):
            return value
        raise ValueError(
            "must be 'local' or 'provider:model', e.g. 'openai:text-embedding-3-small'"
        )

    @field_validator("chroma_host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        if re.search(r"[/\s]", value):
            raise ValueError("must be the name or address of a host alone, e.g. 'chroma'")
        return value

    @field_validator("slack_api_url")
    @classmethod
    def _ends_in_api(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")) or not value.endswith("/api/"):
            raise ValueError("must be an http(s) URL that ends in '/api/'")
        return value

    @field_validator("openai_base_url", "github_api_url", "otel_endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not re.match(r"https?://[^/\s]\S*$", value):
            raise ValueError("must be an http(s) URL, e.g. 'http://collector:4317'")
        return value

    @field_validator("slack_bot_token", "slack_app_token")
    @classmethod
    def _token_kind(cls, value: SecretStr, info: object) -> SecretStr:
        field = getattr(info, "field_name", "")
        prefix = "xoxb-" if field == "slack_bot_token" else "xapp-"
        if value.get_secret_value() and not value.get_secret_value().startswith(prefix):
            raise ValueError(f"must start with '{prefix}'")
        return value

    @property
    def sqlalchemy_url(self) -> str:
        """The database: the URL that is set, else SQLite under the home."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home / 'metaflowbot.db'}"

    @property
    def is_alone(self) -> bool:
        """Whether no other process can share the work: the database is a file of our own."""
        return self.sqlalchemy_url.startswith("sqlite")

    @property
    def model(self) -> str:
        """The chat model as 'provider:model', or 'none'."""
        if self.chat_model:
            return self.chat_model
        return "openai:gpt-5-mini" if self.openai_api_key.get_secret_value() else "none"

    @property
    def slack_mode(self) -> Literal["socket", "http", "off"]:
        """How Slack reaches us: by the tokens that are set."""
        if not self.slack_bot_token.get_secret_value():
            return "off"
        if self.slack_app_token.get_secret_value():
            return "socket"
        return "http" if self.slack_signing_secret.get_secret_value() else "off"

    @property
    def reads_workspace(self) -> bool:
        """Whether Slack's threads come from the live workspace rather than from an export."""
        source = self.sources.slack
        named = source.channels and self.slack_bot_token.get_secret_value()
        return source.location == "slack" or bool(named and not source.location)

    @property
    def reads_live_threads(self) -> bool:
        """Whether what people write in Slack now is read, if only over an export."""
        return bool(
            self.slack_bot_token.get_secret_value()
            and (self.reads_workspace or self.sources.slack.location)
        )

    def check_serving(self) -> None:
        """Raise SettingsError where Slack could not reach a process that serves."""
        if self.slack_bot_token.get_secret_value() and self.slack_mode == "off":
            raise SettingsError(
                "SLACK_BOT_TOKEN is set alone: set SLACK_APP_TOKEN as well for Socket Mode, "
                "or SLACK_SIGNING_SECRET for HTTP mode"
            )


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read metaflowbot.toml and the environment; raise SettingsError on the first wrong setting."""
    named = environment.get("METAFLOWBOT_CONFIG")
    path = Path(named or "metaflowbot.toml")
    values = _read_toml(path, required=bool(named))
    origin = dict.fromkeys(values, str(path))
    for variable, field in _ENVIRONMENT.items():
        if value := _given(environment, variable):
            values[field] = value
            origin[field] = variable
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path, origin)) from None
    _check_together(settings)
    return settings


def _given(environment: Mapping[str, str], variable: str) -> str:
    """What the environment says, '' for nothing; a secret may be in a file of its own."""
    value = environment.get(variable, "")
    name = f"{variable}_FILE"
    path = environment.get(name) if _ENVIRONMENT[variable] in _SECRETS else None
    if not path:
        return value
    try:
        kept = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(
            f"{name}: {path} can't be read ({reason}): name a file that holds the secret alone"
        ) from None
    if kept and value:
        raise SettingsError(f"{variable} and {name} are both set: remove one of them")
    return kept or value


def _read_toml(path: Path, *, required: bool) -> dict[str, object]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"METAFLOWBOT_CONFIG: there is no file {path}") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} can't be read as TOML: {error}") from None
    for field in _SECRETS & values.keys():
        raise SettingsError(f"{path}: {field} is a secret: set {_VARIABLES[field]} instead")
    return values


def _explain(error: ValidationError, path: Path, origin: Mapping[str, str]) -> str:
    """One line for the first fault: which setting, what is wrong with it. Never its value."""
    fault = error.errors(include_input=False, include_url=False)[0]
    keys = [str(part) for part in fault["loc"]]
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key '{name}': remove it or correct its spelling"
    where = origin.get(keys[0], str(path))
    named = where if where in _ENVIRONMENT else f"{where}: {name}"
    return f"{named} {fault['msg'].removeprefix('Value error, ')}"


def _check_together(settings: Settings) -> None:
    bot, app, secret = (
        value.get_secret_value()
        for value in (
            settings.slack_bot_token,
            settings.slack_app_token,
            settings.slack_signing_secret,
        )
    )
    if (app or secret) and not bot:
        name = "SLACK_APP_TOKEN" if app else "SLACK_SIGNING_SECRET"
        raise SettingsError(f"{name} is set without SLACK_BOT_TOKEN: set the bot's token (xoxb-…)")
    if settings.reads_workspace and not bot:
        raise SettingsError(
            "sources.slack.location is 'slack' but SLACK_BOT_TOKEN is not set: set the bot's token "
            "(xoxb-…), or the location to an export's path"
        )
    if settings.model.startswith("openai:") and not settings.openai_api_key.get_secret_value():
        raise SettingsError(
            f"METAFLOWBOT_CHAT_MODEL is '{settings.model}' but OPENAI_API_KEY is not set: "
            "set the key, or METAFLOWBOT_CHAT_MODEL=none to answer without a model"
        )
    if (
        settings.embedding_model.startswith("openai:")
        and not settings.openai_api_key.get_secret_value()
    ):
        raise SettingsError(
            f"METAFLOWBOT_EMBEDDING_MODEL is '{settings.embedding_model}' but OPENAI_API_KEY is "
            "not set: set the key, or METAFLOWBOT_EMBEDDING_MODEL=local"
        )
