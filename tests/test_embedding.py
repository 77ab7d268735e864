"""Texts become unit vectors: by the local MiniLM as published, or by a server over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metaflowbot import embedding
from metaflowbot.embedding import (
    WORD_SIZE,
    Embedding,
    MiniLM,
    OpenAIEmbedding,
    Vectors,
    embed_closely,
)
from metaflowbot.errors import (
    ModelBrokenError,
    ModelBusyError,
    ModelRefusedError,
    ModelTimeoutError,
    SettingsError,
)
from metaflowbot.settings import Settings
from tests.loopback import Reply, serving
from tests.openai_double import OpenAIDouble

pytest_plugins = ["tests.prebuilt"]

# The example and its cosines on https://sbert.net, computed there with PyTorch.
PUBLISHED = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
PUBLISHED_COSINES = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


def over_loopback(server: OpenAIDouble, key: str = "", timeout: float = 5.0) -> Embedding:
    return embedding.connect(
        Settings.model_validate(
            {
                "embedding_model": "openai:text-embedding-3-small",
                "openai_api_key": key or server.key,
                "openai_base_url": server.url,
                "model_timeout": timeout,
            }
        )
    )


def embedded(model: Embedding, texts: list[str]) -> Vectors:
    return np.concatenate(list(model.embed(texts)))


def sentences(count: int) -> list[str]:
    """Texts of very different lengths."""
    return [f"Step {n} " + "stores its artifacts. " * (n * 7 % 23) for n in range(count)]


# The local model


def test_the_cosines_are_those_that_the_models_authors_publish(minilm: MiniLM) -> None:
    vectors = embedded(minilm, list(PUBLISHED))
    assert np.abs(vectors @ vectors.T - PUBLISHED_COSINES).max() < 1e-4


def test_vectors_have_384_dimensions_and_length_one(minilm: MiniLM) -> None:
    vectors = embedded(minilm, sentences(5))
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_texts_vector_depends_neither_on_its_neighbours_nor_on_their_order(
    minilm: MiniLM,
) -> None:
    texts = sentences(20)
    together = embedded(minilm, texts)
    assert np.allclose(embedded(minilm, texts[::-1]), together[::-1], atol=1e-5)
    for row in (0, 3, 19):
        assert minilm.embed_query(texts[row]) @ together[row] > 0.9999


def test_more_texts_than_one_window_keep_their_order(minilm: MiniLM) -> None:
    texts = [f"item {n}" for n in range(170)]
    batches = list(minilm.embed(texts))
    assert len(batches) > 1
    assert np.concatenate(batches)[165] @ minilm.embed_query("item 165") > 0.9999


def test_a_text_past_256_tokens_is_read_up_to_there(minilm: MiniLM) -> None:
    head = "data " * 254  # and a token at either end
    assert minilm.embed_query(head) @ minilm.embed_query(head + "kubernetes " * 50) > 0.9999
    shorter = "data " * 200
    assert minilm.embed_query(shorter) @ minilm.embed_query(shorter + "kubernetes " * 50) < 0.99


@pytest.mark.parametrize("text", ["", " ", "\0", "🦜" * 50, "ß" * 5000, "ask\n\n\tme"])
def test_any_text_gets_a_finite_unit_vector(minilm: MiniLM, text: str) -> None:
    assert np.linalg.norm(minilm.embed_query(text)) == pytest.approx(1.0, abs=1e-5)


def test_no_texts_give_no_batches(minilm: MiniLM, server: OpenAIDouble) -> None:
    assert list(minilm.embed([])) == []
    assert list(over_loopback(server).embed([])) == []
    assert server.requests == []


def test_a_damaged_graph_in_the_cache_is_built_anew(prebuilt: Path, tmp_path: Path) -> None:
    (graph,) = (prebuilt / "cache").glob("*.onnx")
    (tmp_path / graph.name).write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    vector = MiniLM(tmp_path).embed_query(PUBLISHED[0])
    assert vector.shape == (384,)


def test_a_cache_that_cannot_be_written_is_a_setting_to_mend(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(SettingsError, match="METAFLOWBOT_HOME"):
        MiniLM(tmp_path / "cache").embed_query("retry")


# A model behind the OpenAI protocol


def test_a_servers_vectors_are_unit_vectors_in_the_order_of_the_texts(
    server: OpenAIDouble,
) -> None:
    model = over_loopback(server)
    texts = [f"passage {n}" for n in range(130)]
    vectors = embedded(model, texts)
    assert vectors.shape == (130, 64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert np.allclose(vectors[129], model.embed_query(texts[129]), atol=1e-6)
    assert len(server.requests) > 2
    assert {request["model"] for request in server.requests} == {"text-embedding-3-small"}


def test_the_name_tells_the_vector_space(server: OpenAIDouble, tmp_path: Path) -> None:
    assert over_loopback(server).name == "openai:text-embedding-3-small"
    assert MiniLM(tmp_path).name == "local:all-MiniLM-L6-v2"


def test_an_empty_text_is_never_sent_as_such(server: OpenAIDouble) -> None:
    embedded(over_loopback(server), ["", "retry"])
    assert all(text for request in server.requests for text in request["input"])


def test_a_refused_key_is_named_and_not_shown(server: OpenAIDouble) -> None:
    with pytest.raises(ModelRefusedError, match="OPENAI_API_KEY") as raised:
        over_loopback(server, key="sk-wrong-and-secret").embed_query("retry")
    assert "sk-wrong-and-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, ModelBusyError), (500, ModelBrokenError), (404, ModelRefusedError)],
)
def test_a_failing_server_is_one_line_for_a_person(
    server: OpenAIDouble, status: int, expected: type[Exception]
) -> None:
    server.fail(status, times=10, retry_after=0.01)
    with pytest.raises(expected) as raised:
        over_loopback(server).embed_query("retry")
    assert str(status) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_fails_once_is_asked_again(server: OpenAIDouble) -> None:
    server.fail(503, times=1, retry_after=0.01)
    assert over_loopback(server).embed_query("retry").shape == (64,)


def test_a_server_that_hangs_is_given_up_on(server: OpenAIDouble) -> None:
    server.hang()
    with pytest.raises(ModelTimeoutError, match=r"0\.1 s"):
        over_loopback(server, timeout=0.1).embed_query("retry")


def test_a_server_that_is_not_there_says_which_setting_to_check() -> None:
    with OpenAIDouble() as gone:
        model = over_loopback(gone)
    with pytest.raises(ModelBrokenError, match="OPENAI_BASE_URL"):
        model.embed_query("retry")


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b'{"data": null}', b"{}", b"[]", b'{"data']
)
def test_a_server_that_speaks_something_else_says_which_setting_to_check(body: bytes) -> None:
    kind = "text/html" if body[:1] == b"<" else "application/json"
    page = Reply(200, body, {"Content-Type": kind})
    with OpenAIDouble() as server, serving(lambda _: page) as url:
        server.url = f"{url}/v1"
        with pytest.raises(ModelBrokenError, match="OPENAI_BASE_URL"):
            over_loopback(server).embed_query("retry")


# The choice


def test_the_settings_choose_the_model() -> None:
    assert isinstance(embedding.connect(Settings()), MiniLM)
    chosen = Settings.model_validate({"embedding_model": "openai:m", "openai_api_key": "k"})
    assert isinstance(embedding.connect(chosen), OpenAIEmbedding)


def test_an_unknown_provider_is_named_with_what_it_may_be() -> None:
    with pytest.raises(SettingsError, match=r"METAFLOWBOT_EMBEDDING_MODEL .*'local' or 'openai:'"):
        embedding.connect(Settings(embedding_model="cohere:embed"))


# Words


def test_the_words_of_a_text_come_with_its_vector_and_are_unit_vectors(minilm: MiniLM) -> None:
    texts = ["Retry the step that failed.", "", "the of and", "Step 2 " * 300]
    for text, embedded in zip(texts, next(iter(minilm.embed_closely(texts))), strict=True):
        assert np.allclose(embedded.vector, minilm.embed_query(text), atol=1e-4)
        assert embedded.words.shape[1] == WORD_SIZE
        lengths = np.linalg.norm(embedded.words.astype(np.float32) / 127, axis=1)
        assert len(lengths) >= 1
        assert np.allclose(lengths, 1.0, atol=0.05)


def test_links_between_words_are_no_words(minilm: MiniLM) -> None:
    bare, linked = (
        words_of(minilm, text) for text in ("memory step", "for memory, or (if you can): the step!")
    )
    assert len(bare) == len(linked) == 2


def test_a_word_is_nearest_to_itself_and_to_its_like(minilm: MiniLM) -> None:
    (asked,) = words_of(minilm, "memory")
    itself, near, far = (
        (words_of(minilm, text) @ asked).max() for text in ("memory", "memories", "bread")
    )
    assert itself > near > far + 0.2


def test_a_model_that_tells_no_words_apart_gives_none(server: OpenAIDouble) -> None:
    (batch,) = embed_closely(over_loopback(server), ["a step", "a flow"])
    assert [len(embedded.words) for embedded in batch] == [0, 0]
    assert batch[0].vector @ batch[0].vector == pytest.approx(1.0)


def words_of(model: MiniLM, text: str) -> Vectors:
    ((embedded,),) = model.embed_closely([text])
    return np.asarray(embedded.words, dtype=np.float32) / 127
