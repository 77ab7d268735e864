"""The command line: parse, call, print.

Commands of the rooms above (ingest, evals) join by the entry-point group 'metaflowbot.commands',
so nothing here imports them. Exit codes: 0 done; 1 it failed or fell short; 2 wrong usage or
settings.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaflowbot import settings as settings_module
from metaflowbot.errors import MetaflowbotError, NotFoundError, UsageError

if TYPE_CHECKING:
    from metaflowbot.bootstrap import Parts
    from metaflowbot.cases import RatedAnswer
    from metaflowbot.domain import Answer, Search
    from metaflowbot.index import Index
    from metaflowbot.manifest import Manifest

app = typer.Typer(
    name="metaflowbot",
    help="Answers questions about Metaflow, with citations that hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
index_app = typer.Typer(help="List, switch and prune index generations.", no_args_is_help=True)
feedback_app = typer.Typer(help="What readers thought of the answers.", no_args_is_help=True)
inbox_app = typer.Typer(help="What Slack sent and could not be answered.", no_args_is_help=True)
app.add_typer(index_app, name="index")
app.add_typer(inbox_app, name="inbox")
app.add_typer(feedback_app, name="feedback")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)]


def main() -> None:
    """Run the command line and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    for point in entry_points(group="metaflowbot.commands"):
        point.load()(app)
    try:
        app()
    except UsageError as error:
        fail(error, 2)
    except MetaflowbotError as error:
        fail(error, 1)
    except KeyboardInterrupt:
        fail("interrupted", 130)


def fail(message: object, code: int) -> None:
    """Print one line on stderr and exit."""
    print(f"metaflowbot: {message}", file=sys.stderr)
    sys.exit(code)


def print_json(document: Any) -> None:
    """The one JSON document of a --json command."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def plain_values(record: Any) -> dict[str, Any]:
    """A dataclass as JSON values, with None for nothing."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record), default=str))
    return values


@contextmanager
def parts() -> Iterator[Parts]:
    """The bot and its parts, closed at the end."""
    from metaflowbot import bootstrap

    built = bootstrap.build(settings_module.load())
    try:
        yield built
    finally:
        built.store.close()


@app.command("version")
def show_version() -> None:
    """Print the versions of Metaflowbot and of the Metaflow that it knows."""
    print(f"metaflowbot {version('metaflowbot')} (Metaflow {version('metaflow')})")


@app.command()
def serve(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Serve the web page, the API and, when its tokens are set, the Slack app."""
    from metaflowbot import serving

    serving.serve(settings_module.load(), host, port)


@app.command()
def ask(question: str, as_json: AsJson = False) -> None:
    """Answer one question, with citations. Exits 1 when the chat model fell short."""
    from metaflowbot.answer import fell_short
    from metaflowbot.domain import Question
    from metaflowbot.store import Asking

    with parts() as built:
        answer = built.bot.ask(Question(question), Asking("cli"))
    if as_json:
        print_json(_answer_values(answer))
    else:
        _print_answer(answer)
    if fell_short(answer):
        fail(answer.notice, 1)


@app.command()
def search(
    query: str,
    k: Annotated[int, typer.Option("-k", help="How many documents.", min=1, max=100)] = 10,
    as_json: AsJson = False,
) -> None:
    """Print the documents that match best, best first."""
    with parts() as built:
        found = built.bot.search(query, k)
    if as_json:
        print_json(_search_values(found))
        return
    for hit in found.hits:
        heading = f" › {hit.best.heading}" if hit.best.heading else ""
        print(f"{hit.rank:2}. {hit.best.title}{heading}  ({hit.score:.2f})")
        print(f"    {hit.best.url}")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check settings, tokens, scopes, index and database; say how to mend each fault."""
    from metaflowbot.doctor import examine

    findings = []
    for finding in examine(settings_module.load()):
        findings.append(finding)
        if not as_json:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check:12} {finding.detail}")
    if as_json:
        print_json({"checks": [dataclasses.asdict(finding) for finding in findings]})
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def forget(user: str) -> None:
    """Erase all that one person asked, said and wrote: a Slack id, or 'slack:ID', 'web:ID'.

    Of a person in Slack nothing is read from then on.
    """
    from metaflowbot import refresh

    with parts() as built:
        gone = built.bot.forget(user)
        in_index = any("slack" in manifest.sources for manifest in built.index.manifests())
    print("erased: " + ", ".join(f"{what}: {count}" for what, count in sorted(gone.items())))
    if "documents" not in gone or not in_index:
        return
    print("building the index anew without their threads", file=sys.stderr, flush=True)
    try:
        refresh.ingest_now()
    except MetaflowbotError as error:
        raise MetaflowbotError(
            f"the index still holds what {user} wrote, as it could not be built anew ({error}): "
            "mend that, then run this command again"
        ) from None
    print("the index was built anew; older generations are deleted")


