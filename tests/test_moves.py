"""Promises about documents that were moved: what was cited once still leads on."""

from __future__ import annotations

from dataclasses import replace

from ingest.library import Reading
from ingest.moves import moves
from ingest.sources import Moved
from metaflowbot.domain import Document, Section

SITE = "https://site.example"
LONG = "Put the retry decorator on a step to run it again after it failed. " * 5


def page(name: str, text: str = LONG, url: str = "") -> Document:
    sections = (Section((), "", text),)
    return Document(f"docs/{name}.md", "docs", "Title", url or f"{SITE}/{name}", sections)


def read(*documents: Document, **moved: str) -> Reading:
    return Reading("2030-01-01", documents, moved)


def test_a_page_renamed_without_a_change_is_known_by_what_it_says() -> None:
    old, new = page("old"), page("new")
    assert moves(read(old), [new], []) == {"docs/old.md": new.id, f"{SITE}/old": new.id}


def test_links_that_move_with_a_page_are_no_change() -> None:
    old, new = page("a/old", f"{LONG}[x]({SITE}/a/x)"), page("new", f"{LONG}[x]({SITE}/x)")
    assert moves(read(old), [new], [])["docs/a/old.md"] == new.id


def test_a_redirect_leads_to_a_page_that_says_something_else() -> None:
    old, new = page("old"), page("new", "Something else.")
    declared = [Moved(f"{SITE}/old", f"{SITE}/new"), Moved(f"{SITE}/gone", f"{SITE}/nowhere")]
    assert moves(read(old), [new], declared) == {"docs/old.md": new.id, f"{SITE}/old": new.id}


def test_a_redirect_is_known_without_an_earlier_reading() -> None:
    new = page("new")
    assert moves(None, [new], [Moved("docs/old.md", f"{SITE}/new")]) == {"docs/old.md": new.id}


def test_a_page_with_another_url_is_found_by_its_old_one() -> None:
    old, new = page("a"), page("a", url=f"{SITE}/b")
    assert moves(read(old), [new], []) == {f"{SITE}/a": new.id}


def test_moves_are_carried_on_and_followed_to_their_end() -> None:
    first, second, third = page("first"), page("second"), page("third")
    once = moves(read(first), [second], [])
    twice = moves(Reading("2030-01-02", (second,), once), [third], [])
    assert twice["docs/first.md"] == twice["docs/second.md"] == third.id
    assert moves(Reading("2030-01-03", (third,), twice), [third], []) == twice


def test_what_is_gone_leads_nowhere() -> None:
    assert moves(read(page("gone")), [page("other", "Something else.")], []) == {}


def test_what_came_back_leads_to_itself() -> None:
    old, new = page("old"), page("new")
    moved = moves(read(old), [new], [])
    back = moves(Reading("2030-01-02", (new,), moved), [old, page("new", LONG * 2)], [])
    assert "docs/old.md" not in back
    assert f"{SITE}/old" not in back


def test_pages_that_say_the_same_or_little_are_not_taken_for_each_other() -> None:
    twins = [page("one"), page("two")]
    assert moves(read(*twins), [page("new")], []) == {}
    assert moves(read(page("one")), [*twins[1:], page("three")], []) == {}
    assert moves(read(page("one", "Short.")), [page("new", "Short.")], []) == {}


def test_a_page_that_stays_is_not_the_new_name_of_one_that_went() -> None:
    kept = replace(page("kept"), title="Title")
    assert moves(read(page("gone"), kept), [kept], []) == {}


def test_a_circle_of_moves_ends() -> None:
    new = page("new")
    circle = read(**{"docs/a.md": "docs/b.md", "docs/b.md": "docs/a.md"})
    assert set(moves(circle, [new], [])) == {"docs/a.md", "docs/b.md"}
