"""Promises of the back-fill through Slack's Web API, made to a stateful double over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ingest import commands
from ingest.sources import Omission
from ingest.sources.slack_api import SlackApi
from ingest.sources.slack_export import SlackExport
from ingest.sources.slack_reading import Known
from metaflowbot.domain import Document
from metaflowbot.errors import SettingsError, SourceError
from metaflowbot.settings import Settings, SlackSource, Sources, load
from metaflowbot.threads import Change
from tests.loopback import Reply, Request, serving
from tests.slack_double import SlackDouble
from tests.slack_double.people import described
from tests.slack_double.workspace import Channel, User

CORPUS = Path(__file__).parent / "corpus" / "slack-export"
KINDS = {"channels.json": "channel", "groups.json": "group"}
DAY = 24 * 3600
START = "from metaflowbot.cli import main; main()"
QUESTION = "why does `train` fail with an error?"
ANSWER = "set `@retry` on the step"


class Place:
    """A workspace and the back-fill of it, with a home of its own."""

    def __init__(self, slack: SlackDouble, home: Path) -> None:
        self.slack = slack
        self.cache = home / "cache" / "sources" / "slack"
        self.home = home
        self.api_url = slack.api_url
        self.asker, self.helper = slack.add_user("asker"), slack.add_user("helper")
        self.now = time.time()

    def channel(self, name: str = "ask", kind: Any = "channel") -> str:
        return self.slack.add_channel(name, [self.asker, self.slack.bot_user_id], kind)

    def asked(self, channel: str, days_ago: float, question: str = QUESTION) -> str:
        """A question that has one answer, which nothing marks yet."""
        at = self.now - days_ago * DAY
        root = self.slack.say(channel, self.asker, question, at=at)
        self.slack.say(channel, self.helper, ANSWER, root, at=at + 60)
        return root

    def marked(self, channel: str, root: str) -> str:
        """The asker marks the answer; its ts."""
        answer = str(self.slack.thread(channel, root)[1]["ts"])
        self.slack.react(channel, answer, self.asker, "white_check_mark")
        return answer

    def resolved(self, channel: str, days_ago: float, question: str = QUESTION) -> str:
        root = self.asked(channel, days_ago, question)
        self.marked(channel, root)
        return root

    def settings(self, channels: tuple[str, ...] = ()) -> Settings:
        return Settings(
            home=self.home,
            slack_bot_token=SecretStr(self.slack.bot_token),
            slack_api_url=self.api_url,
            sources=Sources(slack=SlackSource(location="slack", channels=channels)),
        )

    def read(self, *channels: str, **options: Any) -> tuple[dict[str, Document], dict[str, str]]:
        """Documents by id, and why each omission was made."""
        found = list(SlackApi(self.settings(channels), self.cache, **options).read())
        documents = {it.id: it for it in found if isinstance(it, Document)}
        return documents, {it.what: it.why for it in found if isinstance(it, Omission)}

    def on_disk(self) -> str:
        return "".join(path.read_text(encoding="utf-8") for path in self.cache.iterdir())


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        yield double


@pytest.fixture
def place(slack: SlackDouble, tmp_path: Path) -> Place:
    return Place(slack, tmp_path / "home")


def text(document: Document) -> str:
    return "\n".join([document.title, *(section.text for section in document.sections)])


def settle(slack: SlackDouble) -> None:
    """Put the corpus of the export's tests into the workspace."""
    for user in json.loads((CORPUS / "users.json").read_text(encoding="utf-8")):
        slack.workspace.users[user["id"]] = User(user["id"], user["name"], bool(user.get("is_bot")))
    for listing, kind in KINDS.items():
        for entry in json.loads((CORPUS / listing).read_text(encoding="utf-8")):
            members = [slack.bot_user_id]
            channel = Channel(entry["id"], entry["name"], kind, members, 0)  # type: ignore[arg-type]
            for day in sorted((CORPUS / entry["name"]).glob("*.json")):
                words = day.read_text(encoding="utf-8").replace("garden.slack", "double.slack")
                channel.messages |= {it["ts"]: it for it in json.loads(words) if "ts" in it}
            slack.workspace.channels[channel.id] = channel


