"""Exports, pages and what is rendered of them: read or left out, never a crash, never a hang."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import mrkdwn
from ingest.llms_txt import addresses, links_in, listed, split_pages
from ingest.passages import split
from ingest.sources import Omission, Removed
from ingest.sources.docs import parse_page as docs_page
from ingest.sources.labs import parse_page as labs_page
from ingest.sources.slack_export import SlackExport
from metaflowbot.domain import Answer, Citation, Document
from metaflowbot.errors import SourceError
from metaflowbot.markdown import plain, segments, sentences
from metaflowbot.scrub import scrub
from metaflowbot.slack import markdown as slack_markdown
from metaflowbot.slack.rendering import answer_messages
from metaflowbot.web.rendering import prose
from tests.fuzz.harm import TEXTS, fuzzed, harmed

CORPUS = Path(__file__).parent.parent / "corpus"
PAGES = [
    path.read_text(encoding="utf-8", errors="replace")
    for pattern in ("docs/**/*.md", "docs/**/*.mdx", "labs/**/*.md", "labs/**/*.txt")
    for path in sorted(CORPUS.glob(pattern))
]
PIECES = [
    *("```", "~~~", "`", "``", "---\n", "# ", "#", "- ", "1. ", "> ", "|", "\n", "\n\n", "    "),
    *("<", ">", "</", "/>", "<!--", "-->", "{", "}", "${", "[", "](", ")", "![", "[1]", "[99]"),
    *("::", ":::", "::card{a=b}", ":icon{name=x}", ":::note", "---\ntitle: [", "*", "**", "_"),
    *("<DocSection", "<SigArgSection>", "<Tabs>", 'name="', "={`", "`}", "import x from 'y'\n"),
    *("<@U1>", "<!channel>", "<https://x.io|y>", "<#C1|ask>", "&lt;", "&amp;", "@here", "\\"),
    *(
        "https://docs.metaflow.org/a",
        "[a](http://[)",
        "- [A](//[)\n",
        "mailto:a@b.io",
        "# A\n\nURL: https://x.io\n",
    ),
]
MARKUP = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=60).map("".join)


@st.composite
def _torn(draw: st.DrawFn) -> str:
    """A real page with a piece cut out, or something in its place."""
    page = draw(st.sampled_from(PAGES))
    start = draw(st.integers(0, len(page)))
    end = draw(st.integers(start, min(len(page), start + 400)))
    return page[:start] + draw(MARKUP) + page[end:]


@st.composite
def _repeated(draw: st.DrawFn) -> str:
    """A piece many times over: what takes more than linear time shows."""
    return draw(MARKUP)[:20] * draw(st.integers(1, 400))


TEXT = MARKUP | _torn() | _repeated() | TEXTS
URL = "https://docs.metaflow.org/a/page"


def _docs(text: str) -> object:
    return list(split(docs_page(text, "docs/a/page.md")))


def _labs(text: str) -> object:
    return list(split(labs_page(text, "https://metaflowlabs.nuxt.space/learn/a/page")))


def _llms(text: str) -> object:
    links = [*listed(text, URL), *links_in(text, URL)]
    return split_pages(text), addresses(["A", text[:20]], links, in_order=False)


def _slack(text: str) -> object:
    asked = slack_markdown.question_text(text, "U1")
    return mrkdwn.to_markdown(text, lambda user: user), slack_markdown.split(asked, 300)


def _rendered(text: str) -> object:
    quote = Citation(1, "docs/a.md", text[:80], URL, text[:80])
    answer = Answer("a", text[:200], text, (quote,), False, 0.5, "none", "p", "g")
    return answer_messages(answer), prose(text), slack_markdown.mrkdwn(text)


def _understood(text: str) -> object:
    return list(segments(text)), sentences(text), plain(text), scrub(text)


@pytest.mark.parametrize(
    "read",
    [_docs, _labs, _llms, _slack, _rendered, _understood],
    ids=lambda read: read.__name__.strip("_"),
)
def test_any_text_is_read_and_shown_in_good_time(read: Callable[[str], object]) -> None:
    @fuzzed
    @given(TEXT)
    def see(text: str) -> None:
        started = time.process_time()
        read(text)
        # Pages have 2 MB at most; here are a few kB.
        assert time.process_time() - started < 5

    see()


EXPORT = {
    path.relative_to(CORPUS / "slack-export").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((CORPUS / "slack-export").glob("**/*.json"))
}


def _read(location: Path) -> None:
    """Read an export; what can't be read is named in one line."""
    try:
        for item in SlackExport(str(location)).read():
            assert isinstance(item, (Document, Omission, Removed))
    except SourceError as error:
        assert "\n" not in str(error)


def _zipped(files: dict[str, str], path: Path) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text.encode(errors="surrogatepass"))
    return path.read_bytes()


def test_an_export_with_any_value_out_of_place_is_read_or_refused(tmp_path: Path) -> None:
    values = [{name: json.loads(text)} for name, text in EXPORT.items()]

    @fuzzed
    @given(harmed(values, ["U1", "UA", "C1", "bot_message", "1700000000.000100", "thread_ts"]))
    def see(found: Any) -> None:
        changed = {n: json.dumps(v) for n, v in found.items()} if isinstance(found, dict) else {}
        # Half a character is no name in an archive.
        known = {n.encode(errors="replace").decode(): text for n, text in changed.items()}
        names = {n: text for n, text in known.items() if n and "\0" not in n and len(n) < 200}
        _zipped({**EXPORT, **names}, tmp_path / "export.zip")
        _read(tmp_path / "export.zip")

    see()


def test_a_damaged_archive_is_read_or_refused(tmp_path: Path) -> None:
    whole = _zipped(EXPORT, tmp_path / "whole.zip")

    @fuzzed
    @given(at=st.integers(0, len(whole) - 1), cut=st.integers(0, 50), bytes_=st.binary(max_size=50))
    def see(at: int, cut: int, bytes_: bytes) -> None:
        path = tmp_path / "damaged.zip"
        path.write_bytes(whole[:at] + bytes_ + whole[at + cut :])
        _read(path)

    see()
