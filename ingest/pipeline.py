"""One ingest in stages: read -> split -> embed -> build -> check -> activate.

`Ingest.run` does them in this process; `ingest/flow.py` does each in a task of its own. What a
stage hands to the next is a `Summary`, which holds names and counts: the text itself stays in the
library under the home, so that what is erased there is not kept elsewhere.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ingest.check import (
    MAX_SHRINK,
    Changes,
    Finding,
    Golden,
    RememberedQueries,
    ask,
    golden_questions,
    shrunk,
)
from ingest.library import Library
from ingest.moves import moves
from ingest.passages import split
from ingest.reference import fold
from ingest.sources import Item, Marked, Moved, NotSetUpError, Omission, Removed, Source
from metaflowbot.chroma import Chroma, EmbeddedChroma
from metaflowbot.disk import writing
from metaflowbot.domain import Document, Passage
from metaflowbot.embedding import Embedding
from metaflowbot.errors import IndexUnavailableError, MetaflowbotError, SourceError
from metaflowbot.index import Generation, Index, searchable
from metaflowbot.manifest import Manifest, SourceCount
from metaflowbot.retrieve import Retriever
from metaflowbot.vectors import Progress, VectorCache

Say = Callable[[str], None]
"""Takes one line about what is being done now."""

_ABANDONED_SECONDS = 3600
# The golden questions' vectors, apart from those of passages, which go with their generations.
_QUERIES = "queries.sqlite"


@dataclass
class SourceReport:
    """What came of one source; `seconds` is the time to read it. `error` is '' if it was read.

    `folded` counts what the source gave beside `documents` and `passages` and docs pages say;
    `removed` counts by kind the secrets and personal data that were scrubbed from it.
    """

    name: str
    documents: int = 0
    passages: int = 0
    folded: SourceCount = field(default_factory=lambda: SourceCount(0, 0))
    version: str = ""
    seconds: float = 0.0
    omissions: tuple[Omission, ...] = ()
    removed: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    notice: str = ""

    def omitted(self) -> Mapping[str, Sequence[str]]:
        """What was left out, by the reason."""
        by_reason: dict[str, list[str]] = defaultdict(list)
        for omission in self.omissions:
            by_reason[omission.why].append(omission.what)
        return by_reason


@dataclass
class Summary:
    """What an ingest did.

    `built` is the new generation, None where none was built. `generation` is the one that is active
    in the end: the new one, or the live one where nothing has changed; None where `stopped` says
    why the new one must not be. `embedded` counts the passages whose vectors were not known yet.
    """

    sources: list[SourceReport] = field(default_factory=list)
    generation: str | None = None
    documents: int = 0
    passages: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    dry_run: bool = False
    embedded: int = 0
    built: str | None = None
    changes: Changes = field(default_factory=Changes)
    golden: tuple[Finding, ...] = ()
    stopped: tuple[str, ...] = ()

    def verdict(self) -> str:
        """One line on how it ended, with what to do next where it fell short."""
        if self.generation and not self.built:
            return f"nothing has changed: {self.generation} stays active"
        if self.generation:
            return f"active: {self.generation}"
        if not self.stopped:
            return "dry run: nothing was built"
        return (
            f"{self.built} was built but is not active: {'; '.join(self.stopped)}; "
            f"`metaflowbot index activate {self.built}` activates it anyway"
        )


@dataclass(frozen=True)
class Ingest:
    """Builds the next index generation from `sources` and makes it the live one.

    `required` names the sources that were asked for by name: without one of them there is no new
    generation. `kept` names sources not read this time, whose last reading is used again. A source
    that lost more than the share `max_shrink` (0 to 1), or a `golden` question that is no longer
    found, keeps the new generation from going live. `home` is the index's own folder.
    """

    sources: Sequence[Source]
    index: Index
    embedding: Embedding
    library: Library
    home: Path
    required: frozenset[str] = frozenset()
    kept: tuple[str, ...] = ()
    chroma: Chroma = field(default_factory=EmbeddedChroma)
    max_shrink: float = MAX_SHRINK
    golden: Sequence[Golden] = field(default_factory=golden_questions)

    def run(self, say: Say, progress: Progress, *, dry_run: bool = False) -> Summary:
        """Do it; raises SourceError when a required source, or every source, can't be read.

        Raises what the embedding model raises, and MetaflowbotError where the home can't be
        written. Until the last step the live generation is not touched.
        """
        with self.alone():
            summary = Summary(dry_run=dry_run)
            with _timed(summary, "read"):
                for source in self.sources:
                    say(f"reading {source.name}")
                    summary.sources.append(self.read(source.name))
            passages = self.split(summary)
            if dry_run or self.is_live(passages, summary):
                return summary
            say(f"embedding {len(passages):,} passages with {self.embedding.name}")
            self.embed(passages, summary, progress)
            self.build(passages, summary)
            self.check(summary)
            self.activate(summary)
            return summary

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other ingests off this home; raises MetaflowbotError where one is running."""
        with _only_one(self.home / "ingest.lock"):
            self._sweep()
            yield

    def read(self, name: str) -> SourceReport:
        """Put what the source of this name says now into the library.

        A source that can't be read keeps what it gave before; raises SourceError if it is required.
        """
        source = next(source for source in self.sources if source.name == name)
        report = SourceReport(name)
        started = time.perf_counter()
        try:
            self._read(source, report)
        except SourceError as error:
            if name in self.required:
                raise SourceError(f"{name}: {error}") from None
            skipped = isinstance(error, NotSetUpError)
            report.error = "" if skipped else str(error)
            reading = self.library.last(name)
            kept = f"kept as read on {reading.read_at}" if reading else ""
            report.notice = "; ".join(filter(None, [f"skipped: {error}" if skipped else "", kept]))
        report.seconds = round(time.perf_counter() - started, 2)
        return report

    def _read(self, source: Source, report: SourceReport) -> None:
        """Read the source unless it says that it would say again what it said last."""
        mark = source.mark() if isinstance(source, Marked) else ""
        last = self.library.last(source.name)
        if mark and last and last.mark == mark:
            report.omissions = tuple(Omission(what, why) for what, why in last.omitted)
            return
        documents, declared = _sorted(source.read(), report)
        omitted = [(omission.what, omission.why) for omission in report.omissions]
        moved = moves(last, documents, declared)
        self.library.keep(source.name, documents, moved, mark, omitted)

    def split(self, summary: Summary) -> list[Passage]:
        """The passages of all sources read and kept; raises SourceError where there are none."""
        with _timed(summary, "split"):
            documents = self._documents(summary)
            folded = fold(documents)
            passages = [passage for document in folded for passage in split(document)]
            if not passages:
                reasons = "; ".join(f"{r.name}: {r.error or 'empty'}" for r in summary.sources)
                raise SourceError(f"no source could be read ({reasons})")
            _count(summary, documents, folded, passages)
        return passages

    def is_live(self, passages: Sequence[Passage], summary: Summary) -> bool:
        """Whether the live generation is already what these passages would make."""
        live = self.index.same(passages, self._counts(passages, summary), self.embedding.name)
        if live is not None:
            summary.generation = live.id
            summary.changes = Changes.between(live, live)
        return live is not None

    def embed(self, passages: Sequence[Passage], summary: Summary, progress: Progress) -> None:
        """Compute the vectors that are not known yet; raises what the embedding model raises."""
        known: list[int] = []
        vectors = self.home / "vectors.sqlite"

        def noted(done: int, total: int) -> None:
            known.append(done)
            progress(done, total)

        with (
            _timed(summary, "embed"),
            writing(self.home),
            VectorCache(vectors, self.embedding.name) as cache,
        ):
            cache.embed(list(map(searchable, passages)), self.embedding, noted)
        summary.embedded = len(passages) - known[0]

    def build(self, passages: Sequence[Passage], summary: Summary) -> None:
        """Write the new generation beside the live one."""
        counts = self._counts(passages, summary)
        with _timed(summary, "build"), writing(self.home):
            summary.built = self.index.build(passages, counts, self.embedding).id

    def check(self, summary: Summary) -> None:
        """Compare the new generation with the live one, and note what speaks against a switch.

        The first generation takes nobody's place, so nothing does.
        """
        with _timed(summary, "check"):
            live, new = self._live(), Manifest.read(self._folder(summary.built or ""))
            summary.changes = Changes.between(live, new)
            known = new.documents.keys() | (live.documents.keys() if live else set())
            asked = [golden for golden in self.golden if golden.documents & known]
            questions = [golden.followed(new) for golden in asked]
            summary.golden = self._ask(questions, new) if questions else ()
            if live:
                lost = self._lost(questions, summary.golden, live, new)
                summary.stopped = (*shrunk(live, _given(summary), self.max_shrink), *lost)

    def activate(self, summary: Summary) -> None:
        """Make the new generation the live one unless the check stopped that; prune old ones."""
        with _timed(summary, "activate"), writing(self.home):
            if summary.built and not summary.stopped:
                summary.generation = self.index.activate(summary.built).id
            self.index.prune()

    def _documents(self, summary: Summary) -> list[Document]:
        """All that the library holds of the sources read and kept."""
        named = {report.name for report in summary.sources}
        for name in self.kept:
            reading = self.library.last(name)
            if reading and name not in named:
                notice = f"not read this time; kept as read on {reading.read_at}"
                summary.sources.append(SourceReport(name, notice=notice))
        readings = [self.library.last(report.name) for report in summary.sources]
        return [document for reading in readings if reading for document in reading.documents]

    def _counts(self, passages: Sequence[Passage], summary: Summary) -> Mapping[str, SourceCount]:
        """What each source gives to the new generation."""
        indexed = {passage.document_id for passage in passages}
        return {
            report.name: SourceCount(
                report.documents, report.passages, report.version, self._moved(report.name, indexed)
            )
            for report in summary.sources
            if report.documents
        }

    def _moved(self, source: str, indexed: Container[str]) -> Mapping[str, str]:
        """The moves of a source's documents, so far as they lead to an indexed document."""
        reading = self.library.last(source)
        moved = reading.moved if reading else {}
        return {old: new for old, new in moved.items() if new in indexed and old not in indexed}

    def _ask(self, questions: Iterable[Golden], manifest: Manifest) -> tuple[Finding, ...]:
        generation = Generation(self._folder(manifest.id), self.chroma)
        with writing(self.home), VectorCache(self.home / _QUERIES, self.embedding.name) as cache:
            embedding = RememberedQueries(self.embedding, cache)
            return ask(questions, Retriever.over(generation, embedding))

    def _lost(
        self, questions: Sequence[Golden], found: Sequence[Finding], live: Manifest, new: Manifest
    ) -> Iterator[str]:
        """Questions that the live generation finds and the new one does not.

        Where a question's one document was deleted there is nothing to find: that is editing.
        """
        missed = [
            golden
            for golden, finding in zip(questions, found, strict=True)
            if finding.rank is None
            and (
                golden.documents & new.documents.keys()
                or len(golden.documents & live.documents.keys()) > 1
            )
        ]
        try:
            before = self._ask(missed, live) if missed else ()
        except IndexUnavailableError:
            return  # A live generation that can't be searched has nothing to lose.
        for finding in before:
            if finding.rank:
                yield f"'{finding.question}' no longer finds its document"

    def _live(self) -> Manifest | None:
        active = self.index.active_id()
        try:
            return Manifest.read(self._folder(active)) if active else None
        except IndexUnavailableError:
            return None

    def _folder(self, generation: str) -> Path:
        return self.home / "generations" / generation

    def _sweep(self) -> None:
        """Delete files that a killed ingest left half-written."""
        for pattern in ("*.partial", "documents/*.partial"):
            for path in self.home.glob(pattern):
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                        path.unlink()


