"""Metaflowlabs content: the site's llms-full.txt or llms.txt, or its Nuxt Content tree."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit

from ingest import mdc, mdx
from ingest.download import MAX_BYTES, PUBLIC, Gate, NoTextError, fetch_text, gate_for, text_of
from ingest.llms_txt import Link, addresses, links_in, listed, origin, page_url, slug, split_pages
from ingest.sections import SectionWriter, Slugger, fenced, plain_heading
from ingest.sources import NotSetUpError, Omission
from metaflowbot.domain import Document, Section
from metaflowbot.errors import SourceError

SITE = "https://metaflowlabs.nuxt.space"
FULL, INDEX = "llms-full.txt", "llms.txt"
_MAX_PAGE_BYTES = 2_000_000
_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*")
_HEADING_ID = re.compile(r"\s*\{\s*#([\w-]+)\s*\}$")
_RULE = re.compile(r" {0,3}-{3,}\s*")
_NUMBERED = re.compile(r"^\d+\.(?!\d+(?:\.|$)|x$)")
# What the site calls its Diataxis types, as the folders of its pages.
_TYPES = {
    "deep-dives": "Deep dive",
    "patterns": "Pattern",
    "guides": "Guide",
    "tutorials": "Tutorial",
    "reference": "Reference",
}
_TYPE_KEYS = ("diataxis", "type", "contentType")
_VERSION_KEYS = ("metaflow_version", "metaflowVersion")
_DATE_KEYS = ("updated", "updatedAt", "lastUpdated", "date", "publishedAt")


@dataclass(frozen=True, slots=True)
class Page:
    """A page as written (MDC), with its own URL and what to call it in a summary."""

    name: str
    url: str
    text: str


class Shelf(Protocol):
    """Where the files of the site are: the site itself, or a folder with copies of them."""

    @property
    def base(self) -> str:
        """The URL that relative links of its files start from."""
        ...

    def text(self, target: str) -> str:
        """The text at a URL of the site, or at one relative to `base`.

        Raises NoTextError where there is none, SourceError when that can't be known.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabsSource:
    """Every page at `location`: a URL or path of llms-full.txt or llms.txt, or a folder.

    A folder holds one of these files or is a Nuxt Content tree. llms-full.txt does not say which
    URLs its pages have: llms.txt beside it does; without that, the links between the pages tell
    some, and the others are cited as their place in llms-full.txt itself. `published` gives the
    URLs of further pages: those of published write-ups. Since it was not the operator who named
    them, they are read from public addresses alone, and from the hosts in `internal`.
    """

    location: str
    published: Callable[[], Sequence[str]] = tuple
    internal: tuple[str, ...] = ()
    name: str = "labs"

    def read(self) -> Iterator[Document | Omission]:
        """Yield a Document for each page and an Omission for each that was left out.

        Raises SourceError when the location can't be read or there is no page, NotSetUpError when
        there is neither a location nor a published page.
        """
        seen: set[str] = set()
        for page in chain(self._pages() if self.location else (), self._published_pages()):
            result = page if isinstance(page, Omission) else _read_page(page)
            if isinstance(result, Document) and result.id in seen:
                result = Omission(result.title, f"another page has its id, {result.id}")
            elif isinstance(result, Document):
                seen.add(result.id)
            yield result
        if not seen and not self.location:
            raise NotSetUpError("sources.labs.location is not set: give a URL or a path")
        if not seen:
            raise SourceError(f"{self.location}: there is no readable page in it")

    def _published_pages(self) -> Iterator[Page | Omission]:
        for url in self.published():
            yield _published_page(url, self.internal)

    def _pages(self) -> Iterator[Page | Omission]:
        if re.match(r"https?://", self.location):
            file = urlsplit(self.location).path.rpartition("/")[2]
            base = self.location if "." in file else self.location.rstrip("/") + "/"
            return _listed_pages(Site(base, gate_for(base)), file if "." in file else "")
        path = Path(self.location).expanduser()
        if not path.exists():
            wanted = f"name {FULL}, {INDEX} or a Nuxt Content tree"
            raise SourceError(f"{self.location} does not exist: {wanted}")
        if not path.is_dir():
            return _listed_pages(Folder(path.parent), path.name)
        if any((path / name).is_file() for name in (FULL, INDEX)):
            return _listed_pages(Folder(path), "")
        return _tree_pages(path / "content" if (path / "content").is_dir() else path)


@dataclass(frozen=True, slots=True)
class Site:
    """A shelf behind a URL."""

    base: str
    gate: Gate

    def text(self, target: str) -> str:
        url = urljoin(self.base, target)
        if urlsplit(url).netloc != urlsplit(self.base).netloc:
            raise NoTextError(url, "is on another site")
        return fetch_text(url, self.gate)