def exported(slack: SlackDouble, folder: Path) -> Path:
    """The workspace as an export has it."""
    channels = [c for c in slack.workspace.channels.values() if c.kind == "channel"]
    private = [c for c in slack.workspace.channels.values() if c.kind == "group"]
    users = [described(slack.workspace, user) for user in slack.workspace.users.values()]
    files: dict[str, list[Any]] = {
        "channels.json": [{"id": c.id, "name": c.name} for c in channels],
        "groups.json": [{"id": c.id, "name": c.name} for c in private],
        "users.json": users,
        **{f"{c.name}/2024-01-01.json": slack.messages(c.id) for c in [*channels, *private]},
    }
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return folder


@contextmanager
def without_cursors(upstream: str) -> Iterator[str]:
    """A Slack that says that there are more pages, and never where the next one begins."""

    def relay(request: Request) -> Reply:
        url = upstream + request.path.removeprefix("/api/")
        named = {name: request.headers[name] for name in ("authorization", "content-type")}
        passed_on = urllib.request.Request(url, request.body, named)
        with urllib.request.urlopen(passed_on) as answer:
            page = json.load(answer)
        page["response_metadata"] = {"next_cursor": ""}
        return Reply(200, json.dumps(page).encode(), {"Content-Type": "application/json"})

    with serving(relay) as url:
        yield f"{url}/api/"


# The same documents


def test_the_web_api_gives_the_documents_that_an_export_gives(place: Place, tmp_path: Path) -> None:
    settle(place.slack)
    export = str(exported(place.slack, tmp_path / "export"))
    for channels in ((), ("ask", "dev", "private-room")):
        expected = [it for it in SlackExport(export, channels).read() if isinstance(it, Document)]
        assert len(expected) > 1
        first, again = place.read(*channels)[0], place.read(*channels)[0]
        assert first == again == {document.id: document for document in expected}


def test_private_channels_are_read_only_when_named_and_stay_where_they_are(place: Place) -> None:
    den = place.channel("den", "group")
    root = place.resolved(den, 1)
    assert place.read()[0] == {}
    documents, _ = place.read("#den")
    assert documents[f"slack:den/{root}"].channel == den


def test_what_cant_be_read_is_named_and_the_rest_is_kept(place: Place) -> None:
    ask = place.channel()
    root = place.resolved(ask, 1)
    place.slack.add_channel("closed", [place.asker])
    documents, omissions = place.read("ask", "closed", "aks")
    assert set(documents) == {f"slack:ask/{root}"}
    assert omissions["closed"] == "the bot is not in this channel: invite it"
    assert "there is no such channel" in omissions["aks"]


def test_nothing_of_people_who_opted_out_is_read_or_kept(place: Place) -> None:
    ask = place.channel()
    place.resolved(ask, 1)
    place.read()
    assert place.helper in place.on_disk()
    assert place.read(known=lambda: Known(opted_out=(place.helper,)))[0] == {}
    assert "@retry" not in place.on_disk()
    assert place.read(known=lambda: Known(opted_out=(place.asker,)))[0] == {}
    assert "train" not in place.on_disk()


def test_no_secret_is_kept_on_disk(place: Place) -> None:
    ask = place.channel()
    value = "ghp_" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j"
    signature = "https://x.example/f?a=1&amp;sig=Zm9vYmFyYmF6cXV4"
    place.resolved(ask, 1, f"{QUESTION} {value} password=ab&lt;cd9x jo@example.com {signature}")
    documents, omissions = place.read()
    everything = place.on_disk() + str((documents, omissions))
    for secret in (value, "cd9x", "jo@example.com", "Zm9vYmFy"):
        assert secret not in everything
    assert "github token" in everything


# What a later run sees


def test_a_later_run_reads_only_the_last_week_again(place: Place) -> None:
    ask = place.channel()
    roots = [place.resolved(ask, days) for days in (30, 20, 3, 1)]
    before = place.read()[0]
    assert len(before) == 4
    place.slack._api.calls.clear()
    assert place.read()[0] == before
    asked = [call.arguments["ts"] for call in place.slack.calls_of("conversations.replies")]
    assert sorted(asked) == sorted(roots[2:])


def test_reactions_edits_and_deletions_of_the_last_week_reach_the_documents(place: Place) -> None:
    ask = place.channel()
    late, edited, deleted = (place.asked(ask, days) for days in (3, 2, 1))
    answer = place.marked(ask, edited)
    gone = [place.marked(ask, deleted), deleted]
    assert set(place.read()[0]) == {f"slack:ask/{edited}", f"slack:ask/{deleted}"}
    place.marked(ask, late)
    place.slack.edit(ask, answer, "set `@timeout` on the step")
    for ts in gone:
        place.slack.delete(ask, ts)
    documents = place.read()[0]
    assert set(documents) == {f"slack:ask/{late}", f"slack:ask/{edited}"}
    assert "@timeout" in text(documents[f"slack:ask/{edited}"])
    assert deleted not in place.on_disk()


