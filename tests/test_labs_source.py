from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.download import MAX_BYTES
from ingest.sections import fenced
from ingest.sources import NotSetUpError, Omission
from ingest.sources.labs import LabsSource, parse_page
from metaflowbot.domain import Document
from metaflowbot.errors import SourceError
from tests.loopback import Reply, Request, serving

CORPUS = Path(__file__).parent / "corpus" / "labs"
FULL = (CORPUS / "full" / "llms-full.txt").read_text(encoding="utf-8")
INDEX = (CORPUS / "full" / "llms.txt").read_text(encoding="utf-8")
SITE = "https://metaflowlabs.nuxt.space"
LEAKS = {
    "block": r"^\s*:{2,}",
    "inline component": r"(?<![\w/:]):[a-z]",
    "attributes": r"[)\]*_`]\{",
    "binding": r"\{\{",
    "entity": r"&(?:#\w+|[a-z]+);",
    "tag": r"</?(?:img|div)\b",
    "slot": r"^\s*#\w",
    "yaml": r"^(?:---|\s*(?:items|label|description|to|id|icon|titleTo):)",
    "escape": r"\\[_*~.]",
    "relative link": r"\]\((?!https?://)",
    "highlighting": r"twoslash|^```\w+ ",
}


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    path = tmp_path / "llms-full.txt"
    path.write_text(FULL, encoding="utf-8")
    return path


def read(location: str | Path) -> tuple[dict[str, Document], dict[str, str]]:
    """The documents by their id, and the omissions' reasons by their name."""
    items = list(LabsSource(str(location)).read())
    documents = {item.id: item for item in items if isinstance(item, Document)}
    return documents, {item.what: item.why for item in items if isinstance(item, Omission)}


def whole(document: Document) -> str:
    return "\n\n".join(section.text for section in document.sections)


def section(document: Document, heading: str) -> str:
    return next(part.text for part in document.sections if part.headings[-1:] == (heading,))


@contextmanager
def served(pages: dict[str, str | bytes | int]) -> Iterator[tuple[str, list[str]]]:
    """A loopback site: bytes or text, a status, or a redirect ('-> target'). Gives its URL and log.

    A path ending in '.html' is a web page.
    """
    asked: list[str] = []

    def respond(request: Request) -> Reply:
        asked.append(f"{request.headers['host']} {request.path}")
        page = pages.get(request.path, 404)
        if isinstance(page, int):
            return Reply(page)
        if isinstance(page, str) and page.startswith("-> "):
            return Reply(302, headers={"Location": page.removeprefix("-> ")})
        body = page.encode() if isinstance(page, str) else page
        kind = "text/html" if body.startswith(b"<!doctype") else "text/plain"
        return Reply(200, body, {"Content-Type": kind})

    with serving(respond) as url:
        yield url, asked


# --- llms-full.txt and llms.txt in a folder


def test_each_page_of_llms_full_is_one_document_at_its_own_address() -> None:
    documents, _ = read(CORPUS / "full" / "llms-full.txt")
    assert {identity: document.url for identity, document in documents.items()} == {
        "labs:projects/digest": f"{SITE}/projects/digest",
        "labs:projects/ask-once": f"{SITE}/projects/ask-once",
        "labs:projects/draw-a-graph": f"{SITE}/projects/draw-a-graph",
        "labs:deep-dives": f"{SITE}/learn/deep-dives",
        "labs:foreach/how-joins-work": f"{SITE}/learn/deep-dives/foreach/how-joins-work",
    }
    assert {document.source for document in documents.values()} == {"labs"}


def test_a_page_that_llms_txt_calls_otherwise_is_found_by_its_place() -> None:
    documents, _ = read(CORPUS / "full" / "llms-full.txt")
    title = documents["labs:foreach/how-joins-work"].title
    assert title == "How Joins Work: Foreach and Merging"
    assert title not in INDEX


def test_a_folder_or_its_llms_txt_reads_as_its_llms_full_txt() -> None:
    expected = read(CORPUS / "full" / "llms-full.txt")
    assert read(CORPUS / "full") == expected
    assert read(CORPUS / "full" / "llms.txt") == expected


def test_without_llms_txt_links_between_the_pages_give_their_addresses(alone: Path) -> None:
    documents, _ = read(alone)
    found = {document.url for document in documents.values()}
    assert f"{SITE}/learn/deep-dives/foreach/how-joins-work" in found
    assert {f"{SITE}/projects/draw-a-graph", f"{SITE}/learn/deep-dives"} <= found
    assert {"labs:foreach/how-joins-work", "labs:deep-dives"} <= documents.keys()


