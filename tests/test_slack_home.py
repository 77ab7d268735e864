"""The App Home, the messages tab, and the maintainers' digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from metaflowbot.domain import Answer
from metaflowbot.settings import Settings
from metaflowbot.slack import digest, outdated
from metaflowbot.slack.clients import Clients, identify
from metaflowbot.slack.commands import FORGET_ACTION
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.home import OPT_IN_ACTION, OPT_OUT_ACTION
from metaflowbot.slack.people import People
from metaflowbot.slack.rules import Rules
from metaflowbot.threads import Mark
from tests.slack_world import World, shown, until

pytest_plugins = ["tests.slack_world"]
MORNING = datetime.now(UTC).replace(hour=9, minute=30) + timedelta(days=1)


@pytest.fixture
def maintained(world: World) -> Iterator[World]:
    world.mia = world.slack.add_user("mia")
    with world.serving(trenches={"maintainers": [world.mia]}):
        yield world


def home(world: World, user: str, part: str) -> Any:
    """The home of that person as it is once it shows this."""
    world.slack.open_home(user)

    def found() -> Any:
        view = world.slack.home(user)
        return view if view and part in shown(view) else None

    return until(found)


def unanswered_question(world: World) -> str:
    def abstain(answer: Answer) -> Answer:
        return replace(answer, abstained=True, text="I could not find it [1].")

    world.bot.does = abstain
    ts = world.ask("what is the airspeed of a swallow?")
    world.reply(ts)
    world.settle()
    return ts


def test_the_home_shows_my_questions_what_the_bot_knows_and_my_privacy(live: World) -> None:
    home(live, live.ann, "You have not asked me anything yet.")
    ts = live.ask("how do I retry?")
    live.reply(ts)
    live.settle()
    view = home(live, live.ann, "how do I retry?")
    text = shown(view)
    assert "how do I retry?> — answered" in text
    assert f"/archives/{live.channel}/p{ts.replace('.', '')}" in text
    assert "Metaflow's docs: 7 documents" in text
    assert "2026-01-02 03:04 UTC" in text
    assert "/metaflow ask QUESTION" in text
    assert "Forgetting erases" in text
    assert "Open escalations" not in text
    live.store.threads.mark(Mark(live.channel, ts, "", f"slack:{live.ann}"))
    home(live, live.ann, "how do I retry?> — solved")


def test_a_maintainer_sees_what_nobody_answered(maintained: World) -> None:
    ts = unanswered_question(maintained)
    text = shown(home(maintained, maintained.mia, "Unanswered questions"))
    assert "airspeed of a swallow" in text
    assert "Open escalations\nNone." in text
    maintained.store.threads.mark(Mark(maintained.channel, ts, "", f"slack:{maintained.mia}"))
    home(maintained, maintained.mia, "Unanswered questions\nNone.")


def test_opting_out_and_in_again_shows_in_the_home(live: World) -> None:
    view = home(live, live.ann, "If you opt out")
    live.slack.click_view(view["id"], OPT_OUT_ACTION, live.ann)
    assert live.ann in live.store.threads.opted_out()
    view = until(lambda: (v := live.slack.home(live.ann)) and "You opted out" in shown(v) and v)
    live.slack.click_view(view["id"], OPT_IN_ACTION, live.ann)
    assert live.ann not in live.store.threads.opted_out()


def test_forgetting_from_the_home_is_confirmed_in_a_direct_message(live: World) -> None:
    live.reply(live.ask("how?"))
    live.settle()
    view = home(live, live.ann, "Forgetting erases")
    live.slack.click_view(view["id"], FORGET_ACTION, live.ann)
    dm = live.slack.open_dm(live.ann)
    (message,) = until(lambda: live.slack.messages(dm))
    assert "I erased" in message["text"]
    until(lambda: "You have not asked me anything yet." in shown(live.slack.home(live.ann) or {}))
    assert live.bot.forgotten == [f"slack:{live.ann}"]


def test_the_messages_tab_is_given_prompts_where_the_workspace_has_them(live: World) -> None:
    live.slack.open_home(live.ann, tab="messages")
    dm = live.slack.open_dm(live.ann)
    prompts = until(lambda: live.slack.workspace.prompts.get((dm, "")))
    assert len(prompts) == 4
    live.slack.scopes.discard("assistant:write")
    live.slack.open_home(live.ann, tab="messages")
    live.reply(live.ask("and without them?"))


# The digest


def desk(world: World, settings: Settings) -> Desk:
    clients = Clients.of(settings)
    people = People(clients.patient, settings.trenches.maintainers)
    rules = Rules(settings, world.store, clients.patient)
    identity = identify(clients.patient)

    def run(errand: Callable[[], object]) -> None:
        errand()

    return Desk(
        settings, world.bot, world.store, identity, clients, people, rules, lambda: None, run
    )


def test_maintainers_get_one_digest_a_day_and_nobody_else_does(maintained: World) -> None:
    unanswered_question(maintained)
    shared = desk(maintained, maintained.settings(trenches={"maintainers": [maintained.mia]}))
    for _ in range(3):
        digest.order(shared, MORNING - timedelta(hours=1))
        digest.order(shared, MORNING - timedelta(days=1) + timedelta(hours=14))
    dm = maintained.slack.open_dm(maintained.mia)
    (message,) = until(lambda: maintained.slack.messages(dm))
    assert "airspeed of a swallow" in message["text"]
    maintained.settle()
    assert len(maintained.slack.messages(dm)) == 1
    assert maintained.slack.messages(maintained.slack.open_dm(maintained.ann)) == []


def test_an_answer_whose_source_changed_says_so_in_its_footer(maintained: World) -> None:
    ts = maintained.ask("how?")
    first = maintained.reply(ts)
    maintained.settle()
    shared = desk(maintained, maintained.settings(trenches={"maintainers": [maintained.mia]}))
    outdated.order(shared, datetime.now(UTC))
    assert maintained.store.health().depth == 0
    maintained.bot.changed.add("answer-1")
    for _ in range(2):
        outdated.order(shared, datetime.now(UTC))
    until(lambda: "A source of this answer changed" in shown(maintained.reply(ts)))
    maintained.settle()
    (reply,) = maintained.replies(ts)
    assert reply["ts"] == first["ts"]
    assert "You asked: how? [1]." in shown(reply)


def test_there_is_no_digest_where_all_is_answered(maintained: World, tmp_path: Path) -> None:
    maintained.reply(maintained.ask("how?"))
    maintained.settle()
    shared = desk(maintained, maintained.settings(trenches={"maintainers": [maintained.mia]}))
    digest.order(shared, MORNING)
    assert maintained.store.health().depth == 0
