"""The Metaflow docs: a Docusaurus tree in a folder or behind a git URL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

from ingest.download import gate_for, settled
from ingest.mdx import split_api_objects, to_markdown
from ingest.sections import SectionWriter
from ingest.sources import Item, Moved, Omission
from metaflowbot.disk import writing
from metaflowbot.domain import Document
from metaflowbot.errors import SourceError

SITE = "https://docs.metaflow.org"
_ANSWER_SECONDS = 20
_FETCH_SECONDS = 180
_REFS = "/info/refs?service=git-upload-pack"  # what git asks a repository for first
_UNFINISHED = "tmp"  # how the name of a folder begins in which a clone is made
_ABANDONED_SECONDS = 3600
_MAX_PAGE_BYTES = 2_000_000
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_CONFIG_ENTRY = re.compile(r"\{[^{}]*\}")
_CONFIG_TO = re.compile(r"""\bto["']?\s*:\s*["'](/[^"']*)["']""")
_CONFIG_FROM = re.compile(r"""\bfrom["']?\s*:\s*(\[[^\]]*\]|["'][^"']*["'])""")
_CONFIG_PATH = re.compile(r"""["'](/[^"']*)["']""")
# What a Python user's question should not be answered from, with the reason that the summary gives.
_LEFT_OUT = {
    "docs/v/r/": "page for R users: sources.docs.include = ['docs/v/r'] takes it in",
    "docs/internals/gsoc": "programme page: sources.docs.include = ['docs/internals'] takes it in",
}


@dataclass(frozen=True, slots=True)
class DocsSource:
    """Every Markdown page of the tree at `location`, a git URL or a path.

    A repository is cloned under `cache` and updated there; when it can't be reached, a clone made
    earlier still serves. `include` names path prefixes that are otherwise left out.
    """

    location: str
    cache: Path
    include: tuple[str, ...] = ()
    name: str = "metaflow-docs"

    def read(self) -> Iterator[Item]:
        """Yield a Document for each page, an Omission for each file left out, and redirects.

        Raises SourceError when the tree can't be fetched or holds no page.
        """
        shown = _without_password(self.location)
        if _is_url(self.location):
            folder, notice = _fetch(self.location, self.cache / "docs")
            if notice:
                yield Omission(shown, notice)
        else:
            folder = Path(self.location).expanduser()
        root, tree = _find_tree(folder, shown)
        found = False
        version = _commit(root)
        unreadable: list[OSError] = []
        for path in _files(tree, unreadable.append):
            result = self._read_file(path, root)
            if isinstance(result, Document):
                found = True
                yield replace(result, version=version)
            elif result is not None:
                yield result
        for error in unreadable:
            what = Path(error.filename).relative_to(root).as_posix()
            yield Omission(what, f"can't be read: {error.strerror}")
        yield from _redirects(root)
        if not found:
            raise SourceError(f"{shown}: there is no readable Markdown page in it")

    def _read_file(self, path: Path, root: Path) -> Document | Omission | None:
        identity = path.relative_to(root).as_posix()
        if path.suffix == ".ipynb":
            twin = any(path.with_suffix(suffix).exists() for suffix in (".md", ".mdx"))
            why = "notebook source of the page" if twin else "notebook without a Markdown page"
            return Omission(identity, why)
        if path.suffix not in (".md", ".mdx"):
            return None
        if path.name.startswith("_"):
            return Omission(identity, "part of other pages, no page of its own")
        if not path.resolve().is_relative_to(root):
            return Omission(identity, "a link that leads out of the tree")
        for prefix, why in _LEFT_OUT.items():
            if identity.startswith(prefix) and not identity.startswith(self.include or ("\0",)):
                return Omission(identity, why)
        return _read_page(path, identity)


def _read_page(path: Path, identity: str) -> Document | Omission:
    try:
        size = path.stat().st_size
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return Omission(identity, "not a text file: it is not UTF-8")
    except OSError as error:
        return Omission(identity, f"can't be read: {error.strerror}")
    if "\0" in text:
        return Omission(identity, "not a text file: it holds zero bytes")
    if size > _MAX_PAGE_BYTES:
        return Omission(identity, f"larger than {_MAX_PAGE_BYTES // 1_000_000} MB")
    document = parse_page(text.replace("\r\n", "\n"), identity)
    return document if document.sections else Omission(identity, "empty page")