def test_a_reply_shown_to_the_channel_brings_in_its_older_thread(place: Place) -> None:
    ask = place.channel()
    root = place.asked(ask, 30)
    place.asked(ask, 1)
    place.read()
    place.marked(ask, root)
    reply = place.slack.say(ask, place.asker, "that worked, thanks!", root)
    place.slack.workspace.channels[ask].messages[reply]["subtype"] = "thread_broadcast"
    assert set(place.read()[0]) == {f"slack:ask/{root}"}


def test_what_was_kept_of_a_channel_no_longer_read_is_deleted(place: Place) -> None:
    ask, other = place.channel(), place.channel("other")
    place.read()
    assert {path.stem for path in place.cache.iterdir()} == {ask, other}
    place.read("other")
    assert {path.stem for path in place.cache.iterdir()} == {other}


# What was noted as changed


def noted(*places: tuple[str, str]) -> Callable[[], Known]:
    now = datetime.now(UTC)
    return lambda: Known(changes=tuple(Change(*place, now, now) for place in places))


def test_a_thread_noted_as_changed_is_read_again_whatever_its_age(place: Place) -> None:
    ask = place.channel()
    old, edited = place.asked(ask, 400), place.resolved(ask, 300)
    place.resolved(ask, 1)
    place.read()
    place.marked(ask, old)
    place.slack.edit(ask, str(place.slack.thread(ask, edited)[1]["ts"]), "set `@timeout` on it")
    assert f"slack:ask/{old}" not in place.read()[0]
    documents, _ = place.read(known=noted((ask, old), (ask, edited)))
    assert "@timeout" in text(documents[f"slack:ask/{edited}"])
    assert f"slack:ask/{old}" in documents
    assert place.read()[0] == documents


def test_a_change_named_by_a_reply_brings_in_its_whole_thread(place: Place) -> None:
    ask = place.channel()
    root = place.asked(ask, 400)
    place.asked(ask, 1)
    place.read()
    answer = place.marked(ask, root)
    assert f"slack:ask/{root}" in place.read(known=noted((ask, answer)))[0]


def test_a_thread_that_is_gone_goes_and_stays_gone(place: Place) -> None:
    ask = place.channel()
    root = place.resolved(ask, 400)
    place.resolved(ask, 1)
    assert f"slack:ask/{root}" in place.read()[0]
    for message in reversed(place.slack.thread(ask, root)):
        place.slack.delete(ask, message["ts"])
    for known in (noted((ask, root)), Known):
        assert f"slack:ask/{root}" not in place.read(known=known)[0]
    assert place.on_disk().count("@retry") == 1


def test_where_only_changes_are_wanted_nothing_else_is_asked_for(place: Place) -> None:
    ask = place.channel()
    changed, other = place.asked(ask, 3), place.resolved(ask, 2)
    place.read()
    place.marked(ask, changed)
    place.slack._api.calls.clear()
    documents, _ = place.read(known=noted((ask, changed)), noted_only=True)
    assert set(documents) == {f"slack:ask/{changed}", f"slack:ask/{other}"}
    assert place.slack.calls_of("conversations.history") == []
    assert len(place.slack.calls_of("conversations.replies")) == 1


def test_a_channel_that_was_never_read_is_read_whole_even_then(place: Place) -> None:
    root = place.resolved(place.channel(), 3)
    assert set(place.read(noted_only=True)[0]) == {f"slack:ask/{root}"}


def test_a_change_in_a_channel_that_is_not_to_be_read_brings_nothing_in(place: Place) -> None:
    den = place.channel("den", "group")
    place.channel()
    root = place.resolved(den, 1)
    assert place.read(known=noted((den, root)))[0] == {}


def test_all_that_was_noted_is_in_the_reading_that_is_kept(place: Place) -> None:
    ask = place.channel()
    known = noted((ask, place.resolved(ask, 1)), ("C9", "1.0"), ("", ""))()
    kept: list[Any] = []
    place.read(known=lambda: known, note=lambda *noted: kept.append(noted))
    ((seen, changes, unread),) = kept
    assert [thread.people for thread in seen] == [(f"slack:{place.asker}", f"slack:{place.helper}")]
    assert (tuple(changes), set(unread)) == (known.changes, set())


