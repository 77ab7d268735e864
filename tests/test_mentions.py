"""How others speak of a document."""

from __future__ import annotations

from dataclasses import replace

from metaflowbot.domain import Passage
from metaflowbot.mentions import mentions

SITE = "https://docs.metaflow.org"


def passage(document: str, text: str) -> Passage:
    return Passage(f"{document}#0", document, "metaflow-docs", "T", (), f"{SITE}/{document}", text)


def test_the_sentence_that_links_to_a_document_speaks_of_it_and_the_rest_does_not() -> None:
    here = passage("a", f"First. If it hangs, see [timeouts]({SITE}/b#limits). Last.")
    there = passage("b", "Nothing.")
    assert mentions([here, there]) == ["", "If it hangs, see timeouts."]


def test_a_document_does_not_speak_of_itself_nor_of_pages_that_were_not_read() -> None:
    alone = passage("a", f"See [above]({SITE}/a#top) and [else]({SITE}/nowhere).")
    assert mentions([alone]) == [""]


def test_what_several_say_is_joined_in_order_and_documents_keep_their_order() -> None:
    texts = (f"One [x]({SITE}/c).", f"Two [x]({SITE}/c/).")
    first, second, last = passage("a", texts[0]), passage("b", texts[1]), passage("c", "z")
    assert mentions([first, second, last]) == ["", "", "One x.\nTwo x."]


def test_a_picture_is_no_mention() -> None:
    assert mentions([passage("a", f"![b]({SITE}/b)"), passage("b", "z")]) == ["", ""]


def test_what_is_private_to_a_channel_speaks_of_nothing() -> None:
    private = replace(passage("a", f"We lost a key: [secrets]({SITE}/b)."), channel="C1")
    assert mentions([private, passage("b", "z")]) == ["", ""]


def test_no_passages_give_no_mentions() -> None:
    assert mentions([]) == []
