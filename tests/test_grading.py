"""Promises of the judges: what they say is read, what not is reported, and who judges them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evals import cases, comparison, runs
from evals.agreement import Labelled, agreement
from evals.cases import Case
from evals.judging import Grades, Jury
from evals.measures import ANSWERS, CORRECT
from evals.observing import Journal, Observation
from evals.ranking import Judged
from evals.suites import Plan, evaluate
from metaflowbot import prompts
from metaflowbot.answer import Answerer
from metaflowbot.domain import Answer
from metaflowbot.llm import ChatModel
from metaflowbot.retrieve import Retriever
from metaflowbot.settings import Settings
from tests.openai_double import Message, OpenAIDouble
from tests.small_index import RETRY

pytest_plugins = ["tests.prebuilt"]

RIGHT = '{"points": [{"n": 1, "grade": "right"}], "reason": "it says so", "grade": "right"}'


@pytest.fixture
def server() -> object:
    with OpenAIDouble() as double:
        yield double


def judge(server: OpenAIDouble, name: str = "openai:judge") -> ChatModel:
    settings = Settings(
        chat_model=name,
        openai_api_key=server.key,  # type: ignore[arg-type]
        openai_base_url=server.url,
        model_timeout=5,
    )
    return ChatModel(settings, name, tries=1)


def jury(*judges: ChatModel, labelled: tuple[Labelled, ...] = ()) -> Jury:
    prompt = prompts.load("grade_answer", "question", "points", "answer")
    return Jury(judges, prompt, labelled)


def observed(text: str = "Use retry [1].", *, abstained: bool = False) -> Observation:
    case = Case("q", RETRY, "how-to", (("docs/a.md",),), answer_points=("Use @retry",))
    said = Answer(
        id="a",
        question=RETRY,
        text=text,
        citations=(),
        abstained=abstained,
        confidence=0.9,
        model="none",
        prompt_version="p",
        generation="g",
    )
    return Observation(case, Judged((), ()), (), 1.0, said, 1.0)


def graded(server: OpenAIDouble, item: Observation) -> Grades:
    return jury(judge(server)).grade([item], Journal())


def test_a_grade_is_read_with_its_reason_and_its_points(server: OpenAIDouble) -> None:
    server.reply(f"Here it is:\n```json\n{RIGHT}\n```")
    (grade,) = graded(server, observed()).grades
    assert (grade.grade, grade.reason, grade.points) == ("right", "it says so", ("right",))
    asked = str(server.requests[0]["messages"][0]["content"])
    assert "1. Use @retry" in asked
    assert "Use retry [1]." in asked


@pytest.mark.parametrize("reply", ["I like it.", '{"grade": "superb"}', "{", "[]", '{"points": 3}'])
def test_nonsense_is_no_grade_and_is_reported(server: OpenAIDouble, reply: str) -> None:
    server.reply(reply)
    grades = graded(server, observed())
    assert grades.grades[0].grade == ""
    assert list(grades.values(ANSWERS)) == []
    assert any("q: openai:judge gave no grade" in line for line in grades.notices)
    assert grades.figures()["ungraded"].value == 1.0


def test_a_judge_that_fails_leaves_the_others_grades_standing(server: OpenAIDouble) -> None:
    server.reply(RIGHT)
    server.fail(429)
    first, second = observed(), observed()
    grades = jury(judge(server)).grade([first, second], Journal())
    assert [grade.grade for grade in grades.grades] == ["", "right"]
    assert "429" in grades.grades[0].reason


def test_a_judge_that_is_down_is_not_asked_for_ever(server: OpenAIDouble) -> None:
    server.fail(503, times=1000)
    items = [replace(observed(), trial=trial) for trial in range(20)]
    found = jury(judge(server), labelled=cases.read().labelled).grade(items, Journal())
    assert len(server.requests) == 5
    assert len(found.ungraded) == 20
    assert sum("not asked" in grade.reason for grade in found.grades) == 15
    assert not found.is_trusted


def test_an_abstention_and_an_empty_answer_are_wrong_without_asking(server: OpenAIDouble) -> None:
    for item in (observed("I don't know", abstained=True), observed(" ")):
        assert graded(server, item).grades[0].grade == "wrong"
    assert server.requests == []


def test_points_that_are_not_all_graded_count_neither_way(server: OpenAIDouble) -> None:
    server.reply('{"points": [{"n": 7, "grade": "right"}], "grade": "partly"}')
    grades = graded(server, observed())
    assert {name: value for _, name, value in grades.values(ANSWERS)} == {CORRECT: 0.5}


def test_agreement_leaves_out_what_was_not_graded() -> None:
    found = agreement([("right", "right"), ("wrong", "wrong"), ("partly", "")])
    assert (found.kappa.value, found.ungraded) == (1.0, 1)
    assert not agreement([]).is_trusted


def by_label(messages: list[Message]) -> str:
    """A judge that reads the labelled answers as people do."""
    prompt = str(messages[0]["content"])
    for item in cases.read().labelled:
        if f"\n{item.answer}\n" in prompt and f"\n{item.question}\n" in prompt:
            return json.dumps({"grade": item.label, "reason": "as people say"})
    return RIGHT


def test_a_judge_that_agrees_with_people_is_trusted_and_one_that_does_not_is_no_gate(
    server: OpenAIDouble,
) -> None:
    labelled = cases.read().labelled
    server.reply(by_label)
    good = jury(judge(server), labelled=labelled).grade([observed()], Journal())
    assert good.is_trusted
    assert good.agreements["openai:judge"].kappa.value == 1.0
    server.reply(RIGHT)
    bad = jury(judge(server), labelled=labelled).grade([observed()], Journal())
    assert not bad.is_trusted
    assert any("is no gate" in line for line in bad.notices)


def test_the_gap_between_two_judges_is_told(server: OpenAIDouble) -> None:
    def by_model(messages: list[Message]) -> str:
        strict = server.requests[-1]["model"] == "strict"
        return RIGHT.replace('"grade": "right"}', f'"grade": "{"wrong" if strict else "right"}"}}')

    server.reply(by_model)
    both = jury(judge(server), judge(server, "openai:strict")).grade([observed()], Journal())
    assert both.figures()["openai:strict minus openai:judge"].value == -1.0


def test_the_answers_suite_scores_each_question_and_is_gated_only_with_a_trusted_judge(
    server: OpenAIDouble, retriever: Retriever, tmp_path: Path
) -> None:
    answerer = Answerer(retriever, None, prompts.load("answer", "sources"))
    path = tmp_path / "set.jsonl"
    lines = [
        {"id": f"q{n}", "question": RETRY, "gold": ["docs/scaling/failures.md"],
         "answer_points": ["Use @retry"]}
        for n in range(12)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = cases.read(path)

    def run(reply: str, labelled: tuple[Labelled, ...]) -> runs.Run:
        def said(messages: list[Message]) -> str:
            known = by_label(messages)
            return known if known != RIGHT else reply

        server.reply(said)
        plan = Plan((ANSWERS,), jury=jury(judge(server), labelled=labelled))
        return runs.record(answerer, dataset, evaluate(answerer, dataset, plan))

    labelled = cases.read().labelled
    wrong = RIGHT.replace("right", "wrong")
    before, after = run(RIGHT, labelled), run(wrong, labelled)
    assert before.results[ANSWERS].figures["correct"].value == 1.0
    assert before.judge_is_trusted
    assert comparison.compare(before, after).is_regression
    assert not comparison.compare(run(RIGHT, ()), run(wrong, ())).is_regression
