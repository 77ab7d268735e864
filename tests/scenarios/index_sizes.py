"""What an index of so many passages costs: `python -m tests.scenarios.index_sizes`.

The passages are those of a docs tree, repeated with changes; their vectors are random directions
around those of a few topics, so that nothing is measured of the embedding model. Each size runs in
a process of its own: building, then loading and searching.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from ingest.passages import split
from ingest.sources.docs import DocsSource
from metaflowbot.domain import Document, Passage, Question
from metaflowbot.embedding import Vectors
from metaflowbot.index import Index
from metaflowbot.retrieve import Retriever
from tests.scenarios.ingest_kills import CORPUS
from tests.scenarios.load_slack import percentile

_TOPICS, _DIM, _QUERIES = 200, 384, 200


class TopicEmbedding:
    """Texts are random points around one of many topics, the same for the same text."""

    name = "test:topics"
    dim = _DIM

    def __init__(self) -> None:
        self._topics = np.random.default_rng(0).normal(size=(_TOPICS, _DIM)).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Iterator[Vectors]:
        for start in range(0, len(texts), 1000):
            yield np.stack([self.embed_query(text) for text in texts[start : start + 1000]])

    def embed_query(self, text: str) -> Vectors:
        seed = zlib.crc32(text.encode())
        near = np.random.default_rng(seed).normal(size=_DIM).astype(np.float32)
        vector = self._topics[seed % _TOPICS] + near
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def passages(docs: Path) -> Iterator[Passage]:
    """Those of the docs, over and over, each time as other documents with other words in them."""
    read = [item for item in DocsSource(str(docs), docs).read() if isinstance(item, Document)]
    whole = [passage for document in read for passage in split(document)]
    for turn in itertools.count():
        for passage in whole:
            mark = f"{turn}/"
            yield replace(
                passage,
                id=mark + passage.id,
                document_id=mark + passage.document_id,
                url=f"{passage.url}?{turn}",
                text=f"{passage.text} Edition {turn} of {passage.title}{turn}.",
            )


def measure(docs: Path, size: int, out: Connection) -> None:
    """Build, load and search an index of that size; send what it cost."""
    with tempfile.TemporaryDirectory(prefix="metaflowbot-sizes-") as folder:
        index, embedding = Index(Path(folder)), TopicEmbedding()
        made = list(itertools.islice(passages(docs), size))
        started = time.perf_counter()
        index.activate(index.build(made, {}, embedding).id)
        build = time.perf_counter() - started
        files = (Path(folder) / "index" / "generations").rglob("*")
        disk = sum(path.stat().st_size for path in files if path.is_file()) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        out.send({"build s": build, "disk MB": disk, "peak MB": peak, **_searched(index, made)})


def _searched(index: Index, made: Sequence[Passage]) -> dict[str, float]:
    retriever = Retriever.over(index.load(), TopicEmbedding())
    asked = made[:: max(1, len(made) // _QUERIES)][:_QUERIES]
    times = []
    for passage in asked:
        started = time.perf_counter()
        retriever.search(Question(f"{passage.title}: {passage.text[:80]}"))
        times.append((time.perf_counter() - started) * 1000)
    return {"query p50 ms": percentile(times, 0.5), "query p95 ms": percentile(times, 0.95)}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios.index_sizes")
    parser.add_argument("--docs", type=Path, default=CORPUS, help="a Docusaurus tree")
    parser.add_argument("sizes", nargs="*", type=int, default=[2_000, 20_000, 100_000])
    chosen = parser.parse_args(words)
    spawn = multiprocessing.get_context("spawn")
    for size in chosen.sizes:
        receiving, sending = spawn.Pipe(duplex=False)
        process = spawn.Process(target=measure, args=(chosen.docs, size, sending))
        process.start()
        sending.close()
        try:
            found: dict[str, float] = receiving.recv()
        except EOFError:
            return 1
        process.join()
        print(f"{size:>7,} passages: " + ", ".join(f"{k} {v:,.1f}" for k, v in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