def test_a_page_whose_address_nobody_tells_is_cited_as_its_place_in_the_file(alone: Path) -> None:
    documents, _ = read(alone)
    digest = documents["labs:weekly-digest"]
    assert digest.url == f"{SITE}/llms-full.txt#:~:text=%23%20Weekly%20Digest"
    assert {part.anchor for part in digest.sections} == {""}


def test_llms_txt_without_llms_full_reads_the_pages_beside_it(tmp_path: Path) -> None:
    (tmp_path / "llms.txt").write_text(INDEX, encoding="utf-8")
    (tmp_path / "raw" / "projects").mkdir(parents=True)
    (tmp_path / "raw" / "projects" / "ask-once.md").write_text("# Ask Once\n\nOnce.\n")
    documents, omissions = read(tmp_path)
    assert documents["labs:projects/ask-once"].url == f"{SITE}/projects/ask-once"
    assert "is not in " in omissions["Weekly Digest"]


def test_a_listed_path_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "private.md").write_text("# Private\n\nNot for you.\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "llms.txt").write_text("- [A](/../private)\n- [B](/%2e%2e/private.md)\n")
    with pytest.raises(SourceError, match="no readable page"):
        read(inside)


def test_a_page_without_text_is_left_out_with_the_reason() -> None:
    _, omissions = read(CORPUS / "full")
    assert omissions == {"Planned Page": "empty page"}


def test_two_pages_of_one_address_do_not_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / "llms-full.txt"
    path.write_text("# Same\n\nFirst.\n\n\n# Same\n\nSecond.\n")
    documents, omissions = read(path)
    assert whole(documents["labs:same"]) == "First."
    assert omissions == {"Same": "another page has its id, labs:same"}


def test_text_before_the_first_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "llms-full.txt"
    path.write_text("Preface.\n\n# One\n\n1\n\n# Two\n\n2\n")
    documents, omissions = read(path)
    assert documents.keys() == {"labs:one", "labs:two"}
    assert omissions == {"the text before the first page": "it has no title"}


def test_a_page_of_5_mb_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "llms-full.txt"
    path.write_text("# Big\n\n" + "many words " * 460_000 + "\n\n\n# Small\n\nFew.\n")
    documents, omissions = read(path)
    assert documents.keys() == {"labs:small"}
    assert omissions == {"Big": "is larger than 2 MB"}


# --- what is in a page


def test_a_comment_in_a_code_fence_starts_neither_a_page_nor_a_section() -> None:
    documents, _ = read(CORPUS / "full")
    joins = documents["labs:foreach/how-joins-work"]
    assert "# Upon the join:\n# 1. All inputs are loaded" in section(joins, "The join step")
    headings = {part.headings for part in joins.sections}
    assert not any("Upon the join" in heading for path in headings for heading in path)


def test_a_second_title_inside_a_page_is_a_section_of_it() -> None:
    documents, _ = read(CORPUS / "full")
    joins = documents["labs:foreach/how-joins-work"]
    assert joins.sections[1].headings == ("Not a page of its own",)


@pytest.mark.parametrize("location", ["full", "tree"])
@pytest.mark.parametrize("leak", LEAKS)
def test_no_section_shows_markup_that_a_reader_of_the_site_does_not_see(
    location: str, leak: str
) -> None:
    documents, _ = read(CORPUS / location)
    for text in map(whole, documents.values()):
        lines = fenced(text.split("\n"))
        shown = "\n".join(line for line, code in lines if not code or line.startswith("```"))
        assert not re.search(LEAKS[leak], shown, re.MULTILINE)


def test_anchors_are_those_of_nuxt_content() -> None:
    documents, _ = read(CORPUS / "full")
    anchors = [part.anchor for part in documents["labs:deep-dives"].sections]
    assert anchors == ["about", "_1-splits", "articles"]
    joins = [part.anchor for part in documents["labs:foreach/how-joins-work"].sections]
    assert joins == ["", "not-a-page-of-its-own", "the-join-step", "the-join-step-1"]


def test_a_list_component_becomes_a_readable_list() -> None:
    documents, _ = read(CORPUS / "full")
    base = f"{SITE}/learn/deep-dives/foreach"
    assert section(documents["labs:deep-dives"], "Articles") == (
        f"**[Foreach]({base}/)**\n\n"
        f"- [Foreach & Join]({base}/how-joins-work): How a join waits for its branches.\n"
        "- Using `merge_artifacts`: When to merge by hand.\n"
        "- Only a label\n\n"
        "These articles are *drafts*.\n\n"
        "- Nothing else"
    )


def test_callouts_nested_or_not_are_labelled_paragraphs() -> None:
    documents, _ = read(CORPUS / "full")
    text = whole(documents["labs:foreach/how-joins-work"])
    assert "**Info**\n\nInputs arrive in no order." in text
    assert "**Note**\n\n**Tip: Merging**\n\nMerge what is <equal> only." in text


def test_a_link_that_an_entity_closes_is_still_a_link() -> None:
    documents, _ = read(CORPUS / "full")
    text = whole(documents["labs:projects/digest"])
    assert f"[the part on sums]({SITE}/learn#sums). It is ***short*** and ~5 lines." in text


def test_names_with_underscores_read_as_in_code() -> None:
    documents, _ = read(CORPUS / "full")
    text = whole(documents["labs:projects/draw-a-graph"])
    assert "- First New draw the steps" in text
    assert "a*b and `my_name`, in _order_ with self.my_data" in text


def test_a_picture_leaves_its_description() -> None:
    documents, _ = read(CORPUS / "full")
    joins = documents["labs:foreach/how-joins-work"]
    assert section(joins, "Not a page of its own") == "Three branches that meet"


def test_components_shown_in_code_stay_as_written() -> None:
    code = "```md\n::note\n#slot\n:badge[x]{a}\n&#x2A;\n::\n```\nand `:badge[x]{a}` &#x2A;"
    document = parse_page(f"# T\n\n{code}\n", f"{SITE}/t")
    assert whole(document) == code.removesuffix("&#x2A;") + "*"


def test_properties_that_are_not_yaml_still_give_their_title() -> None:
    text = "# T\n\n::card\n---\ntitle: One: two\nicon: [\n---\nBody.\n::\n"
    assert whole(parse_page(text, f"{SITE}/t")) == "**One: two**\n\nBody."


def test_a_component_that_is_never_closed_loses_no_text() -> None:
    text = "# T\n\n::note\n---\nBefore.\n\n## After\n\nText {with} braces and a :) at 10:30.\n"
    document = parse_page(text, f"{SITE}/t")
    assert [part.headings for part in document.sections] == [(), ("After",)]
    assert "Before." in whole(document)
    assert document.sections[1].text == "Text {with} braces and a :) at 10:30."


# --- a Nuxt Content tree


def test_a_trees_numbers_and_indexes_are_not_in_its_addresses() -> None:
    documents, omissions = read(CORPUS / "tree")
    assert {identity: document.url for identity, document in documents.items()} == {
        "labs:foreach/how-joins-work": f"{SITE}/learn/deep-dives/foreach/how-joins-work",
        "labs:patterns/retry-a-call": f"{SITE}/learn/patterns/retry-a-call",
        "labs:learn": f"{SITE}/learn",
    }
    assert omissions == {"2.projects/10.draw-a-graph.md": "empty page"}


def test_a_tree_and_llms_full_give_a_page_the_same_id_and_title() -> None:
    in_tree, in_full = (read(CORPUS / name)[0] for name in ("tree", "full"))
    identity = "labs:foreach/how-joins-work"
    assert in_tree[identity].title == in_full[identity].title


def test_front_matter_gives_title_version_and_type() -> None:
    documents, _ = read(CORPUS / "tree")
    joins, retry = documents["labs:foreach/how-joins-work"], documents["labs:patterns/retry-a-call"]
    assert (joins.version, retry.version) == ("Metaflow 2.10", "2026-02-03")
    assert joins.sections[0].text.startswith("*Deep dive*\n\nA join")
    assert retry.sections[0].text.startswith("*Pattern*\n\nRetry twice")
    assert retry.title == "Retry a call"


def test_a_trees_links_lead_to_pages_of_the_site() -> None:
    documents, _ = read(CORPUS / "tree")
    text = whole(documents["labs:learn"])
    assert f"[deep dives]({SITE}/learn/deep-dives)" in text
    assert f"[next page]({SITE}/learn/patterns/retry-a-call#why)" in text


def test_cards_slots_bindings_and_attributes_on_several_lines_are_read() -> None:
    documents, _ = read(CORPUS / "tree")
    text = section(documents["labs:foreach/how-joins-work"], "Why")
    assert text == (
        "**flow.py**\n\n```python\nself.next(self.join)\n```\n\n"
        f"**[Merge]({SITE}/projects/draw-a-graph)**\n\nMerging, explained.\n\n"
        f"Read on with [the project]({SITE}/projects/draw-a-graph).\n\n"
        "**Warning: Mind the order**\n\nInputs come in no order."
    )
    assert documents["labs:foreach/how-joins-work"].sections[-1].anchor == "reason"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x00\x01\x02", "it holds zero bytes"),
        ("Gr\u00fc\u00dfe".encode("latin-1"), "it is not UTF-8"),
        (b"", "empty page"),
        (b"words " * 900_000, "larger than 2 MB"),
    ],
    ids=["binary", "latin-1", "empty", "5 MB"],
)
def test_a_file_that_is_no_page_is_named_and_the_rest_kept(
    tmp_path: Path, body: bytes, why: str
) -> None:
    (tmp_path / "good.md").write_text("# Good\n\nText.\n")
    (tmp_path / "bad.md").write_bytes(body)
    documents, omissions = read(tmp_path)
    assert documents.keys() == {"labs:good"}
    assert why in omissions["bad.md"]


