"""llms.txt and llms-full.txt as Nuxt Content writes them: which pages there are, and where.

llms-full.txt is all pages one after the other, without their URLs; llms.txt lists title and URL
of the same pages in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from ingest.sections import fenced, plain_heading

_INDEX_LINE = re.compile(r"^\s*[-*]\s+\[([^\]]+)\]\(([^()\s]+)\)", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\(([^()\s&]+)|^\s*(?:to|titleTo):\s*()(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Link:
    """A page that another text names; `title` is '' where only the URL is known."""

    title: str
    url: str


def split_pages(text: str) -> list[str]:
    """The pages of llms-full.txt, each from its title on; what stands before the first is first.

    A page ends with a line end and two more follow it, so its title has two empty lines above it;
    a level-1 heading inside a page has one. A file without such marks is cut at each of them.
    """
    lines = [(line, in_code) for line, in_code in fenced(text.split("\n"))]
    titles = [at for at, (line, in_code) in enumerate(lines) if line[:2] == "# " and not in_code]
    marked = [
        at for at in titles if not any(line.strip() for line, _ in lines[max(at - 2, 0) : at])
    ]
    starts = marked if len(marked) > 1 else titles
    cuts = zip([0, *starts], [*starts, len(lines)], strict=True)
    pages = ("\n".join(line for line, _ in lines[start:end]) for start, end in cuts)
    return [page for page in pages if page.strip()]


def listed(text: str, base: str) -> list[Link]:
    """The pages that llms.txt lists, in its order."""
    found = ((title, _joined(base, url)) for title, url in _INDEX_LINE.findall(text))
    links = (Link(title, url.geturl()) for title, url in found if url)
    return [link for link in links if not urlsplit(link.url).path.endswith(".txt")]


def addresses(titles: Sequence[str], links: Sequence[Link], *, in_order: bool) -> dict[int, str]:
    """Which page (by its place) has which URL; only links that fit one page count.

    The sites' own llms.txt lists the same pages in the same order, under titles of its own for
    some: with `in_order`, those that are left over fit by their place.
    """
    found: dict[int, str] = {}
    for fits in (_same_title, _same_path, _path_in_title):
        for link in links:
            places = [
                at for at, title in enumerate(titles) if at not in found and fits(title, link)
            ]
            if len(places) == 1 and page_url(link.url) not in found.values():
                found[places[0]] = page_url(link.url)
    if in_order and len(links) == len(titles):
        for at, link in enumerate(links):
            if at not in found and page_url(link.url) not in found.values():
                found[at] = page_url(link.url)
    return found


def _same_title(title: str, link: Link) -> bool:
    return bool(link.title) and slug(title) == slug(plain_heading(link.title))


def _same_path(title: str, link: Link) -> bool:
    return slug(title) == page_url(link.url).rpartition("/")[2]


def _path_in_title(title: str, link: Link) -> bool:
    """E.g. …/deep-dives/persistence and 'Persistence in Metaflow'; a top folder says too little."""
    *folders, name = urlsplit(page_url(link.url)).path.strip("/").split("/")
    return bool(folders) and set(name.split("-")) <= set(slug(title).split("-"))


def links_in(text: str, site: str) -> list[Link]:
    """The pages of the site that a text links to, and the pages above those."""
    links: dict[str, Link] = {}
    for title, target, _, key_target in _LINK.findall(text):
        address = _joined(f"{site}/", target or key_target)
        if address is None:
            continue
        parts = [part for part in address.path.split("/") if part]
        if f"{address.scheme}://{address.netloc}" != site or not parts or "." in parts[-1]:
            continue
        url = f"{site}/{'/'.join(parts)}"
        links[url] = Link(title or links.get(url, Link("", url)).title, url)
        for length in range(1, len(parts)):
            above = f"{site}/{'/'.join(parts[:length])}"
            links.setdefault(above, Link("", above))
    return list(links.values())


def _joined(base: str, target: str) -> SplitResult | None:
    """Where a link leads; None for one that is no URL, e.g. 'http://['."""
    try:
        return urlsplit(urljoin(base, target))
    except ValueError:
        return None


def page_url(url: str) -> str:
    """The URL of the page whose Markdown is at `url`."""
    address = urlsplit(url)
    path = address.path.rstrip("/")
    if path.endswith(".md"):
        path = re.sub(r"(?:/index)?\.md$", "", path.removeprefix("/raw"))
    return f"{address.scheme}://{address.netloc}{path}"


def origin(url: str) -> str:
    """Scheme and host of a URL: 'https://example.org'."""
    address = urlsplit(url)
    return f"{address.scheme}://{address.netloc}"


def slug(title: str) -> str:
    """The words of a title, in lower case, with a dash between them."""
    return "-".join(re.findall(r"\w+", title.lower()))
