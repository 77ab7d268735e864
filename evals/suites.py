"""The suites: what was observed of the bot, turned into figures.

Every case is put to the bot once, and each suite reads the observations: a suite is a pure
function, so the figures of a run can be made again from what it kept.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evals import figures
from evals.cases import Case, Dataset
from evals.figures import Figure, Point
from evals.ranking import DEPTH, MEASURES, Judged, judge, score
from metaflowbot.answer import Answerer
from metaflowbot.domain import Answer, Search

RETRIEVAL, FOLLOW_UPS, ABSTENTION, LATENCY = "retrieval", "follow-ups", "abstention", "latency"
SUITES = (RETRIEVAL, FOLLOW_UPS, ABSTENTION, LATENCY)
"""The suites that need no judge."""
JUDGED = ("answers",)
"""The suites whose grades a judge model gives."""

GATED = tuple(f"{RETRIEVAL}/{name}" for name in ("recall@5", "MRR", "nDCG@10"))
"""The scores whose fall stops a change."""
DECISION = f"{ABSTENTION}/right decision"

_SOURCES = {"api": "metaflow-api", "labs": "labs", "slack": "slack", "github": "github"}


@dataclass(frozen=True, slots=True)
class Observation:
    """What the bot found and said for one case, with the wall time of each (milliseconds).

    `answer` is None where no chosen suite reads answers.
    """

    case: Case
    judged: Judged
    search: Search
    search_ms: float
    answer: Answer | None = None
    answer_ms: float = 0.0

    @property
    def is_supported(self) -> bool:
        """Whether a gold page is among those that the answer cites."""
        cited = {citation.document_id for citation in self.answer.citations} if self.answer else ()
        return any(document in cited for pages in self.case.gold for document in pages)


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one suite, in all and by group, e.g. by kind of question."""

    figures: dict[str, Figure]
    groups: dict[str, dict[str, Figure]] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a dataset. `scores` are each question's own, by 'suite/measure'.

    `skipped` says for each suite that was chosen and not run why; `notices` are lines about cases.
    """

    observations: tuple[Observation, ...]
    results: dict[str, Result]
    scores: dict[str, dict[str, float]]
    skipped: dict[str, str]
    notices: tuple[str, ...]


Advance = Callable[[Sequence[Case]], Iterable[Case]]
"""Hands the cases on one by one, and may show how far it is."""


def evaluate(
    answerer: Answerer, dataset: Dataset, chosen: Sequence[str], advance: Advance = iter
) -> Evaluation:
    """Run the chosen suites; raises what searching and answering raise."""
    manifest = answerer.retriever.generation.manifest
    dataset, indexed = dataset.followed(manifest.current_id), manifest.documents
    skipped = dict(_skipped(dataset, chosen))
    run = [suite for suite in chosen if suite not in skipped]
    cases = _cases_of(dataset, run)
    answers = ABSTENTION in run or LATENCY in run
    if cases:
        _observe(answerer, cases[0], indexed, answers)  # the first call loads the models
    seen = tuple(_observe(answerer, case, indexed, answers) for case in advance(cases))
    scores = _scores(seen, run)
    results = {suite: _SUITES[suite](seen, scores) for suite in run}
    return Evaluation(seen, results, scores, skipped, (*dataset.notices, *_missing(seen)))


def _skipped(dataset: Dataset, chosen: Sequence[str]) -> Iterator[tuple[str, str]]:
    for suite in chosen:
        if suite in JUDGED:
            yield suite, "it needs a judge model"
        elif not _cases_of(dataset, [suite]):
            yield suite, "the dataset has no question for it"


def _cases_of(dataset: Dataset, suites: Sequence[str]) -> list[Case]:
    """The cases that the suites read, in the dataset's order."""
    read: set[str] = set()
    for suite in suites:
        if suite != FOLLOW_UPS:
            read |= {case.id for case in dataset.answerable}
        if suite in (FOLLOW_UPS, LATENCY):
            read |= {case.id for case in dataset.follow_ups}
        if suite in (ABSTENTION, LATENCY):
            read |= {case.id for case in dataset.unanswerable}
    return [case for case in dataset.cases if case.id in read]


