"""`metaflowbot trenches`: escalations and their write-ups on the command line."""

from __future__ import annotations

import getpass
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaflowbot import settings as settings_module
from metaflowbot.cli import AsJson, parts, plain_values, print_json
from metaflowbot.errors import UsageError
from metaflowbot.escalation import Escalation, Session, Solution, State, is_web_address

if TYPE_CHECKING:
    from metaflowbot.settings import Settings

Id = Annotated[str, typer.Argument(metavar="ID", help="As `trenches list` names it.")]
_STATES: tuple[State, ...] = ("open", "claimed", "scheduled", "solved", "published", "declined")
_TITLE_CHARS = 70

trenches_app = typer.Typer(
    help="From the Trenches: questions handed to people, and their write-ups.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(trenches_app, name="trenches")


@trenches_app.command("list")
def list_escalations(
    state: Annotated[
        list[str] | None, typer.Option(help="Only those in this state; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the escalations, oldest first."""
    wanted = tuple(each for each in _STATES if each in (state or ()))
    if unknown := set(state or ()) - set(_STATES):
        raise UsageError(f"--state {unknown.pop()}: there is no such state; {', '.join(_STATES)}")
    with parts() as built:
        found = built.store.escalations.all(wanted)
    if as_json:
        print_json({"escalations": [plain_values(each) for each in found]})
        return
    if not found:
        print("no question was handed to people")
    for each in found:
        title = " ".join(each.question.split())[:_TITLE_CHARS]
        print(f"{each.id}  {each.state:9}  {each.changed_at:%Y-%m-%d}  {title}")


@trenches_app.command("show")
def show(identity: Id, as_json: AsJson = False) -> None:
    """Print one escalation with its history."""
    with parts() as built:
        escalation = built.store.escalations.get(identity)
        times, people = built.bot.asked_alike(escalation)
    if as_json:
        print_json({**plain_values(escalation), "asked": {"times": times, "people": people}})
        return
    print(f"{escalation.id}  {escalation.state}\n\n{escalation.question}\n")
    print(f"why:     {'; '.join(escalation.reasons)}")
    print(f"asked:   {times} times, by {people} people")
    for step in escalation.history:
        print(f"{step.at:%Y-%m-%d %H:%M}  {step.state:9}  {step.person}  {step.note}".rstrip())
    if escalation.solution:
        print(f"\nsolution:\n{escalation.solution.text}")
    if escalation.url:
        print(f"\nwrite-up: {escalation.url}")


@trenches_app.command("claim")
def claim(identity: Id) -> None:
    """Take an escalation on."""
    with parts() as built:
        _print_state(built.bot.claim(identity, _person()))


@trenches_app.command("schedule")
def schedule(
    identity: Id,
    day: Annotated[str, typer.Option(metavar="DATE", help="2026-01-31.")],
    recording: Annotated[str, typer.Option(help="A link to the recording.")] = "",
) -> None:
    """Set a session with the asker, or add its recording."""
    try:
        session = Session(date.fromisoformat(day), recording=recording)
    except ValueError:
        raise UsageError(f"--day {day} is not a date: write it as 2026-01-31") from None
    with parts() as built:
        _print_state(built.bot.schedule(identity, session, _person()))


@trenches_app.command("solve")
def solve(
    identity: Id,
    answer: Annotated[Path, typer.Argument(help="A Markdown file with the answer.")],
) -> None:
    """Answer the asker; the answer is posted in their thread."""
    try:
        text = answer.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{answer} can't be read: {error}") from None
    with parts() as built:
        _print_state(built.bot.solve(identity, Solution(text), _person()))


@trenches_app.command("decline")
def decline(
    identity: Id, reason: Annotated[str, typer.Option(help="Why; the asker reads it.")]
) -> None:
    """Turn an escalation down, with a reason for the asker."""
    with parts() as built:
        _print_state(built.bot.decline(identity, reason, _person()))


@trenches_app.command("package")
def package(
    identity: Id,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")],
) -> None:
    """Write a repository with write-up, slides, a flow that runs, and plans for the session."""
    from metaflowbot import llm, trenches
    from metaflowbot.errors import IndexUnavailableError
    from metaflowbot.forgetting import Files

    settings = settings_module.load()
    trenches.check_folder(out)
    with parts() as built:
        escalation = built.store.escalations.get(identity)
        try:
            hits = trenches.gathered(lambda text: built.bot.search(text).hits, escalation)
        except IndexUnavailableError:
            hits = ()
    material = trenches.Material(escalation, hits, _names(settings, escalation))
    files = trenches.package(material, llm.connect(settings))
    Files(settings.home).note_package(identity, out, files)
    trenches.write(files, out)
    print(f"{len(files)} files written to {out}")


@trenches_app.command("publish")
def publish(
    identity: Id, url: Annotated[str, typer.Option(help="The address of the published page.")]
) -> None:
    """Say where the write-up stands: the asker gets the link, and the next ingest reads it."""
    if not is_web_address(url):
        raise UsageError(f"--url {url!r} is not an http(s) URL: give the address of the page")
    with parts() as built:
        _print_state(built.bot.publish(identity, url, _person()))


def _names(settings: Settings, escalation: Escalation) -> Collection[str]:
    """The names of the people in the asker's thread, where Slack can be asked."""
    if settings.slack_mode == "off" or not escalation.channel:
        return ()
    from metaflowbot.slack.clients import web_client
    from metaflowbot.slack.trenches_board import names_in_thread

    return names_in_thread(web_client(settings), escalation)


def _print_state(escalation: Escalation) -> None:
    print(f"{escalation.id} is {escalation.state}")


def _person() -> str:
    """Who is at the terminal; 'cli' where the system has no name for them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):
        return "cli"
