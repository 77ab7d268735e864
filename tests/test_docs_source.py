from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.passages import split
from ingest.sections import fenced
from ingest.sources import Moved, Omission
from ingest.sources.docs import DocsSource, parse_page
from metaflowbot.domain import Document
from metaflowbot.errors import SourceError

REAL_TREE = Path(__file__).parents[2] / "shared/corpus/metaflow-docs"

Reading = tuple[dict[str, Document], dict[str, str]]


def read(location: object, cache: Path, *include: str) -> Reading:
    """Documents by id, and the reasons of omissions by what was left out."""
    items = list(DocsSource(str(location), cache, include).read())
    documents = {item.id: item for item in items if isinstance(item, Document)}
    return documents, {item.what: item.why for item in items if isinstance(item, Omission)}


@pytest.fixture
def small(corpus: Path, tmp_path: Path) -> Reading:
    return read(corpus, tmp_path)


def text(document: Document) -> str:
    return "\n\n".join(section.text for section in document.sections)


def prose(markdown: str) -> str:
    """The text without its fences and code spans."""
    lines = [line for line, in_code in fenced(markdown.split("\n")) if not in_code]
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(lines), flags=re.DOTALL)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_page_is_known_by_its_path_and_cited_by_its_page_on_the_site(small: Reading) -> None:
    pages = {identity: (page.url, page.title) for identity, page in small[0].items()}
    site = "https://docs.metaflow.org"
    assert pages == {
        "docs/api/flowspec.md": (f"{site}/api/flowspec", "FlowSpec - Writing flows"),
        "docs/api/step-decorators/retry.md": (f"{site}/api/step-decorators/retry", "@retry"),
        "docs/getting-started/install.mdx": (f"{site}/start/install", "Installing"),
        "docs/index.md": (f"{site}/", "Welcome, Flow Builders"),
        "docs/metaflow/basics.md": (f"{site}/metaflow/basics", "Basics of Flows"),
        "docs/scaling/failures.md": (f"{site}/scaling/failures", "When Steps Fail"),
        "docs/scaling/remote/README.md": (f"{site}/scaling/remote", "Running Tasks Elsewhere"),
    }
    assert {page.source for page in small[0].values()} == {"metaflow-docs"}


def test_every_file_that_is_left_out_is_named_with_the_reason(small: Reading) -> None:
    assert small[1] == {
        "docs/api/flowspec.ipynb": "notebook source of the page",
        "docs/internals/gsoc.md": (
            "programme page: sources.docs.include = ['docs/internals'] takes it in"
        ),
        "docs/odd/_partial.md": "part of other pages, no page of its own",
        "docs/odd/binary.md": "not a text file: it is not UTF-8",
        "docs/odd/empty.md": "empty page",
        "docs/odd/latin.md": "not a text file: it is not UTF-8",
        "docs/odd/scratch.ipynb": "notebook without a Markdown page",
        "docs/odd/zeros.md": "not a text file: it holds zero bytes",
        "docs/v/r/README.md": ("page for R users: sources.docs.include = ['docs/v/r'] takes it in"),
    }


def test_pages_left_out_by_default_are_taken_in_on_request(corpus: Path, tmp_path: Path) -> None:
    documents, omitted = read(corpus, tmp_path, "docs/v/r")
    assert documents["docs/v/r/README.md"].url == "https://docs.metaflow.org/v/r"
    assert "docs/internals/gsoc.md" in omitted


def test_sections_have_the_anchors_of_the_site(small: Reading) -> None:
    anchors = {
        identity: [section.anchor for section in page.sections]
        for identity, page in small[0].items()
    }
    assert anchors["docs/metaflow/basics.md"] == [
        "", "artifacts", "example", "example-1", "self-next",
    ]  # fmt: skip
    assert anchors["docs/scaling/failures.md"] == ["", "retry-with-a-delay", "catch"]
    assert anchors["docs/api/flowspec.md"] == ["", "FlowSpec.next", "FlowSpec.index", "Run"]
    assert anchors["docs/api/step-decorators/retry.md"] == ["", "retry"]


def test_no_markup_of_the_site_is_left_in_text(small: Reading) -> None:
    left = re.compile(r"</?[A-Z]|&#?\w+;|^import |^export |^:::|^---$|<!--|\{/\*", re.MULTILINE)
    for page in small[0].values():
        assert not left.search(prose(text(page))), page.id


