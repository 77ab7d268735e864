"""Index generations: immutable folders of passages, vectors (Chroma) and terms (BM25).

    <home>/index/
        current                    the id of the active generation
        previous                   the one before it, for roll-back
        generations/<id>/          manifest.json, passages.jsonl, chroma/, lexical/, mentions/,
                                   words.bin
        vectors.sqlite             vectors by model and text, so that a rebuild embeds only changes;
                                   what no generation uses any more goes with the generations

A generation is built beside the live one under a temporary name, and renamed when it is whole;
activating it replaces one small file. With a Chroma server the vectors are there instead of in
`chroma/`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaflowbot.chroma import Chroma, EmbeddedChroma
from metaflowbot.disk import replacing, writing
from metaflowbot.domain import Passage, Question
from metaflowbot.embedding import Embedding, Vectors, Words
from metaflowbot.errors import IndexUnavailableError, NotFoundError
from metaflowbot.late import WordVectors
from metaflowbot.lexical import Lexical, Scores
from metaflowbot.manifest import FORMAT, Manifest, SourceCount, damaged
from metaflowbot.markdown import without_links
from metaflowbot.mentions import mentions
from metaflowbot.vectors import Progress, VectorCache

# Raised when the same passages give other files: other terms, other vectors, more of them.
LAYOUT = 2
_BUILDING = ".building"
_VECTORS = "vectors.sqlite"
_PASSAGES = "passages.jsonl"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Passages that may answer, by row, with the scores of each as z-scores over all rows.

    `dense` compares the query with the passage's vector and `document` with the mean vector of the
    passage's document; `lexical` is BM25, and `mentions` BM25 of what links to the document.
    `similarity` is the cosine (-1 to 1) behind `dense`.
    """

    rows: NDArray[np.int64]
    dense: Scores
    similarity: Scores
    document: Scores
    lexical: Scores
    mentions: Scores

    def of(self, kept: NDArray[np.bool_]) -> Candidates:
        """Only those (n_rows) that are kept."""
        return Candidates(*(getattr(self, it.name)[kept] for it in dataclasses.fields(self)))


