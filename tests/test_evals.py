"""Promises of the evals: cases, rankings, figures, suites, runs and their commands."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from evals import cases, comparison, figures, gate, runs
from evals.bench import _chunks, _Client, _plain_bm25, _plain_dense
from evals.commands import register
from evals.measures import ABSTENTION, FOLLOW_UPS, LATENCY, RETRIEVAL
from evals.ranking import MEASURES, judge, score
from evals.suites import Plan, evaluate
from evals.workbench import Workbench
from ingest.sources.api_reference import ApiReference
from metaflowbot import bootstrap, embedding
from metaflowbot.domain import Document, Passage
from metaflowbot.errors import MetaflowbotError, UsageError
from metaflowbot.manifest import SourceCount
from metaflowbot.settings import Settings

PAGES = {
    "docs/failures.md": "Put the retry decorator on a step to run it again after a failure.",
    "docs/scaling.md": "The resources decorator asks for cpu, memory and gpu of a step.",
    "docs/cards.md": "A card is a report that a step makes, with tables, images and charts.",
    "api:metaflow.schedule": "The schedule decorator runs a flow daily, weekly or by cron.",
}
QUESTIONS = [
    {"id": "q1", "question": "retry a step after a failure", "gold": ["docs/failures.md"]},
    {"id": "q2", "question": "memory and gpu for a step", "gold": [["docs/scaling.md"]]},
    {"id": "q3", "question": "run a flow by cron", "gold": ["api:metaflow.schedule", "docs/no.md"]},
    {"id": "u1", "question": "who won the football match", "kind": "off-topic"},
    {
        "id": "f1",
        "turns": [{"user": "retry"}, {"bot_summary": "explained"}, {"user": "in a report?"}],
        "gold": ["docs/cards.md"],
    },
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a small index of real vectors."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), chat_model="none")
    passages = [
        Passage(f"{name}#0", name, "metaflow-docs", name, (), f"https://x.example/{name}", text)
        for name, text in PAGES.items()
    ]
    index = bootstrap.open_index(settings)
    counts = {"metaflow-docs": SourceCount(len(passages), len(passages))}
    index.activate(index.build(passages, counts, embedding.connect(settings)).id)
    return settings.home


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write(tmp_path / "questions.jsonl", *QUESTIONS)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def evaluated(home: Path, dataset: Path) -> runs.Run:
    answerer = bootstrap.answerers(Settings(home=home, chat_model="none"))()
    questions = cases.read(dataset)
    plan = Plan((RETRIEVAL, FOLLOW_UPS, ABSTENTION, LATENCY, "answers"))
    return runs.record(answerer, questions, evaluate(answerer, questions, plan))


def lowered(run: runs.Run, name: str = "retrieval/nDCG@10") -> runs.Run:
    """The run with one score of every question at zero."""
    questions = {
        key: replace(item, scores=item.scores | ({name: 0.0} if name in item.scores else {}))
        for key, item in run.questions.items()
    }
    return replace(run, questions=questions)


def widened(run: runs.Run, times: int = 12) -> runs.Run:
    """The run with each question so often, as if there were as many that fared alike."""
    questions = {
        f"{key}-{time}": item for key, item in run.questions.items() for time in range(times)
    }
    return replace(run, questions=questions)


# Cases


def test_a_line_is_recognised_by_its_fields(dataset: Path) -> None:
    read = cases.read(dataset)
    assert [case.id for case in read.answerable] == ["q1", "q2", "q3"]
    assert [case.id for case in read.unanswerable] == ["u1"]
    (follow_up,) = read.follow_ups
    assert follow_up.question == "in a report?"
    assert [turn.role for turn in follow_up.history] == ["user", "assistant"]
    assert read.answerable[2].gold == (("api:metaflow.schedule",), ("docs/no.md",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"id": "a", "question": "?", "gold": ["x"]', "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "the line"),
        (b'{"question": "?", "gold": ["x"]}', "id"),
        (b'{"id": "a", "gold": ["x"]}', "no question"),
        (b'{"id": "a", "question": "?", "gold": [[]]}', "empty id"),
        (b'{"id": "a", "question": "?"}', "neither"),
        (b'{"id": "a", "question": "?", "gold_threads": [""]}', "empty id"),
        (b'{"id": "a", "question": "?", "gold": "x"}', "gold"),
        (b'{"id": "first", "question": "?", "gold": ["x"]}', "used before"),
    ],
)
def test_a_line_that_can_not_be_read_is_told_with_its_file_and_number_and_the_others_stay(
    tmp_path: Path, line: bytes, said: str
) -> None:
    path = tmp_path / "broken.jsonl"
    first = b'{"id": "first", "question": "?", "gold": ["x"]}'
    last = first.replace(b"first", b"last")
    path.write_bytes(first + b"\n\n" + line + b"\n" + last)
    read = cases.read(path)
    assert [case.id for case in read.cases] == ["first", "last"]
    assert len(read.faults) == 1
    assert re.match(rf"broken\.jsonl line 3.*{said}", read.faults[0])
    with pytest.raises(UsageError, match=r"broken\.jsonl line 3"):
        read.whole()


def test_what_a_folder_holds_besides_questions_is_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {**QUESTIONS[0], "mood": "good"})
    write(tmp_path / "b.jsonl", {"id": "t", "question": "?"})
    (tmp_path / "c.jsonl").write_text("")
    (tmp_path / "README.md").write_text("about")
    read = cases.read(tmp_path).whole()
    assert [case.id for case in read.cases] == ["q1"]
    assert any("b.jsonl" in notice for notice in read.notices)
    assert "c.jsonl is left out: it is empty" in read.notices
    assert any("'mood'" in notice for notice in read.notices)


def test_questions_that_threads_answer_are_a_group_of_their_own(home: Path, tmp_path: Path) -> None:
    lines = [
        {"id": "t1", "question": "is it known?", "gold_threads": ["ask-metaflow/1.2", "dev/3.4"]},
        {"id": "t2", "question": "and this?", "gold_threads": ["dev/5.6"], "kind": "error"},
    ]
    path = write(tmp_path / "threads.jsonl", *lines, QUESTIONS[0])
    thread, other, _ = cases.read(path).answerable
    assert thread.gold == (("slack:ask-metaflow/1.2",), ("slack:dev/3.4",))
    assert (thread.kind, other.kind) == ("thread", "error")
    groups = evaluated(home, path).results[RETRIEVAL].groups
    assert (groups["kind: thread"]["MRR"].n, groups["source: slack"]["MRR"].n) == (1, 2)


def test_a_dataset_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no question"):
        cases.read(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        cases.read(tmp_path / "missing.jsonl")


def test_a_datasets_hash_changes_with_its_content(dataset: Path) -> None:
    before = cases.read(dataset).sha256
    assert cases.read(dataset).sha256 == before
    write(dataset, *QUESTIONS[:2])
    assert cases.read(dataset).sha256 != before


def test_own_questions_that_the_installed_api_can_answer_name_what_is_in_it() -> None:
    items = ApiReference().read()
    documents = {item.id for item in items if isinstance(item, Document)}
    own = cases.read().within(documents)
    assert len(own.answerable) >= 40
    assert len(own.unanswerable) >= 90
    for case in own.answerable:
        assert case.answer_points, case.id
        for pages in case.gold:
            assert set(pages) & documents, case.id
            named = [page for page in pages if page.startswith("api:")]
            assert set(named) <= documents, case.id


# Rankings


def test_measures_equal_those_worked_out_by_hand() -> None:
    judged = judge(["x", "a", "y", "b"], (("a",), ("b",), ("c",)), {"a", "b", "c"})
    values = score({"q": judged})["q"]
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert values["recall@1"] == 0
    assert values["recall@3"] == pytest.approx(1 / 3)
    assert values["recall@5"] == pytest.approx(2 / 3)
    assert values["MRR"] == pytest.approx(1 / 2)
    assert values["nDCG@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert judged.first_rank == 2


def test_documents_that_share_a_page_count_once() -> None:
    gold = (("api:a", "docs/a.md"), ("api:b", "docs/a.md"))
    whole = judge(["docs/a.md", "api:a"], gold, {"docs/a.md", "api:a"})
    assert (whole.ranking, whole.relevant) == (("api:a",), ("api:a",))
    assert score({"q": whole})["q"]["recall@1"] == 1
    apart = judge(["api:b", "x"], gold, {"api:a", "api:b"})
    assert score({"q": apart})["q"]["recall@5"] == 0.5


def test_a_page_found_again_keeps_its_first_place() -> None:
    assert judge(["a", "b", "a", "c"], (("c",),), {"c"}).ranking == ("a", "b", "c")


def test_gold_that_is_not_indexed_is_named_and_counts_as_not_found() -> None:
    judged = judge(["a"], (("a",), ("gone", "lost")), {"a"})
    assert judged.missing == ("gone",)
    assert score({"q": judged})["q"]["recall@10"] == 0.5


def test_a_gold_page_that_was_moved_is_found_under_its_new_id(dataset: Path) -> None:
    moved = {"docs/failures.md": "docs/retries.md"}
    question = cases.read(dataset).followed(moved.get).answerable[0]
    assert question.gold == (("docs/failures.md", "docs/retries.md"),)
    judged = judge(["docs/retries.md"], question.gold, {"docs/retries.md"})
    assert (judged.first_rank, judged.missing) == (1, ())


def test_an_empty_ranking_scores_zero_and_no_gold_is_an_error() -> None:
    values = score({"q": judge([], (("a",),), {"a"}), "p": judge(["a"], (("a",),), {"a"})})
    assert values["q"] == dict.fromkeys(MEASURES, 0.0)
    assert values["p"] == dict.fromkeys(MEASURES, 1.0)
    assert score({}) == {}
    with pytest.raises(ValueError, match="no gold for q"):
        score({"q": judge(["a"], (), {"a"})})


# Figures


def test_an_interval_is_the_same_each_time_and_holds_its_mean() -> None:
    values = [0.0, 1.0, 1.0, 0.5] * 10
    figure = figures.mean(values)
    assert figure == figures.mean(values)
    assert figure.n == 40
    assert figure.low < figure.value == 0.625 < figure.high  # type: ignore[operator]
    assert figures.mean([]) == figures.Figure(None, None, None, 0)


def test_auroc_counts_a_tie_half_and_needs_both_sides() -> None:
    assert figures.auroc([0.9, 0.5], [0.5, 0.1]).value == 0.875
    assert figures.auroc([0.9], []).value is None


def test_calibration_error_equals_that_worked_out_by_hand() -> None:
    figure = figures.calibration_error([0.95, 0.95, 0.15, 1.0], [True, False, False, True])
    assert figure.value == pytest.approx((abs(0.95 + 0.95 + 1.0 - 2) + 0.15) / 4)
    assert figures.calibration_error([], []).value is None


def test_ties_never_flatter_the_risk_coverage_curve() -> None:
    curve = figures.risk_coverage([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
    assert [(point.coverage, point.risk) for point in curve] == [
        (0.25, 0.0),
        (0.5, 0.5),
        (0.75, 0.3333),
        (1.0, 0.5),
    ]
    assert figures.risk_coverage([], []) == ()


def test_two_runs_of_the_same_thing_rarely_differ_significantly() -> None:
    random = np.random.default_rng(7)
    alarms = 0
    for _ in range(100):
        first, second = random.binomial(1, 0.8, size=(2, 78))
        change = figures.difference(first, second)
        alarms += change.high is not None and change.high < 0
    assert alarms <= 5


def test_a_fall_of_ten_points_is_mostly_caught() -> None:
    random = np.random.default_rng(7)
    caught = 0
    for _ in range(100):
        before = random.binomial(1, 0.85, size=78)
        after = before * random.binomial(1, 1 - 0.1 / 0.85, size=78)
        change = figures.difference(before, after)
        caught += change.high is not None and change.high < 0
    assert caught >= 80


# Suites and runs


def test_suites_tell_what_was_found_and_what_was_not(home: Path, dataset: Path) -> None:
    run = evaluated(home, dataset)
    retrieval = run.results[RETRIEVAL]
    assert retrieval.figures["MRR"].value == 1.0
    assert retrieval.figures["recall@10"].value == pytest.approx(2.5 / 3, abs=1e-4)
    assert retrieval.groups["source: metaflow-api"]["MRR"].n == 1
    assert run.results[FOLLOW_UPS].figures["MRR"].n == 1
    assert run.results[ABSTENTION].figures["unanswerable abstained"].value == 1.0
    assert run.results[ABSTENTION].figures["false refusals"].n == 3
    assert run.results[LATENCY].figures["answer p95 ms"].n == 5
    assert run.skipped == {"answers": "it needs a judge model: name one with --judge"}
    assert run.notices == ("q3: its gold page docs/no.md is not in the index",)
    assert run.shortfalls == ("gold pages that are not in the index and count as not found: 1",)
    assert run.questions["u1"].abstained is True


def test_a_suite_without_questions_is_skipped_by_name(home: Path, tmp_path: Path) -> None:
    run = evaluated(home, write(tmp_path / "one.jsonl", QUESTIONS[3]))
    assert {RETRIEVAL, FOLLOW_UPS} <= run.skipped.keys()
    assert run.results[ABSTENTION].figures["AUROC"].value is None


def test_a_run_reads_back_as_it_was_written(home: Path, dataset: Path, tmp_path: Path) -> None:
    run = evaluated(home, dataset)
    assert runs.load(runs.write(run, tmp_path / "runs")) == run


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1}')
    with pytest.raises(UsageError, match="is not a run"):
        runs.load(tmp_path / "run.json")
    with pytest.raises(UsageError, match="can't be read"):
        runs.load(tmp_path / "missing.json")


def test_a_run_ties_with_itself(home: Path, dataset: Path) -> None:
    run = evaluated(home, dataset)
    same = comparison.compare(run, run)
    assert {change.verdict for change in same.changes} == {"tie"}
    assert (same.moved, same.is_regression) == ((), False)


def test_only_a_fall_of_a_gated_score_is_a_regression(home: Path, dataset: Path) -> None:
    run = widened(evaluated(home, dataset))
    fallen = comparison.compare(run, lowered(run))
    assert fallen.is_regression
    assert {item.id.partition("-")[0] for item in fallen.moved} == {"q1", "q2", "q3"}
    assert not comparison.compare(lowered(run), run).is_regression
    assert not comparison.compare(run, lowered(run, "retrieval/recall@10")).is_regression


def test_three_questions_can_not_show_a_regression(home: Path, dataset: Path) -> None:
    run = evaluated(home, dataset)
    fallen = comparison.compare(run, lowered(run))
    (change,) = [item for item in fallen.changes if item.score == "retrieval/nDCG@10"]
    assert (fallen.is_regression, change.verdict, change.moved) == (False, "tie", (3, 0))
    assert change.detectable == 1.0


def test_runs_without_a_common_question_are_not_compared(home: Path, dataset: Path) -> None:
    run = evaluated(home, dataset)
    with pytest.raises(UsageError, match="no scored question in common"):
        comparison.compare(run, replace(run, questions={}))


# Commands, gate and bench


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.setenv("METAFLOWBOT_HOME", str(home))
    monkeypatch.setenv("METAFLOWBOT_CHAT_MODEL", "none")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    register(app)
    return app


def test_a_run_prints_one_json_document_and_keeps_a_file(
    command: typer.Typer, dataset: Path, tmp_path: Path
) -> None:
    words = ["evals", "run", "--dataset", str(dataset), "--out", str(tmp_path / "out"), "--json"]
    write(dataset, *QUESTIONS[:2])
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    (kept,) = (tmp_path / "out").glob("*.json")
    assert kept.with_suffix(".html").exists()
    assert not list((tmp_path / "out").glob("*.jsonl"))
    assert document == json.loads(kept.read_text())
    assert document["subject"]["model"] == "none"
    assert len(document["subject"]["dataset_sha256"]) == 64


def test_a_table_names_the_suites_and_the_skipped_ones(
    command: typer.Typer, dataset: Path, tmp_path: Path
) -> None:
    words = ["evals", "run", "--dataset", str(dataset), "--out", str(tmp_path / "out")]
    write(dataset, *QUESTIONS[:2])
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0
    assert "recall@5" in done.stdout
    assert "answers: skipped: it needs a judge model" in done.stdout


def test_what_falls_short_is_in_the_report_and_the_exit_code_while_the_rest_stays(
    command: typer.Typer, dataset: Path, tmp_path: Path
) -> None:
    with dataset.open("a") as file:
        file.write("{broken\n" + json.dumps(QUESTIONS[0]) + "\n")
    words = ["evals", "run", "--dataset", str(dataset), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 1
    assert "recall@5" in done.stdout
    for line in (
        "questions.jsonl line 6 is not JSON",
        "questions.jsonl line 7: the id 'q1' was used before",
        "q3: its gold page docs/no.md is not in the index",
    ):
        assert line in done.stdout
    (page,) = (tmp_path / "out").glob("*.html")
    assert "lines of the dataset that are left out: 2." in page.read_text()


def test_suites_that_can_not_run_are_told_and_fail(
    command: typer.Typer, dataset: Path, tmp_path: Path
) -> None:
    words = ["evals", "run", "--dataset", str(dataset), "--out", str(tmp_path), "--suite"]
    skipped = CliRunner().invoke(command, [*words, "answers"])
    assert (skipped.exit_code, "needs a judge" in skipped.stdout) == (1, True)
    unknown = CliRunner().invoke(command, [*words, "beauty"])
    assert isinstance(unknown.exception, UsageError)
    assert "there are retrieval" in str(unknown.exception)


def test_compare_exits_1_on_a_significant_fall_and_names_the_questions(
    command: typer.Typer, home: Path, dataset: Path, tmp_path: Path
) -> None:
    run = widened(evaluated(home, dataset))
    before, after = (tmp_path / name for name in ("before.json", "after.json"))
    before.write_text(runs.dump(run))
    after.write_text(runs.dump(lowered(run)))
    fallen = CliRunner().invoke(command, ["evals", "compare", str(before), str(after)])
    assert fallen.exit_code == 1
    assert "worse" in fallen.stdout
    assert "retry a step after a failure" in fallen.stdout
    same = CliRunner().invoke(command, ["evals", "compare", str(before), str(before), "--json"])
    assert same.exit_code == 0
    assert set(json.loads(same.stdout)["verdicts"].values()) == {"tie"}


def test_the_gate_fails_below_the_baseline_only(home: Path, dataset: Path, tmp_path: Path) -> None:
    run = widened(evaluated(home, dataset))
    gate.accept(run, tmp_path / "baseline.json")
    accepted = runs.load(tmp_path / "baseline.json")
    assert gate.hold(run, accepted) == 0
    assert gate.hold(lowered(run), accepted) == 1


def test_the_gate_tells_a_missing_baseline_before_it_works(tmp_path: Path) -> None:
    assert gate.main([], tmp_path / "missing.json") == 2


def test_the_shipped_baseline_holds_every_own_question_that_the_api_can_answer() -> None:
    items = ApiReference().read()
    own = cases.read().within({item.id for item in items if isinstance(item, Document)})
    assert runs.load(gate.BASELINE).questions.keys() == {
        *(case.id for case in own.cases),
        *(drill.id for drill in own.drills),
    }


def test_plain_pipelines_rank_the_page_that_says_it_first(home: Path) -> None:
    model = embedding.MiniLM(home / "cache")
    chunks = _chunks({name: f"# {name}\n\n{text}\n" * 30 for name, text in PAGES.items()})
    assert len(chunks) > len(PAGES)
    for search in (_plain_dense(chunks, model), _plain_bm25(chunks)):
        assert search("retry after a failure")[0] == "docs/failures.md"


def test_a_workbench_serves_its_home_over_http(home: Path) -> None:
    with Workbench(home).serve() as server:
        assert _Client(server).search("run a flow by cron")[0] == "api:metaflow.schedule"
        assert server.resident_mb is None or server.resident_mb > 10


def test_a_workbench_tells_why_its_server_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "metaflowbot.db").write_text("this is no database" * 100)
    with pytest.raises(MetaflowbotError, match="did not start"), Workbench(tmp_path).serve():
        pass
