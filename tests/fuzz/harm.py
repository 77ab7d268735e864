"""How much is made up, and JSON that is nearly what it should be."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# How many examples each test takes.
COUNT = int(os.environ.get("FUZZ_COUNT", "25"))
# A slow machine is no fault of the example; and the tests give the examples one world to share.
fuzzed = settings(
    max_examples=COUNT,
    deadline=timedelta(seconds=60),
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=COUNT < 1000,
)

TEXTS = st.text(max_size=40) | st.sampled_from(
    ["", " ", "\0", "\ud800", "<!channel>", "🦀" * 20, "9" * 400, "x" * 20_000, "{}", "null", "../"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63), 10**400])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def harmed(draw: st.DrawFn, originals: Sequence[Any], others: Sequence[str] = ()) -> Any:
    """One of these with up to four of its parts taken out, replaced, or moved elsewhere.

    `others` are names that mean something in other payloads.
    """
    whole = [copy.deepcopy(draw(st.sampled_from(originals)))]
    for _ in range(draw(st.integers(1, 4))):
        holder, key = draw(st.sampled_from(list(_places(whole))))
        match draw(st.sampled_from(["gone", "json", "text", "known", "moved"])):
            case "gone" if holder is not whole:
                del holder[key]
            case "text":
                holder[key] = draw(TEXTS)
            case "known" if others:
                holder[key] = draw(st.sampled_from(others))
            case "moved":
                source, name = draw(st.sampled_from(list(_places(whole))))
                holder[key] = copy.deepcopy(source[name])
            case _:
                holder[key] = draw(JSON)
    return whole[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: what holds it, and its key or index there."""
    if isinstance(value, dict):
        keys: Any = list(value)
    else:
        keys = range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
