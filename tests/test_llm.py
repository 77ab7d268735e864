"""The chat model streams, keeps its time limits and explains its failures; over loopback."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from metaflowbot import llm, prompts, telemetry
from metaflowbot.citations import verify
from metaflowbot.domain import Passage, Turn, Usage
from metaflowbot.errors import (
    ModelBrokenError,
    ModelBusyError,
    ModelError,
    ModelRefusedError,
    ModelTimeoutError,
    SettingsError,
)
from metaflowbot.settings import Settings
from tests.loopback import Reply, Request, serving
from tests.openai_double import OpenAIDouble, cited_answer, embed

QUESTION = [Turn("user", "How do I branch?")]


@pytest.fixture
def server() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as running:
        yield running


def model_at(
    server: OpenAIDouble, timeout: float = 5.0, key: str = "", name: str = "openai:gpt-5-mini"
) -> llm.ChatModel:
    model = llm.connect(
        Settings(
            chat_model=name,
            openai_api_key=SecretStr(key or server.key),
            openai_base_url=server.url,
            model_timeout=timeout,
        )
    )
    assert model is not None
    return model


def answer_of(model: llm.ChatModel) -> tuple[str, Usage]:
    *pieces, usage = model.stream("Be brief.", QUESTION)
    assert isinstance(usage, Usage)
    return "".join(str(piece) for piece in pieces), usage


def test_without_a_model_there_is_nothing_to_connect_to() -> None:
    assert llm.connect(Settings(chat_model="none")) is None


@pytest.mark.parametrize("name", ["nosuch:model", "anthropic:claude", "no-such.one:model"])
def test_an_unknown_provider_or_missing_package_is_named_at_once(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"METAFLOWBOT_CHAT_MODEL is '{name}'"):
        llm.connect(Settings(chat_model=name))


def test_connecting_does_not_import_langchain_or_openai() -> None:
    code = (
        "import sys; from metaflowbot import llm, settings;"
        "llm.connect(settings.Settings(chat_model='openai:x', openai_api_key='k'));"
        "sys.exit(bool({'langchain', 'langchain_core', 'openai', 'tiktoken'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_answer_streams_in_pieces_and_ends_with_the_servers_usage(
    server: OpenAIDouble,
) -> None:
    server.reply("Use `self.next(self.a, self.b)` here.", usage=(1_000_000, 10_000))

    items = list(model_at(server).stream("Be brief.", QUESTION))

    assert len(items) > 3
    assert "".join(map(str, items[:-1])) == "Use `self.next(self.a, self.b)` here."
    assert items[-1] == Usage(1_000_000, 10_000, 0.25 + 0.02)


def test_a_request_holds_the_conversation_and_nothing_that_servers_refuse(
    server: OpenAIDouble,
) -> None:
    history = [Turn("user", "Hi {name}"), Turn("assistant", "Hello"), *QUESTION]
    list(model_at(server).stream("Be brief.", history))

    body = server.requests[0]
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert body["messages"][1]["content"] == "Hi {name}"
    assert body.keys() == {"model", "messages", "stream", "stream_options"}


def test_the_model_server_is_told_to_which_request_a_call_belongs(server: OpenAIDouble) -> None:
    model = model_at(server)
    with telemetry.request("T1/C1/1700000000.000100"):
        answer_of(model)
    answer_of(model)
    assert server.request_ids == ["T1/C1/1700000000.000100", ""]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_server_that_sends_elsewhere_is_not_followed(status: int) -> None:
    def redirect(_: Request) -> Reply:
        return Reply(status, headers={"Location": elsewhere.url + "/chat/completions"})

    with OpenAIDouble() as elsewhere, serving(redirect) as url:
        model = llm.connect(
            Settings(
                chat_model="openai:gpt-5-mini",
                openai_api_key=SecretStr(elsewhere.key),
                openai_base_url=url,
            )
        )
        assert model is not None
        with pytest.raises(ModelError, match=str(status)):
            answer_of(model)
        assert elsewhere.requests == []


def test_a_snapshot_of_a_model_costs_what_the_model_costs(server: OpenAIDouble) -> None:
    server.reply("Yes.", usage=(1_000_000, 0))

    assert answer_of(model_at(server, name="openai:gpt-5-mini-2025-08-07"))[1].cost_usd == 0.25


def test_an_unknown_model_costs_nothing_but_counts_its_tokens(server: OpenAIDouble) -> None:
    server.reply("Yes.", usage=(7, 3))

    assert answer_of(model_at(server, name="openai:llama-local"))[1] == Usage(7, 3, 0.0)


def test_a_server_that_refuses_stream_options_still_answers(server: OpenAIDouble) -> None:
    server.refuse("stream_options")
    server.reply("Use a branch.")
    model = model_at(server)

    first, second = answer_of(model), answer_of(model)

    assert first[0] == second[0] == "Use a branch."
    assert first[1].input_tokens > 0 < first[1].output_tokens
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_is_asked_once_more(server: OpenAIDouble, status: int) -> None:
    server.fail(status, times=1, retry_after=0)
    server.reply("Use a branch.")

    assert answer_of(model_at(server))[0] == "Use a branch."
    assert len(server.requests) == 2


def test_a_server_that_stays_overloaded_is_asked_twice_and_no_more(server: OpenAIDouble) -> None:
    server.fail(429, times=9, retry_after=0)

    with pytest.raises(ModelBusyError, match=r"overloaded \(429\)"):
        answer_of(model_at(server))
    assert len(server.requests) == 2


def test_a_long_retry_after_is_not_waited_for(server: OpenAIDouble) -> None:
    server.fail(503, times=9, retry_after=60)
    started = time.monotonic()

    with pytest.raises(ModelBrokenError, match=r"failed \(503\)"):
        answer_of(model_at(server))
    assert len(server.requests) == 1
    assert time.monotonic() - started < 20


def test_a_used_up_quota_is_not_retried(server: OpenAIDouble) -> None:
    server.fail(429, times=9, code="insufficient_quota")

    with pytest.raises(ModelBusyError, match="the quota of OPENAI_API_KEY is used up"):
        answer_of(model_at(server))
    assert len(server.requests) == 1


def test_a_refused_key_is_named_and_never_shown(server: OpenAIDouble) -> None:
    with pytest.raises(ModelRefusedError) as refused:
        answer_of(model_at(server, key="sk-secret-wrong"))

    assert str(refused.value).startswith("OPENAI_API_KEY was refused by the model server (401)")
    assert "sk-" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_that_the_server_echoes_is_masked(server: OpenAIDouble) -> None:
    server.fail(400, message=f"bad\nrequest of {server.key}")

    with pytest.raises(ModelRefusedError, match=r"\(400\): bad request of \*\*\*$"):
        answer_of(model_at(server))


def test_an_unknown_model_is_named_with_its_setting(server: OpenAIDouble) -> None:
    server.fail(404)

    with pytest.raises(ModelRefusedError, match=r"'gpt-5-mini'.*METAFLOWBOT_CHAT_MODEL"):
        answer_of(model_at(server))


@pytest.mark.parametrize("after", [-1, 0, 8])
def test_silence_ends_with_a_timeout_before_and_within_the_answer(
    server: OpenAIDouble, after: int
) -> None:
    server.reply("Use a branch in the flow.")
    server.hang(after=after)

    with pytest.raises(ModelTimeoutError, match=r"did not answer within 0\.2 s"):
        answer_of(model_at(server, timeout=0.2))


def test_keep_alive_comments_do_not_hold_an_answer_open_for_ever(server: OpenAIDouble) -> None:
    server.only_comments()

    with pytest.raises(ModelTimeoutError, match="not complete after 4 s"):
        answer_of(model_at(server, timeout=1))


def test_a_cut_stream_is_an_error_after_the_pieces_that_came(server: OpenAIDouble) -> None:
    server.reply("Use a branch in the flow.")
    server.cut_after(9)
    pieces = []

    with pytest.raises(ModelBrokenError, match="cut its answer short"):
        for piece in model_at(server).stream("Be brief.", QUESTION):
            pieces.append(piece)
    assert "".join(map(str, pieces)) == "Use a"
    assert len(server.requests) == 1


def test_what_is_no_chat_completion_is_an_error_and_the_next_answer_is_whole(
    server: OpenAIDouble,
) -> None:
    server.reply("Use a branch.")
    server.garble()
    with pytest.raises(ModelBrokenError, match="can't be read"):
        answer_of(model_at(server))
    server.heal()
    assert answer_of(model_at(server))


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_is_an_error(server: OpenAIDouble, text: str) -> None:
    server.reply(text)

    with pytest.raises(ModelBrokenError, match="empty answer"):
        answer_of(model_at(server))


def test_an_unreachable_server_is_an_error_that_says_where_to_look() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        settings = Settings(
            chat_model="openai:x",
            openai_api_key=SecretStr("k"),
            openai_base_url=f"http://127.0.0.1:{reserved.getsockname()[1]}/v1",
        )
        model = llm.connect(settings)
        assert model is not None
        with pytest.raises(ModelBrokenError, match="check OPENAI_BASE_URL"):
            list(model.stream("Be brief.", QUESTION))


def test_a_reader_who_leaves_early_ends_the_request(server: OpenAIDouble) -> None:
    server.reply("Use a branch in the flow.")
    stream = model_at(server).stream("Be brief.", QUESTION)

    assert next(stream) == "Use"
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_a_warmed_model_answers(server: OpenAIDouble) -> None:
    model = model_at(server)
    model.warm()

    assert answer_of(model)[0] == "NOT_COVERED"


def test_tokens_are_over_estimated_where_the_encoding_is_not_on_disk(
    server: OpenAIDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    count = model_at(server).count_tokens

    assert count("") == 0
    assert count("four words of text") == 6
    assert count("é") == 1


def test_a_damaged_encoding_file_is_never_downloaded_again(
    server: OpenAIDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    damaged = tmp_path / hashlib.sha1(url.encode()).hexdigest()
    damaged.write_bytes(b"damaged")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)

    assert model_at(server).count_tokens("four words of text") == 6
    assert damaged.read_bytes() == b"damaged"


def test_an_encoding_is_used_from_disk_only_when_its_file_is_the_one_tiktoken_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"ranks")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path))
    assert not llm._is_cached("o200k_base")

    monkeypatch.setitem(llm._ENCODINGS, "o200k_base", hashlib.sha256(b"ranks").hexdigest())
    assert llm._is_cached("o200k_base")
    assert not llm._is_cached("cl100k_base")


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("the network was used")


def test_the_double_answers_from_the_sources_with_their_words() -> None:
    prompt = (
        '<source n="1" title="Data">\nArtifacts are stored in the datastore for you.\n</source>'
    )
    asked = [
        {"role": "system", "content": prompt},
        {"role": "user", "content": "Where are artifacts stored?"},
    ]

    assert cited_answer(asked) == (
        "Artifacts are stored in the datastore for you "
        '[1: "Artifacts are stored in the datastore for you."].'
    )


def test_what_the_double_says_from_the_answer_prompt_survives_verification(
    server: OpenAIDouble,
) -> None:
    text = "# Branching\n\nA foreach branches over a list of items. Each branch has its own."
    source = Passage("d#0", "d", "metaflow-docs", "Branching", (), "https://x.example/d", text)
    system = prompts.load("answer", "sources").fill(sources=f'<source n="1">\n{text}\n</source>')
    asked = [Turn("user", "How does a foreach branch over items in a list?")]

    pieces = [str(p) for p in model_at(server).stream(system, asked) if not isinstance(p, Usage)]
    found = verify("".join(pieces), [[source]])

    assert found.text == "A foreach branches over a list of items [1]."
    assert found.citations[0].quote == "A foreach branches over a list of items."


def test_the_doubles_vectors_are_repeatable_unit_vectors() -> None:
    assert embed("a flow", 8) == embed("a flow", 8) != embed("a step", 8)
    assert sum(value * value for value in embed("a flow", 8)) == pytest.approx(1.0)