@index_app.command("list")
def index_list(as_json: AsJson = False) -> None:
    """List the generations, newest last; the active one is marked."""
    index = _index()
    active = index.active_id()
    manifests = index.manifests()
    if as_json:
        print_json({"active": active, "generations": [_manifest_values(m) for m in manifests]})
        return
    if not manifests:
        print("there is no index yet: run `metaflowbot ingest`")
    for manifest in manifests:
        mark = "*" if manifest.id == active else " "
        print(
            f"{mark} {manifest.id}  {len(manifest.documents)} documents  "
            f"{manifest.passages} passages  {manifest.embedding_model}"
        )


@index_app.command("activate")
def index_activate(identity: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Serve another generation from now on."""
    print(f"active: {_index().activate(identity).id}")


@index_app.command("rollback")
def index_rollback() -> None:
    """Go back to the generation that was active before."""
    print(f"active: {_index().rollback().id}")


@index_app.command("prune")
def index_prune(
    keep: Annotated[int, typer.Option(help="How many of the newest to keep.", min=1)] = 3,
) -> None:
    """Delete old generations and what interrupted builds left behind."""
    gone = _index().prune(keep)
    print("deleted: " + (", ".join(gone) or "nothing"))


@inbox_app.command("list")
def inbox_list(as_json: AsJson = False) -> None:
    """List what was given up on, oldest first, and why."""
    with parts() as built:
        dead, health = built.store.dead(), built.store.health()
    if as_json:
        print_json({"waiting": health.depth, "dead": [plain_values(item) for item in dead]})
        return
    print(f"{health.depth} waiting, {len(dead)} given up on")
    for item in dead:
        print(f"{item.received_at:%Y-%m-%d %H:%M}  {item.key}  {item.kind}  {item.error}")


@inbox_app.command("retry")
def inbox_retry(
    key: Annotated[str, typer.Argument(help="Only this one; else everything given up on.")] = "",
) -> None:
    """Try again what was given up on; a running bot takes it up within seconds."""
    with parts() as built:
        count = built.store.retry(key)
    if key and not count:
        raise NotFoundError(f"{key} was not given up on: see `metaflowbot inbox list`")
    print(f"put back in turn: {count}")


@feedback_app.command("export")
def feedback_export(
    since: Annotated[str, typer.Option(metavar="DATE", help="From this day on: 2026-01-31.")] = "",
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Write eval-case candidates, one JSON object a line.

    Answers with a verdict, those in whose place people gave a better one, and abstentions from a
    question that found its answer later.
    """
    start = _day(since) if since else None
    with parts() as built:
        lines = [json.dumps(_case(rated)) for rated in built.store.rated(start)]
    text = "".join(line + "\n" for line in lines)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {out} can't be written: {error.strerror}") from None
    print(f"{len(lines)} candidates written to {out}", file=sys.stderr)


def _case(rated: RatedAnswer) -> dict[str, Any]:
    """A line of the export; without a `reference` where nobody gave a better answer."""
    values = plain_values(rated)
    return {name: value for name, value in values.items() if name != "reference" or value}


def _day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f"--since {text} is not a date: write it as 2026-01-31") from None


def _index() -> Index:
    from metaflowbot import bootstrap

    return bootstrap.open_index(settings_module.load())


def _manifest_values(manifest: Manifest) -> dict[str, Any]:
    values = plain_values(manifest)
    return {**values, "documents": len(manifest.documents), "checksums": len(manifest.checksums)}


def _search_values(found: Search) -> dict[str, Any]:
    from metaflowbot.web.api import search_json

    return dict(search_json(found))


def _answer_values(answer: Answer) -> dict[str, Any]:
    from metaflowbot.web.api import answer_json

    return dict(answer_json(answer))


def _print_answer(answer: Answer) -> None:
    """The answer as Markdown; rendered when a person reads it on a terminal."""
    sources = "\n".join(
        f"{citation.n}. {citation.title} — {citation.url}" for citation in answer.citations
    )
    noted = f"{answer.text}\n\n_{answer.notice}_" if answer.notice else answer.text
    text = f"{noted}\n\n**Sources**\n\n{sources}" if sources else noted
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        print(text)