def _sorted(
    items: Iterable[Item], report: SourceReport
) -> tuple[Sequence[Document], Sequence[Moved]]:
    """The documents, of several with one id the last, and the moves; the report takes the rest,
    even of a source that fails on the way.
    """
    documents: dict[str, Document] = {}
    declared: list[Moved] = []
    omissions: list[Omission] = []
    removed: Counter[str] = Counter()
    try:
        for item in items:
            if isinstance(item, Omission):
                omissions.append(item)
            elif isinstance(item, Removed):
                removed.update(item.finds)
            elif isinstance(item, Moved):
                declared.append(item)
            else:
                documents[item.id] = item
    finally:
        report.omissions, report.removed = tuple(omissions), dict(sorted(removed.items()))
    return list(documents.values()), declared


def _count(
    summary: Summary,
    read: Sequence[Document],
    documents: Sequence[Document],
    passages: Sequence[Passage],
) -> None:
    by_documents = Counter(document.source for document in documents)
    by_passages = Counter(passage.source for passage in passages)
    left = {document.id for document in documents}
    folded = [document for document in read if document.id not in left]
    for report in summary.sources:
        report.documents = by_documents[report.name]
        report.passages = by_passages[report.name]
        theirs = [document for document in folded if document.source == report.name]
        versions = {document.version for document in theirs}
        report.version = versions.pop() if len(versions) == 1 else ""
        report.folded = SourceCount(len(theirs), sum(len(list(split(it))) for it in theirs))
    summary.documents, summary.passages = len(documents), len(passages)


def _given(summary: Summary) -> Mapping[str, SourceCount]:
    """What each source gave, before docs pages took over what they say themselves."""
    return {
        report.name: SourceCount(
            report.documents + report.folded.documents, report.passages + report.folded.passages
        )
        for report in summary.sources
    }


@contextmanager
def _timed(summary: Summary, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    summary.seconds[stage] = round(time.perf_counter() - started, 2)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock that the system gives back even when the process is killed."""
    import fcntl

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MetaflowbotError(
                "another ingest is running on this home: wait until it has ended"
            ) from None
        yield
