"""The benchmark: `python -m evals.bench [--docs PATH] [--dataset PATH]`, all in one run.

Quality is measured beside the pipeline that a user would write with LangChain and Chroma, and
beside BM25 alone, on the same questions. Seconds depend on the machine and on what else runs on
it: only the ratios are meant to be compared.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evals import cases, figures, tables
from evals.cases import Case
from evals.ranking import DEPTH, MEASURES, judge, score
from evals.workbench import Ingested, Server, Workbench
from metaflowbot import bootstrap
from metaflowbot.domain import Passage
from metaflowbot.embedding import MiniLM
from metaflowbot.errors import MetaflowbotError, SourceError, UsageError
from metaflowbot.index import Generation, searchable
from metaflowbot.manifest import Manifest

_CHUNK_CHARS, _OVERLAP_CHARS = 1000, 200
# Chunks that the plain pipelines look at: enough for ten different pages.
_CHUNKS = 100
_WARM_UP, _SEARCHES, _ASKS, _THREADS = 20, 300, 100, 8
# So many passages are embedded alone, and the time is scaled to all of them.
_SAMPLE = 400

Pages = Mapping[str, str]
"""The raw text of each page by its document id."""
Search = Callable[[str], Sequence[str]]
"""A question -> page ids, best first; a page may come more than once."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What one run works with."""

    questions: Sequence[Case]
    pages: Pages
    generation: Generation
    embedding: MiniLM


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark, print it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m evals.bench", description=__doc__)
    parser.add_argument("--docs", type=Path, help="a Docusaurus tree; else the API reference alone")
    parser.add_argument("--dataset", type=Path, default=cases.OWN, help="a file or a folder")
    given = parser.parse_args(words)
    started = time.perf_counter()
    try:
        _run(cases.read(given.dataset).whole().answerable, given.docs)
    except MetaflowbotError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    _say(f"{time.perf_counter() - started:.0f} s in all")
    return 0


def _run(questions: Sequence[Case], docs: Path | None) -> None:
    if not questions:
        raise UsageError("--dataset holds no question with gold")
    with Workbench.temporary() as workbench:
        _say("ingest")
        tree = workbench.copied(docs) if docs else None
        runs = {"first": workbench.ingest(tree), "again, nothing changed": workbench.ingest(tree)}
        if tree:
            _edit_page(tree, bootstrap.open_index(workbench.settings).manifests()[-1])
            runs["again, one page changed"] = workbench.ingest(tree)
        generation = bootstrap.open_index(workbench.settings).load()
        pages = dict(_raw_pages(docs) if docs else _joined(generation.passages))
        bench = Bench(questions, pages, generation, MiniLM(workbench.home / "cache"))
        _say("embedding alone")
        _show_ingest(runs, _embedding_seconds(bench))
        with workbench.serve() as server:
            _say("quality")
            _show_quality(bench, server)
            _say("latency")
            _show_latency(bench, server)


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


# Quality


def _raw_pages(docs: Path) -> Iterator[tuple[str, str]]:
    """Every Markdown file as it is; its id is the path in the docs repository."""
    root = docs if (docs / "docs").is_dir() else docs.absolute().parent
    tree = docs / "docs" if (docs / "docs").is_dir() else docs.absolute()
    files = [path for path in sorted(tree.rglob("*")) if path.suffix in (".md", ".mdx")]
    if not files:
        raise SourceError(f"--docs {docs}: there is no Markdown page in it")
    for path in files:
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def _joined(passages: Sequence[Passage]) -> Iterator[tuple[str, str]]:
    """The indexed documents as plain texts, for where there are no files to read."""
    texts: dict[str, list[str]] = {}
    for passage in passages:
        texts.setdefault(passage.document_id, [f"# {passage.title}"]).append(passage.text)
    for document_id, parts in texts.items():
        yield document_id, "\n\n".join(parts)


def _show_quality(bench: Bench, server: Server) -> None:
    client = _Client(server)
    chunks = _chunks(bench.pages)
    systems: dict[str, Search] = {
        "Metaflowbot": client.search,
        "plain dense (LangChain, Chroma)": _plain_dense(chunks, bench.embedding),
        "plain BM25 (bm25s)": _plain_bm25(chunks),
    }
    scores = {name: _score(bench, search, name) for name, search in systems.items()}
    ours = scores["Metaflowbot"]
    made = tables.table(f"quality, {len(bench.questions)} questions", *MEASURES)
    for name, rows in scores.items():
        made.add_row(name, *(tables.number(figures.mean(rows[measure])) for measure in MEASURES))
    for name, rows in list(scores.items())[1:]:
        gains = [figures.difference(rows[measure], ours[measure]) for measure in MEASURES]
        made.add_row(f"Metaflowbot - {name.partition(' (')[0]}", *map(tables.number, gains))
    tables.console().print(made)


def _score(bench: Bench, search: Search, name: str) -> dict[str, list[float]]:
    """Each measure's values in the order of the questions."""
    indexed = bench.generation.manifest.documents if name == "Metaflowbot" else bench.pages
    judged = {case.id: judge(search(case.question), case.gold, indexed) for case in bench.questions}
    rows = score(judged)
    return {name: [rows[case.id][name] for case in bench.questions] for name in MEASURES}


