"""The commands `ingest`, `up` and `threads`, which join the command line by an entry point."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ingest import review
from ingest.check import MAX_SHRINK
from ingest.schedule import recorded, schedule
from metaflowbot import settings as settings_module
from metaflowbot.cli import AsJson, Host, Port, print_json
from metaflowbot.errors import MetaflowbotError, UsageError
from metaflowbot.settings import Settings

if TYPE_CHECKING:
    from ingest.pipeline import Ingest, SourceReport, Summary
    from ingest.sources import Source
    from metaflowbot.vectors import Progress

# The short names of `--only` and of metaflowbot.toml, and what hits call the source.
_SOURCES = {
    "docs": "metaflow-docs",
    "api": "metaflow-api",
    "labs": "labs",
    "slack": "slack",
    "github": "github",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("ingest")(ingest)
    app.command("schedule")(schedule)
    app.command("up")(up)
    app.add_typer(review.app, name="threads")


def ingest(
    *,
    docs: Annotated[str, typer.Option(help="The docs: a git URL or a path.")] = "",
    labs: Annotated[
        str, typer.Option(help="Metaflowlabs: a URL or path of llms.txt, or a content tree.")
    ] = "",
    slack_export: Annotated[str, typer.Option(help="A Slack export: a ZIP file or a folder.")] = "",
    only: Annotated[
        list[str] | None, typer.Option(help="Read only this source; the others stay as they are.")
    ] = None,
    max_shrink: Annotated[
        float,
        typer.Option(help="The share of a source that may go at once.", min=0, max=1),
    ] = MAX_SHRINK,
    noted: Annotated[
        bool, typer.Option("--noted", help="Of Slack's threads read only those noted as changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Read and split, but build nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a new index generation from every source that can be reached, and serve it.

    Exits 1 when a source shrank or a golden question is no longer found: the live index stays.
    """
    given = {"metaflow-docs": docs, "labs": labs, "slack": slack_export}
    named = {name: location for name, location in given.items() if location}
    settings = settings_module.load()
    job = compose(settings, named, only or [], max_shrink=max_shrink, noted_only=noted)
    if _is_withdrawn(settings, job):
        job = dataclasses.replace(job, max_shrink=1.0)
    if only or dry_run:
        summary = _run(job, dry_run=dry_run)
    else:
        summary = recorded(settings.home, lambda: _run(job, dry_run=False))
    _settle(settings, job, summary)
    if as_json:
        print_json(dataclasses.asdict(summary))
    else:
        _print(summary)
    if summary.stopped:
        raise MetaflowbotError(summary.verdict())


