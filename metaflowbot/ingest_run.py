"""What the last ingest came to: written by the ingest, read by the process that serves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

_FILE = "last-ingest.json"


@dataclass(frozen=True, slots=True)
class IngestRun:
    """One ingest, ended: `outcome` is a line for people; `unread` are sources it could not read."""

    ended_at: datetime
    seconds: float
    succeeded: bool
    outcome: str
    unread: tuple[str, ...] = ()

    @classmethod
    def last(cls, home: Path) -> IngestRun | None:
        """The last one on this home; None where there was none, or its record can't be read."""
        try:
            values = json.loads((home / "index" / _FILE).read_text(encoding="utf-8"))
            values["ended_at"] = datetime.fromisoformat(values["ended_at"])
            values["unread"] = tuple(values["unread"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @staticmethod
    def read_at(home: Path, source: str) -> datetime | None:
        """When that source was read last, by the head of its file; None where that is not known."""
        try:
            with (home / "index" / "documents" / f"{source}.jsonl").open(encoding="utf-8") as file:
                return datetime.fromisoformat(json.loads(file.readline())["read_at"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, home: Path) -> None:
        """Put it in the place of the one before; raises OSError."""
        folder = home / "index"
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{_FILE}.new"
        values = {**asdict(self), "ended_at": self.ended_at.isoformat()}
        fresh.write_text(json.dumps(values), encoding="utf-8")
        fresh.replace(folder / _FILE)
