"""Docs behind the address of a git repository."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.sources.docs import _git
from metaflowbot.errors import SourceError
from tests.loopback import Reply, Request, serving
from tests.test_docs_source import read, text, write


def git(*arguments: str, at: Path) -> None:
    person = ["-c", "user.name=Somebody", "-c", "user.email=somebody@site.example"]
    subprocess.run(["git", *person, *arguments], cwd=at, check=True, capture_output=True)


class Repository:
    """A bare repository, and a way to put pages into it."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "origin.git"
        self._work = folder / "work"
        self._work.mkdir(parents=True)
        git("init", "--quiet", "--bare", str(self.bare), at=folder)
        git("init", "--quiet", at=self._work)

    @property
    def url(self) -> str:
        return self.bare.as_uri()

    def publish(self, **pages: str) -> None:
        for name, content in pages.items():
            write(self._work / f"docs/{name}.md", content)
        git("add", ".", at=self._work)
        git("commit", "--quiet", "-m", "pages", at=self._work)
        git("push", "--quiet", str(self.bare), "HEAD:refs/heads/master", at=self._work)
        git("symbolic-ref", "HEAD", "refs/heads/master", at=self.bare)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "server")
    made.publish(one="text of one")
    return made


def test_a_repository_is_cloned_and_read(repository: Repository, tmp_path: Path) -> None:
    documents, omitted = read(repository.url, tmp_path / "cache")
    assert (set(documents), omitted) == ({"docs/one.md"}, {})


def test_every_page_says_which_commit_it_is_of(repository: Repository, tmp_path: Path) -> None:
    documents, _ = read(repository.url, tmp_path / "cache")
    first = documents["docs/one.md"].version
    repository.publish(two="text")
    documents, _ = read(repository.url, tmp_path / "cache")
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert {document.version for document in documents.values()} & {first} == set()


def test_a_clone_is_brought_up_to_date(repository: Repository, tmp_path: Path) -> None:
    read(repository.url, tmp_path / "cache")
    repository.publish(one="new text", two="text")
    documents, _ = read(repository.url, tmp_path / "cache")
    assert text(documents["docs/one.md"]) == "new text"
    assert set(documents) == {"docs/one.md", "docs/two.md"}


def test_a_clone_serves_while_its_repository_is_out_of_reach(
    repository: Repository, tmp_path: Path
) -> None:
    read(repository.url, tmp_path / "cache")
    repository.bare.rename(tmp_path / "moved")
    documents, omitted = read(repository.url, tmp_path / "cache")
    assert set(documents) == {"docs/one.md"}
    assert "the copy fetched earlier is used" in omitted[repository.url]


def test_an_unfinished_clone_of_a_killed_run_goes(repository: Repository, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fresh, abandoned = cache / "tmpfresh", cache / "tmpold"
    for folder in (fresh, abandoned):
        (folder / "clone" / ".git").mkdir(parents=True)
    os.utime(abandoned, (time.time() - 7200,) * 2)
    read(repository.url, cache)
    assert {path.name for path in cache.iterdir()} == {"docs", "tmpfresh"}


def test_a_damaged_clone_is_made_anew(repository: Repository, tmp_path: Path) -> None:
    read(repository.url, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache/docs/.git/objects")
    repository.publish(one="new text")
    documents, omitted = read(repository.url, tmp_path / "cache")
    assert (text(documents["docs/one.md"]), omitted) == ("new text", {})


def test_the_clone_of_one_repository_never_serves_for_another(
    repository: Repository, tmp_path: Path
) -> None:
    read(repository.url, tmp_path / "cache")
    with pytest.raises(SourceError, match="can't be fetched"):
        read((tmp_path / "other.git").as_uri(), tmp_path / "cache")
    assert set(read(repository.url, tmp_path / "cache")[0]) == {"docs/one.md"}


@pytest.fixture
def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_out_of_reach_is_told_at_once_and_without_the_password(
    closed_port: int, tmp_path: Path
) -> None:
    url = f"http://someone:hush@127.0.0.1:{closed_port}/docs.git"
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        read(url, tmp_path)
    assert time.monotonic() - started < 10
    assert "can't be reached" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


@contextmanager
def forge(answer: Callable[[str, str], str]) -> Iterator[tuple[str, list[str]]]:
    """A git server that holds nothing; gives its address and log.

    `answer` says for a path and a client where it is redirected to, '' for not at all.
    """
    asked: list[str] = []

    def respond(request: Request) -> Reply:
        client = request.headers.get("user-agent", "").partition("/")[0]
        asked.append(f"{client} {request.path.partition('/info')[0]}")
        target = answer(request.path, client)
        return Reply(302, headers={"Location": target}) if target else Reply(404)

    with serving(respond) as url:
        yield url, asked


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://169.254.169.254/latest", "leads to a link-local address"),
        ("http://10.0.0.1/docs.git/info/refs", "leads to a private address"),
        ("file:///etc/hostname", "is not an http or https URL"),
    ],
)
def test_a_repository_is_not_fetched_from_where_its_server_should_not_lead(
    target: str, reason: str, tmp_path: Path
) -> None:
    with forge(lambda path, client: target) as (url, asked):
        with pytest.raises(SourceError, match=reason):
            read(f"{url}/docs.git", tmp_path)
        assert not any(line.startswith("git ") for line in asked)


def test_a_repository_that_was_moved_is_asked_where_it_is_now(tmp_path: Path) -> None:
    def moved(path: str, client: str) -> str:
        return path.replace("/old.git", "/new.git") if "/old.git" in path else ""

    with forge(moved) as (url, asked), pytest.raises(SourceError, match="not found"):
        read(f"{url}/old.git", tmp_path)
    assert "git /new.git" in asked
    assert "git /old.git" not in asked


def test_git_itself_is_led_nowhere_else(tmp_path: Path) -> None:
    def leading_git(path: str, client: str) -> str:
        return path.replace("/docs.git", "/inside.git") if client == "git" else ""

    with forge(leading_git) as (url, asked), pytest.raises(SourceError, match="can't be fetched"):
        read(f"{url}/docs.git", tmp_path)
    assert "git /docs.git" in asked
    assert "git /inside.git" not in asked


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/docs.git"
        with pytest.raises(SourceError, match="no answer within 1 s"):
            _git("ls-remote", url, seconds=1)


def test_a_machine_without_git_is_told_what_to_do(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git is not installed: install it or give a local path"):
        read(repository.url, tmp_path / "cache")
