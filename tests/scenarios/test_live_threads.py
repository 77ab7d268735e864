"""What people write in Slack is known within a minute, and what they take back is gone.

A real process serves, hears a workspace over a websocket, and refreshes its index by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from metaflowbot.bot import Bot
from metaflowbot.embedding import MiniLM
from metaflowbot.forgetting import Files
from metaflowbot.index import Index
from metaflowbot.store import Store
from tests.process import MAIN, Process
from tests.slack_double import SlackDouble

DOCS = Path(__file__).parent.parent / "corpus"
QUESTION = "why does my step fail with an error when I use `@{}` on Batch?"
ANSWER = "You have to set `{}=7` in the environment of the step, then it is found."
CHECK = "white_check_mark"


class Community:
    """A workspace in which people ask, answer and change their minds, and the bot's home."""

    def __init__(self, slack: SlackDouble, home: Path) -> None:
        self.slack = slack
        self.home = home
        self.ann, self.bob = slack.add_user("ann"), slack.add_user("bob")
        self.ask = self.channel("ask")
        self.den = self.channel("den", "group")
        self.environment = {
            "METAFLOWBOT_HOME": str(home),
            "METAFLOWBOT_CONFIG": str(home / "metaflowbot.toml"),
            "SLACK_BOT_TOKEN": slack.bot_token,
            "SLACK_APP_TOKEN": slack.app_token,
            "SLACK_API_URL": slack.api_url,
        }
        toml = f'[sources.docs]\nlocation = "{DOCS}"\n[sources.slack]\nlocation = "slack"\n'
        (home / "metaflowbot.toml").write_text(toml)

    def channel(self, name: str, kind: Any = "channel") -> str:
        return self.slack.add_channel(name, [self.ann, self.bob, self.slack.bot_user_id], kind)

    def asked(self, word: str, channel: str = "") -> tuple[str, str]:
        """A question that Bob answers and nobody settles: the ts of both."""
        there = channel or self.ask
        root = self.slack.say(there, self.ann, QUESTION.format(word))
        return root, self.slack.say(there, self.bob, ANSWER.format(word.upper()), root)

    def resolved(self, word: str, channel: str = "") -> tuple[str, str]:
        root, answer = self.asked(word, channel)
        self.slack.react(channel or self.ask, answer, self.ann, CHECK)
        return root, answer

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def bot(self, store: Store) -> Bot:
        """A bot beside the running process, on the same home."""
        index = Index(self.home)

        def answerer() -> Any:
            raise AssertionError("it is asked nothing here")

        return Bot(store, index.active_id, answerer, files=Files(self.home))

    def holding(self, words: str) -> list[str]:
        """The files under the home that hold these words, as text or in a database."""
        found = [path for path in self.home.rglob("*") if path.is_file() and not path.is_symlink()]
        return [str(path) for path in found if words.encode() in path.read_bytes()]


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local model's graph, made once."""
    cache = tmp_path_factory.mktemp("model")
    MiniLM(cache).embed_query("warm")
    return cache


@pytest.fixture
def community(tmp_path: Path, model_cache: Path) -> Iterator[Community]:
    """With an index of the docs, and of no threads yet."""
    home = tmp_path / "home"
    (home / "cache").mkdir(parents=True)
    for path in model_cache.iterdir():
        (home / "cache" / path.name).symlink_to(path)
    with SlackDouble() as slack:
        found = Community(slack, home)
        done = found.command("ingest", "--only", "docs", "--only", "slack")
        assert done.returncode == 0, done.stderr
        yield found


class Served:
    """A process that serves the community, asked over HTTP."""

    def __init__(self, community: Community) -> None:
        arguments = ("serve", "--port", "0")
        self.process = Process(community.home, arguments, community.environment)
        self._slack = community.slack
        self.process.until(lambda: self._slack.sockets == 1)
        self._client: httpx.Client = self.process.client()

    def finds(self, word: str) -> bool:
        asked = {"query": f"set {word} in the environment", "sources": ["slack"]}
        hits = self._client.post("/api/search", json=asked).json()["hits"]
        return any(word in hit["text"] for hit in hits)

    def until_it(self, *, finds: tuple[str, ...], misses: tuple[str, ...] = ()) -> None:
        def is_so() -> bool:
            return all(map(self.finds, finds)) and not any(map(self.finds, misses))

        self.process.until(is_so, pause=0.5)

    def stop(self) -> None:
        self._client.close()
        assert self.process.stop() == 0
        assert "Traceback" not in self.process.said


@pytest.fixture
def served(community: Community) -> Iterator[Served]:
    served = Served(community)
    yield served
    served.process.kill()


