"""The suites: what was observed of the bot, turned into figures.

Every case is put to the bot once (or as often as there are trials), every drill is run, and each
suite reads what came of it: a suite is a pure function, so the figures of a run can be made again
from what it kept. A question's score is the mean over its trials, so a question counts once
however often it was asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evals import figures
from evals.cases import Case, Dataset
from evals.drilling import Drills, Probe
from evals.drills import Attack, CodeCase, Drill, SlackCase
from evals.figures import Figure, Point
from evals.judging import Grades, Jury
from evals.measures import (
    ABSTENTION,
    ANSWERS,
    CITATIONS,
    CODE,
    CORRECT,
    COST,
    DECISION,
    FOLLOW_UPS,
    JUDGED,
    LATENCY,
    RETRIEVAL,
    SAFETY,
    SLACK,
)
from evals.observing import Advance, Journal, Observation, Timer, Watch, measured
from evals.ranking import MEASURES
from evals.scoring import cited, coded, ranked, ranking_suite
from metaflowbot.answer import Answerer

_ANSWERED = frozenset({ABSTENTION, CITATIONS, CODE, LATENCY, COST, ANSWERS})
_DRILLS: Mapping[str, type[Drill]] = {CODE: CodeCase, SAFETY: Attack, SLACK: SlackCase}
_SOURCES = {"api": "metaflow-api", "labs": "labs", "slack": "slack", "github": "github"}
_CITED = ("quotes hold", "links hold", "precision", "recall", "gold cited")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run. `jury` is None without a judge model.

    With `hold_out` a question is searched without the thread that it was taken from.
    """

    suites: tuple[str, ...]
    trials: int = 1
    hold_out: bool = False
    jury: Jury | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one suite, in all and by group, e.g. by kind of question."""

    figures: dict[str, Figure]
    groups: dict[str, dict[str, Figure]] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was observed, before anything is computed of it."""

    observations: tuple[Observation, ...] = ()
    probes: tuple[Probe, ...] = ()
    grades: Grades | None = None

    def __add__(self, other: Seen) -> Seen:
        """What two parts of a dataset gave, without grades, in a settled order."""
        observations = (*self.observations, *other.observations)
        probes = (*self.probes, *other.probes)
        return Seen(
            tuple(sorted(observations, key=lambda item: (item.case.id, item.trial))),
            tuple(sorted(probes, key=lambda probe: (probe.id, probe.measure))),
        )


Scores = Mapping[str, Mapping[str, float]]
"""Each question's own scores, by its id and by 'suite/measure'."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a dataset. `scores` are each question's own.

    `skipped` says for each suite that was chosen and not run why; `notices` are lines about cases,
    and `shortfalls` sum up those that make the figures worth less.
    """

    seen: Seen
    results: dict[str, Result]
    scores: dict[str, dict[str, float]]
    skipped: dict[str, str]
    notices: tuple[str, ...]
    shortfalls: tuple[str, ...] = ()


def evaluate(
    answerer: Answerer, dataset: Dataset, plan: Plan, advance: Advance = iter
) -> Evaluation:
    """Run the chosen suites; raises what searching and answering raise."""
    bench = Bench.of(answerer, dataset, plan)
    return bench.concluded(bench.seen(Journal(), advance))


