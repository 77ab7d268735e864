"""What is private to a Slack channel is found in that channel and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metaflowbot.domain import Passage, Question
from metaflowbot.index import Index
from metaflowbot.manifest import SourceCount
from metaflowbot.retrieve import Retriever
from tests.conftest import WordEmbedding
from tests.small_index import PASSAGES, passage

PRIVATE = replace(
    passage(
        "slack:trenches/1.1#0", "How do we retry?", "Answer", "The payroll flow uses `@retry`."
    ),
    source="slack",
    channel="C-PRIVATE",
)
QUESTION = "does the payroll flow use @retry?"


@pytest.fixture
def retriever(tmp_path: Path) -> Retriever:
    index, embedding = Index(tmp_path), WordEmbedding()
    counts = {"all": SourceCount(1, len(PASSAGES) + 1)}
    index.activate(index.build((*PASSAGES, PRIVATE), counts, embedding).id)
    return Retriever.over(index.load(), embedding)


def documents(retriever: Retriever, question: Question) -> set[str]:
    hits = retriever.search(question, k=100).hits
    passages: list[Passage] = [found for hit in hits for found in hit.passages]
    return {found.document_id for found in passages}


def test_a_private_thread_is_found_in_its_own_channel(retriever: Retriever) -> None:
    found = retriever.search(Question(QUESTION, channel="C-PRIVATE"))
    assert found.hits[0].best.document_id == PRIVATE.document_id


@pytest.mark.parametrize("channel", ["", "C-OTHER", "trenches"])
def test_a_private_thread_is_never_found_elsewhere(retriever: Retriever, channel: str) -> None:
    found = documents(retriever, Question(QUESTION, channel=channel))
    assert found and PRIVATE.document_id not in found


def test_asking_for_its_source_does_not_open_a_private_thread(retriever: Retriever) -> None:
    question = Question(QUESTION, sources=frozenset({"slack"}))
    assert documents(retriever, question) == set()