def test_a_channel_that_can_not_be_read_now_is_said_to_be(place: Place) -> None:
    ask = place.channel()
    place.slack.scopes.discard("channels:history")
    place.slack.scopes.discard("groups:history")
    place.slack.scopes.discard("im:history")
    kept: list[Any] = []
    place.read(note=lambda *noted: kept.append(noted))
    assert set(kept[0][2]) == {ask}


# Over an export


def test_what_changed_since_the_export_is_read_over_it_to_the_same_documents(
    place: Place, tmp_path: Path
) -> None:
    settle(place.slack)
    ask = place.channel("help")
    gone, edited, late = (place.asked(ask, days) for days in (30, 20, 10))
    for root in (gone, edited):
        place.marked(ask, root)
    export = str(exported(place.slack, tmp_path / "export"))
    place.marked(ask, late)
    place.slack.edit(ask, str(place.slack.thread(ask, edited)[1]["ts"]), "set `@timeout` on it")
    for message in reversed(place.slack.thread(ask, gone)):
        place.slack.delete(ask, message["ts"])
    fresh = place.resolved(ask, 0, "why does `resume` fail with an error?")
    places = [(ask, ts) for ts in (gone, edited, late, fresh)]
    live = SlackApi(place.settings(), tmp_path / "over")

    def over(known: Callable[[], Known]) -> dict[str, Document]:
        found = SlackExport(export, known=known, live=live).read()
        return {it.id: it for it in found if isinstance(it, Document)}

    expected = place.read()[0]
    assert over(noted(*places)) == expected
    assert over(Known) == expected
    assert f"slack:help/{gone}" not in expected
    assert {f"slack:help/{ts}" for ts in (edited, late, fresh)} <= expected.keys()


def test_slack_is_not_asked_for_what_an_export_holds(place: Place, tmp_path: Path) -> None:
    place.resolved(place.channel(), 3)
    export = str(exported(place.slack, tmp_path / "export"))
    found = list(SlackExport(export, live=SlackApi(place.settings(), place.cache)).read())
    assert any(isinstance(item, Document) for item in found)
    assert place.slack.calls == []


def test_where_the_workspace_can_not_be_reached_the_export_alone_is_no_reading(
    place: Place, tmp_path: Path
) -> None:
    ask = place.channel()
    root = place.resolved(ask, 3)
    export = str(exported(place.slack, tmp_path / "export"))
    place.slack.revoke_token()
    live = SlackApi(place.settings(), place.cache)
    with pytest.raises(SourceError, match="account_inactive"):
        list(SlackExport(export, known=noted((ask, root)), live=live).read())


# Trouble


def test_a_run_that_was_stopped_goes_on_where_it_ended(place: Place) -> None:
    ask = place.channel()
    older = place.resolved(ask, 100)
    chat(place, ask)
    for _ in range(2):
        place.slack.fail_next("conversations.replies", error="access_denied")
        with pytest.raises(SourceError, match=r"conversations\.replies \(access_denied\)"):
            place.read()
    assert "chat 0" in place.on_disk()
    newer = place.resolved(ask, 0)
    place.slack._api.calls.clear()
    assert set(place.read()[0]) == {f"slack:ask/{older}", f"slack:ask/{newer}"}
    resumed, anew, *_ = place.slack.calls_of("conversations.history")
    assert float(resumed.arguments["latest"]) < place.now - DAY
    assert float(anew.arguments["latest"]) > place.now


def chat(place: Place, channel: str) -> None:
    """Talk that fills the first page of the history and a part of the second."""
    for minute in range(150):
        place.slack.say(channel, place.asker, f"chat {minute}", at=place.now - DAY - minute * 60)