def parse_page(text: str, identity: str) -> Document:
    """One page's MDX -> Document. `identity` is its path in the docs repository, 'docs/….md'."""
    front, text = _front_matter(text)
    url = _page_url(identity, front.get("slug", ""))
    writer = SectionWriter()
    defines: set[str] = set()
    for part in split_api_objects(text):
        if isinstance(part, str):
            writer.markdown(to_markdown(part, lambda target: _resolve(target, url, identity)))
        else:
            writer.heading(part.level, part.heading, part.name)
            writer.line(part.text)
            names = (part.name, *(f"{part.name}.{name}" for name in part.attributes))
            defines |= {f"{root}.{name}" for root in ("metaflow", part.module) for name in names}
    title = front.get("title") or writer.title or _title_from(identity)
    return Document(identity, "metaflow-docs", title, url, writer.sections(), frozenset(defines))


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    match = _FRONT_MATTER.match(text)
    if not match:
        return {}, text
    pairs = (line.partition(":") for line in match[1].splitlines() if not line.startswith(" "))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}, text[match.end() :]


def _page_url(identity: str, slug: str) -> str:
    path = identity.removeprefix("docs/").rsplit(".", 1)[0]
    folder, _, name = path.rpartition("/")
    if name.lower() in ("readme", "index") or name == folder.rpartition("/")[2]:
        path = folder
    if slug:
        path = slug.strip("/") if slug.startswith("/") else f"{folder}/{slug}".strip("/")
    return f"{SITE}/{path}"


def _resolve(target: str, url: str, identity: str) -> str:
    """A link's target as an absolute URL: a file from the page's folder, else from the page's URL.

    So Docusaurus does it: a link to a Markdown file names the file, any other is the browser's.
    """
    if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
        return target
    path, hash_mark, fragment = target.partition("#")
    if not path:
        return url + hash_mark + fragment
    if re.search(r"\.mdx?/?$", path):
        file = urljoin(f"{SITE}/{identity.removeprefix('docs/')}", path.rstrip("/"))
        return _page_url(file.removeprefix(f"{SITE}/"), "") + hash_mark + fragment
    return urljoin(url, path).rstrip("/") + hash_mark + fragment


def _title_from(identity: str) -> str:
    path = identity.rsplit(".", 1)[0].split("/")
    name = path[-2] if path[-1].lower() in ("readme", "index") and len(path) > 1 else path[-1]
    return name.replace("-", " ").replace("_", " ").capitalize()


def _redirects(root: Path) -> Iterator[Moved]:
    """What Docusaurus' plugin of client redirects is configured with: `{from: …, to: …}`.

    A path that is no page any more was one of two files.
    """
    try:
        config = next(iter(sorted(root.glob("docusaurus.config.*")))).read_text(encoding="utf-8")
    except (StopIteration, OSError, UnicodeDecodeError):
        return
    for entry in _CONFIG_ENTRY.findall(config):
        target, origins = _CONFIG_TO.search(entry), _CONFIG_FROM.search(entry)
        if target and origins:
            new = SITE + (target[1].partition("#")[0].rstrip("/") or "/")
            for path in _CONFIG_PATH.findall(origins[1]):
                old = path.rstrip("/")
                names = (f"{SITE}{old}", f"docs{old}.md", f"docs{old}/README.md")
                yield from (Moved(name, new) for name in names)


def _commit(root: Path) -> str:
    """The commit of a git checkout, '' for a folder that is none."""
    try:
        return _git("rev-parse", "--short=12", "HEAD", at=root) if (root / ".git").exists() else ""
    except SourceError:
        return ""


def _is_url(location: str) -> bool:
    return bool(re.match(r"(https?|ssh|git|file)://|[\w.-]+@[\w.-]+:", location))


def _find_tree(folder: Path, location: str) -> tuple[Path, Path]:
    """The folder that ids are relative to, and the folder of pages below it."""
    try:
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "does not exist"
            raise SourceError(f"{location} {problem}: name a Docusaurus tree or its git URL")
        folder = folder.resolve()
        next(folder.iterdir(), None)
    except OSError as error:
        raise SourceError(f"{location} can't be read: {error.strerror}") from None
    if (folder / "docs").is_dir():
        return folder, folder / "docs"
    return (folder.parent if folder.name == "docs" else folder), folder


