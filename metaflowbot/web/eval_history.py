"""The figures of past eval runs, from the files that `metaflowbot evals run` leaves in the home."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from metaflowbot.errors import NotFoundError

_NEWEST = 30
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure's value with its 95 % interval, whose ends are None where there is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class EvalRun:
    """One run; `figures` by suite and measure, `dataset_hash` is of all that was asked."""

    name: str
    started_at: str
    dataset: str
    dataset_hash: str
    model: str
    code: str
    figures: Mapping[str, Mapping[str, Figure]]
    has_report: bool

    def figure(self, suite: str, measure: str) -> Figure | None:
        return self.figures.get(suite, {}).get(measure)


@dataclass(frozen=True, slots=True)
class History:
    """Runs that asked the same, newest first; only those can be held against each other."""

    runs: tuple[EvalRun, ...]

    @property
    def suites(self) -> dict[str, list[str]]:
        """The measures that any of the runs has, by suite."""
        found: dict[str, list[str]] = {}
        for run in self.runs:
            for suite, figures in run.figures.items():
                known = found.setdefault(suite, [])
                known += [measure for measure in figures if measure not in known]
        return found


def histories(home: Path) -> tuple[History, ...]:
    """The latest runs by what they asked, newest first; files that hold no run are left out."""
    files = sorted((home / "evals").glob("*.json"), key=_changed_at, reverse=True)[:_NEWEST]
    runs = [run for file in files if (run := _read(file, _changed_at(file)))]
    alike: dict[str, list[EvalRun]] = {}
    for run in sorted(runs, key=lambda run: run.started_at, reverse=True):
        alike.setdefault(run.dataset_hash, []).append(run)
    return tuple(History(tuple(each)) for each in alike.values())


def report(home: Path, name: str) -> str:
    """The report of a run, one page of HTML; raises NotFoundError."""
    try:
        if _NAME.fullmatch(name):
            return (home / "evals" / f"{name}.html").read_text(encoding="utf-8")
    except OSError:
        pass
    raise NotFoundError(f"there is no report of an eval run {name!r}")


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=4 * _NEWEST)
def _read(file: Path, _changed: int) -> EvalRun | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        subject, results = values["subject"], values["results"]
        return EvalRun(
            file.stem,
            str(values["started_at"]),
            str(subject["dataset"]),
            str(subject["dataset_sha256"]),
            str(subject["model"]),
            str(subject["code"]),
            {suite: dict(_figures(result["figures"])) for suite, result in results.items()},
            file.with_suffix(".html").exists(),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _figures(figures: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    for measure, found in figures.items():
        if isinstance(found.get("value"), int | float):
            yield measure, Figure(found["value"], found.get("low"), found.get("high"))
