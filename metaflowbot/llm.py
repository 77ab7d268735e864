"""Chat models, through LangChain: stream, time limits, one retry, usage and cost.

LangChain takes seconds to import, so it is loaded with the first call, or ahead of it by `warm`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from metaflowbot import telemetry
from metaflowbot.domain import Turn, Usage
from metaflowbot.errors import (
    ModelBrokenError,
    ModelBusyError,
    ModelError,
    ModelRefusedError,
    ModelTimeoutError,
    SettingsError,
)
from metaflowbot.settings import Settings

if TYPE_CHECKING:
    import httpx2
    import tiktoken
    from langchain_core.language_models import BaseChatModel

_OPENAI_URL = "https://api.openai.com/v1"
_FAILURES, _REST = 5, 30.0
_LONGEST_PAUSE = 5.0  # seconds that a reader will wait for a retry

# USD per million tokens: input, input read from the provider's cache, output.
# Source: OpenAI's price list, https://developers.openai.com/api/docs/pricing (standard tier).
_PRICES = {
    "gpt-5.4": (2.50, 0.25, 15.00),
    "gpt-5.4-mini": (0.75, 0.075, 4.50),
    "gpt-5": (1.25, 0.125, 10.00),
    "gpt-5-mini": (0.25, 0.025, 2.00),
    "gpt-5-nano": (0.05, 0.005, 0.40),
    "gpt-4.1": (2.00, 0.50, 8.00),
    "gpt-4.1-mini": (0.40, 0.10, 1.60),
    "gpt-4.1-nano": (0.10, 0.025, 0.40),
    "gpt-4o": (2.50, 1.25, 10.00),
    "gpt-4o-mini": (0.15, 0.075, 0.60),
}
# 'gpt-5-mini-2025-08-07' costs what 'gpt-5-mini' costs.
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")

# tiktoken's encodings: where it downloads them from, and the SHA-256 that it asks for.
_ENCODINGS_URL = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
_ENCODINGS = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}


def connect(settings: Settings) -> ChatModel | None:
    """The chat model that the settings name, None for 'none'. Opens no connection.

    With a fall-back model it is asked once only, for the other's sake. Raises SettingsError for a
    provider that LangChain does not know or whose package is missing.
    """
    return _connected(settings, settings.model, tries=1 if settings.fallback_model else 2)


def connect_fallback(settings: Settings) -> ChatModel | None:
    """The model to be asked when the first one fails, None where the settings name none."""
    return _connected(settings, settings.fallback_model or "none", tries=1)


def _connected(settings: Settings, name: str, tries: int) -> ChatModel | None:
    if name == "none":
        return None
    model = ChatModel(settings, name, tries)
    if not _has_package(model.provider):
        model.load()  # some packages have another name: LangChain knows, and says what is missing
    return model


def _has_package(provider: str) -> bool:
    """Whether the provider's package, by LangChain's usual name for it, can be imported."""
    return provider.isidentifier() and importlib.util.find_spec(f"langchain_{provider}") is not None


class ChatModel:
    """One chat model. Safe to share between threads. `name` is 'provider:model'.

    After _FAILURES failures in a row it is left alone for _REST seconds: nobody has to wait for a
    server that is down.
    """

    def __init__(self, settings: Settings, name: str = "", tries: int = 2) -> None:
        self.name = name or settings.model
        self.provider, _, self._model = self.name.partition(":")
        self._tries = tries
        self._failures, self._rests_until = 0, 0.0
        self._timeout = settings.model_timeout
        self._total = 4 * settings.model_timeout
        self._base_url = settings.openai_base_url or _OPENAI_URL
        self._key = settings.openai_api_key
        self._lock = threading.Lock()
        self._vendor: BaseChatModel | None = None
        self._asks_usage = True

    def warm(self) -> None:
        """Import LangChain in the background, so that the first answer need not wait for it.

        Returns at once; what goes wrong there is raised by the first call.
        """
        threading.Thread(target=self._load_quietly, name="warm-chat-model", daemon=True).start()

    def stream(self, system: str, messages: Sequence[Turn]) -> Iterator[str | Usage]:
        """Yield the answer's text as it comes, never empty, and one Usage at the end.

        `messages` ends with the question. The usage is the provider's own; where it sends none
        the tokens are counted here. An overloaded or failing server (429, 5xx) is asked a second
        time, if at all, as long as nothing was yielded. Each wait for the server ends after
        `settings.model_timeout` seconds, the whole answer after four times that.

        Raises ModelError: refused, busy, too late, or broken (also: nothing said, or cut short);
        SettingsError as `load` does.
        """
        prompt = [("system", system), *((turn.role, turn.content) for turn in messages)]
        vendor = self.load()
        self._check_rest()
        for tries_left in reversed(range(self._tries)):
            begun = False
            try:
                for piece in self._ask(vendor, prompt):
                    begun = True
                    yield piece
            except _vendor_errors() as error:
                if begun or not tries_left or not self._may_retry(error):
                    self._failed()
                    raise self._translated(error) from None
            except ModelError:
                self._failed()
                raise
            else:
                self._failures = 0
                return

    def _check_rest(self) -> None:
        left = math.ceil(self._rests_until - time.monotonic())
        if left > 0:
            raise ModelBusyError(
                f"{self.name} failed {_FAILURES} times in a row: it is asked again in {left} s"
            )

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._failures, self._rests_until = 0, time.monotonic() + _REST

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` is; 0 for none.

        Exact where tiktoken has its encoding on this disk, else an over-estimate for prose and
        code. Never uses the network.
        """
        if self._encoding is None:
            return math.ceil(len(text.encode()) / 3)
        return len(self._encoding.encode_ordinary(text))

    def load(self) -> BaseChatModel:
        """LangChain's model, built once. Raises SettingsError where LangChain can't build it."""
        with self._lock:
            if self._vendor is None:
                self._vendor = self._build()
            return self._vendor

    def _load_quietly(self) -> None:
        with suppress(SettingsError):
            self.load()

    def _build(self) -> BaseChatModel:
        from langchain.chat_models import init_chat_model

        # Retries are ours: the vendor's would also repeat what has been half answered.
        options: dict[str, Any] = {"timeout": self._timeout, "max_retries": 0}
        if self.provider == "openai":
            options |= self._openai_options()
        try:
            model: BaseChatModel = init_chat_model(
                self._model, model_provider=self.provider, **options
            )
        except (ImportError, ValueError) as error:
            reason = " ".join(str(error).split())[:600]
            raise SettingsError(f"METAFLOWBOT_CHAT_MODEL is '{self.name}': {reason}") from None
        return model

    def _openai_options(self) -> dict[str, Any]:
        """What makes LangChain speak plain chat completions, which every such server knows."""
        return {
            "api_key": self._key,
            "base_url": self._base_url,
            "use_responses_api": False,
            "stream_usage": True,
            "http_client": _http_client(self._timeout, self._total),
        }

    def _ask(self, vendor: BaseChatModel, prompt: list[tuple[str, str]]) -> Iterator[str | Usage]:
        """One request. The vendor's errors come out as they are."""
        options: dict[str, Any] = {} if self._asks_usage else {"stream_usage": False}
        deadline = time.monotonic() + self._total
        text, counted, finished = "", _Tokens(), False
        for chunk in vendor.stream(prompt, **options):
            if time.monotonic() > deadline:
                raise _too_long(self._total)
            counted.add(chunk.usage_metadata)
            finished = finished or "finish_reason" in chunk.response_metadata
            if piece := str(chunk.text):
                text += piece
                yield piece
        # Only the OpenAI protocol promises a finish reason; the other packages raise when cut.
        if self.provider == "openai" and not finished:
            raise ModelBrokenError("the model server cut its answer short: ask again")
        if not text.strip():
            raise ModelBrokenError("the model server sent an empty answer: ask again")
        yield self._usage(counted, prompt, text)

    def _usage(self, counted: _Tokens, prompt: list[tuple[str, str]], text: str) -> Usage:
        read, cached, written = counted.read, counted.cached, counted.written
        if not (read or written):
            read = sum(self.count_tokens(content) for _, content in prompt)
            written = self.count_tokens(text)
        price = _PRICES.get(_SNAPSHOT.sub("", self._model)) if self.provider == "openai" else None
        if price is None:
            return Usage(read, written)
        cost = ((read - cached) * price[0] + cached * price[1] + written * price[2]) / 1e6
        return Usage(read, written, cost)

    def _may_retry(self, error: Exception) -> bool:
        """Whether a second request may succeed; waits until it is time for it."""
        status = getattr(error, "status_code", 0)
        if status in (400, 422) and self._asks_usage and "stream_options" in str(error):
            self._asks_usage = False
            return True
        if getattr(error, "code", "") == "insufficient_quota" or not (
            status == 429 or status >= 500
        ):
            return False
        pause = _retry_after(error)
        if pause > _LONGEST_PAUSE:
            return False
        time.sleep(pause)
        return True

    def _translated(self, error: Exception) -> ModelError:
        """Our error for the vendor's: what happened and what to do, with no secret in it."""
        import openai
        from langchain_core import exceptions as langchain

        status = getattr(error, "status_code", 0)
        if isinstance(error, openai.APITimeoutError | langchain.ModelTimeoutError):
            return ModelTimeoutError(
                f"{self.name} did not answer within {self._timeout:g} s: "
                "ask again, or raise METAFLOWBOT_MODEL_TIMEOUT"
            )
        if isinstance(error, openai.APIConnectionError | langchain.ModelConnectionError):
            return ModelBrokenError(
                "the model server can't be reached or broke the connection: "
                "check OPENAI_BASE_URL and the network, or ask again"
            )
        if status:
            return self._for_status(status, error)
        if isinstance(error, openai.APIError | langchain.ModelError):
            return ModelBrokenError(f"the model server failed: {self._said(error)}")
        return ModelBrokenError(
            "the model server's reply can't be read as a chat completion: check OPENAI_BASE_URL"
        )

    def _for_status(self, status: int, error: Exception) -> ModelError:
        key = "OPENAI_API_KEY" if self.provider == "openai" else f"the key for {self.provider}"
        if status in (401, 403):
            return ModelRefusedError(
                f"{key} was refused by the model server ({status}): check the key"
            )
        if status == 404:
            return ModelRefusedError(
                f"the model server does not offer '{self._model}' (404): "
                "check METAFLOWBOT_CHAT_MODEL and OPENAI_BASE_URL"
            )
        if status == 429 and getattr(error, "code", "") == "insufficient_quota":
            return ModelBusyError(f"the quota of {key} is used up (429): check its plan")
        if status == 429:
            return ModelBusyError("the model server is overloaded (429): ask again in a minute")
        if status >= 500:
            return ModelBrokenError(f"the model server failed ({status}): ask again in a minute")
        return ModelRefusedError(
            f"the model server refused the request ({status}): {self._said(error)}"
        )

    def _said(self, error: Exception) -> str:
        """The server's own words as one short line; it may have echoed the key."""
        body = getattr(error, "body", None)
        message = body.get("message") if isinstance(body, dict) else getattr(error, "message", "")
        line = " ".join(str(message or error).split())
        secret = self._key.get_secret_value()
        return (line.replace(secret, "***") if secret else line)[:200]

    @cached_property
    def _encoding(self) -> tiktoken.Encoding | None:
        """The model's encoding if tiktoken has it on disk: it downloads without a time-out."""
        import tiktoken

        try:
            name = tiktoken.encoding_name_for_model(self._model)
        except KeyError:
            name = "o200k_base"
        return tiktoken.get_encoding(name) if _is_cached(name) else None