class Generation:
    """A loaded generation: search it from any number of threads; it never changes."""

    def __init__(self, folder: Path, chroma: Chroma) -> None:
        """Read the generation; raises IndexUnavailableError where it is missing or damaged."""
        self._folder = folder
        self.manifest = Manifest.read(folder)
        _verify(folder, self.manifest)
        with _reading(folder):
            self.passages = tuple(_read_passages(folder / _PASSAGES))
            self._document_of = _document_rows(self.passages)
            self._lexical = Lexical.load(folder / "lexical", len(self.passages))
            # A generation of an earlier layout has none.
            self._mentions = (
                Lexical.load(folder / "mentions", int(self._document_of.max()) + 1)
                if (folder / "mentions").exists()
                else None
            )
            with np.load(folder / "vectors.npz") as vectors:
                self._mean, self._covariance = vectors["mean"], vectors["covariance"]
                self._documents = vectors["documents"]
            self._words = WordVectors.load(folder)
            self._collection = chroma.open(folder)
            counted = len(self._collection)
            # Chroma reads the vectors with the first query.
            self._collection.nearest(self._mean, None, 1)
        if not len(self.passages) == counted == self.manifest.passages:
            raise damaged(folder, "its parts disagree about the number of passages")
        self._group_of = np.array([_group(passage) for passage in self.passages])
        self._groups = {_group(passage): passage for passage in self.passages}

    @property
    def id(self) -> str:
        return self.manifest.id

    def knows(self, term: str) -> bool:
        """Whether a lexical term occurs anywhere in this generation."""
        return self._lexical.knows(term)

    def closeness(self, words: Words, rows: NDArray[np.int64]) -> Scores | None:
        """How near some rows come to a query's words (-1 to 1).

        None for no rows, and where words are unknown.

        Raises IndexUnavailableError where they can't be read.
        """
        if self._words is None or not len(words) or not len(rows):
            return None
        with _reading(self._folder):
            return self._words.closeness(words, rows)

    def candidates(
        self,
        vector: Vectors,
        query_terms: Sequence[str],
        scope: Question,
        depth: int,
    ) -> Candidates:
        """The `depth` best rows by each of the two scores, within the sources that `scope` names.

        What is private to a channel is a candidate only where the scope is that channel.

        Raises IndexUnavailableError where the vectors can't be read.
        """
        lexical = self._lexical.scores(query_terms)
        groups = self._visible(scope)
        visible = (
            lexical if groups is None else np.where(np.isin(self._group_of, groups), lexical, 0)
        )
        by_terms = [int(row) for row in np.argsort(-visible)[:depth] if visible[row] > 0]
        with _reading(self._folder):
            similarity = self._collection.nearest(vector, groups, depth)
            further = [row for row in by_terms if row not in similarity]
            similarity |= self._collection.similarity(vector, further)
        rows = np.array(sorted(similarity), dtype=np.int64)
        cosines = np.array([similarity[int(row)] for row in rows], dtype=np.float32)
        spread = float(np.sqrt(vector @ self._covariance @ vector)) + 1e-9
        dense = (cosines - float(vector @ self._mean)) / spread
        document = (self._documents @ vector)[self._document_of]
        return Candidates(
            rows,
            dense.astype(np.float32),
            cosines,
            _standard(document, rows),
            _standard(lexical, rows),
            _standard(self._mentioned(query_terms), rows),
        )

    def _mentioned(self, query_terms: Sequence[str]) -> Scores:
        if self._mentions is None:
            return np.zeros(len(self.passages), dtype=np.float32)
        return np.asarray(self._mentions.scores(query_terms)[self._document_of], np.float32)

    def _visible(self, scope: Question) -> list[str] | None:
        """The groups of passages that may be found; None where nothing has to be kept out."""
        groups = [
            group
            for group, passage in self._groups.items()
            if (not scope.sources or passage.source in scope.sources)
            and passage.channel in ("", scope.channel)
        ]
        return None if len(groups) == len(self._groups) else groups


def _group(passage: Passage) -> str:
    """Passages of one source that are visible in the same places."""
    return f"{passage.source}|{passage.channel}"


