"""all-MiniLM-L6-v2 as an ONNX graph, written from the published BERT architecture and its weights.

Architecture and pooling: the model card of sentence-transformers/all-MiniLM-L6-v2 (6 layers, 384
dimensions, 12 heads, mean pooling, 256 tokens, L2-normalised).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIZE = 384


def build(weights: Path, word_size: int) -> bytes:
    """The graph: `tokens` and `mask` (n x length) -> `vectors` (n x 384) and `words`.

    `words` (n x length x word_size) are unit vectors of the tokens in their context: the last
    layer's, projected to fewer dimensions.
    """
    import safetensors.numpy

    return _Graph(safetensors.numpy.load_file(weights)).serialized(word_size)


def _projection(size: int) -> NDArray[np.float32]:
    """Random signs that project to `size` dimensions and nearly keep angles (384 x size).

    The same on every machine. Source: Achlioptas, "Database-friendly random projections", 2003.
    """
    signs = np.random.RandomState(0).randint(0, 2, (_SIZE, size)) * 2 - 1
    return np.asarray(signs / np.sqrt(size), dtype=np.float32)


class _Graph:
    """Writes BERT as ONNX operators, one call an operator; values are named by counting."""

    _LAYERS, _HEADS = 6, 12

    def __init__(self, weights: dict[str, Any]) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def serialized(self, word_size: int) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        hidden = self._encoded()
        self._pooled(hidden)
        self._nodes[-1].output[0] = "vectors"
        self._words(hidden, word_size)
        self._nodes[-1].output[0] = "words"
        tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", "length"])
        mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n", "length"])
        vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", _SIZE])
        words = helper.make_tensor_value_info(
            "words", TensorProto.FLOAT, ["n", "length", word_size]
        )
        constants = [
            numpy_helper.from_array(array, name) for name, array in self._constants.items()
        ]
        graph = helper.make_graph(
            self._nodes, "minilm", [tokens, mask], [vectors, words], constants
        )
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

    def _words(self, hidden: str, size: int) -> str:
        projected = self._op("MatMul", hidden, self._constant(_projection(size)))
        return self._op("LpNormalization", projected, axis=2, p=2)

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
