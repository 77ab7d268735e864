"""A sentence is borne out when its source says the same: words, numbers, names and negations."""

from __future__ import annotations

import pytest

from metaflowbot.domain import Passage
from metaflowbot.grounding import Grounds
from metaflowbot.markdown import Segment

TEXT = """\
Metaflow stores artifacts automatically in the datastore. You can't change an artifact of a past \
run. `@retry` runs a failing step 3 times, with two minutes between attempts.

Use `@catch` to ignore exceptions in a step. Timeouts are always counted in seconds.
"""


def admitted(sentence: str, text: str = TEXT, **asked: bool) -> str:
    source = Passage("d#0", "d", "metaflow-docs", "Failures", (), "https://d.example", text)
    return Grounds([[source]], "how do I retry?", **asked).admit(Segment(0, sentence, True)).text


@pytest.mark.parametrize(
    "sentence",
    [
        "Metaflow stores artifacts automatically in the datastore [1].",
        "Artifacts are automatically stored in the datastore [1].",
        "An artifact of a past run can't be changed [1].",
        "`@retry` runs a failing step three times [1].",
        "A failing step is run 3 times by `@retry`, with 2 minutes between the attempts [1].",
        "Exceptions in a step are ignored with `@catch` [1].",
    ],
)
def test_what_the_source_says_in_these_or_other_words_is_kept(sentence: str) -> None:
    assert admitted(sentence) == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "Metaflow never stores artifacts automatically in the datastore [1].",
        "You can change an artifact of a past run [1].",
        "`@retry` runs a failing step 5 times [1].",
        "`@retry` runs a failing step three times, with nine minutes between attempts [1].",
        "`@rerun` runs a failing step 3 times [1].",
        "Metaflow stores artifacts automatically in Snowflake [1].",
        "Timeouts are never counted in seconds [1].",
        "Metaflow deletes artifacts automatically [1].",
        "Artifacts [1].",
        "Steps are fast [1].",
    ],
)
def test_a_sentence_with_one_thing_changed_is_taken_out(sentence: str) -> None:
    assert admitted(sentence) == ""


def test_a_true_sentence_without_a_marker_gets_one() -> None:
    said = "Metaflow stores artifacts automatically in the datastore."
    assert admitted(said) == "Metaflow stores artifacts automatically in the datastore [1]."


def test_a_wrong_marker_is_replaced_by_the_right_one() -> None:
    said = "Metaflow stores artifacts automatically in the datastore [7]."
    assert admitted(said).endswith("datastore [1].")


def test_what_is_said_of_the_sources_needs_no_source() -> None:
    said = "The documentation does not say how to retry a step."
    assert admitted(said) == said


def test_in_another_language_a_quote_that_stands_there_is_enough() -> None:
    quoted = 'Mit `@retry` läuft ein Schritt 3 mal [1: "runs a failing step 3 times"].'
    assert admitted(quoted, is_foreign=True) == quoted
    assert admitted(quoted.replace("3 mal", "7 mal"), is_foreign=True) == ""
    assert admitted("Schritte laufen rückwärts [1].", is_foreign=True) == ""