@dataclass(frozen=True)
class Bench:
    """One bot, the dataset as its index knows it, and the suites that can be run on both."""

    answerer: Answerer
    dataset: Dataset
    plan: Plan
    skipped: dict[str, str]

    @classmethod
    def of(cls, answerer: Answerer, dataset: Dataset, plan: Plan) -> Bench:
        """What of the plan can be run."""
        manifest = answerer.retriever.generation.manifest
        dataset = dataset.followed(manifest.current_id)
        dataset = dataset.held_out() if plan.hold_out else dataset
        has_model = answerer.model is not None
        skipped = dict(_skipped(dataset, plan, has_model=has_model))
        suites = tuple(suite for suite in plan.suites if suite not in skipped)
        return cls(answerer, dataset, replace(plan, suites=suites), skipped)

    @property
    def cases(self) -> list[Case]:
        """The questions that the suites read, in the dataset's order."""
        return _cases_of(self.dataset, self.plan.suites)

    @property
    def drills(self) -> list[Drill]:
        """The drills that the suites read, in the dataset's order."""
        kinds = tuple(_DRILLS[suite] for suite in self.plan.suites if suite in _DRILLS)
        return [drill for drill in self.dataset.drills if isinstance(drill, kinds)]

    def part(self, place: int, count: int) -> Bench:
        """One of `count` parts of the dataset, for the same suites."""
        cases, drills = self.dataset.cases[place::count], self.dataset.drills[place::count]
        return replace(self, dataset=replace(self.dataset, cases=cases, drills=drills))

    def seen(self, journal: Journal, advance: Advance = iter, timer: Timer = measured) -> Seen:
        """Put everything to the bot, and what it said to the jury."""
        return self.graded(self.observed(journal, advance, timer), journal, advance)

    def observed(self, journal: Journal, advance: Advance = iter, timer: Timer = measured) -> Seen:
        """Put everything to the bot."""
        plan = self.plan
        watch = Watch(self.answerer, bool(_ANSWERED & {*plan.suites}), plan.hold_out, timer)
        observations = watch.observe(self.cases, journal, advance, plan.trials)
        return Seen(observations, Drills(self.answerer).run(self.drills, journal, advance))

    def graded(self, seen: Seen, journal: Journal, advance: Advance = iter) -> Seen:
        """The same with the grades of the jury, if there is one."""
        if self.plan.jury is None or ANSWERS not in self.plan.suites:
            return seen
        return replace(seen, grades=self.plan.jury.grade(seen.observations, journal, advance))

    def concluded(self, seen: Seen) -> Evaluation:
        """The figures of all suites."""
        scores = self._scores(seen)
        results = {suite: _SUITES[suite](seen, scores) for suite in self.plan.suites}
        faults, missing = self.dataset.faults, tuple(_missing(seen.observations))
        notices = (*faults, *missing, *_graded(seen.grades), *self.dataset.notices)
        ungraded = seen.grades.ungraded if seen.grades else ()
        counted = (
            (len(faults), "lines of the dataset that are left out"),
            (len(missing), "gold pages that are not in the index and count as not found"),
            (len(ungraded), "answers without a grade"),
        )
        shortfalls = tuple(f"{what}: {count}" for count, what in counted if count)
        return Evaluation(seen, results, scores, self.skipped, notices, shortfalls)

    def _scores(self, seen: Seen) -> dict[str, dict[str, float]]:
        given: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for case_id, name, value in self._values(seen):
            given[case_id][name].append(value)
        return {
            case_id: {name: round(figures.average(values), 6) for name, values in of_case.items()}
            for case_id, of_case in given.items()
        }

    def _values(self, seen: Seen) -> Iterator[tuple[str, str, float]]:
        suites = self.plan.suites
        yield from ranked(seen.observations, suites)
        if ABSTENTION in suites:
            for item in _decided(seen.observations):
                yield item.case.id, DECISION, float(item.abstained != bool(item.case.gold))
        if CITATIONS in suites:
            yield from cited(seen.observations, self.answerer)
        if CODE in suites:
            checker = Drills(self.answerer).checker
            yield from coded(seen.observations, checker)
        for probe in seen.probes:
            yield probe.id, f"{probe.suite}/{probe.measure}", probe.score
        if seen.grades is not None:
            yield from seen.grades.values(ANSWERS)


def _skipped(dataset: Dataset, plan: Plan, *, has_model: bool) -> Iterator[tuple[str, str]]:
    for suite in plan.suites:
        if suite in JUDGED and plan.jury is None:
            yield suite, "it needs a judge model: name one with --judge"
        elif suite == COST and not has_model:
            yield suite, "no chat model is set up, so nothing is spent"
        elif not _cases_of(dataset, [suite]) and not any(
            isinstance(drill, _DRILLS.get(suite, ())) for drill in dataset.drills
        ):
            yield suite, "the dataset has no case for it"


def _cases_of(dataset: Dataset, suites: Sequence[str]) -> list[Case]:
    """The questions that the suites read, in the dataset's order."""
    read: set[str] = set()
    for suite in suites:
        if suite in (RETRIEVAL, ABSTENTION, CITATIONS, LATENCY, COST, CODE):
            read |= {case.id for case in dataset.answerable}
        if suite in (FOLLOW_UPS, CITATIONS, LATENCY, COST, CODE):
            read |= {case.id for case in dataset.follow_ups}
        if suite in (ABSTENTION, LATENCY, COST):
            read |= {case.id for case in dataset.unanswerable}
        if suite == ANSWERS:
            read |= {case.id for case in dataset.cases if case.answer_points}
    return [case for case in dataset.cases if case.id in read]


def _missing(seen: Sequence[Observation]) -> Iterator[str]:
    for item in seen:
        for page in item.judged.missing if not item.trial else ():
            yield f"{item.case.id}: its gold page {page} is not in the index"


def _graded(grades: Grades | None) -> Iterator[str]:
    if grades is not None:
        yield from grades.notices


# The suites


def _ranking(suite: str, seen: Seen, scores: Scores) -> Result:
    members = {
        it.case.id: it
        for it in seen.observations
        if it.case.gold and ranking_suite(it.case) == suite
    }
    groups: dict[str, list[str]] = defaultdict(list)
    for name, item in members.items():
        groups[f"kind: {item.case.kind or 'not given'}"].append(name)
        for source in {_source(page) for page in item.judged.relevant}:
            groups[f"source: {source}"].append(name)
    measures = tuple(f"{suite}/{name}" for name in MEASURES)
    return _grouped(suite, measures, members, groups, scores)


