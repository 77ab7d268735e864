"""The command that proves it, in small: kill -9, lost replies and repeated events."""

from __future__ import annotations

import argparse
import random

import pytest

from tests.databases import PostgresServer
from tests.scenarios import chaos
from tests.scenarios.fleet import site

pytest_plugins = ["tests.databases"]


@pytest.mark.parametrize(("kind", "replicas"), [("sqlite", 1), ("postgresql", 2)])
def test_every_question_is_answered_exactly_once_though_processes_are_killed(
    kind: str, replicas: int, request: pytest.FixtureRequest
) -> None:
    url = ""
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create("chaos")
    given = argparse.Namespace(questions=30, kills=2, rate=5)
    with site() as place, place.fleet(replicas, url) as fleet:
        found = chaos.run(place, fleet, chaos.Weather(random.Random(3)), given)
    counts = ("answered exactly once", "lost", "doubled", "cut off for good")
    assert [found[name] for name in counts] == [30, 0, 0, 0]
    assert found["events sent twice"]
