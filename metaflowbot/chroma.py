"""Where a generation's vectors live: a folder of Chroma's, or a collection on a Chroma server.

The only module that knows chromadb, which takes seconds to import and is imported late.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from metaflowbot.embedding import Vectors
from metaflowbot.errors import IndexUnavailableError
from metaflowbot.settings import Settings

_BATCH = 2000
_NAME = "passages"
_COPIES = "metaflowbot-vectors-"


class Collection:
    """The vectors of one generation, by row number."""

    def __init__(
        self,
        client: Any,
        name: str,
        asking: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Of a client of its own, whose files and sockets go with it.

        `asking` is entered around each query, to say what its failures mean.
        """
        weakref.finalize(self, client.close).atexit = False
        collection = client.get_collection(name, embedding_function=None)
        self._collection = collection
        self._asking = asking
        self._size = int(collection.count())  # for good: a generation never changes

    def __len__(self) -> int:
        return self._size

    def nearest(
        self, vector: Vectors, groups: Sequence[str] | None, depth: int
    ) -> dict[int, float]:
        """The cosine (-1 to 1) of the `depth` nearest rows, within `groups` (None: all)."""
        if groups is not None and not groups:
            return {}
        with self._asking():
            found = self._collection.query(
                query_embeddings=[vector.tolist()],
                n_results=min(depth, len(self)),
                where=None if groups is None else {"group": {"$in": list(groups)}},
                include=["distances"],
            )
        pairs = zip(found["ids"][0], found["distances"][0], strict=True)
        return {int(identity): 1.0 - float(distance) for identity, distance in pairs}

    def similarity(self, vector: Vectors, rows: Sequence[int]) -> dict[int, float]:
        """The cosine of each of `rows`; {} for none."""
        if not rows:
            return {}
        with self._asking():
            found = self._collection.get(ids=[str(row) for row in rows], include=["embeddings"])
        cosines = (np.asarray(found["embeddings"], dtype=np.float32) @ vector).tolist()
        return {int(row): cosine for row, cosine in zip(found["ids"], cosines, strict=True)}


class Chroma(Protocol):
    """Keeps one collection a generation. Chroma's own errors pass through."""

    def create(self, generation: Path, vectors: Vectors, groups: Sequence[str]) -> None:
        """Store the vectors (n_rows x dim) with each row's group."""
        ...

    def open(self, generation: Path) -> Collection:
        """The collection of a generation's folder."""
        ...

    def holds(self, generation: Path) -> bool:
        """Whether a generation has a collection that can be read; vectors are not looked at."""
        ...

    def drop(self, generation: Path) -> None:
        """Forget the collection of a generation; nothing where there is none."""
        ...


def connect(settings: Settings) -> Chroma:
    """The server that the settings name, else folders. Opens no connection."""
    if not settings.chroma_host:
        return EmbeddedChroma()
    token = settings.chroma_auth_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}", "X-Chroma-Token": token} if token else {}
    return ChromaServer(settings.chroma_host, settings.chroma_port, headers)


