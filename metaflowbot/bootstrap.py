"""Settings -> the bot and its parts: the one composition root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metaflowbot import chroma, embedding, llm, prompts
from metaflowbot.answer import Answerer
from metaflowbot.bot import Bot
from metaflowbot.code_check import CodeChecker
from metaflowbot.disk import make_home
from metaflowbot.forgetting import Files
from metaflowbot.guided import GuidedAnswerer
from metaflowbot.index import Index
from metaflowbot.judgement import installed
from metaflowbot.rerank import Reranker
from metaflowbot.retrieve import Retriever
from metaflowbot.rewrite import Rewriter
from metaflowbot.settings import Settings
from metaflowbot.store import Store
from metaflowbot.telemetry import Watcher


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running process is made of."""

    bot: Bot
    store: Store
    index: Index


def build(settings: Settings, watchers: Sequence[Watcher] = ()) -> Parts:
    """Open the database and wire the bot; the index is loaded at the first question.

    `watchers` are told what the bot did.
    Raises SettingsError and StoreError.
    """
    make_home(settings.home)
    answerer = answerers(settings)
    index = open_index(settings)
    store = Store.open(settings.sqlalchemy_url)
    bot = Bot(store, index.active_id, answerer, watchers, Files(settings.home))
    return Parts(bot, store, index)


def answerers(settings: Settings) -> Callable[[], Answerer]:
    """Makes an Answerer over the generation that is active when it is called.

    Models and prompt are shared between them. Raises SettingsError; the call raises
    IndexUnavailableError.
    """
    model = llm.connect(settings)
    fallback = llm.connect_fallback(settings)
    prompts.check_folder(settings.prompts)
    prompt = prompts.load("answer", "sources", folder=settings.prompts)
    mend = prompts.load("mend", "faults", folder=settings.prompts)
    embedder = embedding.connect(settings)
    index = open_index(settings)
    checker = None
    if model is not None:
        model.warm()
        checker = CodeChecker(installed())
        checker.warm()
    rewriter, reranker = _helpers(settings, model)
    return lambda: GuidedAnswerer(
        Retriever.over(index.load(), embedder),
        model,
        prompt,
        mend=mend,
        checker=checker,
        fallback=fallback,
        limits=settings.answers,
        rewriter=rewriter,
        reranker=reranker,
    )


def _helpers(
    settings: Settings, model: llm.ChatModel | None
) -> tuple[Rewriter | None, Reranker | None]:
    """What the model does before it answers, so far as the settings ask for it."""
    rewrite = prompts.load("rewrite", "conversation", folder=settings.prompts)
    rerank = prompts.load("rerank", "pages", folder=settings.prompts)
    return (
        Rewriter(model, rewrite) if model and settings.answers.rewrite else None,
        Reranker(model, rerank) if model and settings.answers.rerank else None,
    )


def open_index(settings: Settings) -> Index:
    """The index generations under the home, with their vectors where the settings put them."""
    return Index(settings.home, chroma.connect(settings))