class Index:
    """The folder of generations: build, list, switch, roll back, prune."""

    def __init__(self, home: Path, chroma: Chroma | None = None) -> None:
        """Open no file yet. Vectors are embedded in the folders unless `chroma` keeps them."""
        self._chroma = chroma or EmbeddedChroma()
        self._root = home / "index"
        self._generations = self._root / "generations"

    def active_id(self) -> str | None:
        """The id of the active generation, None where there is none yet."""
        return self._pointer("current")

    def load(self) -> Generation:
        """The active generation; raises IndexUnavailableError where it can't be served."""
        active = self.active_id()
        if active is None:
            raise IndexUnavailableError("there is no index yet: run `metaflowbot ingest`")
        return Generation(self._generations / active, self._chroma)

    def manifests(self) -> list[Manifest]:
        """Every whole generation, oldest first; damaged ones are passed over."""
        found = []
        for folder in sorted(self._generations.glob("*")):
            if not folder.name.endswith(_BUILDING):
                try:
                    found.append(Manifest.read(folder))
                except IndexUnavailableError:
                    continue
        return found

    def same(
        self, passages: Sequence[Passage], sources: Mapping[str, SourceCount], model: str
    ) -> Manifest | None:
        """The active generation if a new one of all this would be the same, else None.

        None as well where it is damaged: then a new one mends it. `model` is the embedding's name.
        """
        folder = self._generations / (self.active_id() or "")
        try:
            manifest = Manifest.read(folder)
            _verify(folder, manifest)
        except IndexUnavailableError:
            return None
        made = (manifest.layout, manifest.embedding_model, manifest.sources)
        written = hashlib.sha256("".join(_lines(passages)).encode()).hexdigest()
        is_same = made == (LAYOUT, model, sources) and manifest.checksums[_PASSAGES] == written
        return manifest if is_same and self._chroma.holds(folder) else None

    def build(
        self,
        passages: Sequence[Passage],
        sources: Mapping[str, SourceCount],
        embedding: Embedding,
        progress: Progress = lambda _done, _total: None,
    ) -> Manifest:
        """Write a new generation and return its manifest; it is not active yet.

        Raises ValueError for no passages, MetaflowbotError where it can't be written, and what the
        embedding model raises.
        """
        if not passages:
            raise ValueError("an index generation needs at least one passage")
        with writing(self._root):
            self._generations.mkdir(parents=True, exist_ok=True)
            with VectorCache(self._root / _VECTORS, embedding.name) as cache:
                return self._build(passages, sources, embedding, cache, progress)

    def _build(
        self,
        passages: Sequence[Passage],
        sources: Mapping[str, SourceCount],
        embedding: Embedding,
        cache: VectorCache,
        progress: Progress,
    ) -> Manifest:
        texts = list(map(searchable, passages))
        vectors = cache.embed(texts, embedding, progress)
        identity = _new_id(self._generations)
        folder = self._generations / f"{identity}{_BUILDING}"
        folder.mkdir()
        try:
            _write(folder, passages, vectors)
            WordVectors.write(folder, cache.words(texts))
            self._chroma.create(folder, vectors, list(map(_group, passages)))
            manifest = Manifest(
                id=identity,
                format=FORMAT,
                built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                embedding_model=embedding.name,
                sources=sources,
                passages=len(passages),
                documents=_document_hashes(passages),
                checksums=_checksums(folder),
                layout=LAYOUT,
            )
            manifest.write(folder)
            folder.rename(self._generations / identity)
        except BaseException:
            self._chroma.drop(folder)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return manifest

    def activate(self, identity: str) -> Manifest:
        """Make a generation the active one, after reading it whole."""
        folder = self._generations / identity
        if identity not in self._names():
            raise NotFoundError(
                f"there is no index generation '{identity}': see `metaflowbot index list`"
            )
        manifest = Generation(folder, self._chroma).manifest
        active = self.active_id()
        if active != identity and active in self._names():
            self._point("previous", active)
        self._point("current", identity)
        return manifest

    def rollback(self) -> Manifest:
        """Go back to the generation that was active before this one."""
        previous = self._pointer("previous")
        if previous is None:
            raise NotFoundError("there is no earlier index generation to go back to")
        return self.activate(previous)

    def prune(self, keep: int = 3) -> list[str]:
        """Delete all but the newest `keep`, the active and the previous; return what went.

        What an interrupted build left behind goes as well, once it is an hour old, and vectors that
        no generation uses any more.
        """
        kept = {self.active_id(), self._pointer("previous")}
        kept |= {manifest.id for manifest in self.manifests()[-keep:]}
        gone = []
        for folder in sorted(self._generations.glob("*")):
            building = folder.name.endswith(_BUILDING)
            abandoned = building and time.time() - folder.stat().st_mtime > 3600
            if abandoned or not (building or folder.name in kept):
                self._chroma.drop(folder)
                shutil.rmtree(folder, ignore_errors=True)
                gone.append(folder.name)
        if (vectors := self._root / _VECTORS).exists():
            with writing(vectors), VectorCache(vectors, "") as cache:
                cache.only(self._texts())
        return gone

    def _texts(self) -> Iterator[tuple[str, str]]:
        """The model and text of every passage there is; those of damaged generations go."""
        for manifest in self.manifests():
            with suppress(OSError, ValueError, TypeError, KeyError):
                for passage in _read_passages(self._generations / manifest.id / _PASSAGES):
                    yield manifest.embedding_model, searchable(passage)

    def _names(self) -> set[str]:
        """The names of all generations that were built to the end, damaged ones too."""
        names = {folder.name for folder in self._generations.glob("*")}
        return {name for name in names if not name.endswith(_BUILDING)}

    def _pointer(self, name: str) -> str | None:
        """What a pointer names; a garbled one names nothing that exists, and can be set anew."""
        try:
            text = (self._root / name).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise IndexUnavailableError(
                f"{self._root / name} can't be read ({error.strerror}): "
                "it must be a file with the id of an index generation"
            ) from None
        return " ".join(text.replace("\0", "�").split()) or None

    def _point(self, name: str, identity: str) -> None:
        with replacing(self._root / name) as file:
            file.write(identity + "\n")