class _Tokens:
    """Adds up what the chunks of one stream report."""

    def __init__(self) -> None:
        self.read = self.cached = self.written = 0

    def add(self, reported: Any) -> None:
        if reported:
            self.read += reported["input_tokens"]
            self.written += reported["output_tokens"]
            self.cached += reported.get("input_token_details", {}).get("cache_read") or 0


def _vendor_errors() -> tuple[type[Exception], ...]:
    """What a request may raise; the last three are how LangChain meets a malformed reply."""
    import openai
    from langchain_core import exceptions as langchain

    return (openai.APIError, langchain.ModelError, ValueError, LookupError, TypeError)


def _too_long(seconds: float) -> ModelTimeoutError:
    return ModelTimeoutError(
        f"the model's answer was not complete after {seconds:g} s: "
        "ask something smaller, or raise METAFLOWBOT_MODEL_TIMEOUT"
    )


def _http_client(timeout: float, total: float) -> httpx2.Client:
    """A client whose responses end after `total` seconds, and whose requests say whose they are.

    A server that sends only keep-alive comments yields no chunk, and never trips a read time-out.
    A redirect is not followed: the question would go to a server that nobody named.
    """
    import httpx2
    import openai

    class Limited(httpx2.SyncByteStream):
        def __init__(self, stream: httpx2.SyncByteStream) -> None:
            self._stream = stream
            self._deadline = time.monotonic() + total

        def __iter__(self) -> Iterator[bytes]:
            for data in self._stream:
                if time.monotonic() > self._deadline:
                    raise _too_long(total)
                yield data

        def close(self) -> None:
            self._stream.close()

    def limit(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = Limited(response.stream)

    def sign(request: httpx2.Request) -> None:
        if identity := telemetry.request_id():
            # The name by which OpenAI's logs, and those of servers like it, keep a caller's id.
            request.headers["X-Client-Request-Id"] = quote(identity)

    hooks: dict[str, list[Callable[..., None]]] = {"request": [sign], "response": [limit]}
    return openai.DefaultHttpxClient(timeout=timeout, event_hooks=hooks, follow_redirects=False)


def _retry_after(error: Exception) -> float:
    """Seconds to wait before the retry: the server's wish, else about one."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    with suppress(ValueError):
        return max(0.0, float(headers.get("retry-after", "")))
    return random.uniform(0.5, 1.5)


def _is_cached(encoding: str) -> bool:
    """Whether tiktoken would read this encoding from its cache (see tiktoken/load.py)."""
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    url = _ENCODINGS_URL.format(name=encoding)
    name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    if not folder or encoding not in _ENCODINGS:
        return False
    try:
        data = (Path(folder) / name).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data).hexdigest() == _ENCODINGS[encoding]