def up(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Build the first index if there is none yet, then serve."""
    from metaflowbot import bootstrap, serving

    settings = settings_module.load()
    settings.check_serving()
    if bootstrap.open_index(settings).active_id() is None:
        say("first run: building the index from every source that can be reached")
        job = compose(settings, {})
        summary = recorded(settings.home, lambda: _run(job, dry_run=False))
        _print(summary)
    serving.serve(settings, host, port)


def compose(
    settings: Settings,
    named: Mapping[str, str],
    only: Sequence[str] = (),
    max_shrink: float = MAX_SHRINK,
    *,
    noted_only: bool = False,
) -> Ingest:
    """The ingest of the sources in `only` (empty: all), `named` giving locations by source.

    What is named in either is required; what is not read now stays as it was read last. With
    `noted_only` that holds for Slack's threads too, but for those noted as changed. Raises
    UsageError for an unknown source.
    """
    from ingest.library import Library
    from ingest.pipeline import Ingest
    from metaflowbot import chroma, embedding
    from metaflowbot.disk import make_home
    from metaflowbot.index import Index

    make_home(settings.home)
    wanted = {_source_name(name) for name in only} or set(_SOURCES.values())
    sources = [source for source in _sources(settings, named) if source.name in wanted]
    if "slack" in wanted:
        sources += _threads(settings, named.get("slack", ""), noted_only=noted_only)
    if "github" in wanted and (settings.sources.github.repositories or only):
        sources.append(_forge(settings))
    read = {source.name for source in sources}
    index_home, vectors = settings.home / "index", chroma.connect(settings)
    return Ingest(
        sources=sources,
        index=Index(settings.home, vectors),
        embedding=embedding.connect(settings),
        library=Library(index_home / "documents"),
        home=index_home,
        required=frozenset({*named, *map(_source_name, only)}),
        kept=tuple(name for name in _SOURCES.values() if name not in read),
        chroma=vectors,
        max_shrink=max_shrink,
    )


def _source_name(name: str) -> str:
    full = _SOURCES.get(name, name)
    if full not in _SOURCES.values():
        known = ", ".join(sorted({*_SOURCES, *_SOURCES.values()}))
        raise UsageError(f"{name}: there is no such source; there are {known}")
    return full


def _sources(settings: Settings, named: Mapping[str, str]) -> Iterator[Source]:
    from ingest.sources.api_reference import ApiReference
    from ingest.sources.docs import DocsSource
    from ingest.sources.labs import LabsSource

    docs, labs = settings.sources.docs, settings.sources.labs
    cache = settings.home / "cache" / "sources"
    yield DocsSource(named.get("metaflow-docs", docs.location), cache, docs.include)
    yield ApiReference()
    published = partial(review.published, settings)
    yield LabsSource(named.get("labs", labs.location), published, labs.internal)


def _forge(settings: Settings) -> Source:
    from ingest.sources.github import GitHubThreads

    return GitHubThreads(settings, settings.home / "cache" / "sources" / "github")


def _threads(settings: Settings, export: str, *, noted_only: bool) -> Iterator[Source]:
    """Slack's threads, of which the database knows more: so it is opened only to read them."""
    from ingest.sources.slack_api import SlackApi
    from ingest.sources.slack_export import SlackExport

    slack = settings.sources.slack
    people = tuple(person for person in settings.trenches.maintainers if person[:1] in "UW")
    known, note = partial(review.known, settings), partial(review.note, settings)
    cache = settings.home / "cache" / "sources" / "slack"
    live = SlackApi(settings, cache, people, known, note, noted_only)
    if settings.reads_workspace and not export:
        yield live
    elif location := export or slack.location:
        over = live if settings.slack_bot_token.get_secret_value() else None
        yield SlackExport(location, slack.channels, people, known, note, over)


def _reads_threads(job: Ingest) -> bool:
    return any(source.name == "slack" for source in job.sources)


def _is_withdrawn(settings: Settings, job: Ingest) -> bool:
    """Whether somebody withdrew what they wrote in threads: then these may shrink by any share."""
    if not (_reads_threads(job) or job.library.last("slack")):
        return False
    with review.opened(settings) as store:
        return any(change.withdrawal for change in store.threads.changes())


def _settle(settings: Settings, job: Ingest, summary: Summary) -> None:
    """What was read of noted threads is live now; what was withdrawn leaves older generations."""
    reports = {report.name: report for report in summary.sources}
    if summary.dry_run or summary.stopped or "slack" not in reports:
        return
    was_read = _reads_threads(job) and not reports["slack"].error
    with review.opened(settings) as store:
        if any(change.withdrawal for change in store.threads.changes()):
            with job.alone():
                _keep_active_only(job)
        source = settings.sources.slack
        is_over = not (settings.reads_workspace or source.location or _reads_threads(job))
        if was_read or is_over:
            store.threads.settle(unread=is_over)


def _keep_active_only(job: Ingest) -> None:
    """Delete all other generations, and the way back to them; nobody else may be building one."""
    (job.home / "previous").unlink(missing_ok=True)
    for folder in (job.home / "generations").glob("*.building"):
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in ("*.partial", "documents/*.partial"):
        for path in job.home.glob(pattern):
            path.unlink(missing_ok=True)
    job.index.prune(keep=1)


def _run(job: Ingest, *, dry_run: bool) -> Summary:
    with shown_progress() as progress:
        return job.run(say, progress, dry_run=dry_run)


def say(line: str) -> None:
    """Show a line about what is being done now."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar on a terminal, a plain line every tenth elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn())
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("embedding", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    shown = -1

    def line(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // total if total else 10
        if tenth > shown:
            shown = tenth
            say(f"embedded {done:,} of {total:,} passages")

    yield line


def _print(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("source", box=None, header_style="bold", pad_edge=False)
    for column in ("documents", "passages", "left out", "seconds"):
        table.add_column(column, justify="right")
    for report in summary.sources:
        counts = (report.documents, report.passages, len(report.omissions), report.seconds)
        table.add_row(report.name, *map(str, counts))
    stages = ", ".join(f"{stage} {seconds:g} s" for stage, seconds in summary.seconds.items())
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=True)
    console.print(table)
    for report in summary.sources:
        for line in _remarks(report):
            console.print(line, markup=False)
    console.print(f"{summary.documents} documents, {summary.passages} passages ({stages})")
    if not summary.stopped:
        console.print(summary.verdict(), markup=False)


def _remarks(report: SourceReport) -> Iterator[str]:
    if report.error:
        yield f"{report.name}: could not be read: {report.error}; `metaflowbot ingest` tries again"
    if report.notice:
        yield f"{report.name}: {report.notice}"
    if report.removed:
        finds = ", ".join(f"{count} {kind}" for kind, count in report.removed.items())
        yield f"{report.name}: scrubbed {finds}"
    for why, what in report.omitted().items():
        named = ", ".join(what[:3]) + (f" and {len(what) - 3} more" if len(what) > 3 else "")
        yield f"{report.name}: left out {len(what)} ({why}): {named}"