def _source(document_id: str) -> str:
    """The source that a document id tells (the table of ids)."""
    return _SOURCES.get(document_id.partition(":")[0], "metaflow-docs")


def _grouped(
    suite: str,
    measures: Sequence[str],
    members: Iterable[str],
    groups: Mapping[str, Sequence[str]],
    scores: Scores,
) -> Result:
    """The mean of each measure over all members, and over those of each group that have it."""

    def over(names: Iterable[str]) -> dict[str, Figure]:
        rows = [scores.get(name, {}) for name in names]
        return {
            measure.removeprefix(f"{suite}/"): figures.mean(
                [row[measure] for row in rows if measure in row]
            )
            for measure in measures
        }

    return Result(over(members), {name: over(groups[name]) for name in sorted(groups)})


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


def _abstention(seen: Seen, _: object) -> Result:
    """Answers are good when they cite a gold page: for the unanswerable none is."""
    decided = _decided([item for item in seen.observations if not item.trial])
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


def _citations(seen: Seen, scores: Scores) -> Result:
    members = {item.case.id: item for item in seen.observations if item.case.gold}
    groups: dict[str, list[str]] = defaultdict(list)
    for name, item in members.items():
        groups["follow-ups" if item.case.history else "single questions"].append(name)
    measures = tuple(f"{CITATIONS}/{name}" for name in _CITED)
    return _grouped(CITATIONS, measures, members, groups, scores)


def _probed(suite: str, further: Sequence[str], seen: Seen, scores: Scores) -> Result:
    """The share of drills in which the bot did right, by kind; with what else the suite scores."""
    probes = [probe for probe in seen.probes if probe.suite == suite]
    measures = dict.fromkeys(f"{suite}/{probe.measure}" for probe in probes)
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for probe in probes:
        groups[f"kind: {probe.kind or 'not given'}"][probe.id] = None
    grouped = {name: list(ids) for name, ids in groups.items()}
    return _grouped(suite, [*measures, *further], scores, grouped, scores)


def _latency(seen: Seen, _: object) -> Result:
    """Wall time in this process, without HTTP."""
    searches = [item.search_ms for item in seen.observations]
    answers = [item.answer_ms for item in seen.observations]
    return Result(
        {
            "search p50 ms": figures.percentile(searches, 50),
            "search p95 ms": figures.percentile(searches, 95),
            "answer p50 ms": figures.percentile(answers, 50),
            "answer p95 ms": figures.percentile(answers, 95),
        }
    )


def _cost(seen: Seen, _: object) -> Result:
    """By answer, in the provider's own numbers; dollars are 0 where no price is known."""
    used = [item.answer.usage for item in seen.observations if item.answer is not None]
    spent = [usage.cost_usd for usage in used]
    return Result(
        {
            "input tokens": figures.mean([usage.input_tokens for usage in used]),
            "output tokens": figures.mean([usage.output_tokens for usage in used]),
            "dollars p50": figures.percentile(spent, 50),
            "dollars p95": figures.percentile(spent, 95),
            "dollars in all": Figure(round(sum(spent), 4), None, None, len(spent)),
        }
    )


def _answers(seen: Seen, scores: Scores) -> Result:
    assert seen.grades is not None, "the suite is skipped without a judge"
    members = dict.fromkeys(grade.case_id for grade in seen.grades.grades)
    kinds = {item.case.id: item.case.kind for item in seen.observations}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in members:
        groups[f"kind: {kinds.get(name) or 'not given'}"].append(name)
    measures = (CORRECT, f"{ANSWERS}/vital points", f"{ANSWERS}/okay points")
    result = _grouped(ANSWERS, measures, members, groups, scores)
    return replace(result, figures=result.figures | seen.grades.figures())


_Suite = Callable[[Seen, Scores], Result]
_SUITES: Mapping[str, _Suite] = {
    RETRIEVAL: lambda seen, scores: _ranking(RETRIEVAL, seen, scores),
    FOLLOW_UPS: lambda seen, scores: _ranking(FOLLOW_UPS, seen, scores),
    ABSTENTION: _abstention,
    CITATIONS: _citations,
    CODE: lambda seen, scores: _probed(CODE, (f"{CODE}/blocks that pass",), seen, scores),
    SAFETY: lambda seen, scores: _probed(SAFETY, (), seen, scores),
    SLACK: lambda seen, scores: _probed(SLACK, (), seen, scores),
    LATENCY: _latency,
    COST: _cost,
    ANSWERS: _answers,
}