def _files(tree: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Every file below, in a stable order; a link to a folder is not followed."""
    for folder, folders, names in os.walk(tree, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_", "node_")))
        for name in sorted(names):
            yield Path(folder) / name


def _fetch(url: str, clone: Path) -> tuple[Path, str]:
    """Clone or update; return the folder, and a notice when an older clone has to serve."""
    _sweep(clone.parent)
    cloned = _is_clone_of(url, clone)
    try:
        remote = _remote(url)
        # Asked first: a host that swallows connections would hold a clone for minutes.
        _git(
            *remote.options,
            "ls-remote",
            "--quiet",
            "--",
            remote.url,
            "HEAD",
            seconds=_ANSWER_SECONDS,
        )
        if not (cloned and _update(remote, clone)):
            _clone(remote, url, clone)
    except SourceError as error:
        if not cloned:
            raise
        return clone, f"{error}; the copy fetched earlier is used"
    return clone, ""


@dataclass(frozen=True, slots=True)
class _Remote:
    """Where a repository is, and the options that keep git there."""

    url: str
    options: tuple[str, ...] = ()


def _remote(url: str) -> _Remote:
    """Where the redirects of a repository's URL end, as pages are fetched: see ingest.download."""
    scheme = url.partition(":")[0]
    if scheme not in ("http", "https"):
        return _Remote(url)
    stay = ("-c", "http.followRedirects=false")
    if scheme in getproxies():  # it resolves names itself, and decides what can be reached
        return _Remote(url, stay)
    gate = gate_for(url)
    there = settled(url.rstrip("/") + _REFS, gate).removesuffix(_REFS)
    parts = urlsplit(there)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    at = f"http.curloptResolve={parts.hostname}:{port}:{gate.admit(there)}"
    return _Remote(there, (*stay, "-c", at))


def _sweep(folder: Path) -> None:
    """Delete the clones that killed runs left unfinished."""
    import shutil

    for path in folder.glob(f"{_UNFINISHED}*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _is_clone_of(url: str, clone: Path) -> bool:
    try:
        return (clone / ".git").is_dir() and _git("remote", "get-url", "origin", at=clone) == (
            _without_password(url)
        )
    except SourceError:
        return False


def _update(remote: _Remote, clone: Path) -> bool:
    """Whether the clone could be brought up to date; a damaged one can't."""
    try:
        fetch = ("fetch", "--quiet", "--depth", "1", "--", remote.url, "HEAD")
        _git(*remote.options, *fetch, at=clone)
        _git("reset", "--quiet", "--hard", "FETCH_HEAD", at=clone)
    except SourceError:
        return False
    return True


def _clone(remote: _Remote, url: str, clone: Path) -> None:
    """Clone beside and rename, so that a clone cut short is never taken for a whole one."""
    import shutil
    import tempfile

    with writing(clone.parent):
        clone.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=clone.parent) as folder:
        fresh = Path(folder) / "clone"
        _git(*remote.options, "clone", "--quiet", "--depth", "1", "--", remote.url, str(fresh))
        _git("remote", "set-url", "origin", _without_password(url), at=fresh)
        shutil.rmtree(clone, ignore_errors=True)
        fresh.rename(clone)


def _git(*arguments: str, at: Path | None = None, seconds: int = _FETCH_SECONDS) -> str:
    """What git prints; raises SourceError where it fails or takes too long."""
    patience = ["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=20"]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            ["git", *patience, *arguments],
            cwd=at,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SourceError("git is not installed: install it or give a local path") from None
    output, complaint = _communicate(process, seconds)
    if process.returncode:
        reason = (complaint.strip().splitlines() or ["no reason given"])[-1]
        raise SourceError(f"can't be fetched: {reason.removeprefix('fatal: ')}")
    return output.strip()


def _communicate(process: subprocess.Popen[str], seconds: int) -> tuple[str, str]:
    """Wait for git; end it with the helpers it started, which would hold its pipes open."""
    with process:
        try:
            return process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise SourceError(f"can't be fetched: no answer within {seconds} s") from None
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def _without_password(location: str) -> str:
    return re.sub(r"(?<=://)[^/@]+@", "", location)
