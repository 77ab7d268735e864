"""Escalations in the database: never two for a thread, one winner, and nothing lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metaflowbot.bot import Bot
from metaflowbot.domain import Answer, Citation, Feedback
from metaflowbot.errors import MetaflowbotError, NotFoundError
from metaflowbot.escalation import Escalation, EscalationError, Session, Solution
from metaflowbot.settings import Trenches
from metaflowbot.store import Asking, Store
from metaflowbot.threads import Mark

ASKING = Asking("slack:U1", "C1", "1.0", "1.0")
RULES = Trenches(after_hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path}/bot.db")
    yield opened
    opened.close()


@pytest.fixture
def bot(store: Store) -> Bot:
    """A bot that is not asked anything here."""

    def never() -> None:
        raise AssertionError("no question is asked")

    return Bot(store, never, never)  # type: ignore[arg-type]


def an_answer(identity: str = "a1", question: str = "how do I retry?", **values: object) -> Answer:
    fields = {
        "text": "No source covers that.",
        "citations": (Citation(1, "docs/a.md", "A", "https://d.io/a", "q"),),
        "abstained": True,
        "confidence": 0.1,
        "model": "none",
        "prompt_version": "p",
        "generation": "g",
    }
    return Answer(identity, question, **{**fields, **values})  # type: ignore[arg-type]


def escalated(bot: Bot, store: Store, asking: Asking = ASKING, identity: str = "a1") -> Escalation:
    store.save_answer(an_answer(identity), asking)
    return bot.escalate(asking, identity, asking.person)


def test_a_thread_is_escalated_once_whoever_asks_for_it(bot: Bot, store: Store) -> None:
    first = escalated(bot, store)
    store.save_answer(an_answer("a2"), ASKING)
    assert bot.escalate(ASKING, "a2", "slack:U9") == first
    assert store.escalations.all() == (first,)
    assert store.health().depth == 1


def test_the_reasons_say_who_wanted_it_and_where_the_answer_fell_short(
    bot: Bot, store: Store
) -> None:
    store.save_answer(an_answer("a1", abstained=False, confidence=0.9), ASKING)
    store.rate(Feedback("a1", "slack:U1", "down"))
    assert bot.escalate(ASKING, "a1", "slack:U9").reasons == (
        "somebody else asked for a human",
        "the asker said that the answer did not help",
    )


def test_an_answer_that_does_not_exist_is_not_escalated(bot: Bot) -> None:
    with pytest.raises(NotFoundError, match="there is no answer 'nope'"):
        bot.escalate(ASKING, "nope", "slack:U1")


def test_a_step_is_kept_with_all_that_belongs_to_it(bot: Bot, store: Store) -> None:
    identity = escalated(bot, store).id
    bot.claim(identity, "slack:U2")
    session = Session(datetime(2026, 5, 11, tzinfo=UTC).date(), ("slack:U1",), "https://v.io/1")
    bot.schedule(identity, session, "slack:U2")
    after = bot.solve(identity, Solution("So.\0", "1.5"), "slack:U2")
    kept = store.escalations.get(identity)
    assert kept == after
    assert (kept.session, kept.solution) == (session, Solution("So. ", "1.5"))
    assert store.escalations.all(("solved",)) == (kept,)
    assert store.escalations.all(("open", "declined")) == ()


def test_of_fifty_who_claim_at_once_one_does_and_the_others_are_told(
    bot: Bot, store: Store
) -> None:
    identity = escalated(bot, store).id

    def claim(n: int) -> str:
        try:
            return bot.claim(identity, f"slack:U{n}").owner
        except MetaflowbotError as error:
            return str(error)

    with ThreadPoolExecutor(50) as people:
        said = list(people.map(claim, range(50)))
    owners = [each for each in said if each.startswith("slack:")]
    assert len(owners) == 1
    assert store.escalations.get(identity).owner == owners[0]
    assert all("it is claimed since" in each for each in said if each not in owners)


def test_only_the_asker_decides_on_quotes(bot: Bot, store: Store) -> None:
    identity = escalated(bot, store).id
    with pytest.raises(EscalationError, match="only who asked"):
        bot.allow_quotes(identity, "slack:U2", given=True)
    assert bot.allow_quotes(identity, "slack:U1", given=True).consent == "given"
    assert bot.allow_quotes(identity, "slack:U1", given=False).consent == "refused"


def test_each_step_leaves_one_item_for_slack_in_its_own_transaction(bot: Bot, store: Store) -> None:
    identity = escalated(bot, store).id
    bot.claim(identity, "slack:U2")
    with pytest.raises(EscalationError):
        bot.claim(identity, "slack:U3")
    items = [store.claim(60), store.claim(60)]
    assert [item.payload if item else None for item in items] == [{"escalation": identity}] * 2
    assert store.claim(60) is None


def test_one_holder_at_a_time_shows_it_and_a_holder_that_died_takes_it_up_again(
    bot: Bot, store: Store
) -> None:
    identity = escalated(bot, store).id
    held = store.escalations.hold(identity, "one", 60)
    assert held
    assert store.escalations.hold(identity, "two", 60) is None
    assert store.escalations.hold(identity, "one", 60) == held
    assert store.escalations.shown(held, "one")
    assert store.escalations.hold(identity, "two", 0)
    assert store.escalations.hold(identity, "three", 60)


def test_what_changed_while_it_was_shown_is_not_taken_for_shown(bot: Bot, store: Store) -> None:
    identity = escalated(bot, store).id
    held = store.escalations.hold(identity, "one", 60)
    assert held
    newer = bot.claim(identity, "slack:U2")
    assert not store.escalations.shown(held, "one")
    assert store.escalations.hold(identity, "one", 60) == newer
    assert store.escalations.shown(newer, "one")


def test_what_slack_does_not_show_yet_is_put_into_the_inbox_once_a_moment(
    bot: Bot, store: Store
) -> None:
    escalated(bot, store)
    assert store.escalations.announce_unshown("10:00") == 1
    assert store.escalations.announce_unshown("10:00") == 0
    assert store.escalations.announce_unshown("10:01") == 1


# Policy over what is stored


def test_the_rules_open_what_is_due_and_never_a_thread_twice(bot: Bot, store: Store) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.save_answer(
        an_answer("a2", abstained=False, confidence=0.9), Asking("slack:U1", "C1", "2")
    )
    store.save_answer(an_answer("a3"), Asking("cli"))
    repeated = Trenches(times_asked=2)
    opened = bot.escalate_due(repeated, lambda channel: channel == "C1")
    assert [(each.answer_id, each.opened_by) for each in opened] == [("a1", "policy")]
    assert opened[0].reasons[0] == "asked 3 times"
    assert bot.escalate_due(repeated, lambda _: True) == ()


def test_what_is_unwatched_resolved_or_not_yet_due_stays_with_the_bot(
    bot: Bot, store: Store
) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    assert bot.escalate_due(Trenches(times_asked=1), lambda _: False) == ()
    assert bot.escalate_due(Trenches(after_hours=1), lambda _: True) == ()
    assert bot.escalate_due(Trenches(), lambda _: True) == ()
    store.threads.mark(Mark("C1", "1.0", "", "slack:U1"))
    assert bot.escalate_due(Trenches(times_asked=1), lambda _: True) == ()


def test_how_often_it_was_asked_counts_people_and_names_none(bot: Bot, store: Store) -> None:
    first = escalated(bot, store)
    store.save_answer(an_answer("a2", "retry: how do I?"), Asking("slack:U2"))
    store.save_answer(an_answer("a3", "how to retry"), Asking("slack:U2"))
    store.save_answer(an_answer("a4", "what is a card?"), Asking("slack:U3"))
    assert bot.asked_alike(first) == (3, 2)


# What goes out, and what goes


def test_the_export_holds_the_humans_answer_as_reference_with_and_without_a_verdict(
    bot: Bot, store: Store
) -> None:
    for identity, thread in (("a1", "1.0"), ("a2", "2.0"), ("a3", "3.0")):
        asking = Asking("slack:U1", "C1", thread, thread)
        opened = escalated(bot, store, asking, identity)
        if identity != "a3":
            bot.claim(opened.id, "slack:U2")
            bot.solve(opened.id, Solution(f"the answer to {identity}"), "slack:U2")
    store.rate(Feedback("a1", "slack:U1", "down", "wrong"))
    found = {each.answer_id: (each.verdict, each.reason, each.reference) for each in store.rated()}
    assert found == {
        "a1": ("down", "wrong", "the answer to a1"),
        "a2": (None, "", "the answer to a2"),
    }
    assert list(store.rated(datetime.now(UTC) + timedelta(hours=1))) == []


def test_forgetting_erases_what_a_person_asked_and_their_name_from_the_rest(
    bot: Bot, store: Store
) -> None:
    mine = escalated(bot, store)
    theirs = escalated(bot, store, Asking("slack:U5", "C1", "5.0", "5.0"), "a5")
    bot.claim(theirs.id, "slack:U1")
    assert store.forget("slack:U1")["escalations"] == 1
    left = store.escalations.all()
    assert [each.id for each in left] == [theirs.id]
    assert mine.id != theirs.id
    assert (left[0].owner, left[0].history[-1].person) == ("", "")


def test_answers_posted_for_a_maintainer_are_known_by_their_place(bot: Bot, store: Store) -> None:
    identity = escalated(bot, store).id
    bot.claim(identity, "slack:U2")
    bot.solve(identity, Solution("Do this."), "slack:U3")
    assert store.escalations.begin_post(identity, "solved-2") is None
    assert store.escalations.answers() == {}
    store.escalations.posted(identity, "solved-2", "C1", "1.7")
    assert store.escalations.answers() == {("C1", "1.7"): "U3"}
