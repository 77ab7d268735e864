"""From verdicts to eval cases: what the export holds, and what maintainers make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from evals import cases as datasets
from metaflowbot.cases import EvalCase, rewrite
from metaflowbot.domain import Answer, Citation, Feedback, Usage
from metaflowbot.errors import NotFoundError, UsageError
from metaflowbot.escalation import Handed, Solution
from metaflowbot.migrations.schema import AUDIT, EVAL_CASES, FEEDBACK, QUESTIONS
from metaflowbot.record import Filter
from metaflowbot.store import Asking, Store
from metaflowbot.threads import SeenThread

pytest_plugins = ["tests.databases"]

ASKING = Asking("slack:U1", "C1", "1.0", "1.0")


def an_answer(identity: str, question: str = "How do I branch?", abstained: bool = False) -> Answer:
    return Answer(
        id=identity,
        question=question,
        text="Use foreach [1].",
        citations=(Citation(1, "docs/basics.md", "Basics", "https://docs/basics", "foreach"),),
        abstained=abstained,
        confidence=0.75,
        model="openai:m",
        prompt_version="p1",
        generation="g1",
        timings_ms={"total": 12.5},
        usage=Usage(10, 20, 0.5),
    )


def solved(store: Store, identity: str, asking: Asking) -> None:
    asked = Handed(identity, "q", asking.person, asking.channel, asking.thread, asking.message)
    now = datetime.now(UTC)
    opened = store.escalations.open(asked.escalation("slack:U9", (), now))
    claimed = opened.claim("slack:U9", now)
    assert store.escalations.save(claimed)
    assert store.escalations.save(claimed.solve(Solution("Do this."), "slack:U9", now))


def a_thread(ts: str, state: str = "resolved", private: bool = False) -> SeenThread:
    key = f"ask-metaflow/{ts}"
    return SeenThread(
        key,
        "A thread",
        f"https://slack.example/{ts}",
        state,  # type: ignore[arg-type]
        0.9,
        (),
        "",
        "ask-metaflow",
        "C1",
        private,
        ("slack:U7",),
    )


def found(store: Store) -> dict[str, tuple[object, str, object]]:
    return {each.answer_id: (each.verdict, each.reason, each.reference) for each in store.rated()}


def test_who_gave_a_verdict_is_kept_as_a_salted_hash_alone(store: Store) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.rate(Feedback("a1", "slack:U1", "down", "wrong"))
    store.rate(Feedback("a1", "slack:U2", "up"))
    with store._database.writing() as connection:
        rows = connection.execute(sa.select(FEEDBACK.c.person, FEEDBACK.c.by_asker)).all()
    assert all("U1" not in person and "slack" not in person for person, _ in rows)
    assert sorted(by_asker for _, by_asker in rows) == [False, True]
    assert store.escalations.down_voted("a1")


def test_a_verdict_under_a_hash_is_replaced_taken_back_and_forgotten(store: Store) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.rate(Feedback("a1", "slack:U2", "up"))
    store.rate(Feedback("a1", "slack:U2", "down", "old"))
    assert found(store) == {"a1": ("down", "old", None)}
    store.unrate(Feedback("a1", "slack:U2", "down"))
    assert found(store) == {}
    store.rate(Feedback("a1", "slack:U2", "up"))
    assert store.forget("slack:U2")["feedback"] == 1
    assert found(store) == {}


def test_two_databases_write_one_person_in_two_ways(tmp_path: Path) -> None:
    stores = [Store.open(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "two")]
    hashes = set()
    for store in stores:
        store.save_answer(an_answer("a1"), ASKING)
        store.rate(Feedback("a1", "slack:U1", "up"))
        (given,) = store.record.verdicts("a1")
        hashes.add(given.person)
        store.close()
    assert len(hashes) == 2


def test_an_abstention_that_was_answered_later_is_a_candidate(store: Store) -> None:
    store.save_answer(an_answer("a1", "How do I retry a step?", abstained=True), ASKING)
    store.save_answer(an_answer("a2", "something else", abstained=True), ASKING)
    assert found(store) == {}
    store.save_answer(an_answer("a3", "retry a step: how?"), ASKING)
    assert found(store) == {"a1": (None, "", None)}


def test_an_abstention_in_a_thread_that_is_resolved_proposes_the_threads_document(
    store: Store,
) -> None:
    store.save_answer(an_answer("a1", abstained=True), ASKING)
    store.threads.note([a_thread("1.0", "unresolved")])
    assert found(store) == {}
    store.threads.note([a_thread("1.0")])
    (candidate,), total = store.cases.queue()
    assert total == 1
    assert candidate.proposed.gold == ("slack:ask-metaflow/1.0",)


def test_the_queue_is_newest_first_with_one_entry_for_several_verdicts(store: Store) -> None:
    for identity in ("a1", "a2"):
        store.save_answer(an_answer(identity), ASKING)
        store.rate(Feedback(identity, "slack:U1", "down", "wrong"))
        store.rate(Feedback(identity, "slack:U2", "up"))
    waiting, total = store.cases.queue()
    assert (total, [each.first.answer_id for each in waiting]) == (2, ["a2", "a1"])
    assert len(waiting[0].rated) == 2
    assert store.cases.queue(2) == ((), 2)


def test_an_accepted_case_is_read_by_the_evals_and_leaves_the_queue(
    store: Store, tmp_path: Path
) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.save_answer(an_answer("a2", "What is the weather?", abstained=True), ASKING)
    for identity in ("a1", "a2"):
        store.rate(Feedback(identity, "slack:U1", "up"))
    points = (" foreach makes branches ", "")
    store.cases.accept(EvalCase("a1", "How do I branch? ", "question", ("docs/a.md",), points))
    store.cases.write(tmp_path)
    store.cases.accept(EvalCase("a2", "What is the weather?", "off-topic"))
    path = store.cases.write(tmp_path)
    assert store.cases.queue() == ((), 0)
    read = {case.id: case for case in datasets.read(path).cases}
    assert (read["a1"].question, read["a1"].gold) == ("How do I branch?", (("docs/a.md",),))
    assert read["a1"].answer_points == ("foreach makes branches",)
    assert read["a2"].kind == "off-topic"
    history = sorted(path.parent.glob("history/*.jsonl"))
    assert [len(old.read_text().splitlines()) for old in history] == [1, 2]


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        (EvalCase("a1", " ", gold=("docs/a.md",)), "question is empty"),
        (EvalCase("a1", "q", gold=("", " ")), "no document"),
        (EvalCase("a1", "q", "trivia"), "no kind"),
        (EvalCase("a1", "q", "off-topic", ("docs/a.md",)), "has no document"),
    ],
)
def test_a_case_that_lacks_something_is_refused_and_stays_in_the_queue(
    store: Store, case: EvalCase, complaint: str
) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.rate(Feedback("a1", "slack:U1", "up"))
    with pytest.raises(UsageError, match=complaint):
        store.cases.accept(case)
    assert store.cases.queue()[1] == 1


def test_what_was_decided_on_or_never_waited_is_not_found(store: Store) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.save_answer(an_answer("a2"), ASKING)
    store.rate(Feedback("a1", "slack:U1", "up"))
    store.cases.reject("a1")
    for identity in ("a1", "a2", "nowhere"):
        with pytest.raises(NotFoundError):
            store.cases.reject(identity)


def test_forgetting_an_asker_takes_their_cases_out_of_the_dataset_and_its_history(
    store: Store, tmp_path: Path
) -> None:
    for identity, person in (("a1", "slack:U1"), ("a2", "slack:U2")):
        store.save_answer(
            an_answer(identity, f"question {identity}"), replace(ASKING, person=person)
        )
        store.rate(Feedback(identity, "slack:U3", "up"))
        store.cases.accept(EvalCase(identity, f"question {identity}", gold=("docs/a.md",)))
        store.cases.write(tmp_path)
    store.record.log("slack:U1", "accepted", "a1")
    assert store.forget("slack:U1")["eval cases"] == 1
    rewrite(tmp_path, store.cases)
    texts = [file.read_text() for file in (tmp_path / "evals" / "cases").rglob("*.jsonl")]
    assert texts
    assert all("question a1" not in text for text in texts)
    assert [entry.person for entry in store.record.entries()] == [""]
    with store._database.writing() as connection:
        assert connection.execute(sa.select(EVAL_CASES.c.answer_id)).scalars().all() == ["a2"]


def test_retention_takes_the_listed_question_and_leaves_the_accepted_case(store: Store) -> None:
    store.save_answer(an_answer("a1"), ASKING)
    store.rate(Feedback("a1", "slack:U1", "up"))
    store.cases.accept(EvalCase("a1", "q", gold=("docs/a.md",)))
    with store._database.writing() as connection:
        connection.execute(sa.text("UPDATE answers SET asked_at = '2020-01-01 00:00:00'"))
    store.expire(30)
    assert store.record.page(Filter()).total == 0
    assert [case.answer_id for case in store.cases.accepted()] == ["a1"]


def test_a_solved_escalation_gives_its_answer_as_reference(store: Store) -> None:
    store.save_answer(an_answer("a1", abstained=True), ASKING)
    solved(store, "a1", ASKING)
    (candidate,), _ = store.cases.queue()
    assert candidate.first.reference == "Do this."
    line = json.loads(EvalCase("a1", "q", gold=("docs/a.md",)).line())
    assert line.keys() == {"id", "question", "gold", "kind", "origin"}


def test_the_log_keeps_who_did_what_newest_first(store: Store) -> None:
    store.record.log("web:one", "accepted", "a1")
    store.record.log("web:two", "rejected", "a2")
    newest, oldest = store.record.entries()
    assert (newest.action, oldest.subject) == ("rejected", "a1")
    assert "one" not in oldest.person
    with store._database.writing() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(AUDIT)).scalar() == 2


def test_questions_of_the_same_words_are_one_topic(store: Store) -> None:
    for number, text in enumerate(("How to retry a step?", "step retries: how?", "Other thing")):
        store.save_answer(an_answer(f"a{number}", text), ASKING)
    (repeated,) = store.record.repeated(datetime.now(UTC).date())
    assert (repeated.times, repeated.text) == (2, "step retries: how?")
    assert store.record.page(Filter(topic=repeated.topic)).total == 2
    with store._database.writing() as connection:
        assert connection.execute(sa.select(QUESTIONS.c.day).distinct()).scalars().all()


@pytest.mark.parametrize(
    ("asking", "shared"),
    [
        (Asking("web:x"), True),
        (Asking("slack:U1", "C1", "5.0", "5.0"), True),
        (Asking("slack:U1", "C1", "", "ephemeral"), False),
        (Asking("slack:U1", "C2", "5.0", "5.0"), False),
        (Asking("slack:U1", "D1", "5.0", "5.0"), False),
    ],
    ids=["web", "public", "ephemeral", "private", "direct"],
)
def test_an_answer_is_shared_only_where_its_channel_is_known_as_public(
    store: Store, asking: Asking, shared: bool
) -> None:
    private = replace(a_thread("2.0", private=True), key="secret/2.0", channel_id="C2")
    store.threads.note([a_thread("1.0"), private])
    store.save_answer(an_answer("a1"), asking)
    assert store.record.may_be_shared("a1") is shared
    assert not store.record.may_be_shared("nowhere")
