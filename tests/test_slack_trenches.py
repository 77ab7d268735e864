"""Escalations in Slack: the card, its forms, the lines to the asker, and processes that end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from metaflowbot.escalation import Session, Solution
from metaflowbot.store import Store
from tests.slack_double import SlackDouble
from tests.trenches_scene import Scene, said, until

ANSWER = "Set the delay:\n\n```python\n@retry(minutes_between_retries=5)\n```"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with SlackDouble(clock_scale=6) as slack:
        made = Scene(slack, tmp_path)
        yield made
        made.store.close()


@pytest.fixture
def live(scene: Scene) -> Iterator[Scene]:
    with scene.serving():
        yield scene


def settled(scene: Scene) -> None:
    """Nothing is left to do."""
    until(lambda: scene.store.health().depth == 0)


def claimed(scene: Scene) -> str:
    """An escalation that Max took on; its id."""
    escalation = scene.escalated()
    scene.card()
    scene.press("claim", scene.max)
    scene.shows("Claimed")
    return escalation.id


# The card


def test_the_card_says_what_was_asked_how_often_what_was_found_and_where(live: Scene) -> None:
    live.asked("the best sourdough bread recipe, what is it?")
    escalation = live.escalated()
    text = said(live.card())
    assert f"> {escalation.question}" in text
    assert "asked 2 times, by 1 person" in text
    assert "the bot found no answer" in text
    assert "|Open the thread>" in text
    assert escalation.id in text
    assert live.ann not in text


def test_the_asker_gets_one_quiet_line_however_often_it_is_escalated(live: Scene) -> None:
    asking, answer = live.asked()
    for person in (asking.person, f"slack:{live.max}", asking.person):
        live.bot.escalate(asking, answer, person)
    live.wake()
    live.told("A human will look at this", asking.thread)
    settled(live)
    assert len(live.lines(asking.thread)) == 1
    assert len(live.in_trenches()) == 1


def test_what_people_wrote_is_shown_and_pings_nobody(live: Scene) -> None:
    live.escalated("<!channel> <script>alert(1)</script> *bold* @here how do I bake?")
    text = said(live.card())
    assert "<!channel>" not in text
    assert "<script>" not in text
    assert "@here" not in text


def test_the_card_follows_the_question_from_its_claim_to_its_publication(live: Scene) -> None:
    thread = live.escalated().thread
    live.card()
    live.press("claim", live.max)
    assert f"<@{live.max}>" in said(live.shows("Claimed"))
    live.fill("schedule", live.mia, {"day": "2026-12-01", "people": [live.ann]})
    assert "2026-12-01" in said(live.shows("Session set"))
    live.told("Tuesday, 01 December 2026", thread)
    live.fill("solve", live.max, {"text": ANSWER})
    live.shows("Solved")
    answer = live.told("maintainers’ answer", thread)
    assert {"type": "markdown", "text": ANSWER}.items() <= answer["blocks"][1].items()
    live.fill("publish", live.max, {"url": "https://labs.example/learn/bread"})
    live.shows("Published")
    live.told("https://labs.example/learn/bread", thread)
    settled(live)
    assert len(live.in_trenches()) == 1
    assert len(live.lines(thread)) == 5


def test_a_declined_question_gets_a_kind_word_and_the_card_has_no_buttons_left(
    live: Scene,
) -> None:
    thread = live.escalated().thread
    live.card()
    live.fill("decline", live.mia, {"reason": "it is about <bread>"})
    card = live.shows("Declined")
    assert "it is about &lt;bread&gt;" in live.told("Thank you for asking", thread)["text"]
    assert all(block["type"] != "actions" for block in card["blocks"])


def test_a_message_of_the_thread_can_be_the_solution(live: Scene) -> None:
    identity = claimed(live)
    thread = live.store.escalations.get(identity).thread
    answer = live.slack.say(live.channel, live.max, "Use a &lt;starter&gt;.", thread_ts=thread)
    live.slack.say(live.channel, live.ann, "thanks", thread_ts=thread)
    live.fill("solve", live.max, {"message": answer})
    live.told("point to a message above", thread)
    assert live.store.escalations.get(identity).solution == Solution("Use a <starter>.", answer)
    settled(live)
    marks = [(each.channel, each.thread, each.answer) for each in live.store.threads.marks()]
    assert marks == [(live.channel, thread, answer)]


def test_a_written_solution_is_marked_where_it_was_posted(live: Scene) -> None:
    identity = claimed(live)
    thread = live.store.escalations.get(identity).thread
    live.fill("solve", live.max, {"text": ANSWER})
    posted = live.told("maintainers’ answer", thread)
    settled(live)
    assert [mark.answer for mark in live.store.threads.marks()] == [posted["ts"]]
    assert live.store.escalations.answers() == {(live.channel, posted["ts"]): live.max}


def test_the_asker_alone_says_whether_they_may_be_quoted(live: Scene) -> None:
    identity = claimed(live)
    thread = live.store.escalations.get(identity).thread
    live.bot.solve(identity, Solution(ANSWER), f"slack:{live.max}")
    live.wake()
    question = live.told("May we quote", thread)
    with pytest.raises(LookupError, match="not visible"):
        live.slack.click(live.channel, question["ts"], "trenches_consent_given", live.max)
    live.slack.click(live.channel, question["ts"], "trenches_consent_given", live.ann)
    live.told("Thank you: your words may be quoted", thread)
    live.slack.click(live.channel, question["ts"], "trenches_consent_refused", live.ann)
    live.told("nothing of your words is quoted", thread)
    assert live.store.escalations.get(identity).consent == "refused"
    live.shows("refused by the asker")


# Who may act, and when


def test_who_is_no_maintainer_is_told_so_and_changes_nothing(live: Scene) -> None:
    escalation = live.escalated()
    live.card()
    for step in ("claim", "decline"):
        live.press(step, live.ann)
        assert "Only maintainers" in live.whisper(live.ann)
    assert live.slack.modal(live.ann) is None
    assert live.store.escalations.get(escalation.id).state == "open"


def test_members_of_a_maintainers_group_may_act(live: Scene) -> None:
    live.escalated()
    live.card()
    live.press("claim", live.mia)
    assert f"<@{live.mia}>" in said(live.shows("Claimed"))


def test_a_form_that_was_open_too_long_changes_nothing_and_says_why(live: Scene) -> None:
    escalation = live.escalated()
    live.card()
    live.press("claim", live.max)
    live.shows("Claimed")
    live.press("solve", live.mia)
    form = until(lambda: live.slack.modal(live.mia))
    live.bot.decline(escalation.id, "a duplicate", f"slack:{live.max}")
    live.slack.submit(form["id"], live.mia, {"text": ANSWER})
    assert "it is declined since" in live.whisper(live.mia)
    assert live.store.escalations.get(escalation.id).solution is None


def test_what_is_wrong_in_a_form_is_said_in_the_form(live: Scene) -> None:
    identity = claimed(live)
    ack = live.fill("solve", live.max, {})
    assert "the solution is empty" in ack.body["errors"].popitem()[1]
    ack = live.fill("schedule", live.max, {"day": "2026-12-01", "recording": "https://video"})
    assert "recording" in ack.body["errors"].popitem()[1]
    assert live.store.escalations.get(identity).state == "claimed"


def test_a_message_that_was_deleted_meanwhile_is_no_solution(live: Scene) -> None:
    identity = claimed(live)
    thread = live.store.escalations.get(identity).thread
    answer = live.slack.say(live.channel, live.max, "Use a starter.", thread_ts=thread)
    live.press("solve", live.max)
    form = until(lambda: live.slack.modal(live.max))
    live.slack.delete(live.channel, answer)
    ack = live.slack.submit(form["id"], live.max, {"message": answer})
    assert "not there any more" in ack.body["errors"].popitem()[1]


def test_of_all_who_press_claim_at_once_one_has_it(live: Scene) -> None:
    escalation = live.escalated()
    card = live.card()
    people = [live.max, live.mia] * 3
    place = live.trenches, card["ts"], "trenches_claim"
    presses = [live.slack.click_payload(*place, user) for user in people]
    with ThreadPoolExecutor(len(people)) as pool:
        list(pool.map(live.slack.send_payload, presses))
    settled(live)
    history = live.store.escalations.get(escalation.id).history
    assert [step.state for step in history] == ["open", "claimed"]
    until(lambda: len(live.slack.ephemerals) == len(people) - 1, 30)


# Places that are private or gone


def test_the_words_of_a_private_channel_stay_there_when_somebody_else_hands_them_on(
    live: Scene,
) -> None:
    members = [live.ann, live.max, live.slack.bot_user_id]
    room = live.slack.add_channel("secret-room", members, "group")
    asking, answer = live.asked("how do I bake for the secret launch?", room)
    live.bot.escalate(asking, answer, f"slack:{live.max}")
    live.wake()
    card = said(live.card())
    assert "secret launch" not in card
    assert "private place" in card
    live.slack.say(room, live.ann, "it is for the moon", thread_ts=asking.thread)
    live.press("claim", live.max)
    live.shows("Claimed")
    live.press("solve", live.max)
    form = until(lambda: live.slack.modal(live.max))
    assert [block["block_id"] for block in form["blocks"]] == ["text"]
    live.slack.submit(form["id"], live.max, {"text": "bake it for the moon"})
    assert "moon" not in said(live.shows("Solved"))
    live.told("bake it for the moon", asking.thread, room)


def test_an_escalation_of_a_deleted_thread_has_its_card_and_says_so(scene: Scene) -> None:
    escalation = scene.escalated()
    scene.slack.delete(scene.channel, escalation.thread)
    with scene.serving():
        assert "The thread is gone" in said(scene.card())
        settled(scene)
    assert scene.lines(escalation.thread) == []


def test_without_a_trenches_channel_the_asker_is_told_all_the_same(scene: Scene) -> None:
    with scene.serving(channel=""):
        escalation = scene.escalated()
        scene.told("A human will look at this", escalation.thread)
        settled(scene)
    assert scene.in_trenches() == []


# What ends a process halfway


def finished(scene: Scene, identity: str) -> None:
    """All that Slack is to show of a solved escalation stands there once, and nothing besides."""
    escalation = scene.store.escalations.get(identity)
    scene.shows("Solved")
    until(lambda: len(scene.lines(escalation.thread)) >= 4)
    settled(scene)
    lines = scene.lines(escalation.thread)
    starts = ["A human", "A session", "*Solved.*", "May we quote"]
    assert [line.partition(" ")[0] for line in lines] == [each.partition(" ")[0] for each in starts]
    assert len(scene.in_trenches()) == 1


def solved(scene: Scene) -> str:
    escalation = scene.escalated()
    person = f"slack:{scene.max}"
    scene.bot.claim(escalation.id, person)
    scene.bot.schedule(escalation.id, Session(date(2026, 12, 1)), person)
    scene.bot.solve(escalation.id, Solution(ANSWER), person)
    scene.wake()
    return escalation.id


def test_steps_taken_while_no_slack_process_ran_are_shown_when_one_starts(scene: Scene) -> None:
    identity = solved(scene)
    assert scene.in_trenches() == []
    with scene.serving():
        finished(scene, identity)


def test_a_post_whose_confirmation_was_lost_is_found_and_not_posted_again(scene: Scene) -> None:
    identity = solved(scene)
    scene.slack.drop_reply_of("chat.postMessage")
    with scene.serving():
        finished(scene, identity)


def test_a_card_whose_confirmation_was_lost_is_found_and_not_posted_again(scene: Scene) -> None:
    escalation = scene.escalated()
    with scene.serving():
        scene.told("A human", escalation.thread)
        scene.slack.drop_reply_of("chat.update")
        scene.bot.claim(escalation.id, f"slack:{scene.max}")
        scene.wake()
        scene.shows("Claimed")
        settled(scene)
    assert len(scene.in_trenches()) == 1


def test_slack_that_was_down_for_a_while_is_brought_up_to_date(scene: Scene) -> None:
    scene.slack.fail_next("chat.postMessage", status=500)
    with scene.serving():
        finished(scene, solved(scene))


# Time


def test_maintainers_are_reminded_under_the_card_once_for_each_time_that_went_by(
    scene: Scene,
) -> None:
    escalation = scene.escalated()
    with scene.serving(remind_hours=24) as service:
        card = scene.card()
        settled(scene)  # who reminds before the card is noted finds none
        board = service._clock._board
        for hours in (1, 25, 26, 49):
            board.tick(datetime.now(UTC) + timedelta(hours=hours))
            board.tick(datetime.now(UTC) + timedelta(hours=hours))
        until(lambda: len(scene.slack.thread(scene.trenches, card["ts"])) == 3)
        settled(scene)
        reminders = scene.slack.thread(scene.trenches, card["ts"])[1:]
        assert ["nobody has claimed this yet" in each["text"] for each in reminders] == [True] * 2
        assert len(scene.lines(escalation.thread)) == 1


def test_the_rules_of_the_settings_hand_a_question_on_by_themselves(scene: Scene) -> None:
    _, answer = scene.asked()
    with scene.serving(times_asked=1) as service:
        service._clock._board.tick(datetime.now(UTC))
        scene.wake()
        assert "asked 1 times" in said(scene.card())
    assert scene.store.escalations.all()[0].answer_id == answer


def test_a_direct_message_is_never_handed_on_by_a_rule(scene: Scene) -> None:
    scene.asked(channel=scene.slack.open_dm(scene.ann))
    with scene.serving(times_asked=1) as service:
        service._clock._board.tick(datetime.now(UTC))
    assert scene.store.escalations.all() == ()


def test_the_store_is_the_same_for_a_second_process(scene: Scene) -> None:
    identity = scene.escalated().id
    other = Store.open(scene.url)
    assert other.escalations.get(identity).state == "open"
    other.close()