def _observe(
    answerer: Answerer, case: Case, indexed: Mapping[str, object], answers: bool
) -> Observation:
    started = time.perf_counter()
    search = answerer.retriever.search(case.asked, DEPTH)
    search_ms = _since(started)
    judged = judge((hit.best.document_id for hit in search.hits), case.gold, indexed)
    if not answers:
        return Observation(case, judged, search, search_ms)
    started = time.perf_counter()
    *_, answer = answerer.stream(case.asked)
    assert isinstance(answer, Answer)
    return Observation(case, judged, search, search_ms, answer, _since(started))


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def _scores(seen: Sequence[Observation], run: Sequence[str]) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    suite_of = {item.case.id: _ranking_suite(item.case) for item in seen if item.case.gold}
    rankings = {item.case.id: item.judged for item in seen if suite_of.get(item.case.id) in run}
    for case_id, values in score(rankings).items():
        scores[case_id] |= {f"{suite_of[case_id]}/{name}": values[name] for name in MEASURES}
    if ABSTENTION in run:
        for item in _decided(seen):
            scores[item.case.id][DECISION] = float(item.abstained != bool(item.case.gold))
    return dict(scores)


def _ranking_suite(case: Case) -> str:
    return FOLLOW_UPS if case.history else RETRIEVAL


def _missing(seen: Sequence[Observation]) -> Iterator[str]:
    for item in seen:
        for page in item.judged.missing:
            yield f"{item.case.id}: its gold page {page} is not in the index"


# The suites


def _ranking(
    suite: str, seen: Sequence[Observation], scores: Mapping[str, Mapping[str, float]]
) -> Result:
    members = [item for item in seen if item.case.gold and _ranking_suite(item.case) == suite]
    groups: dict[str, list[Observation]] = defaultdict(list)
    for item in members:
        groups[f"kind: {item.case.kind or 'not given'}"].append(item)
        for source in {_source(page) for page in item.judged.relevant}:
            groups[f"source: {source}"].append(item)

    def over(items: Sequence[Observation]) -> dict[str, Figure]:
        rows = [scores[item.case.id] for item in items]
        return {name: figures.mean([row[f"{suite}/{name}"] for row in rows]) for name in MEASURES}

    return Result(over(members), {name: over(groups[name]) for name in sorted(groups)})


def _source(document_id: str) -> str:
    """The source that a document id tells (the table of ids)."""
    return _SOURCES.get(document_id.partition(":")[0], "metaflow-docs")


@dataclass(frozen=True, slots=True)
class _Decision:
    case: Case
    abstained: bool
    confidence: float
    is_supported: bool


def _decided(seen: Sequence[Observation]) -> list[_Decision]:
    return [
        _Decision(item.case, item.answer.abstained, item.answer.confidence, item.is_supported)
        for item in seen
        if item.answer is not None and not item.case.history
    ]


def _abstention(seen: Sequence[Observation], _: object) -> Result:
    """Answers are good when they cite a gold page: for the unanswerable none is."""
    decided = _decided(seen)
    answerable = [item for item in decided if item.case.gold]
    unanswerable = [item for item in decided if not item.case.gold]
    confidences = [item.confidence for item in decided]
    supported = [item.is_supported for item in decided]
    kinds: dict[str, list[_Decision]] = defaultdict(list)
    for item in unanswerable:
        kinds[f"kind: {item.case.kind}"].append(item)
    found = {
        "AUROC": figures.auroc(
            [item.confidence for item in answerable], [item.confidence for item in unanswerable]
        ),
        "unanswerable abstained": _abstained(unanswerable),
        "false refusals": _abstained(answerable),
        "calibration error": figures.calibration_error(confidences, supported),
    }
    groups = {name: {"unanswerable abstained": _abstained(kinds[name])} for name in sorted(kinds)}
    return Result(found, groups, figures.risk_coverage(confidences, supported))


def _abstained(decided: Sequence[_Decision]) -> Figure:
    return figures.mean([float(item.abstained) for item in decided])


def _latency(seen: Sequence[Observation], _: object) -> Result:
    """Wall time in this process, without HTTP."""
    searches = [item.search_ms for item in seen]
    answers = [item.answer_ms for item in seen]
    return Result(
        {
            "search p50 ms": figures.percentile(searches, 50),
            "search p95 ms": figures.percentile(searches, 95),
            "answer p50 ms": figures.percentile(answers, 50),
            "answer p95 ms": figures.percentile(answers, 95),
        }
    )


_Suite = Callable[[Sequence[Observation], Mapping[str, Mapping[str, float]]], Result]
_SUITES: Mapping[str, _Suite] = {
    RETRIEVAL: lambda seen, scores: _ranking(RETRIEVAL, seen, scores),
    FOLLOW_UPS: lambda seen, scores: _ranking(FOLLOW_UPS, seen, scores),
    ABSTENTION: _abstention,
    LATENCY: _latency,
}
