"""The figures of past eval runs, from the files that `metaflowbot evals run` leaves in the home."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_NEWEST = 30


@dataclass(frozen=True, slots=True)
class EvalRun:
    """One run; `figures` by 'suite: measure', as the run's file has them."""

    name: str
    started_at: str
    dataset: str
    model: str
    generation: str
    figures: Mapping[str, float]


def eval_runs(home: Path) -> tuple[EvalRun, ...]:
    """The latest runs, newest first; files that hold no run are left out."""
    files = sorted((home / "evals").glob("*.json"), key=_changed_at, reverse=True)[:_NEWEST]
    runs = [run for file in files if (run := _read(file, _changed_at(file)))]
    return tuple(sorted(runs, key=lambda run: run.started_at, reverse=True))


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=4 * _NEWEST)
def _read(file: Path, _changed: int) -> EvalRun | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        subject = values["subject"]
        return EvalRun(
            file.stem,
            str(values["started_at"]),
            str(subject["dataset"]),
            str(subject["model"]),
            str(subject["generation"]),
            dict(_figures(values["results"])),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _figures(results: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Each suite's first figures: what a table has room for."""
    return [
        (f"{suite}: {name}", float(value))
        for suite, result in results.items()
        for name, figure in list(result["figures"].items())[:3]
        if isinstance(value := figure.get("value"), int | float)
    ]
