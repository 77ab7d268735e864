"""When a question is handed to people, and what may become of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from metaflowbot.errors import UsageError
from metaflowbot.escalation import (
    Escalation,
    EscalationError,
    Facts,
    Handed,
    Session,
    Solution,
    alike,
    due,
    is_web_address,
    shortcomings,
    topic,
)
from metaflowbot.settings import Trenches

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MAX, MIA = "slack:U2", "slack:U3"
SOLUTION = Solution("Use `@retry`.")
SESSION = Session(date(2026, 5, 11), ("slack:U1",))
ASKED = Handed("a1", "how do I retry?", "slack:U1", "C1", "1.0", "1.0")
OPEN = ASKED.escalation("slack:U1", ("the asker asked for a human",), NOW)
CLAIMED = OPEN.claim(MAX, NOW)
SCHEDULED = CLAIMED.schedule(SESSION, MAX, NOW)
SOLVED = SCHEDULED.solve(SOLUTION, MAX, NOW)
PUBLISHED = SOLVED.publish("https://labs.example/page", MAX, NOW)
DECLINED = OPEN.decline("it is about another tool", MAX, NOW)
AT_ONCE = Trenches(after_hours=24, times_asked=3)


def test_the_whole_way_leaves_a_history_of_who_did_what() -> None:
    assert [(step.state, step.person) for step in PUBLISHED.history] == [
        ("open", "slack:U1"),
        ("claimed", MAX),
        ("scheduled", MAX),
        ("solved", MAX),
        ("published", MAX),
    ]
    assert PUBLISHED.version == 5
    assert (PUBLISHED.owner, PUBLISHED.session, PUBLISHED.solution) == (MAX, SESSION, SOLUTION)
    assert PUBLISHED.is_over


def test_a_claimed_one_is_solved_without_a_session() -> None:
    assert CLAIMED.solve(SOLUTION, MAX, NOW).state == "solved"


def test_a_session_is_changed_when_its_recording_is_there() -> None:
    recorded = replace(SESSION, recording="https://video.example/1")
    assert SCHEDULED.schedule(recorded, MAX, NOW).session == recorded


@pytest.mark.parametrize("escalation", [CLAIMED, SCHEDULED, SOLVED, PUBLISHED, DECLINED])
def test_what_is_not_open_any_more_can_not_be_claimed(escalation: Escalation) -> None:
    with pytest.raises(EscalationError, match=f"it is {escalation.state} since 2026-05-04 12:00"):
        escalation.claim(MIA, NOW)


@pytest.mark.parametrize("escalation", [OPEN, SOLVED, PUBLISHED, DECLINED])
def test_only_what_is_in_hand_can_be_solved(escalation: Escalation) -> None:
    with pytest.raises(EscalationError):
        escalation.solve(SOLUTION, MAX, NOW)


def test_nothing_is_published_that_was_not_solved_and_nothing_declined_after_that() -> None:
    with pytest.raises(EscalationError):
        CLAIMED.publish("https://labs.example/page", MAX, NOW)
    with pytest.raises(EscalationError):
        SOLVED.decline("no", MAX, NOW)


def test_an_empty_solution_reason_or_a_link_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="solution is empty"):
        CLAIMED.solve(Solution("  "), MAX, NOW)
    with pytest.raises(UsageError, match="reason is empty"):
        OPEN.decline(" ", MAX, NOW)
    with pytest.raises(UsageError, match="not an http"):
        SOLVED.publish("page.html", MAX, NOW)
    with pytest.raises(UsageError, match="recording"):
        CLAIMED.schedule(replace(SESSION, recording="see chat"), MAX, NOW)


def test_a_thread_has_one_id_whoever_escalates_it_and_by_whichever_answer() -> None:
    again = replace(ASKED, answer_id="a2", message="2.0").escalation(MAX, (), NOW)
    assert again.id == OPEN.id
    elsewhere = replace(ASKED, thread="9.0").escalation(MAX, (), NOW)
    assert elsewhere.id != OPEN.id


def test_outside_slack_each_answer_has_its_own_id() -> None:
    ids = {Handed(each, "?", "web").escalation("web", (), NOW).id for each in ("a1", "a2")}
    assert len(ids) == 2


def test_a_forgotten_person_leaves_history_session_and_ownership() -> None:
    left = SCHEDULED.without(MAX).without("slack:U1")
    assert {step.person for step in left.history} == {""}
    assert left.owner == ""
    assert left.session == replace(SESSION, people=())
    assert SCHEDULED.without("slack:U9") == SCHEDULED


# Policy


def test_an_answer_falls_short_when_it_is_none_is_unsure_or_did_not_help_its_asker() -> None:
    assert shortcomings(Facts()) == ()
    assert len(shortcomings(Facts(abstained=True, confidence=0.1))) == 1
    assert len(shortcomings(Facts(confidence=0.2, down_voted=True))) == 2


SHORT = Facts(abstained=True, confidence=0.1, watched=True, hours=30, times_asked=4)


def test_what_waited_long_or_was_asked_often_is_due_with_its_reasons() -> None:
    reasons = due(SHORT, AT_ONCE)
    assert reasons == ("unanswered for 30 hours", "asked 4 times", "the bot found no answer")
    assert due(replace(SHORT, times_asked=1), AT_ONCE)
    assert due(replace(SHORT, hours=1), AT_ONCE)


@pytest.mark.parametrize(
    "facts",
    [
        replace(SHORT, resolved=True),
        replace(SHORT, watched=False),
        replace(SHORT, abstained=False, confidence=0.9),
        replace(SHORT, hours=23.9, times_asked=2),
    ],
)
def test_what_is_resolved_unwatched_well_answered_or_young_is_not_due(facts: Facts) -> None:
    assert due(facts, AT_ONCE) == ()


def test_a_rule_that_is_off_hands_nothing_on() -> None:
    assert due(replace(SHORT, hours=10_000, times_asked=10_000), Trenches()) == ()


def test_questions_are_alike_by_their_terms_whatever_the_order() -> None:
    asked = "How do I retry a failing step?"
    others = [
        "retry failing steps, how?",
        "how can a step that fails be retried",
        "what is a card?",
    ]
    assert alike(topic(asked), map(topic, others)) == 2
    assert alike(topic(asked), []) == 0
    assert alike(topic(""), [topic(""), topic("?")]) == 0


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://labs.example/learn/page", True),
        ("http://localhost:3000/page", True),
        ("labs.example/page", False),
        ("ftp://labs.example/page", False),
        ("https://", False),
        ("https://nowhere", False),
        ("https://labs.example/a page", False),
        ("https://labs.example/<script>", False),
        ("https://[labs.example/", False),
        ("", False),
    ],
)
def test_an_address_of_a_page_is_told_from_what_is_none(text: str, is_one: bool) -> None:
    assert is_web_address(text) is is_one


def test_times_are_those_of_the_first_and_the_last_step() -> None:
    later = NOW + timedelta(hours=5)
    claimed = OPEN.claim(MAX, later)
    assert (claimed.opened_at, claimed.changed_at, claimed.opened_by) == (NOW, later, "slack:U1")