def test_code_is_kept_to_the_letter(small: Reading, corpus: Path) -> None:
    page = (corpus / "docs/metaflow/basics.md").read_text()
    blocks = re.findall(r"^```.*?^```$|^~~~.*?^~~~$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        assert block in text(small[0]["docs/metaflow/basics.md"])


def test_every_link_is_absolute_and_points_to_a_page_not_to_a_file(small: Reading) -> None:
    targets = {
        target
        for page in small[0].values()
        for target in re.findall(r"\]\(([^)]*)\)", prose(text(page)))
    }
    assert targets == {
        "https://docs.metaflow.org/api/flowspec#FlowSpec.next",
        "https://docs.metaflow.org/api/step-decorators/retry",
        "https://docs.metaflow.org/metaflow/basics",
        "https://docs.metaflow.org/metaflow/basics#artifacts",
        "https://docs.metaflow.org/scaling/failures",
        "https://docs.metaflow.org/scaling/failures#retry-with-a-delay",
        "https://docs.metaflow.org/scaling/remote#limits",
        "https://docs.metaflow.org/scaling/remote/costs",
        "https://docs.metaflow.org/scaling/remote/gpus",
        "https://docs.metaflow.org/start/tutorial",
        "https://videos.example/remote",
    } | {"https://docs.metaflow.org/scaling/failures#catch"}


@pytest.mark.parametrize(
    ("page", "target", "url"),
    [
        ("docs/a/b.md", "c", "/a/c"),
        ("docs/a/b.md", "./c.md#d", "/a/c#d"),
        ("docs/a/b.md", "../c.mdx", "/c"),
        ("docs/a/b.md", "c/README.md", "/a/c"),
        ("docs/a/b.md", "c.md/#d", "/a/c#d"),
        ("docs/a/b.md", "/c/d/", "/c/d"),
        ("docs/a/b.md", "/c/d.md", "/c/d"),
        ("docs/a/b.md", "../../../../c", "/c"),
        ("docs/a/b.md", "#d", "/a/b#d"),
        ("docs/a/README.md", "c.md", "/a/c"),
        ("docs/a/README.md", "a/c", "/a/c"),
        ("docs/a/README.md", "../c", "/c"),
        ("docs/a/a.md", "c.md", "/a/c"),
    ],
)
def test_a_link_leads_where_it_leads_on_the_site(page: str, target: str, url: str) -> None:
    document = parse_page(f"[x]({target})", page)
    assert text(document) == f"[x](https://docs.metaflow.org{url})"


@pytest.mark.parametrize(
    "target", ["https://x.example/a?b=c#d", "mailto:team@x.example", "http://["]
)
def test_a_link_to_elsewhere_stays(target: str) -> None:
    assert text(parse_page(f"[x]({target})", "docs/a.md")) == f"[x]({target})"


@pytest.mark.parametrize(
    ("front", "title", "url"),
    [
        ("title: 'One: two'", "One: two", "/a/some-page"),
        ("slug: short", "Some page", "/a/short"),
        ("slug: /short/", "Some page", "/short"),
        ("tags:\n  - title: no", "Some page", "/a/some-page"),
    ],
)
def test_front_matter_gives_title_and_address(front: str, title: str, url: str) -> None:
    document = parse_page(f"---\n{front}\n---\ntext", "docs/a/some-page.md")
    assert (document.title, document.url) == (title, f"https://docs.metaflow.org{url}")
    assert text(document) == "text"


def test_a_rule_in_the_text_is_no_front_matter() -> None:
    assert text(parse_page("a\n\n---\n\nb: c\n\n---\n", "docs/a.md")).startswith("a\n")


def test_an_api_page_defines_its_objects_and_their_attributes(small: Reading) -> None:
    assert small[0]["docs/api/flowspec.md"].defines == {
        "metaflow.FlowSpec.next",
        "metaflow.FlowSpec.index",
        "metaflow.flowspec.FlowSpec.index",
        "metaflow.Run",
        "metaflow.Run.data",
        "metaflow.Run.successful",
    }
    assert small[0]["docs/metaflow/basics.md"].defines == frozenset()


def test_an_object_is_found_under_the_heading_it_stands_below(small: Reading) -> None:
    headings = [section.headings for section in small[0]["docs/api/flowspec.md"].sections]
    assert headings == [
        (),
        ("Moving on", "FlowSpec.next"),
        ("Moving on", "FlowSpec.index"),
        ("Looking back", "Run"),
    ]


def test_windows_line_ends_and_a_byte_order_mark_do_not_show(tmp_path: Path) -> None:
    write(tmp_path / "docs/a.md", b"\xef\xbb\xbf---\r\ntitle: T\r\n---\r\n# H\r\n\r\n## A\r\nb\r\n")
    (page,) = read(tmp_path, tmp_path)[0].values()
    assert (page.title, text(page)) == ("T", "b")


def test_a_page_too_large_to_be_one_is_named_and_left_out(tmp_path: Path) -> None:
    write(tmp_path / "docs/a.md", "text")
    write(tmp_path / "docs/huge.md", "word " * 500_000)
    assert read(tmp_path, tmp_path)[1] == {"docs/huge.md": "larger than 2 MB"}


# Where the tree is


CONFIG = """
const REDIRECTS = [{"to": "/scaling/data", "from": "/metaflow/data"},
  { from: ['/a', '/b/'], to: '/#top' }]
const config = { navbar: { items: [{ type: "doc", to: "/api" }, {from: somewhere, to: '/x'}] } }
"""


def test_the_redirects_of_the_site_are_known(tmp_path: Path) -> None:
    write(tmp_path / "docs/page.md", "text")
    write(tmp_path / "docusaurus.config.js", CONFIG)
    items = list(DocsSource(str(tmp_path), tmp_path).read())
    moved = {item.old: item.new for item in items if isinstance(item, Moved)}
    site = "https://docs.metaflow.org"
    assert moved == {
        f"{site}/metaflow/data": f"{site}/scaling/data",
        "docs/metaflow/data.md": f"{site}/scaling/data",
        "docs/metaflow/data/README.md": f"{site}/scaling/data",
        **dict.fromkeys((f"{site}/a", "docs/a.md", "docs/a/README.md"), f"{site}/"),
        **dict.fromkeys((f"{site}/b", "docs/b.md", "docs/b/README.md"), f"{site}/"),
    }


@pytest.mark.parametrize("config", [b"", b"\xff", b"redirects: [{from: , to: }"])
def test_a_configuration_that_says_nothing_of_redirects_is_no_fault(
    tmp_path: Path, config: bytes
) -> None:
    write(tmp_path / "docs/page.md", "text")
    write(tmp_path / "docusaurus.config.ts", config)
    documents, omitted = read(tmp_path, tmp_path)
    assert (set(documents), omitted) == ({"docs/page.md"}, {})


def test_ids_do_not_depend_on_how_the_tree_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = set(read(corpus, tmp_path)[0])
    shutil.copytree(corpus, tmp_path / "docs")
    monkeypatch.chdir(corpus / "docs")
    for location in (corpus / "docs", tmp_path / "docs", ".", "../docs/", "../../corpus/docs/.."):
        assert set(read(location, tmp_path)[0]) == whole, location


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere does not exist: name a Docusaurus tree"):
        read(tmp_path / "nowhere", tmp_path)


def test_a_file_is_no_tree(tmp_path: Path) -> None:
    write(tmp_path / "page.md", "text")
    with pytest.raises(SourceError, match=r"page\.md is not a folder"):
        read(tmp_path / "page.md", tmp_path)


def test_a_folder_without_pages_is_no_source(tmp_path: Path) -> None:
    write(tmp_path / "tree/docs/picture.md", b"\x89PNG\xff")
    with pytest.raises(SourceError, match="no readable Markdown page"):
        read(tmp_path / "tree", tmp_path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder unreadable, for root too: root reads as nobody meanwhile."""
    folder.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def tree() -> Iterator[Path]:
    """A tree that everybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write(Path(folder) / "docs/a.md", "text")
        write(Path(folder) / "docs/closed/b.md", "text")
        # What reading imports when it is first needed can't be imported as somebody else.
        read(folder, Path(folder))
        yield Path(folder)


def test_an_unreadable_folder_is_an_unreadable_source(tree: Path) -> None:
    with locked(tree), pytest.raises(SourceError, match="can't be read: Permission denied"):
        read(tree, tree)


def test_an_unreadable_folder_in_the_tree_is_named_and_the_rest_is_read(tree: Path) -> None:
    with locked(tree / "docs/closed"):
        documents, omitted = read(tree, tree)
    assert set(documents) == {"docs/a.md"}
    assert omitted == {"docs/closed": "can't be read: Permission denied"}


def test_an_unreadable_file_is_named_and_the_rest_is_read(tree: Path) -> None:
    with locked(tree / "docs/closed/b.md"):
        documents, omitted = read(tree, tree)
    assert set(documents) == {"docs/a.md"}
    assert omitted == {"docs/closed/b.md": "can't be read: Permission denied"}


def test_a_link_out_of_the_tree_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "secret.md", "# Secret")
    write(tmp_path / "tree/docs/a.md", "# A\n\nText.")
    (tmp_path / "tree/docs/b.md").symlink_to(tmp_path / "secret.md")
    documents, omitted = read(tmp_path / "tree", tmp_path)
    assert set(documents) == {"docs/a.md"}
    assert omitted["docs/b.md"] == "a link that leads out of the tree"


# The real tree


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    if not REAL_TREE.is_dir():
        pytest.skip("the real docs tree is not beside the repository")
    return read(REAL_TREE, tmp_path_factory.mktemp("cache"))


def test_every_page_of_the_real_docs_is_a_document_or_an_explained_omission(real: Reading) -> None:
    documents, omitted = real
    pages = {path.relative_to(REAL_TREE).as_posix() for path in REAL_TREE.rglob("*.md")}
    assert len(pages) == 146
    assert documents.keys() | omitted.keys() >= pages
    unread = {page: omitted[page] for page in pages - documents.keys()}
    assert all(page.startswith(("docs/v/r/", "docs/internals/gsoc")) for page in unread)


def test_no_markup_is_left_in_a_passage_of_the_real_docs(real: Reading) -> None:
    tag = re.compile(r"</?[A-Z]\w*(\s[^>]*)?/?>|</?(div|span|br|img|a|p|table|iframe)\b[^>]*>")
    entity = re.compile(r"&(#\d+|#x[0-9a-fA-F]+|[a-z]+);")
    other = re.compile(r"^import .* from ['\"]|^:::|<!--|^(slug|sidebar_label): ", re.MULTILINE)
    left = [
        (passage.id, match[0])
        for document in real[0].values()
        for passage in split(document)
        for pattern in (tag, entity, other)
        if (match := pattern.search(prose(passage.text)))
    ]
    assert left == []


def test_every_link_in_the_real_docs_is_absolute(real: Reading) -> None:
    relative = [
        (passage.id, target)
        for document in real[0].values()
        for passage in split(document)
        for target in re.findall(r"\]\(([^)\s]*)\)", prose(passage.text))
        if not re.match(r"https?://|mailto:", target)
    ]
    assert relative == []


def test_links_between_the_real_docs_lead_to_their_pages(real: Reading) -> None:
    urls = {page.url.rstrip("/") for page in read(REAL_TREE, Path(), "docs")[0].values()}
    targets = [
        target.partition("#")[0].rstrip("/")
        for page in real[0].values()
        for target in re.findall(r"\]\((https://docs\.metaflow\.org[^)\s]*)\)", prose(text(page)))
    ]
    # The authors' own slips, such as a link without its first slash.
    astray = [target for target in targets if target not in urls]
    assert len(astray) < len(targets) / 50


def fences(markdown: str) -> Iterator[str]:
    lines: list[str] = []
    for line, in_code in fenced([*markdown.split("\n"), ""]):
        if in_code:
            lines.append(line)
        elif lines:
            yield "\n".join(lines).rstrip()
            lines.clear()


def test_each_piece_of_code_in_the_real_docs_is_whole_in_one_passage(real: Reading) -> None:
    trace = re.compile(r"<CodeOutputBlock(?:(?!</Code).)*Traceback.*?</CodeOutputBlock>", re.DOTALL)
    for document in real[0].values():
        passages = [passage.text for passage in split(document)]
        source = (REAL_TREE / document.id).read_text(encoding="utf-8")
        for code in fences(trace.sub("", source)):
            assert any(code in passage for passage in passages), (document.id, code)