# --- a location that can't be read


def test_a_location_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.txt does not exist"):
        read(tmp_path / "nowhere.txt")


def test_no_location_is_not_the_current_folder() -> None:
    with pytest.raises(SourceError, match="location is not set"):
        read("")


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"\x00", b"No title at all."])
def test_an_llms_full_without_a_page_is_an_error(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "llms-full.txt"
    path.write_bytes(body)
    with pytest.raises(SourceError, match=r"llms-full\.txt"):
        read(path)


# --- over the network


def test_a_url_reads_as_the_file_does() -> None:
    expected = read(CORPUS / "full")
    with served({"/llms-full.txt": FULL, "/llms.txt": INDEX}) as (url, asked):
        assert read(f"{url}/llms-full.txt") == expected
        assert read(url) == expected
    assert all(line.startswith(url.removeprefix("http://")) for line in asked)


def test_pages_that_llms_txt_links_to_are_fetched_and_a_missing_one_named() -> None:
    index = "- [Ask](/raw/projects/ask.md)\n- [Gone](/gone)\n- [Shown](/shown)\n- [Far](https://x.test/y)"
    pages: dict[str, str | bytes | int] = {
        "/llms.txt": index,
        "/raw/projects/ask.md": "# Ask\n\nOnce, see [that](/that).\n",
        "/shown": "<!doctype html><p>A page for people</p>",
    }
    with served(pages) as (url, _):
        documents, omissions = read(f"{url}/llms.txt")
        ask = documents["labs:projects/ask"]
        assert (ask.url, whole(ask)) == (f"{url}/projects/ask", f"Once, see [that]({url}/that).")
    assert "answered 404" in omissions["Gone"]
    assert "is a web page" in omissions["Shown"]
    assert "is on another site" in omissions["Far"]


@pytest.mark.parametrize("status", [404, 410, 500])
def test_a_refusal_is_told_with_its_status(status: int) -> None:
    pages: dict[str, str | bytes | int] = {"/llms-full.txt": status}
    with served(pages) as (url, _), pytest.raises(SourceError, match=f"answered {status}: "):
        read(f"{url}/llms-full.txt?token=secret")


def test_a_server_in_trouble_does_not_change_which_pages_there_are() -> None:
    pages: dict[str, str | bytes | int] = {"/llms-full.txt": FULL, "/llms.txt": 503}
    with served(pages) as (url, _), pytest.raises(SourceError, match="answered 503"):
        read(f"{url}/llms-full.txt")


def test_an_address_where_nothing_listens_is_told_without_its_secrets() -> None:
    with served({}) as (url, _):
        pass
    secret = url.replace("//", "//user:password@")
    with pytest.raises(SourceError, match="can't be reached") as caught:
        read(f"{secret}/llms-full.txt?token=secret")
    assert not re.search("password|token", str(caught.value))


def test_a_redirect_is_followed() -> None:
    pages: dict[str, str | bytes | int] = {
        "/llms-full.txt": "-> /new/llms-full.txt",
        "/new/llms-full.txt": FULL,
    }
    with served(pages) as (url, _):
        assert "labs:deep-dives" in read(f"{url}/llms-full.txt")[0]


def test_redirects_in_a_circle_end() -> None:
    pages: dict[str, str | bytes | int] = {"/llms-full.txt": "-> /llms-full.txt"}
    with served(pages) as (url, asked):
        with pytest.raises(SourceError, match="more than 5 redirects"):
            read(f"{url}/llms-full.txt")
        assert len(asked) == 6


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data", "leads to a link-local address"),
        ("http://10.0.0.1/llms-full.txt", "leads to a private address"),
        ("file:///etc/hostname", "is not an http or https URL"),
        ("ftp://127.0.0.1/llms-full.txt", "is not an http or https URL"),
        ("http://[", "redirects to what is not a URL"),
    ],
)
def test_a_redirect_to_where_the_location_is_not_is_refused(target: str, reason: str) -> None:
    pages: dict[str, str | bytes | int] = {"/llms-full.txt": f"-> {target}"}
    with served(pages) as (url, _), pytest.raises(SourceError, match=reason):
        read(f"{url}/llms-full.txt")