def test_threads_are_known_changed_and_gone_without_anybody_running_a_command(
    community: Community, served: Served
) -> None:
    slack, ask = community.slack, community.ask
    first, first_answer = community.asked("alpha")
    slack.say(ask, community.ann, "that worked, thanks!", first)
    second, second_answer = community.resolved("beta")
    third, third_answer = community.asked("gamma")
    community.resolved("delta", community.den)
    served.until_it(finds=("ALPHA=7", "BETA=7"), misses=("GAMMA=7", "DELTA=7"))

    slack.edit(ask, first_answer, ANSWER.format("EPSILON"))
    for ts in (second_answer, second):
        slack.delete(ask, ts)
    store = Store.open(f"sqlite:///{community.home}/metaflowbot.db")
    community.bot(store).resolve(ask, third, third_answer, community.ann)
    served.until_it(finds=("EPSILON=7", "GAMMA=7"), misses=("ALPHA=7", "BETA=7", "DELTA=7"))
    served.process.until(lambda: store.threads.changes() == ())
    store.close()
    assert community.holding("DELTA=7") == []
    served.stop()
    assert "what changed in Slack's threads is in the index" in served.process.said


def test_what_was_written_while_nobody_listened_is_read_at_the_next_start(
    community: Community,
) -> None:
    community.resolved("zeta")
    last = community.home / "index" / "documents" / "slack.jsonl"
    os.utime(last, (0, 0))
    served = Served(community)
    try:
        served.until_it(finds=("ZETA=7",))
        served.stop()
    finally:
        served.process.kill()


def test_who_is_forgotten_is_found_nowhere_under_the_home_and_is_not_read_again(
    community: Community,
) -> None:
    slack, ask = community.slack, community.ask
    planted = "eight marmalade zeppelins"
    carl = slack.add_user("carl")
    root = slack.say(ask, community.ann, QUESTION.format("eta"))
    answer = slack.say(ask, carl, f"{ANSWER.format('ETA')} It is due to {planted}.", root)
    slack.react(ask, answer, community.ann, CHECK)
    own = slack.say(ask, carl, f"{QUESTION.format('theta')} I have {planted}.")
    slack.react(ask, slack.say(ask, community.bob, ANSWER.format("THETA"), own), carl, CHECK)
    community.resolved("iota")
    assert community.command("ingest", "--only", "slack").returncode == 0
    community.command("ingest", "--only", "slack", "--noted")
    asked = community.command("ask", f"{QUESTION.format('eta')} Do I set `ETA`?")
    assert planted in asked.stdout
    assert len(community.holding(planted)) > 3

    done = community.command("forget", carl)
    assert done.returncode == 0, done.stderr
    assert "messages: 2" in done.stdout
    assert "threads: 2" in done.stdout
    assert "quoting answers: 1" in done.stdout
    assert community.holding(planted) == []
    assert community.holding(carl) == []
    assert len(Index(community.home).manifests()) == 1
    assert community.holding("IOTA=7")

    slack.say(ask, carl, f"and again {planted}", root)
    community.command("ingest", "--only", "slack")
    assert community.holding(planted) == []


def test_where_the_index_can_not_be_built_anew_forget_says_so_and_can_be_run_again(
    community: Community,
) -> None:
    community.resolved("kappa")
    assert community.command("ingest", "--only", "slack").returncode == 0
    community.slack.fail_next("auth.test", error="invalid_auth")
    done = community.command("forget", community.bob)
    assert done.returncode == 1
    assert "the index still holds what" in done.stderr
    assert "invalid_auth" in done.stderr
    left = community.holding("KAPPA=7")
    assert left and all("/generations/" in path for path in left)
    assert community.command("forget", community.bob).returncode == 0
    assert community.holding("KAPPA=7") == []


def test_who_is_forgotten_where_threads_are_read_no_more_is_gone_all_the_same(
    community: Community,
) -> None:
    community.resolved("nu")
    assert community.command("ingest", "--only", "slack").returncode == 0
    (community.home / "metaflowbot.toml").write_text(f'[sources.docs]\nlocation = "{DOCS}"\n')
    assert community.command("forget", community.bob).returncode == 0
    assert community.holding("NU=7") == []
    store = Store.open(f"sqlite:///{community.home}/metaflowbot.db")
    assert store.threads.changes() == ()
    store.close()


def test_who_opted_out_leaves_the_index_with_the_next_refresh(
    community: Community, served: Served
) -> None:
    community.resolved("lambda")
    served.until_it(finds=("LAMBDA=7",))
    store = Store.open(f"sqlite:///{community.home}/metaflowbot.db")
    community.bot(store).opt_out(community.bob)
    assert not any("/generations/" not in path for path in community.holding("LAMBDA=7"))
    served.until_it(finds=(), misses=("LAMBDA=7",))
    served.process.until(lambda: store.threads.changes() == ())
    store.close()
    served.stop()
    assert community.holding("LAMBDA=7") == []


def test_the_bots_token_alone_reads_threads_but_can_not_serve(community: Community) -> None:
    del community.environment["SLACK_APP_TOKEN"]
    community.resolved("omicron")
    assert community.command("ingest", "--only", "slack").returncode == 0
    assert "omicron" in community.command("threads", "list").stdout
    for refused in (("serve", "--port", "0"), ("up", "--port", "0")):
        done = community.command(*refused)
        assert done.returncode == 2
        assert "SLACK_BOT_TOKEN is set alone: set SLACK_APP_TOKEN" in done.stderr
