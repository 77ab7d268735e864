"""Checks settings, tokens, scopes, index and database, and says how to mend each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from metaflowbot import bootstrap, embedding, llm
from metaflowbot.disk import make_home
from metaflowbot.domain import Turn
from metaflowbot.errors import MetaflowbotError, SettingsError
from metaflowbot.retrieve import Retriever
from metaflowbot.settings import Settings
from metaflowbot.store import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `detail` says what was found, or what is wrong and how to mend it."""

    check: str
    ok: bool
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Run every check in turn; a failing one does not stop the others."""
    checks: dict[str, Callable[[Settings], str]] = {
        "home": _home,
        "database": _database,
        "embedding": _embedding,
        "index": _index,
        "chat model": _chat_model,
        "slack": _slack,
    }
    for name, check in checks.items():
        try:
            yield Finding(name, True, check(settings))
        except MetaflowbotError as error:
            yield Finding(name, False, str(error))


def _home(settings: Settings) -> str:
    make_home(settings.home)
    try:
        probe = settings.home / ".doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"METAFLOWBOT_HOME: {settings.home} can't be written ({error.strerror})"
        ) from None
    return str(settings.home)


def _database(settings: Settings) -> str:
    store = Store.open(settings.sqlalchemy_url)
    try:
        health = store.health()
    finally:
        store.close()
    line = f"answers; {health.depth} questions waiting"
    if not health.dead:
        return line
    return (
        f"{line}, {health.dead} given up on: `metaflowbot inbox list` says why, "
        "`metaflowbot inbox retry` tries them again"
    )


def _embedding(settings: Settings) -> str:
    model = embedding.connect(settings)
    dimensions = len(model.embed_query("metaflow"))
    return f"{model.name}, {dimensions} dimensions"


def _index(settings: Settings) -> str:
    retriever = Retriever.over(bootstrap.open_index(settings).load(), embedding.connect(settings))
    manifest = retriever.generation.manifest
    sources = ", ".join(
        f"{name} {count.documents}" for name, count in sorted(manifest.sources.items())
    )
    return f"{manifest.id}: {manifest.passages} passages of {sources} documents"


def _chat_model(settings: Settings) -> str:
    model = llm.connect(settings)
    if model is None:
        return "none is set: answers quote the passages"
    for _ in model.stream("Reply with the word ready.", [Turn("user", "Are you ready?")]):
        pass
    return f"{model.name} answers"


def _slack(settings: Settings) -> str:
    settings.check_serving()
    if settings.slack_mode == "off":
        return "no tokens are set: the web page and the command line still answer"
    from metaflowbot.slack import examination

    return examination.examine(settings)
