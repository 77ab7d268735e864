"""`metaflowbot trenches`: what it prints, and with which code it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaflowbot import cli
from metaflowbot.domain import Answer
from metaflowbot.store import Asking, Store
from tests.conftest import Ended


class Desk:
    """A home with one escalated question, and a terminal."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.home = home
        self.store = Store.open(f"sqlite:///{home}/metaflowbot.db")
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def escalate(self) -> str:
        from metaflowbot.bot import Bot

        answer = Answer("a1", "how do I @retry?", "No.", (), True, 0.1, "none", "p", "g")
        asking = Asking("web:ann")
        self.store.save_answer(answer, asking)
        never = lambda: None  # noqa: E731
        return Bot(self.store, never, never).escalate(asking, "a1", "web:ann").id  # type: ignore[arg-type]

    def run(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["metaflowbot", "trenches", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *self._capsys.readouterr())

    def solved(self) -> str:
        identity = self.escalate()
        answer = self.home / "answer.md"
        answer.write_text("Put `@retry` above `@step`.")
        for step in (["claim", identity], ["solve", identity, str(answer)]):
            assert self.run(*step).code == 0
        return identity


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    for name in ("OPENAI_API_KEY", "METAFLOWBOT_DATABASE_URL", "METAFLOWBOT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METAFLOWBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERNAME", "anna")
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    made = Desk(tmp_path / "home", monkeypatch, capsys)
    yield made
    made.store.close()


def test_an_empty_list_says_so(desk: Desk) -> None:
    assert desk.run("list").out == "no question was handed to people\n"
    assert desk.run("list", "--json").document == {"escalations": []}


def test_the_list_can_be_limited_to_a_state(desk: Desk) -> None:
    identity = desk.escalate()
    assert identity in desk.run("list").out
    assert identity in desk.run("list", "--state", "open").out
    assert identity not in desk.run("list", "--state", "solved").out
    refused = desk.run("list", "--state", "lost")
    assert (refused.code, refused.out) == (2, "")
    assert "there is no such state" in refused.complaint


def test_one_is_shown_with_its_history(desk: Desk) -> None:
    identity = desk.solved()
    shown = desk.run("show", identity).out
    assert "how do I @retry?" in shown
    assert "solution:\nPut `@retry`" in shown
    values = desk.run("show", identity, "--json").document
    assert [step["state"] for step in values["history"]] == ["open", "claimed", "solved"]
    assert values["history"][1]["person"].startswith("cli")


def test_steps_on_the_command_line_follow_the_same_rules(desk: Desk) -> None:
    identity = desk.escalate()
    early = desk.run("publish", identity, "--url", "https://labs.example/p")
    assert (early.code, early.complaint.startswith("metaflowbot: it can't be published")) == (
        1,
        True,
    )
    assert desk.run("claim", identity).out == f"{identity} is claimed\n"
    assert desk.run("claim", identity).code == 1
    assert desk.run("schedule", identity, "--day", "2026-05-11").out == f"{identity} is scheduled\n"
    wrong = desk.run("schedule", identity, "--day", "tomorrow")
    assert (wrong.code, "write it as 2026-01-31" in wrong.complaint) == (2, True)
    assert desk.run("decline", identity, "--reason", "not ours").out == f"{identity} is declined\n"


def test_who_names_none_that_exists_is_told_where_to_look(desk: Desk) -> None:
    for command in (["show", "x"], ["claim", "x"], ["package", "x", "--out", "pkg"]):
        ended = desk.run(*command)
        assert (ended.code, ended.out) == (1, "")
        assert "`metaflowbot trenches list` names them" in ended.complaint
    assert not Path("pkg").exists()


def test_a_package_is_written_without_index_model_or_network(desk: Desk) -> None:
    identity = desk.solved()
    ended = desk.run("package", identity, "--out", "pkg")
    assert (ended.code, ended.out) == (0, "13 files written to pkg\n")
    assert "Put `@retry`" in Path("pkg/index.qmd").read_text()


def test_forgetting_the_asker_erases_the_package_unless_it_is_published(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = desk.solved()
    desk.run("package", identity, "--out", "pkg")
    asker = desk.store.escalations.get(identity).asker
    monkeypatch.setattr(sys, "argv", ["metaflowbot", "forget", asker])
    with pytest.raises(SystemExit):
        cli.main()
    assert "packages: 1" in capsys.readouterr().out
    assert not Path("pkg").exists()


def test_a_folder_that_holds_something_is_refused_before_anything_is_written(desk: Desk) -> None:
    identity = desk.solved()
    Path("pkg").mkdir()
    Path("pkg/mine").write_text("precious")
    ended = desk.run("package", identity, "--out", "pkg")
    assert (ended.code, ended.out) == (2, "")
    assert "name a new folder" in ended.complaint
    assert [each.name for each in Path("pkg").iterdir()] == ["mine"]


@pytest.mark.parametrize("url", ["", "page", "ftp://labs.example/p", "javascript:alert(1)"])
def test_a_url_that_is_none_is_wrong_usage(desk: Desk, url: str) -> None:
    identity = desk.solved()
    ended = desk.run("publish", identity, "--url", url)
    assert (ended.code, ended.out) == (2, "")
    assert "is not an http(s) URL" in ended.complaint
    assert desk.store.escalations.get(identity).state == "solved"


def test_a_published_one_is_what_the_next_ingest_reads(desk: Desk) -> None:
    from ingest.review import published
    from metaflowbot import settings

    identity = desk.solved()
    desk.run("publish", identity, "--url", "https://labs.example/p")
    assert published(settings.load()) == ("https://labs.example/p",)


def test_the_export_holds_the_answer_as_the_cases_reference(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.solved()
    monkeypatch.setattr(sys, "argv", ["metaflowbot", "feedback", "export"])
    with pytest.raises(SystemExit):
        cli.main()
    case = json.loads(capsys.readouterr().out)
    assert (case["answer_id"], case["verdict"]) == ("a1", None)
    assert case["reference"] == "Put `@retry` above `@step`."