@dataclass(frozen=True, slots=True)
class Folder:
    """A shelf on disk: a page's Markdown is looked for at the path that it has on the site."""

    path: Path
    base: str = f"{SITE}/"

    def text(self, target: str) -> str:
        name = unquote(urlsplit(target).path).strip("/")
        for candidate in (name, f"{name}.md", f"{name}/index.md", f"raw/{name}.md"):
            path = (self.path / candidate).resolve()
            if path.is_file() and path.is_relative_to(self.path.resolve()):
                return _read_file(path, name, MAX_BYTES)
        raise NoTextError(name, f"is not in {self.path}")


def parse_page(text: str, url: str) -> Document:
    """One page's MDC -> Document; `url` is the page's own, from which its id is made.

    Its first level-1 heading is its title. Without text it has no sections.
    """
    front, body = mdc.front_matter(text)
    writer = _written(mdx.to_markdown(mdc.to_markdown(body), lambda link: _resolve(link, url)))
    identity = identity_of(url)
    title = writer.title or mdc.shown(front.get("title")) or identity.rpartition("/")[2]
    sections = _with_type(writer.sections(), _type_of(front, url))
    if urlsplit(url).fragment:  # it points into llms-full.txt, which has no anchors
        sections = tuple(replace(section, anchor="") for section in sections)
    return Document(identity, "labs", title, url, sections, version=_version(front))


def identity_of(url: str) -> str:
    """A page's id: 'labs:' and its path, of which 'learn' and then 'deep-dives' may be left out.

    A page without an address has its title in the URL's fragment, and that becomes its id.
    """
    address = urlsplit(url)
    if address.fragment:
        return f"labs:{slug(unquote(address.fragment.partition('text=')[2]))}"
    parts = [unquote(part) for part in address.path.split("/") if part]
    for shelf in ("learn", "deep-dives"):
        if len(parts) > 1 and parts[0] == shelf:
            del parts[0]
    return f"labs:{'/'.join(parts) or 'index'}"


def _listed_pages(shelf: Shelf, name: str) -> Iterator[Page | Omission]:
    """The pages of the file `name`, or of what there is when `name` is ''."""
    full, index = _texts(shelf, name)
    links = listed(index or "", shelf.base)
    if full is None:
        return _linked_pages(shelf, links)
    return _full_pages(full, links, origin(links[0].url if links else shelf.base))


def _texts(shelf: Shelf, name: str) -> tuple[str | None, str | None]:
    """llms-full.txt and llms.txt, None for the one that is not there."""
    if name == INDEX:
        index = shelf.text(INDEX)
        return _optional(shelf, FULL) if FULL in index else None, index
    full = shelf.text(name) if name else _optional(shelf, FULL)
    return full, shelf.text(INDEX) if full is None else _optional(shelf, INDEX)


def _optional(shelf: Shelf, name: str) -> str | None:
    try:
        return shelf.text(name)
    except NoTextError:
        return None


def _linked_pages(shelf: Shelf, links: Iterable[Link]) -> Iterator[Page | Omission]:
    for link in links:
        try:
            yield Page(link.title, page_url(link.url), shelf.text(link.url))
        except NoTextError as error:
            yield Omission(link.title, error.reason)


def _full_pages(text: str, index: Sequence[Link], origin: str) -> Iterator[Page | Omission]:
    pages = split_pages(text)
    if pages and not pages[0].startswith("# "):
        yield Omission("the text before the first page", "it has no title")
        del pages[0]
    site = SITE if not index and SITE in text else origin
    titles = [plain_heading(page.partition("\n")[0].removeprefix("# ")) for page in pages]
    urls = addresses(titles, index or links_in(text, site), in_order=bool(index))
    for at, (title, page) in enumerate(zip(titles, pages, strict=True)):
        yield Page(title, urls.get(at) or _place_in_full(title, site), page)


def _published_page(url: str, internal: Sequence[str]) -> Page | Omission:
    """The Markdown behind a page's URL: where Nuxt Content or the page's own site keeps it."""
    is_internal = urlsplit(url).hostname in internal
    path = urlsplit(url).path.rstrip("/")
    bare = urljoin(url, path)
    for target in (urljoin(url, f"/raw{path}.md"), f"{bare}.md", f"{bare}/index.md", url):
        try:
            gate = gate_for(url) if is_internal else PUBLIC
            return Page(url, url, fetch_text(target, gate))
        except SourceError as error:
            why = error.reason if isinstance(error, NoTextError) else str(error)
    return Omission(url, why)


