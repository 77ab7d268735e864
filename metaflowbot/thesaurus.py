"""What people say -> what Metaflow calls it, from thesaurus.toml beside this file."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from pathlib import Path

_FILE = Path(__file__).with_suffix(".toml")


def terms_meant(text: str) -> tuple[str, ...]:
    """Metaflow's words for what the text speaks of in other words; () where it has none."""
    return tuple(means for say, means in _entries() if say.search(text))


@lru_cache(maxsize=1)
def _entries() -> tuple[tuple[re.Pattern[str], str], ...]:
    entries = tomllib.loads(_FILE.read_text(encoding="utf-8"))["entry"]
    return tuple((_pattern(entry["say"]), entry["means"]) for entry in entries)


def _pattern(phrases: list[str]) -> re.Pattern[str]:
    """Matches any of the phrases as whole words, also in the plural."""
    anyone = "|".join(rf"{re.escape(phrase)}(?:e?s)?" for phrase in phrases)
    return re.compile(rf"(?<!\w)(?:{anyone})(?!\w)", re.IGNORECASE)
