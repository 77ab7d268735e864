"""A query held against passages word by word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metaflowbot.embedding import NO_WORDS, WORD_SIZE, Words
from metaflowbot.late import WordVectors


def words(*places: int) -> Words:
    """Words that have nothing to do with each other, unless they share the place."""
    return (127 * np.eye(WORD_SIZE)[list(places)]).astype(np.int8)


def written(folder: Path, *texts: Words) -> WordVectors:
    WordVectors.write(folder, texts)
    loaded = WordVectors.load(folder)
    assert loaded is not None
    return loaded


def test_the_best_word_of_a_passage_counts_for_each_word_of_the_query(tmp_path: Path) -> None:
    passages = written(tmp_path, words(0, 1), words(2), words(1, 2, 3, 0))
    close = passages.closeness(words(0, 1, 5), np.array([0, 1, 2]))
    assert close == pytest.approx([2 / 3, 0, 2 / 3])


def test_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    passages = written(tmp_path, words(0), words(1), words(2))
    assert passages.closeness(words(1), np.array([2, 1])) == pytest.approx([0, 1])


def test_the_order_of_words_does_not_matter(tmp_path: Path) -> None:
    passages = written(tmp_path, words(0, 1, 2), words(2, 1, 0))
    first, second = passages.closeness(words(1, 2, 9), np.array([0, 1]))
    assert first == second


def test_where_no_text_has_words_nothing_is_kept(tmp_path: Path) -> None:
    WordVectors.write(tmp_path, [NO_WORDS, NO_WORDS])
    assert list(tmp_path.iterdir()) == []
    assert WordVectors.load(tmp_path) is None


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, words(0, 1), words(2))
    (tmp_path / "words.bin").write_bytes(b"\1" * 10)
    with pytest.raises(ValueError, match="size"):
        WordVectors.load(tmp_path)