class EmbeddedChroma:
    """A folder `chroma` in each generation; OSError where it can't be written."""

    def create(self, generation: Path, vectors: Vectors, groups: Sequence[str]) -> None:
        from chromadb.errors import ChromaError

        try:
            with closing(self._client(generation / "chroma")) as client:
                _create(client, _NAME, vectors, groups)
        except ChromaError as error:
            raise OSError(errno.EIO, str(error), str(generation)) from None

    def open(self, generation: Path) -> Collection:
        """The collection of a generation's folder, or of a copy where nobody may write there.

        Chroma writes to its files even where it only reads.
        """
        folder = generation / "chroma"
        if not folder.is_dir():
            raise FileNotFoundError(folder)
        if os.access(folder, os.W_OK):
            return Collection(self._client(folder), _NAME)
        copied = ExitStack()
        copy = copied.enter_context(_copied(folder))
        collection = Collection(self._client(copy), _NAME)
        weakref.finalize(collection, copied.close)
        return collection

    def holds(self, generation: Path) -> bool:
        """Without chromadb, which takes longer to import than SQLite to look the file through."""
        place = f"file:{quote(str(generation / 'chroma' / 'chroma.sqlite3'))}?mode=ro"
        try:
            with closing(sqlite3.connect(place, uri=True)) as database:
                (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return bool(tables) and database.execute("PRAGMA quick_check(1)").fetchone() == (
                    "ok",
                )
        except sqlite3.Error:
            return False

    def drop(self, generation: Path) -> None:
        """Nothing: the folder goes with its generation."""

    def _client(self, folder: Path) -> Any:
        import chromadb
        from chromadb.config import Settings as ChromaSettings

        return chromadb.PersistentClient(str(folder), ChromaSettings(anonymized_telemetry=False))


@dataclass(frozen=True)
class ChromaServer:
    """A server that holds a collection for each generation, named after it."""

    host: str
    port: int
    headers: Mapping[str, str]

    def create(self, generation: Path, vectors: Vectors, groups: Sequence[str]) -> None:
        with self._reached(), closing(self._client()) as client:
            _create(client, _collection_name(generation), vectors, groups)

    def open(self, generation: Path) -> Collection:
        with self._reached():
            return Collection(self._client(), _collection_name(generation), self._reached)

    def holds(self, generation: Path) -> bool:
        from chromadb.errors import NotFoundError

        try:
            self.open(generation)
        except NotFoundError:
            return False
        return True

    def drop(self, generation: Path) -> None:
        from chromadb.errors import NotFoundError

        try:
            with self._reached(), closing(self._client()) as client:
                client.delete_collection(_collection_name(generation))
        except NotFoundError:
            return

    def _client(self) -> Any:
        import chromadb
        from chromadb.config import Settings as ChromaSettings

        return chromadb.HttpClient(
            self.host,
            self.port,
            headers=dict(self.headers),
            settings=ChromaSettings(anonymized_telemetry=False),
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise IndexUnavailableError where the server does not answer."""
        import httpx  # chromadb's, whose errors it lets through

        try:
            yield
        except (httpx.HTTPError, ValueError) as error:
            # chromadb raises ValueError where it can't connect.
            raise IndexUnavailableError(
                f"the Chroma server at {self.host}:{self.port} can't be reached "
                f"({type(error).__name__}): check CHROMA_HOST, CHROMA_PORT and CHROMA_AUTH_TOKEN, "
                "and that it runs"
            ) from None


@contextmanager
def _copied(folder: Path) -> Iterator[Path]:
    """The files of a folder where they may be written to; locked, and gone at the end."""
    import fcntl  # not on Windows, where an index is served from where it is

    with ExitStack() as stack:
        try:
            _remove_abandoned()
            held = TemporaryDirectory(prefix=_COPIES, ignore_cleanup_errors=True)
            copy = Path(stack.enter_context(held))
            handle = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            for path in folder.rglob("*"):  # not copytree: folders would stay read-only
                to = copy / path.relative_to(folder)
                to.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    shutil.copyfile(path, to)
        except OSError as error:
            raise IndexUnavailableError(
                f"the index is read-only, and {gettempdir()} takes no copy of its vectors "
                f"({error.strerror or error}): make room there, or name another folder as TMPDIR"
            ) from None
        yield copy


def _remove_abandoned() -> None:
    """Remove the copies of processes that were killed: nobody holds their locks."""
    import fcntl

    for copy in Path(gettempdir()).glob(f"{_COPIES}*"):
        with suppress(OSError), ExitStack() as stack:
            handle = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if any(copy.iterdir()):  # else somebody is about to lock it
                shutil.rmtree(copy)


def _collection_name(generation: Path) -> str:
    return f"metaflowbot-{generation.name.partition('.')[0]}"


def _create(client: Any, name: str, vectors: Vectors, groups: Sequence[str]) -> None:
    collection = client.create_collection(
        name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    for start in range(0, len(vectors), _BATCH):
        end = min(start + _BATCH, len(vectors))
        collection.add(
            ids=[str(row) for row in range(start, end)],
            embeddings=vectors[start:end],
            metadatas=[{"group": group} for group in groups[start:end]],
        )
