"""The command line: what it prints, where, and with which code it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metaflowbot import cli
from metaflowbot.domain import Feedback
from metaflowbot.index import Index
from metaflowbot.store import Store
from tests.conftest import Ended
from tests.openai_double import OpenAIDouble
from tests.small_index import OFF_TOPIC, RETRY

pytest_plugins = ["tests.prebuilt"]

HEAVY = ("chromadb", "langchain", "langchain_core", "openai", "onnxruntime", "metaflow")
QUOTE = "run a failing step again"


FAILURES: dict[str, Callable[[OpenAIDouble], None]] = {
    "429": lambda server: server.fail(429, times=9, retry_after=0.01),
    "500": lambda server: server.fail(500, times=9, retry_after=0.01),
    "hang": lambda server: server.hang(),
    "cut": lambda server: server.cut_after(0),
    "empty": lambda server: server.reply(""),
}


class Shell:
    """Runs commands in a folder of its own, with no settings but those that a test makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    def run(self, *arguments: str) -> Ended:
        """One command, as the shell would run it."""
        self._monkeypatch.setattr(sys, "argv", ["metaflowbot", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *self._capsys.readouterr())


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    for name in list(os.environ):
        if name.startswith(("METAFLOWBOT_", "OPENAI_", "SLACK_", "CHROMA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    shell = Shell(monkeypatch, capsys)
    shell.set(METAFLOWBOT_HOME=str(tmp_path / "home"))
    return shell


@pytest.fixture
def ready(shell: Shell, home: Path) -> Shell:
    """A shell whose home has an index."""
    shell.set(METAFLOWBOT_HOME=str(home))
    return shell


@pytest.fixture
def server(ready: Shell) -> Iterator[OpenAIDouble]:
    """A model server that the settings name."""
    with OpenAIDouble() as running:
        ready.set(
            OPENAI_API_KEY=running.key,
            OPENAI_BASE_URL=running.url,
            METAFLOWBOT_MODEL_TIMEOUT="0.5",
        )
        yield running


def said(ended: Ended) -> str:
    """The one line on stderr."""
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith("metaflowbot: ")
    return ended.err


# Asking


def test_ask_prints_the_answer_and_its_sources(ready: Shell) -> None:
    ended = ready.run("ask", RETRY)
    assert (ended.code, ended.err) == (0, "")
    assert "> Use the `@retry` decorator" in ended.out
    assert "1. Dealing with Failures" in ended.out
    assert "https://docs.metaflow.org/scaling/failures" in ended.out


def test_ask_as_json_is_one_document_of_the_contracts_form(ready: Shell) -> None:
    ended = ready.run("ask", RETRY, "--json")
    assert (ended.code, ended.err) == (0, "")
    names = {"answer_id", "text", "citations", "abstained", "confidence", "model", "usage"}
    names |= {"prompt_version", "generation", "timings_ms"}
    assert names <= ended.document.keys()
    assert {"n", "document_id", "title", "url", "quote"} == ended.document["citations"][0].keys()
    assert {"input_tokens", "output_tokens", "cost_usd"} == ended.document["usage"].keys()


def test_off_topic_ask_abstains_and_has_done_what_was_asked(ready: Shell) -> None:
    ended = ready.run("ask", OFF_TOPIC, "--json")
    assert ended.code == 0
    assert ended.document["abstained"]


def test_a_model_that_answers_is_quoted_with_its_usage(ready: Shell, server: OpenAIDouble) -> None:
    server.reply(f'Use `@retry` to run a failing step again [1: "{QUOTE}"].', usage=(500, 9))
    ended = ready.run("ask", RETRY, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.document["model"] == "openai:gpt-5-mini"
    assert ended.document["usage"]["input_tokens"] == 500


@pytest.mark.parametrize(
    ("failure", "word"),
    [("429", "429"), ("500", "500"), ("hang", "0.5 s"), ("cut", "model"), ("empty", "model")],
)
def test_a_model_that_falls_short_gives_the_passages_and_ends_with_1_and_one_line(
    ready: Shell, server: OpenAIDouble, failure: str, word: str
) -> None:
    FAILURES[failure](server)
    ended = ready.run("ask", RETRY)
    assert ended.code == 1
    assert "> Use the `@retry` decorator" in ended.out
    assert word in said(ended)
    assert server.key not in ended.err


def test_a_wrong_key_gives_the_passages_and_names_the_setting(
    ready: Shell, server: OpenAIDouble
) -> None:
    ready.set(OPENAI_API_KEY="sk-wrong-and-secret")
    ended = ready.run("ask", RETRY, "--json")
    assert ended.code == 1
    assert ended.document["citations"]
    assert "OPENAI_API_KEY was refused" in said(ended)
    assert "sk-wrong-and-secret" not in ended.out + ended.err


def test_a_failing_embedding_server_ends_with_1_and_one_line(
    ready: Shell, server: OpenAIDouble
) -> None:
    ready.set(METAFLOWBOT_EMBEDDING_MODEL="openai:text-embedding-3-small")
    ended = ready.run("search", RETRY)
    assert (ended.code, ended.out) == (1, "")
    assert "METAFLOWBOT_EMBEDDING_MODEL now means" in said(ended)


# Searching


def test_search_prints_the_documents_best_first(ready: Shell) -> None:
    ended = ready.run("search", "@kubernetes", "-k", "2")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0].startswith(" 1. Running on Kubernetes")
    assert len(ended.out.splitlines()) == 4


def test_search_as_json_is_one_document_of_the_contracts_form(ready: Shell) -> None:
    ended = ready.run("search", RETRY, "--json", "-k", "3")
    assert {"hits", "generation", "took_ms"} == ended.document.keys()
    assert [hit["rank"] for hit in ended.document["hits"]] == [1, 2, 3]
    names = {"rank", "score", "source", "document_id", "title", "heading", "url", "text"}
    assert names == ended.document["hits"][0].keys()


# Bad input


@pytest.mark.parametrize("command", ["ask", "search"])
@pytest.mark.parametrize("text", ["", "   ", "x" * 20_000])
def test_a_question_that_cannot_be_asked_ends_with_2_and_one_line(
    ready: Shell, command: str, text: str
) -> None:
    ended = ready.run(command, text)
    assert (ended.code, ended.out) == (2, "")
    assert "the question" in said(ended)


@pytest.mark.parametrize(
    "text", ["Wie wiederhole ich einen Schritt?", "如何重试失败的步骤？", "\udce4"]
)
def test_a_question_in_another_language_or_encoding_gets_an_answer(ready: Shell, text: str) -> None:
    ended = ready.run("ask", text, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.document["text"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("ask",),
        ("ask", "--nosuch", RETRY),
        ("search", "retry", "-k", "0"),
        ("search", "retry", "-k", "many"),
        ("index", "activate"),
        ("index", "prune", "--keep", "0"),
        ("serve", "--port", "70000"),
        ("feedback", "export", "--since", "yesterday"),
        ("ingest", "--only", "nosuch"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_prints_nothing_on_stdout(
    ready: Shell, arguments: tuple[str, ...]
) -> None:
    ended = ready.run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["ask", "search"])
def test_without_an_index_the_command_says_how_to_make_one(shell: Shell, command: str) -> None:
    ended = shell.run(command, RETRY, "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "run `metaflowbot ingest`" in said(ended)


@pytest.mark.parametrize(
    "part", ["manifest.json", "passages.jsonl", "vectors.npz", "lexical", "chroma"]
)
@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_corrupt_index_ends_with_1_and_one_line(
    ready: Shell, home: Path, part: str, command: str
) -> None:
    (path,) = home.glob(f"index/generations/*/{part}")
    if path.is_dir():
        path.rename(path.with_name("elsewhere"))
    else:
        path.write_bytes(b"\x00\xff")
    ended = ready.run(command, RETRY)
    assert (ended.code, ended.out) == (1, "")
    assert "damaged" in said(ended)


def test_a_home_that_cannot_be_made_is_a_setting_to_mend(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    ended = shell.run("ask", RETRY)
    assert ended.code == 2
    assert "METAFLOWBOT_HOME" in said(ended)


def test_a_database_that_is_none_ends_with_1_and_one_line(ready: Shell, home: Path) -> None:
    (home / "metaflowbot.db").write_bytes(b"not a database" * 1000)
    ended = ready.run("ask", RETRY)
    assert ended.code == 1
    assert "database" in said(ended)


# Generations


def test_index_list_marks_the_active_one(ready: Shell, home: Path) -> None:
    active = Index(home).active_id()
    assert ready.run("index", "list").out.startswith(f"* {active}  8 documents  12 passages")
    listed = ready.run("index", "list", "--json").document
    assert listed["active"] == active
    assert [each["id"] for each in listed["generations"]] == [active]


def test_index_list_of_an_empty_home_says_how_to_begin(shell: Shell) -> None:
    ended = shell.run("index", "list")
    assert (ended.code, ended.err) == (0, "")
    assert "metaflowbot ingest" in ended.out


@pytest.mark.parametrize(
    "arguments", [("activate", "nosuch"), ("activate", ".."), ("rollback",)], ids=" ".join
)
def test_a_generation_that_does_not_exist_ends_with_1_and_one_line(
    ready: Shell, arguments: tuple[str, ...]
) -> None:
    ended = ready.run("index", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert "generation" in said(ended)


def test_prune_says_what_it_deleted(ready: Shell, home: Path) -> None:
    assert ready.run("index", "prune").out == "deleted: nothing\n"
    (home / "index" / "generations" / "20200101T000000Z").mkdir()
    assert ready.run("index", "prune").out == "deleted: 20200101T000000Z\n"


# Feedback and people


def test_feedback_is_exported_one_json_object_a_line(ready: Shell, home: Path) -> None:
    answer_id = ready.run("ask", RETRY, "--json").document["answer_id"]
    _rate(home, Feedback(answer_id, "slack:U1", "down", "too short"))
    ended = ready.run("feedback", "export")
    (line,) = ended.out.splitlines()
    rated = json.loads(line)
    names = {"answer_id", "question", "answer", "verdict", "reason", "citations", "asked_at"}
    assert names | {"generation", "prompt_version", "model"} <= rated.keys()
    assert (rated["answer_id"], rated["verdict"]) == (answer_id, "down")
    assert ready.run("feedback", "export", "--since", "2999-01-01").out == ""


def test_feedback_goes_to_a_file_or_says_why_not(ready: Shell, tmp_path: Path) -> None:
    out = tmp_path / "cases.jsonl"
    ended = ready.run("feedback", "export", "--out", str(out))
    assert (ended.code, ended.out, out.read_text()) == (0, "", "")
    refused = ready.run("feedback", "export", "--out", str(tmp_path / "none" / "x"))
    assert refused.code == 2
    assert "--out" in said(refused)


def test_forget_erases_what_a_person_asked_and_said(ready: Shell, home: Path) -> None:
    answer_id = ready.run("ask", RETRY, "--json").document["answer_id"]
    _rate(home, Feedback(answer_id, "slack:U1", "up"))
    assert "feedback: 1" in ready.run("forget", "U1").out
    assert "feedback: 0" in ready.run("forget", "U1").out


def _rate(home: Path, feedback: Feedback) -> None:
    store = Store.open(f"sqlite:///{home}/metaflowbot.db")
    with contextlib.closing(store):
        store.rate(feedback)


# Serving


def test_serve_on_a_taken_port_ends_with_2_and_names_it(ready: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = ready.run("serve", "--port", str(port))
    assert ended.code == 2
    assert f"--port {port}" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "bot.example"])
def test_serve_opens_to_others_only_with_a_token(ready: Shell, host: str) -> None:
    ended = ready.run("serve", "--host", host, "--port", "0")
    assert ended.code == 2
    assert "METAFLOWBOT_API_TOKEN" in ended.err.splitlines()[-1]


def test_an_address_of_another_machine_cannot_be_listened_on(ready: Shell) -> None:
    ready.set(METAFLOWBOT_API_TOKEN="token")
    ended = ready.run("serve", "--host", "192.0.2.1", "--port", "0")
    assert ended.code == 2
    assert "192.0.2.1" in ended.err.splitlines()[-1]


# Start-up


def test_the_first_line_comes_before_any_heavy_import_and_soon(home: Path) -> None:
    code = (
        "import sys, time; begun = time.monotonic()\n"
        "from metaflowbot import cli, serving\n"
        "def first(line):\n"
        f"    print(sorted(set({HEAVY}) & set(sys.modules)), time.monotonic() - begun)\n"
        "    raise SystemExit(0)\n"
        "serving.say = first\n"
        "sys.argv = ['metaflowbot', sys.argv[1], '--port', '0']\n"
        "cli.main()\n"
    )
    for command in ("serve", "up"):
        done = _python("-c", code, command, METAFLOWBOT_HOME=str(home))
        imported, _, seconds = done.stdout.strip().rpartition(" ")
        assert imported == "[]", done.stderr
        assert float(seconds) < 10  # measured below 1 on two idle cores


@pytest.mark.parametrize("arguments", [("--help",), ("version",), ("index", "list")])
def test_light_commands_import_nothing_heavy(home: Path, arguments: tuple[str, ...]) -> None:
    code = (
        "import sys, atexit; from metaflowbot.cli import main\n"
        f"heavy = set({HEAVY})\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "main()\n"
    )
    done = _python("-c", code, *arguments, METAFLOWBOT_HOME=str(home))
    assert done.returncode == 0
    assert done.stderr == "[]\n"


def test_the_installed_command_runs_and_shows_its_version(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("metaflowbot")
    done = subprocess.run(
        [script, "version"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("metaflowbot ")
    assert "Metaflow 2." in done.stdout


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = {"PATH": os.environ["PATH"], "HOME": environment["METAFLOWBOT_HOME"], **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=environment["METAFLOWBOT_HOME"],
        env=names,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