def _place_in_full(title: str, site: str) -> str:
    """A URL that opens llms-full.txt at the page's title, for a page whose own is not known."""
    return f"{site}/{FULL}#:~:text={quote(f'# {title}', safe='').replace('-', '%2D')}"


def _tree_pages(tree: Path) -> Iterator[Page | Omission]:
    """The Markdown files of a Nuxt Content tree in a stable order."""
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "node_modules")))
        for name in sorted(names):
            if not name.endswith(".md") or name.startswith("."):
                continue
            path = Path(folder) / name
            relative = path.relative_to(tree).as_posix()
            if not path.resolve().is_relative_to(tree.resolve()):
                yield Omission(relative, "a link that leads out of the tree")
                continue
            try:
                yield Page(
                    relative, _tree_url(relative), _read_file(path, relative, _MAX_PAGE_BYTES)
                )
            except NoTextError as error:
                yield Omission(relative, error.reason)


def _tree_url(relative: str) -> str:
    parts = map(_route, relative.removesuffix(".md").split("/"))
    return "/".join([SITE, *filter(None, parts)])


def _route(name: str) -> str:
    """A file's or folder's name in the URL: without its number; nothing for an index."""
    name = re.sub(r"\.draft$", "", _NUMBERED.sub("", name))
    return "" if name == "index" else re.sub(r"\s+", "-", name.strip().lower())


def _read_file(path: Path, name: str, limit: int) -> str:
    try:
        if not path.is_file():
            raise NoTextError(name, "is not a file")
        if path.stat().st_size > limit:
            raise NoTextError(name, f"is larger than {limit // 1_000_000} MB")
        return text_of(path.read_bytes(), name)
    except OSError as error:
        raise NoTextError(name, f"can't be read: {error.strerror}") from None


def _read_page(page: Page) -> Document | Omission:
    if len(page.text.encode()) > _MAX_PAGE_BYTES:
        return Omission(page.name, f"is larger than {_MAX_PAGE_BYTES // 1_000_000} MB")
    document = parse_page(page.text, page.url)
    return document if document.sections else Omission(page.name, "empty page")


def _written(markdown: str) -> SectionWriter:
    """The Markdown under its headings, whose anchors are those that Nuxt Content gives them."""
    writer, slugger = SectionWriter(), Slugger()
    before = ""
    for line, in_code in fenced(markdown.split("\n")):
        match = None if in_code else _HEADING.fullmatch(line)
        is_rule = not in_code and not before.strip() and _RULE.fullmatch(line)
        if match:
            explicit = _HEADING_ID.search(match[2])
            text = plain_heading(_HEADING_ID.sub("", match[2]))
            anchor = re.sub(r"-+", "-", slugger.slug(text)).strip("-")
            numbered = f"_{anchor}" if anchor[:1].isdigit() else anchor
            writer.heading(len(match[1]), text, explicit[1] if explicit else numbered)
        elif not is_rule:
            writer.line(line)
        before = line
    return writer


def _resolve(link: str, url: str) -> str:
    """A link as written on the page at `url` -> an absolute URL; Markdown files become pages."""
    target = urljoin(url, link)
    path, hash_mark, fragment = target.partition("#")
    if origin(path) == origin(url) and path.endswith(".md"):
        path = "/".join(
            filter(None, (_route(part) for part in urlsplit(path[:-3]).path.split("/")))
        )
        path = f"{origin(url)}/{path}"
    return path + hash_mark + fragment


def _type_of(front: Mapping[str, object], url: str) -> str:
    """The page's Diataxis type, as it says itself or by its folder; '' where unknown."""
    said = next(filter(None, (mdc.shown(front.get(key)) for key in _TYPE_KEYS)), "")
    folders = urlsplit(url).path.split("/")[:-1]
    known = (_TYPES[folder] for folder in folders if folder in _TYPES)
    return said.replace("-", " ").capitalize() or next(known, "")


def _with_type(sections: tuple[Section, ...], kind: str) -> tuple[Section, ...]:
    if not kind or not sections or sections[0].headings:
        return sections
    return (replace(sections[0], text=f"*{kind}*\n\n{sections[0].text}"), *sections[1:])


def _version(front: Mapping[str, object]) -> str:
    """The Metaflow version or else the date that the front matter states, '' without."""
    version = next(filter(None, (mdc.shown(front.get(key)) for key in _VERSION_KEYS)), "")
    date = next(filter(None, (mdc.shown(front.get(key)) for key in _DATE_KEYS)), "")
    return f"Metaflow {version}" if version else date
