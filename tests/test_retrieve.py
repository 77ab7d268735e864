"""Questions find documents: by meaning, by the exact identifier, within the sources asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaflowbot.domain import Question, Search, Turn
from metaflowbot.embedding import MiniLM
from metaflowbot.index import Generation, Index
from metaflowbot.retrieve import Retriever
from tests.conftest import WordEmbedding
from tests.small_index import OFF_TOPIC, PASSAGES, RETRY, passage, publish

pytest_plugins = ["tests.prebuilt"]

DOCUMENTS = {passage.document_id for passage in PASSAGES}
IDENTIFIERS = {
    "@kubernetes": "docs/scaling/kubernetes.md",
    "METAFLOW_DATASTORE_SYSROOT_S3": "docs/getting-started/configure.md",
    "current.spot_termination_notice": "docs/scaling/kubernetes.md",
    "argo-workflows create": "docs/production/argo.md",
    "get_many": "docs/scaling/data.md",
    "@timeout": "docs/scaling/failures.md",
    "metaflow.retry": "api:metaflow.retry",
}


def found(search: Search) -> list[str]:
    return [hit.best.document_id for hit in search.hits]


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_identifier_alone_finds_the_document_that_names_it(
    retriever: Retriever, identifier: str
) -> None:
    assert found(retriever.search(Question(identifier)))[0] == IDENTIFIERS[identifier]


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_identifier_within_a_sentence_finds_it_too(
    retriever: Retriever, identifier: str
) -> None:
    search = retriever.search(Question(f"Why does {identifier} not work for me?"))
    assert found(search)[0] == IDENTIFIERS[identifier]


@pytest.mark.parametrize(
    ("question", "document"),
    [
        (RETRY, "docs/scaling/failures.md"),
        ("my code crashes now and then, can it be attempted again?", "docs/scaling/failures.md"),
        ("process every element of an array in parallel", "docs/metaflow/basics.md"),
        ("download lots of files from a bucket quickly", "docs/scaling/data.md"),
    ],
)
def test_a_question_in_other_words_finds_the_page_by_its_meaning(
    retriever: Retriever, question: str, document: str
) -> None:
    assert found(retriever.search(Question(question)))[0] == document


def test_each_document_is_one_hit_with_its_best_passages_first(retriever: Retriever) -> None:
    search = retriever.search(Question(RETRY))
    assert len(found(search)) == len(set(found(search)))
    best = search.hits[0]
    assert best.best.id == "docs/scaling/failures.md#1"
    assert 1 < len(best.passages) <= 3
    assert {passage.document_id for passage in best.passages} == {best.best.document_id}


def test_hits_are_ranked_from_one_by_falling_score(retriever: Retriever) -> None:
    hits = retriever.search(Question(RETRY)).hits
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_no_more_documents_come_than_were_asked_for(retriever: Retriever, k: int) -> None:
    assert len(retriever.search(Question(RETRY), k).hits) == min(k, len(DOCUMENTS))


@pytest.mark.parametrize(
    "sources", [{"metaflow-api"}, {"labs"}, {"metaflow-docs"}, {"metaflow-api", "labs"}]
)
def test_only_the_sources_that_were_asked_for_are_searched(
    retriever: Retriever, sources: set[str]
) -> None:
    search = retriever.search(Question(RETRY, sources=frozenset(sources)))
    assert {passage.source for hit in search.hits for passage in hit.passages} == sources


def test_a_source_that_does_not_exist_has_no_hits(retriever: Retriever) -> None:
    search = retriever.search(Question(RETRY, sources=frozenset({"nosuch"})))
    assert (search.hits, search.coverage, search.similarity) == ((), 0.0, -1.0)


def test_official_documents_come_before_drafts_on_the_same_subject(retriever: Retriever) -> None:
    order = found(retriever.search(Question("retry a step with a delay")))
    assert order.index("docs/scaling/failures.md") < order.index("labs:scaling/retries-in-depth")


def test_a_follow_up_is_understood_from_the_question_before(retriever: Retriever) -> None:
    text = "And how do I set the delay there?"
    history = (
        Turn("user", "How do I send a step to a Kubernetes cluster?"),
        Turn("assistant", "Use the decorator."),
    )
    alone = retriever.search(Question("And how much memory there?"))
    after = retriever.search(Question("And how much memory there?", history))
    assert found(after)[0] == "docs/scaling/kubernetes.md"
    assert after.hits[0].score > alone.hits[0].score or found(alone)[0] != found(after)[0]
    assert found(retriever.search(Question(text, (Turn("user", RETRY),))))[0] == (
        "docs/scaling/failures.md"
    )


def test_the_same_question_gives_the_same_hits(retriever: Retriever) -> None:
    assert retriever.search(Question(RETRY)).hits == retriever.search(Question(RETRY)).hits


def test_a_search_says_what_it_searched_and_how_well_it_went(
    retriever: Retriever, generation: Generation
) -> None:
    near, far = retriever.search(Question(RETRY)), retriever.search(Question(OFF_TOPIC))
    assert near.query == RETRY
    assert near.generation == generation.id
    assert near.took_ms > 0
    assert 0 <= far.coverage < near.coverage <= 1
    assert -1 <= far.similarity < near.similarity <= 1


@pytest.mark.parametrize(
    "text",
    [
        "?",
        "the of",
        "xylophone",
        "重试失败的步骤",
        "🦜",
        "retry " * 3000,
        "\0",
        "@",
        "`",
        "%s {} $x",
    ],
)
def test_any_text_can_be_searched_for(retriever: Retriever, text: str) -> None:
    search = retriever.search(Question(text))
    assert len(search.hits) == len(DOCUMENTS)
    assert all(abs(hit.score) < 1e6 for hit in search.hits)


@pytest.mark.parametrize(
    ("question", "unknown"),
    [
        ("how do I set the pool of @gpu_pool?", ("@gpu_pool",)),
        ("is there a current.max_workers?", ("current.max_workers",)),
        ("what is METAFLOW_MAGIC_MODE for", ("METAFLOW_MAGIC_MODE",)),
        ("does @retry work with @kubernetes and METAFLOW_DATASTORE_SYSROOT_S3?", ()),
        ("mail me at ann@example.org about @retry", ()),
        ("why does this fail?\n```\n@my_own_decorator\n@step\n```", ()),
    ],
)
def test_names_that_stand_nowhere_are_told(
    retriever: Retriever, question: str, unknown: tuple[str, ...]
) -> None:
    assert retriever.search(Question(question)).unknown == unknown


def test_a_change_of_subject_finds_what_it_would_find_alone(retriever: Retriever) -> None:
    text = "How do I download many objects from Amazon S3 in parallel?"
    alone = retriever.search(Question(text))
    after = retriever.search(Question(text, (Turn("user", RETRY), Turn("assistant", "So."))))
    assert found(after) == found(alone)


def test_a_trace_after_an_answer_still_finds_what_was_asked_about(retriever: Retriever) -> None:
    text = "that didn't work:\nTraceback (most recent call last):\nValueError: boom"
    turns = (Turn("user", RETRY), Turn("assistant", "Use @retry."))
    assert found(retriever.search(Question(text, turns)))[0] == "docs/scaling/failures.md"
    long = tuple(Turn("user", "What is an artifact?") for _ in range(200))
    assert found(retriever.search(Question(text, (*long, *turns))))[0] == (
        "docs/scaling/failures.md"
    )


OFFICIAL = "docs/scaling/failures.md#0", "Dealing with Failures", "Retrying"
DRAFT = "labs:scaling/retries#0", "Dealing with Failures", "Retrying"


@pytest.mark.parametrize(
    ("official", "draft"),
    [
        (
            "A step with `@retry` is tried three more times by default.",
            "A step with `@retry` is tried five more times by default.",
        ),
        (
            "`@retry` runs a failing step again: by default three times, two minutes apart.",
            "A failing step runs again with `@retry`: five times by default, at once.",
        ),
    ],
)
def test_where_docs_and_a_draft_both_answer_the_docs_come_first(
    tmp_path: Path, minilm: MiniLM, official: str, draft: str
) -> None:
    others = tuple(one for one in PASSAGES if "retr" not in one.text.lower())
    publish(tmp_path, minilm, (*others, passage(*DRAFT, draft), passage(*OFFICIAL, official)))
    retriever = Retriever.over(Index(tmp_path).load(), minilm)
    order = found(
        retriever.search(Question("How many times does a step with @retry run again by default?"))
    )
    assert order[:2] == ["docs/scaling/failures.md", "labs:scaling/retries"]


@pytest.mark.parametrize(("linked", "equal"), [("a", "b"), ("b", "a")])
def test_a_page_that_others_link_to_in_the_words_of_the_question_comes_before_its_equals(
    tmp_path: Path, linked: str, equal: str
) -> None:
    text = "It takes arguments and gives values."
    link = f"Steps that freeze: see [this](https://docs.metaflow.org/scaling/{linked})."
    passages = [
        passage("docs/scaling/a.md#0", "Page", "", text),
        passage("docs/scaling/b.md#0", "Page", "", text),
        passage("docs/scaling/c.md#0", "Overview", "", link),
        *PASSAGES,
    ]
    index, embedding = Index(tmp_path), WordEmbedding()
    index.activate(index.build(passages, {}, embedding).id)
    search = Retriever.over(index.load(), embedding).search(Question("arguments of steps freeze"))
    order = found(search)
    assert order.index(f"docs/scaling/{linked}.md") < order.index(f"docs/scaling/{equal}.md")