def test_a_file_cut_short_by_a_kill_does_no_harm(place: Place) -> None:
    ask = place.channel()
    for days in (90, 1):
        place.resolved(ask, days)
    before = place.read()[0]
    path = place.cache / f"{ask}.jsonl"
    for size in (0, 1, path.stat().st_size // 2, path.stat().st_size - 3):
        os.truncate(path, size)
        assert place.read()[0] == before


def test_pages_without_cursors_end_nothing_early(place: Place) -> None:
    ask = place.channel()
    root = place.resolved(ask, 3)
    chat(place, ask)
    with without_cursors(place.slack.api_url) as place.api_url:
        assert set(place.read()[0]) == {f"slack:ask/{root}"}


def test_a_thread_is_read_over_all_its_pages_and_named_where_they_end_early(place: Place) -> None:
    ask = place.channel()
    root = place.asked(ask, 3)
    for _ in range(1000):
        place.slack.say(ask, place.helper, "I see the same", root, at=place.now - DAY)
    answer = place.slack.say(ask, place.helper, "set `@catch` on the step", root)
    place.slack.react(ask, answer, place.asker, "white_check_mark")
    documents, omissions = place.read()
    assert "@catch" in text(documents[f"slack:ask/{root}"])
    assert f"ask/{root}" not in omissions
    found: list[Document | Omission] = []
    with without_cursors(place.slack.api_url) as place.api_url:
        found += SlackApi(place.settings(), place.cache).read()
    assert Omission(f"ask/{root}", "Slack's pages of replies ended early") in found


def test_a_rate_limit_is_waited_out_and_a_long_one_is_said_at_once(place: Place) -> None:
    ask = place.channel()
    root = place.resolved(ask, 1)
    place.slack.fail_next("conversations.history", retry_after=1)
    assert set(place.read()[0]) == {f"slack:ask/{root}"}
    place.slack.fail_next("conversations.history", retry_after=61)
    with pytest.raises(SourceError, match="what was read is kept"):
        place.read()


def test_slacks_own_fault_is_tried_again(place: Place) -> None:
    root = place.resolved(place.channel(), 1)
    place.slack.fail_next("users.list", status=500)
    assert set(place.read()[0]) == {f"slack:ask/{root}"}


def test_a_revoked_token_is_one_clear_line_that_does_not_show_it(place: Place) -> None:
    place.slack.revoke_token()
    with pytest.raises(SourceError) as raised:
        place.read()
    line = str(raised.value)
    assert "SLACK_BOT_TOKEN: Slack refuses the token (account_inactive)" in line
    assert place.slack.bot_token not in line
    assert "\n" not in line


def test_a_missing_scope_is_named(place: Place) -> None:
    place.slack.scopes.discard("users:read")
    with pytest.raises(SourceError, match="lacks the scope users:read"):
        place.read()


# How it is asked for


@pytest.mark.parametrize(
    "toml", ["[sources.slack]\nlocation = 'slack'\n", "[sources.slack]\nchannels = ['ask']\n"]
)
def test_the_setting_or_a_token_with_channels_chooses_the_web_api(
    place: Place, tmp_path: Path, toml: str
) -> None:
    (tmp_path / "metaflowbot.toml").write_text(toml)
    environment = {
        "METAFLOWBOT_CONFIG": str(tmp_path / "metaflowbot.toml"),
        "METAFLOWBOT_HOME": str(place.home),
        "SLACK_BOT_TOKEN": place.slack.bot_token,
        "SLACK_APP_TOKEN": place.slack.app_token,
        "SLACK_API_URL": place.slack.api_url,
    }
    root = place.resolved(place.channel(), 1)
    (source,) = commands.compose(load(environment), {}, ["slack"]).sources
    documents = [item.id for item in source.read() if isinstance(item, Document)]
    assert documents == [f"slack:ask/{root}"]
    (named,) = commands.compose(load(environment), {"slack": "export.zip"}, ["slack"]).sources
    assert isinstance(named, SlackExport)


def test_the_web_api_without_a_token_is_a_wrong_setting(tmp_path: Path) -> None:
    config = tmp_path / "metaflowbot.toml"
    config.write_text("[sources.slack]\nlocation = 'slack'\n")
    with pytest.raises(SettingsError, match=r"sources\.slack\.location.*SLACK_BOT_TOKEN"):
        load({"METAFLOWBOT_CONFIG": str(config)})


def test_a_refused_token_ends_an_ingest_that_asks_for_slack(place: Place, tmp_path: Path) -> None:
    place.slack.revoke_token()
    (tmp_path / "metaflowbot.toml").write_text("[sources.slack]\nlocation = 'slack'\n")
    done = subprocess.run(
        [sys.executable, "-c", START, "ingest", "--only", "slack"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "METAFLOWBOT_HOME": str(place.home),
            "SLACK_BOT_TOKEN": place.slack.bot_token,
            "SLACK_APP_TOKEN": place.slack.app_token,
            "SLACK_API_URL": place.slack.api_url,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Slack refuses the token (account_inactive)" in done.stderr
    assert "Traceback" not in done.stderr
