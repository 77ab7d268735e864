"""Words are compared by their stems, identifiers also as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metaflowbot.lexical import Lexical, terms

TEXTS = (
    "Set `METAFLOW_DATASTORE_SYSROOT_S3` to the S3 prefix of the datastore root.",
    "The system root of a datastore in S3 is described elsewhere.",
    "Decorate the step with `@kubernetes` and ask for memory.",
    "A Kubernetes cluster runs many steps; kubernetes is an orchestrator.",
    "Read `current.spot_termination_notice` to learn of it.",
    "A notice of termination: the current spot is lost.",
)


@pytest.fixture(scope="module")
def lexical() -> Lexical:
    return Lexical.build(TEXTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("retrying retries", ["retri", "retri"]),
        ("@retry", ["@retry", "retri"]),
        ("--with-card", ["--with-card", "with-card", "card"]),
        (
            "METAFLOW_DATASTORE_SYSROOT_S3",
            ["metaflow_datastore_sysroot_s3", "metaflow", "datastor", "sysroot", "s3"],
        ),
        ("IncludeFile", ["includefile", "includ", "file"]),
        ("don't", []),
        ("How do I use the S3?", ["s3"]),
    ],
)
def test_an_identifier_gives_itself_and_its_words(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize("text", ["", " \n", "?!…", "the of and", "🦜"])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    assert terms(text) == []


def test_words_of_every_script_are_terms() -> None:
    assert terms("Größe") == ["größe"]
    assert terms("重试 步骤") == ["重试", "步骤"]


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("METAFLOW_DATASTORE_SYSROOT_S3", 0),
        ("@kubernetes", 2),
        ("current.spot_termination_notice", 4),
        ("kubernetes cluster", 3),
    ],
)
def test_who_names_an_identifier_finds_the_text_that_names_it(
    lexical: Lexical, query: str, row: int
) -> None:
    assert lexical.scores(terms(query)).argmax() == row


def test_scores_are_one_a_row_and_never_negative(lexical: Lexical) -> None:
    scores = lexical.scores(terms("datastore root of kubernetes"))
    assert scores.shape == (len(TEXTS),)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()


@pytest.mark.parametrize("query", ["", "xylophone", "the of"])
def test_unknown_terms_score_zero_everywhere(lexical: Lexical, query: str) -> None:
    assert lexical.scores(terms(query)).tolist() == [0.0] * len(TEXTS)


def test_saying_a_word_twice_counts_once(lexical: Lexical) -> None:
    once, twice = lexical.scores(["memori"]), lexical.scores(["memori", "memori"])
    assert once.any()
    assert np.array_equal(once, twice)


def test_a_saved_index_gives_the_same_scores(lexical: Lexical, tmp_path: Path) -> None:
    lexical.save(tmp_path / "lexical")
    loaded = Lexical.load(tmp_path / "lexical", len(TEXTS))
    query = terms("@kubernetes memory")
    assert np.array_equal(loaded.scores(query), lexical.scores(query))
    assert loaded.knows("@kubernetes")
    assert not loaded.knows("xylophone")


def test_texts_without_any_word_can_be_indexed() -> None:
    lexical = Lexical.build(["", "…"])
    assert lexical.scores(terms("retry")).tolist() == [0.0, 0.0]


def test_an_index_that_is_not_whole_cannot_be_loaded(lexical: Lexical, tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        Lexical.load(tmp_path / "none", 1)
    lexical.save(tmp_path / "lexical")
    (tmp_path / "lexical" / "vocab.index.json").write_text("{")
    with pytest.raises((OSError, ValueError)):
        Lexical.load(tmp_path / "lexical", len(TEXTS))


def test_a_long_question_is_read_in_a_moment() -> None:
    assert len(terms("retry_" * 3000)) > 3000
    assert len(terms("." * 20_000 + "@" * 20_000)) == 0
