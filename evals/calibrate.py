"""Fits the confidence: `python -m evals.calibrate HOME… [--dataset PATH] [--write]`.

Each HOME has an index; every question is put to each of them whose gold it holds, and every
message without an answer to all. The model is a logistic regression with a ridge penalty, on
standardised measures, fitted by Newton's method (Hastie et al. 2009, sec. 4.4) to tell questions
with an answer from messages without one; its result is then scaled to the chance that the right
page is quoted (Platt 1999). What is printed comes from cross-validation by question: no question
is judged by a model that has seen it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evals import cases, figures
from evals.cases import Case
from evals.figures import Figure
from evals.ranking import judge
from metaflowbot import bootstrap, settings
from metaflowbot.answer import Answerer
from metaflowbot.confidence import CALIBRATION, Calibration, Evidence
from metaflowbot.errors import MetaflowbotError, UsageError

_RIDGE = 2.0
_FOLDS = 10
_REFUSED = 0.035
"""Share of answerable questions below the threshold: less than may be, as new ones differ."""
_QUOTED = 2  # documents that an answer without a model quotes

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its measures; `is_right` where a page quoted for it is a gold page."""

    case: Case
    measured: Evidence
    is_right: bool


def main(words: Sequence[str] | None = None) -> int:
    """Fit, print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m evals.calibrate", description=__doc__)
    parser.add_argument("homes", type=Path, nargs="+", help="homes with an index each")
    parser.add_argument("--dataset", type=Path, default=cases.OWN, help="a file or a folder")
    parser.add_argument("--write", action="store_true", help="put the new model into force")
    given = parser.parse_args(words)
    try:
        examples = [item for home in given.homes for item in _examples(home, given.dataset)]
        _check(examples)
    except MetaflowbotError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    seen = cross_validated(examples)
    threshold = threshold_of(examples, seen)
    print(json.dumps(_report(examples, seen, threshold), indent=1))
    if given.write:
        model = fit(examples, threshold)
        kept = {"fitted_on": len(examples), "model": _rounded(asdict(model))}
        CALIBRATION.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0


def _examples(home: Path, dataset: Path) -> Iterator[Example]:
    """What the model judges: messages that are declined by how they are put are left out."""
    answerer = bootstrap.answerers(settings.load({"METAFLOWBOT_HOME": str(home)}))()
    indexed = answerer.retriever.generation.manifest.documents
    for case in cases.read(dataset).whole().cases:
        if not case.history and case.is_within(indexed) and not _is_declined(answerer, case):
            search = answerer.retriever.search(case.asked)
            best = [hit.best.document_id for hit in search.hits[:_QUOTED]]
            is_right = bool(case.gold) and judge(best, case.gold, indexed).first_rank > 0
            yield Example(case, answerer.judge.measure(search), is_right)


def _is_declined(answerer: Answerer, case: Case) -> bool:
    return answerer.judge.declines(case.asked) is not None


def _check(examples: Sequence[Example]) -> None:
    if len({item.is_right for item in examples}) < 2:
        raise UsageError("--dataset needs questions with gold in the index, and some without any")


def fit(examples: Sequence[Example], answer_from: float = 0.5) -> Calibration:
    """The model over all examples, of which some must be right and some not."""
    names = [field.name for field in fields(Evidence)]
    mean, spread, weights = _fitted(examples)
    return Calibration(
        mean=dict(zip(names, map(float, mean), strict=True)),
        spread=dict(zip(names, map(float, spread), strict=True)),
        weight=dict(zip(names, map(float, weights[1:]), strict=True)),
        bias=float(weights[0]),
        answer_from=answer_from,
    )


def cross_validated(examples: Sequence[Example]) -> Values:
    """Each example's confidence by a model that was fitted without its question (n_examples)."""
    names = sorted({item.case.id for item in examples})
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = {name: int(order[place]) % _FOLDS for place, name in enumerate(names)}
    folds = np.array([fold_of[item.case.id] for item in examples])
    values = _values(examples)
    seen = np.zeros(len(examples))
    for fold in range(_FOLDS):
        kept = [item for item, own in zip(examples, folds, strict=True) if own != fold]
        mean, spread, weights = _fitted(kept)
        seen[folds == fold] = _predicted(weights, (values[folds == fold] - mean) / spread)
    return seen


def _fitted(examples: Sequence[Example]) -> tuple[Values, Values, Values]:
    """Mean and spread of each measure, and bias and weights (1 + n_measures)."""
    values = _values(examples)
    mean, spread = values.mean(0), values.std(0) + 1e-9
    scaled = (values - mean) / spread
    weights = _regressed(scaled, np.array([bool(item.case.gold) for item in examples], float))
    score = weights[0] + scaled @ weights[1:]
    right = np.array([item.is_right for item in examples], dtype=float)
    bias, slope = _regressed(score[:, None], right)
    return mean, spread, np.r_[bias + slope * weights[0], slope * weights[1:]]


def threshold_of(examples: Sequence[Example], seen: Values) -> float:
    """The confidence below which _REFUSED of the answerable questions lie."""
    answerable = np.array([bool(item.case.gold) for item in examples])
    return round(float(np.quantile(seen[answerable], _REFUSED)), 3)


def _values(examples: Sequence[Example]) -> Values:
    return np.array([item.measured.values for item in examples], dtype=float)


def _regressed(values: Values, outcomes: Values) -> Values:
    """Bias and weights (1 + n_measures); the bias is not penalised."""
    design = np.c_[np.ones(len(values)), values]
    penalty = np.eye(design.shape[1]) * _RIDGE
    penalty[0, 0] = 0.0
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (chance - outcomes) + penalty @ weights
        curvature = (design.T * (chance * (1 - chance))) @ design + penalty
        weights -= np.linalg.solve(curvature, slope)
    return weights


def _predicted(weights: Values, values: Values) -> Values:
    chance: Values = 1 / (1 + np.exp(-(np.c_[np.ones(len(values)), values] @ weights)))
    return chance


def _report(examples: Sequence[Example], seen: Values, threshold: float) -> dict[str, object]:
    refused = seen < threshold
    kinds = sorted({item.case.kind for item in examples if not item.case.gold})
    of_kind = {
        kind: _shown(
            figures.mean(
                [
                    float(refused[row])
                    for row, item in enumerate(examples)
                    if not item.case.gold and item.case.kind == kind
                ]
            )
        )
        for kind in kinds
    }
    right = [item.is_right for item in examples]
    answerable = [row for row, item in enumerate(examples) if item.case.gold]
    unanswerable = [row for row, item in enumerate(examples) if not item.case.gold]
    curve = figures.risk_coverage(list(seen), right)
    return {
        "examples": len(examples),
        "answer from": threshold,
        "answerable refused": _shown(figures.mean([float(refused[row]) for row in answerable])),
        "abstained, of what is not declined before": of_kind,
        "AUROC": _shown(figures.auroc(seen[answerable].tolist(), seen[unanswerable].tolist())),
        "calibration error": _shown(figures.calibration_error(list(seen), right)),
        "risk by coverage": {f"{point.coverage:.2f}": point.risk for point in curve},
    }


def _shown(figure: Figure) -> str:
    """The value with its 95 % interval."""
    return f"{figure.value} [{figure.low}, {figure.high}]"


def _rounded(values: dict[str, object]) -> dict[str, object]:
    return {
        name: _rounded(value) if isinstance(value, dict) else round(float(str(value)), 5)
        for name, value in values.items()
    }


if __name__ == "__main__":
    sys.exit(main())