def _chunks(pages: Pages) -> list[tuple[str, str]]:
    """(page, chunk) as the recursive splitter cuts the raw text."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(chunk_size=_CHUNK_CHARS, chunk_overlap=_OVERLAP_CHARS)
    return [(page, chunk) for page, text in pages.items() for chunk in splitter.split_text(text)]


def _plain_dense(chunks: Sequence[tuple[str, str]], embedding: MiniLM) -> Search:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    collection = client.create_collection("plain", embedding_function=None)
    done = 0
    for vectors in embedding.embed([text for _, text in chunks]):
        rows = range(done, done + len(vectors))
        collection.add(ids=[str(row) for row in rows], embeddings=vectors)
        done += len(vectors)

    def search(question: str) -> list[str]:
        vector = embedding.embed_query(question)
        found = collection.query(
            query_embeddings=[vector.tolist()], n_results=min(_CHUNKS, len(chunks))
        )
        return [chunks[int(row)][0] for row in found["ids"][0]]

    return search


def _plain_bm25(chunks: Sequence[tuple[str, str]]) -> Search:
    import bm25s

    model = bm25s.BM25()
    texts = [text for _, text in chunks]
    model.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)

    def search(question: str) -> list[str]:
        words = bm25s.tokenize([question], show_progress=False)
        rows, scores = model.retrieve(words, k=min(_CHUNKS, len(chunks)), show_progress=False)
        found = zip(rows[0], scores[0], strict=True)
        return [chunks[int(row)][0] for row, value in found if value > 0]

    return search


# Latency


class _Client:
    """One kept connection to the server."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port)

    def search(self, query: str) -> list[str]:
        found = self.post("/api/search", {"query": query, "k": DEPTH})
        return [hit["document_id"] for hit in found["hits"]]

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The JSON of the answer; raises MetaflowbotError for any status but 200."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise MetaflowbotError(f"{path} answered {response.status}: {text[:200]!r}")
        return json.loads(text)


def _show_latency(bench: Bench, server: Server) -> None:
    questions = [case.question for case in bench.questions]
    bodies = [{"query": question, "k": DEPTH} for question in questions]
    asked = [{"question": question} for question in questions]
    _times(server, "/api/search", _repeat(bodies, _WARM_UP))
    alone = _times(server, "/api/search", _repeat(bodies, _SEARCHES))
    shares = [_repeat(bodies[start:] + bodies[:start], _SEARCHES // _THREADS) for start in range(8)]
    with ThreadPoolExecutor(_THREADS) as pool:
        busy = list(pool.map(lambda share: _times(server, "/api/search", share), shares))
    answers = _times(server, "/api/ask", _repeat(asked, _ASKS))
    made = tables.table("HTTP latency, ms", "p50", "p95", "requests")
    for name, times in (
        ("/api/search, one by one", alone),
        (f"/api/search, {_THREADS} at a time", [value for share in busy for value in share]),
        ("/api/ask without a model, one by one", answers),
    ):
        middle, high = figures.percentile(times, 50), figures.percentile(times, 95)
        made.add_row(name, tables.number(middle), tables.number(high), str(len(times)))
    tables.console().print(made)
    print(f"memory of the serving process: {server.resident_mb or 'unknown'} MiB\n")


def _repeat(bodies: Sequence[Mapping[str, object]], n: int) -> list[Mapping[str, object]]:
    return [bodies[place % len(bodies)] for place in range(n)]


def _times(server: Server, path: str, bodies: Sequence[Mapping[str, object]]) -> list[float]:
    """The wall time of each request on one connection (milliseconds)."""
    client = _Client(server)
    times = []
    for body in bodies:
        started = time.perf_counter()
        client.post(path, body)
        times.append((time.perf_counter() - started) * 1000)
    return times


# Ingest


def _embedding_seconds(bench: Bench) -> tuple[float, float]:
    """Wall and CPU time of embedding every passage by itself, from an even sample of them."""
    texts = [searchable(passage) for passage in bench.generation.passages]
    sample = texts[:: max(1, len(texts) // _SAMPLE)]
    bench.embedding.embed_query("loads the model")
    started, spent = time.perf_counter(), time.process_time()
    for _ in bench.embedding.embed(sample):
        pass
    share = len(sample) / len(texts)
    return (time.perf_counter() - started) / share, (time.process_time() - spent) / share


def _edit_page(tree: Path, manifest: Manifest) -> None:
    """Add a paragraph to the longest page that is indexed."""
    root = tree if (tree / "docs").is_dir() else tree.parent
    pages = [root / name for name in manifest.documents if (root / name).is_file()]
    with max(pages, key=lambda path: path.stat().st_size).open("a", encoding="utf-8") as page:
        page.write("\n\nA paragraph that the benchmark adds, to see what a change costs.\n")


def _show_ingest(runs: Mapping[str, Ingested], alone: tuple[float, float]) -> None:
    first, *others = runs.values()
    stages = first.stages.keys()
    made = tables.table("ingest, seconds", "whole", *stages, "passages", "embedded")
    for name, done in runs.items():
        seconds = (str(done.stages.get(stage, "")) for stage in stages)
        made.add_row(name, str(done.seconds), *seconds, str(done.passages), str(done.embedded))
    tables.console().print(made)
    wall, cpu = alone
    print(f"embedding the passages alone: {wall:.1f} s, {cpu:.1f} s of CPU")
    print(
        f"ratio of the whole ingest to embedding alone: {first.seconds / wall:.2f}, "
        f"by CPU time {first.cpu_seconds / cpu:.2f}"
    )
    for name, done in zip(list(runs)[1:], others, strict=True):
        print(
            f"ratio of the ingest to the first, {name}: {done.seconds / first.seconds:.3f}, "
            f"by CPU time {done.cpu_seconds / first.cpu_seconds:.3f}"
        )
    print()


if __name__ == "__main__":
    sys.exit(main())