def searchable(passage: Passage) -> str:
    """The text that stands for a passage in both searches: title, headings, prose without URLs."""
    return "\n".join([" > ".join((passage.title, *passage.headings)), without_links(passage.text)])


def _standard(scores: Scores, rows: NDArray[np.int64]) -> Scores:
    """The scores of some rows as z-scores over all rows."""
    return np.asarray((scores[rows] - scores.mean()) / (scores.std() + 1e-9), dtype=np.float32)


def _document_rows(passages: Sequence[Passage]) -> NDArray[np.int64]:
    """For each passage the row of its document, in order of first appearance (n_passages)."""
    rows: dict[str, int] = {}
    return np.array([rows.setdefault(passage.document_id, len(rows)) for passage in passages])


def _document_vectors(passages: Sequence[Passage], vectors: Vectors) -> Vectors:
    """The direction of each document's mean vector (n_documents x dim)."""
    rows = _document_rows(passages)
    sums = np.zeros((rows.max() + 1, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, rows, vectors)
    return np.asarray(sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9), np.float32)


def _covariance(vectors: Vectors) -> Vectors:
    centred = vectors - vectors.mean(0)
    return np.asarray(centred.T @ centred / len(vectors), dtype=np.float32)


def _new_id(generations: Path) -> str:
    """Sorts by time; a second build within the same second gets a suffix."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = {path.name.removesuffix(_BUILDING) for path in generations.glob(f"{stamp}*")}
    candidates = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
    return next(name for name in candidates if name not in names)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Chroma raises whatever its native code meets: any of it means the folder is unusable."""
    try:
        yield
    except IndexUnavailableError:
        raise
    except Exception as error:
        raise damaged(folder, f"{type(error).__name__} while reading it") from error


def _verify(folder: Path, manifest: Manifest) -> None:
    for name, checksum in manifest.checksums.items():
        try:
            actual = _sha256(folder / name)
        except OSError:
            raise damaged(folder, f"{name} can't be read") from None
        if actual != checksum:
            raise damaged(folder, f"{name} was changed")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    """Of every file that stays as it was written.

    Chroma rewrites its SQLite file when it opens it, and a graph that is too small to be kept.
    A damaged graph must be found before it is read: it may end the process.
    """
    kept = {path.parent for path in folder.glob("chroma/*/index_metadata.pickle")}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in files
        if path.relative_to(folder).parts[0] != "chroma" or path.parent in kept
    }


def _document_hashes(passages: Iterable[Passage]) -> dict[str, str]:
    hashes: dict[str, Any] = {}
    for passage in passages:
        digest = hashes.setdefault(passage.document_id, hashlib.sha256())
        digest.update(f"{passage.url}\0{searchable(passage)}\0".encode())
    return {identity: digest.hexdigest()[:16] for identity, digest in hashes.items()}


def _write(folder: Path, passages: Sequence[Passage], vectors: Vectors) -> None:
    """The files of a generation but its manifest and Chroma's."""
    with (folder / _PASSAGES).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_lines(passages))
    Lexical.build(list(map(searchable, passages))).save(folder / "lexical")
    Lexical.build(mentions(passages)).save(folder / "mentions")
    np.savez(
        folder / "vectors.npz",
        mean=vectors.mean(0),
        covariance=_covariance(vectors),
        documents=_document_vectors(passages, vectors),
    )


def _lines(passages: Iterable[Passage]) -> Iterator[str]:
    """The passages as JSON, a line each."""
    for passage in passages:
        yield json.dumps(dataclasses.asdict(passage), ensure_ascii=False) + "\n"


def _read_passages(path: Path) -> Iterator[Passage]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            values = json.loads(line)
            yield Passage(**{**values, "headings": tuple(values["headings"])})
