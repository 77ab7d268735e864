from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metaflowbot.embedding import MiniLM
from metaflowbot.index import Index
from tests.conftest import Ended

NOWHERE = "http://127.0.0.1:9/docs.git"  # the discard port: nothing listens there


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local model's graph, made once."""
    cache = tmp_path_factory.mktemp("model")
    MiniLM(cache).embed_query("warm")
    return cache


class Terminal:
    """Runs `metaflowbot` as a person would, with a home of its own and no other settings."""

    def __init__(self, folder: Path, model_cache: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self._environment = {
            "METAFLOWBOT_HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "COLUMNS": "200",
        }
        (self.home / "cache").symlink_to(model_cache)

    def configure(self, toml: str) -> None:
        (self.folder / "metaflowbot.toml").write_text(toml)

    def run(self, *arguments: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-c", "from metaflowbot.cli import main; main()", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def active(self) -> str | None:
        return Index(self.home).active_id()


@pytest.fixture
def terminal(tmp_path: Path, model_cache: Path) -> Terminal:
    return Terminal(tmp_path, model_cache)


def sources(ended: Ended) -> dict[str, dict[str, Any]]:
    return {report["name"]: report for report in ended.document["sources"]}


def test_a_tree_is_ingested_and_the_summary_explains_every_page(
    terminal: Terminal, corpus: Path
) -> None:
    ended = terminal.run("ingest", "--docs", str(corpus), "--only", "docs")
    assert ended.code == 0
    assert terminal.active()
    assert f"active: {terminal.active()}" in ended.out
    assert "metaflow-docs          7" in ended.out
    for omitted in ("docs/odd/binary.md", "docs/odd/empty.md", "docs/v/r/README.md"):
        assert omitted in ended.out
    assert "sources.docs.include = ['docs/v/r'] takes it in" in ended.out
    assert "embedded" in ended.err
    assert "embedded" not in ended.out


def test_json_is_one_document_on_stdout_and_nothing_else(terminal: Terminal, corpus: Path) -> None:
    ended = terminal.run("ingest", "--docs", str(corpus), "--only", "docs", "--json")
    assert ended.code == 0
    assert ended.document["generation"] == terminal.active()
    assert ended.document["documents"] == 7
    assert set(sources(ended)) == {"metaflow-docs"}
    left_out = {omission["what"] for omission in sources(ended)["metaflow-docs"]["omissions"]}
    assert "docs/odd/latin.md" in left_out
    assert "reading metaflow-docs" in ended.err


def test_a_dry_run_reads_but_builds_nothing(terminal: Terminal, corpus: Path) -> None:
    ended = terminal.run("ingest", "--docs", str(corpus), "--only", "docs", "--dry-run", "--json")
    assert (ended.code, ended.document["generation"]) == (0, None)
    assert ended.document["passages"] > 10
    assert terminal.active() is None
    shown = terminal.run("ingest", "--docs", str(corpus), "--only", "docs", "--dry-run")
    assert "dry run: nothing was built" in shown.out


def test_docs_asked_for_and_not_readable_end_the_run_and_the_live_index_stays(
    terminal: Terminal, corpus: Path, tmp_path: Path
) -> None:
    assert terminal.run("ingest", "--docs", str(corpus), "--only", "docs").code == 0
    before = terminal.active()
    (tmp_path / "file.md").write_text("text")
    (tmp_path / "empty").mkdir()
    for location, reason in {
        "nowhere": "nowhere does not exist",
        "file.md": "file.md is not a folder",
        "empty": "empty: there is no readable Markdown page in it",
        NOWHERE: "can't be reached",
    }.items():
        ended = terminal.run("ingest", "--docs", location)
        assert (ended.code, ended.out) == (1, ""), location
        assert ended.complaint.startswith("metaflowbot: metaflow-docs: ")
        assert reason in ended.complaint
        assert "Traceback" not in ended.err
        assert terminal.active() == before
    assert terminal.run("search", "retry", "--json").code == 0


def test_a_source_out_of_reach_that_nobody_asked_for_is_named_and_the_others_go_on(
    terminal: Terminal,
) -> None:
    terminal.configure(f'[sources.docs]\nlocation = "{NOWHERE}"\n')
    ended = terminal.run("ingest", "--dry-run", "--json")
    assert ended.code == 0
    assert "can't be reached" in sources(ended)["metaflow-docs"]["error"]
    assert sources(ended)["metaflow-docs"]["documents"] == 0
    assert sources(ended)["metaflow-api"]["documents"] > 100
    shown = terminal.run("ingest", "--dry-run")
    assert "metaflow-docs: could not be read: http://" in shown.out


def test_only_reads_one_source_and_keeps_the_others(terminal: Terminal, corpus: Path) -> None:
    terminal.configure(f'[sources.docs]\nlocation = "{corpus}"\n')
    assert terminal.run("ingest", "--only", "docs").code == 0
    ended = terminal.run("ingest", "--only", "api", "--dry-run", "--json")
    assert ended.code == 0
    assert sources(ended)["metaflow-api"]["documents"] > 100
    assert sources(ended)["metaflow-docs"]["documents"] == 7
    assert "not read this time" in sources(ended)["metaflow-docs"]["notice"]


def test_a_source_may_be_named_as_its_hits_are(terminal: Terminal, corpus: Path) -> None:
    ended = terminal.run(
        "ingest", "--docs", str(corpus), "--only", "metaflow-docs", "--dry-run", "--json"
    )
    assert (ended.code, set(sources(ended))) == (0, {"metaflow-docs"})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--only", "wiki"), "wiki: there is no such source; there are api, docs, github, labs"),
        (("--everything",), "--everything"),
        (("--docs",), "--docs"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_wrong(
    terminal: Terminal, arguments: tuple[str, ...], named: str
) -> None:
    ended = terminal.run("ingest", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert named in ended.err
    assert "Traceback" not in ended.err


def test_github_without_a_token_is_passed_over_unless_it_was_asked_for(
    terminal: Terminal, corpus: Path
) -> None:
    dry = ("ingest", "--docs", str(corpus), "--dry-run")
    assert "github" not in terminal.run(*dry).out
    terminal.configure('[sources.github]\nlocation = "garden/flows"\n')
    ended = terminal.run(*dry)
    assert ended.code == 0
    assert "github: skipped: set GITHUB_TOKEN to read issues" in ended.out
    asked = terminal.run("ingest", "--only", "github")
    assert (asked.code, asked.out) == (1, "")
    assert asked.complaint.startswith("metaflowbot: github: set GITHUB_TOKEN")


def test_a_wrong_setting_ends_with_2_and_is_named(terminal: Terminal) -> None:
    terminal.configure('[sources.docs]\nplace = "x"\n')
    ended = terminal.run("ingest")
    assert (ended.code, ended.out) == (2, "")
    assert "unknown key 'sources.docs.place'" in ended.complaint


def test_a_second_run_of_the_same_builds_nothing_and_says_so(
    terminal: Terminal, corpus: Path
) -> None:
    arguments = ("ingest", "--docs", str(corpus), "--only", "docs")
    first = terminal.run(*arguments)
    second = terminal.run(*arguments)
    assert "embedded 0 of 18 passages" in first.err
    assert "embedded" not in second.err
    active = first.out.strip().rpartition(" ")[2]
    assert second.out.strip().endswith(f"nothing has changed: {active} stays active")


def test_a_run_after_one_page_was_changed_embeds_that_page_alone(
    terminal: Terminal, corpus: Path, tmp_path: Path
) -> None:
    docs = tmp_path / "docs-repository"
    shutil.copytree(corpus, docs)
    arguments = ("ingest", "--docs", str(docs), "--only", "docs", "--json")
    first = terminal.run(*arguments).document
    page = next(path for path in sorted(docs.rglob("*.md")) if "\n# " in f"\n{path.read_text()}")
    page.write_text(f"{page.read_text()}\n\n## Added\n\nSomething that was not there before.\n")
    second = terminal.run(*arguments).document
    assert first["embedded"] == 18
    assert 1 <= second["embedded"] < 5
    assert second["built"] == second["generation"] != first["generation"]


def test_a_second_ingest_on_the_same_home_is_refused(terminal: Terminal, corpus: Path) -> None:
    (terminal.home / "index").mkdir()
    with (terminal.home / "index/ingest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = terminal.run("ingest", "--docs", str(corpus))
    assert (ended.code, ended.out) == (1, "")
    assert ended.complaint.startswith("metaflowbot: another ingest is running on this home")
    assert "Traceback" not in ended.err


def test_a_home_that_can_not_be_made_is_named(terminal: Terminal, corpus: Path) -> None:
    (terminal.home / "cache").unlink()
    terminal.home.rmdir()
    terminal.home.write_text("a file")
    ended = terminal.run("ingest", "--docs", str(corpus))
    assert ended.code == 2
    assert ended.complaint.startswith("metaflowbot: METAFLOWBOT_HOME: ")
    assert "Traceback" not in ended.err
