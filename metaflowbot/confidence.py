"""How likely it is that what was found answers the question: 0 to 1, from the search alone."""

from __future__ import annotations

import math
import re

from metaflowbot.domain import Search

_ENGLISH = frozenset(
    "the a an to of in on for with and or is are be do does did can could how what why when where"
    " which i my we our it its that this from not if but as at by have has use using get".split()
)


def confidence(search: Search) -> float:
    """The chance that the best hits hold the answer; 0.0 without hits."""
    if not search.hits:
        return 0.0
    evidence = 9.0 * (search.similarity - 0.42) + 3.0 * (search.coverage - 0.5)
    # Who asks about a name that is nowhere will not find the answer in what is nearest to it.
    doubt = 0.4 if search.unknown else 1.0
    return round(doubt / (1.0 + math.exp(-evidence)), 3)


def is_foreign(text: str) -> bool:
    """Whether a text of some length has none of the words that English can't do without."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) >= 4 and not _ENGLISH & set(words)