def test_a_file_over_the_limit_is_not_read_to_its_end() -> None:
    pages: dict[str, str | bytes | int] = {"/llms-full.txt": b"# x\n" * (MAX_BYTES // 4 + 1)}
    with served(pages) as (url, _), pytest.raises(SourceError, match="larger than 20 MB"):
        read(f"{url}/llms-full.txt")


# Published write-ups


def published(
    *urls: str, location: str = "", internal: tuple[str, ...] = ("127.0.0.1",)
) -> tuple[dict[str, Document], dict[str, str]]:
    items = list(LabsSource(location, lambda: urls, internal).read())
    documents = {item.id: item for item in items if isinstance(item, Document)}
    return documents, {item.what: item.why for item in items if isinstance(item, Omission)}


@pytest.mark.parametrize(
    "kept", ["/raw/learn/bread.md", "/learn/bread.md", "/learn/bread/index.md"]
)
def test_a_published_write_up_is_read_where_its_site_keeps_the_markdown(kept: str) -> None:
    page = "---\ntitle: Bread\n---\n\n# Bread in a flow\n\nBake it in a step.\n"
    with served({kept: page}) as (site, _):
        documents, omissions = published(f"{site}/learn/bread")
    document = documents["labs:bread"]
    assert (document.title, document.url) == ("Bread in a flow", f"{site}/learn/bread")
    assert "Bake it" in whole(document)
    assert omissions == {}


def test_a_write_up_that_can_not_be_read_is_named_and_the_others_are_kept(alone: Path) -> None:
    with served({"/b.md": "# Read\n\nSome text."}) as (site, _):
        documents, omissions = published(f"{site}/a", f"{site}/b", location=str(alone))
        assert "labs:b" in documents
        assert len(documents) > 1
        assert "404" in omissions[f"{site}/a"]


def test_a_write_up_inside_the_network_is_read_only_where_the_operator_named_its_host(
    alone: Path,
) -> None:
    with served({"/a.md": "# A\n\nSecret."}) as (site, asked):
        for internal in ((), ("localhost",)):
            documents, omissions = published(f"{site}/a", location=str(alone), internal=internal)
            assert "labs:a" not in documents
            assert "leads to a loopback address" in omissions[f"{site}/a"]
        assert asked == []


@pytest.mark.parametrize("link", ["http://[", "//[", "http://[x]/", "https://a\u2100b.io/"])
def test_a_link_that_is_no_url_stays_as_it_is_and_costs_no_page(tmp_path: Path, link: str) -> None:
    (tmp_path / "llms.txt").write_text(f"- [A](/learn/a)\n- [B]({link})\n")
    (tmp_path / "llms-full.txt").write_text(f"# A\n\nA page, see [that]({link}).\n")
    (document,) = LabsSource(str(tmp_path)).read()
    assert isinstance(document, Document)
    assert f"[that]({link})" in whole(document)


def test_a_link_out_of_the_tree_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("# Secret")
    tree = tmp_path / "content"
    tree.mkdir()
    (tree / "a.md").write_text("# A\n\nText.")
    (tree / "b.md").symlink_to(tmp_path / "secret.md")
    (tree / "c.md").symlink_to(tree / "a.md")
    items = list(LabsSource(str(tmp_path)).read())
    assert [item.id for item in items if isinstance(item, Document)] == ["labs:a", "labs:c"]
    assert [item.why for item in items if isinstance(item, Omission)] == [
        "a link that leads out of the tree"
    ]


def test_without_a_location_and_without_write_ups_the_source_is_not_set_up() -> None:
    with pytest.raises(NotSetUpError, match=r"sources\.labs\.location is not set"):
        published()
