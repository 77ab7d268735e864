"""One ingest, in-process: read -> fold -> split -> embed -> build -> check -> activate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.library import Library
from ingest.passages import split
from ingest.reference import fold
from ingest.sources import Omission, Source
from metaflowbot.domain import Document, Passage
from metaflowbot.embedding import Embedding
from metaflowbot.errors import MetaflowbotError, SourceError
from metaflowbot.index import Index, Manifest, SourceCount
from metaflowbot.vectors import Progress

Say = Callable[[str], None]
"""Takes one line about what is being done now."""


@dataclass
class SourceReport:
    """What came of one source; `seconds` is the time to read it. `error` is '' if it was read."""

    name: str
    documents: int = 0
    passages: int = 0
    seconds: float = 0.0
    omissions: tuple[Omission, ...] = ()
    error: str = ""
    notice: str = ""


@dataclass
class Summary:
    """What an ingest did. `generation` is None when nothing was activated."""

    sources: list[SourceReport] = field(default_factory=list)
    generation: str | None = None
    documents: int = 0
    passages: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True)
class Ingest:
    """Builds the next index generation from `sources` and makes it the live one.

    `required` names the sources that were asked for by name: without one of them there is no new
    generation. `kept` names sources not read this time, whose last reading is used again.
    """

    sources: Sequence[Source]
    index: Index
    embedding: Embedding
    library: Library
    home: Path
    required: frozenset[str] = frozenset()
    kept: tuple[str, ...] = ()

    def run(self, say: Say, progress: Progress, *, dry_run: bool = False) -> Summary:
        """Do it; raises SourceError when a required source, or every source, can't be read.

        Raises what the embedding model raises. Until the last step the live generation is not
        touched.
        """
        with _only_one(self.home / "ingest.lock"):
            return self._run(say, progress, dry_run=dry_run)

    def _run(self, say: Say, progress: Progress, *, dry_run: bool) -> Summary:
        summary = Summary(dry_run=dry_run)
        with _timed(summary, "read"):
            documents = self._read_all(summary, say)
        with _timed(summary, "split"):
            documents = fold(documents)
            passages = [passage for document in documents for passage in split(document)]
        _count(summary, documents, passages)
        if dry_run:
            return summary
        say(f"embedding {len(passages):,} passages with {self.embedding.name}")
        with _timed(summary, "build"):
            manifest = self._build(passages, summary, progress)
        with _timed(summary, "activate"):
            self.index.activate(manifest.id)
            self.index.prune()
        summary.generation = manifest.id
        return summary

    def _read_all(self, summary: Summary, say: Say) -> list[Document]:
        documents: list[Document] = []
        for source in self.sources:
            say(f"reading {source.name}")
            report = SourceReport(source.name)
            summary.sources.append(report)
            documents += self._read(source, report)
            if report.error and source.name in self.required:
                raise SourceError(f"{source.name}: {report.error}")
        for name in self.kept:
            reading = self.library.last(name)
            if reading:
                notice = f"not read this time; kept as read on {reading.read_at}"
                summary.sources.append(SourceReport(name, notice=notice))
                documents += reading.documents
        if not documents:
            reasons = "; ".join(f"{report.name}: {report.error}" for report in summary.sources)
            raise SourceError(f"no source could be read ({reasons})")
        return documents

    def _read(self, source: Source, report: SourceReport) -> list[Document]:
        started = time.perf_counter()
        documents: dict[str, Document] = {}
        omissions: list[Omission] = []
        try:
            for item in source.read():
                if isinstance(item, Omission):
                    omissions.append(item)
                else:
                    documents[item.id] = item
            self.library.keep(source.name, list(documents.values()))
        except SourceError as error:
            report.error = str(error)
            documents = self._fall_back(source, report)
        report.omissions = tuple(omissions)
        report.seconds = round(time.perf_counter() - started, 2)
        return list(documents.values())

    def _fall_back(self, source: Source, report: SourceReport) -> dict[str, Document]:
        reading = self.library.last(source.name)
        if reading is None:
            return {}
        report.notice = f"kept as read on {reading.read_at}"
        return {document.id: document for document in reading.documents}

    def _build(self, passages: Sequence[Passage], summary: Summary, progress: Progress) -> Manifest:
        counts = {
            report.name: SourceCount(report.documents, report.passages)
            for report in summary.sources
            if report.documents
        }
        return self.index.build(passages, counts, self.embedding, progress)


def _count(summary: Summary, documents: Sequence[Document], passages: Sequence[Passage]) -> None:
    by_documents = Counter(document.source for document in documents)
    by_passages = Counter(passage.source for passage in passages)
    for report in summary.sources:
        report.documents = by_documents[report.name]
        report.passages = by_passages[report.name]
    summary.documents, summary.passages = len(documents), len(passages)


@contextmanager
def _timed(summary: Summary, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    summary.seconds[stage] = round(time.perf_counter() - started, 2)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock that the system gives back even when the process is killed."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MetaflowbotError(
                "another ingest is running on this home: wait until it has ended"
            ) from None
        yield
