"""The commands `threads …`: what maintainers see of Slack's threads, and rule on them.

They work on what ingest noted when it read the threads last, without the export. A ruling takes
effect when ingest reads the thread the next time.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from metaflowbot import settings as settings_module
from metaflowbot.cli import AsJson, plain_values, print_json
from metaflowbot.errors import UsageError
from metaflowbot.settings import Settings

if TYPE_CHECKING:
    from ingest.sources.slack_reading import Known
    from metaflowbot.store import Store
    from metaflowbot.threads import Change, Review, ReviewVerdict, SeenThread

app = typer.Typer(help="Review Slack's threads: which become answers.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY", help="As `list` shows it: channel/ts.")]
# What each kind of evidence says, in words.
_EVIDENCE = {
    "marked-by-asker": "the asker marked it as resolved",
    "marked-by-maintainer": "a maintainer marked it as resolved",
    "marked-by-others": "somebody else marked it as resolved",
    "asker-reaction": "the asker marked an answer as the one that worked",
    "maintainer-reaction": "a maintainer marked an answer",
    "closing-reaction": "the asker's closing words were marked",
    "root-reaction": "the question was marked as settled",
    "maintainer-answer": "a maintainer answered, and nobody contradicted",
    "maintainer-answer-open": "a maintainer answered, but the asker left it open",
    "others-reaction": "somebody else marked an answer",
    "asker-approval": "the asker reacted kindly to an answer",
    "asker-words": "the asker said that it worked",
    "self-answer": "the asker found the answer",
}


@app.command("list")
def list_threads(
    channel: Annotated[
        str, typer.Option(help="Only this channel, by name or id; private ones only so.")
    ] = "",
    state: Annotated[str, typer.Option(help="Only quarantined, unresolved or resolved.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the threads that were read last, those that want a person's eye first."""
    _check_state(state)
    with _store() as store:
        reviews = store.threads.reviews()
        seen = [t for t in store.threads.seen() if state in ("", t.state)]
    named = channel.lstrip("#")
    there = [t for t in seen if (named in (t.channel, t.channel_id) if named else not t.private)]
    shown = sorted(there, key=lambda thread: (thread.key in reviews, *_urgency(thread)))
    hidden = 0 if named else len(seen) - len(shown)
    if as_json:
        values = [_values(thread, reviews.get(thread.key)) for thread in shown]
        print_json({"threads": values, "hidden": hidden})
        return
    _print_list(shown, reviews)
    if not shown:
        print("no such thread was read")
    if hidden:
        print(f"not shown: {hidden} of private channels, which --channel names one by one")


@app.command()
def show(key: Key, as_json: AsJson = False) -> None:
    """Show one thread with the evidence and the ruling on it."""
    with _store() as store:
        thread = store.threads.thread(_key(key))
        review = store.threads.reviews().get(thread.key)
    if as_json:
        print_json(_values(thread, review))
        return
    print(f"{thread.key}  {_plain(thread.title)}\n{thread.url}")
    private = ", a private channel: shown only there" if thread.private else ""
    print(f"channel     {thread.channel}{private}")
    print(f"state       {thread.state}{f' ({thread.why})' if thread.why else ''}")
    print(f"confidence  {thread.confidence:.2f}")
    for kind in thread.evidence or ("none",):
        print(f"evidence    {_EVIDENCE.get(kind, kind)}")
    print(f"review      {_ruling(review)}")


@app.command()
def approve(key: Key, as_json: AsJson = False) -> None:
    """Let a thread be answered from, whatever the evidence; messages to an assistant stay out."""
    _rule(key, "approved", as_json=as_json)


@app.command()
def reject(key: Key, as_json: AsJson = False) -> None:
    """Keep a thread out of the index, whatever the evidence."""
    _rule(key, "rejected", as_json=as_json)


def known(settings: Settings) -> Known:
    """What the database knows of threads; raises StoreError."""
    from ingest.sources.slack_reading import Known

    with opened(settings) as store:
        threads = store.threads
        return Known(
            reviews={key: review.verdict for key, review in threads.reviews().items()},
            marks=threads.marks(),
            opted_out=threads.opted_out(),
            changes=threads.changes(),
            spoken=store.escalations.answers(),
        )


def published(settings: Settings) -> Sequence[str]:
    """The URLs of the published write-ups, oldest first; raises StoreError."""
    with opened(settings) as store:
        return tuple(each.url for each in store.escalations.all(("published",)))


def note(
    settings: Settings,
    seen: Sequence[SeenThread],
    changes: Sequence[Change],
    unread: Collection[str],
) -> None:
    """Keep what was seen of all threads, for the commands; raises StoreError."""
    with opened(settings) as store:
        store.threads.note(seen, changes, unread)


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The database, closed at the end; raises StoreError."""
    from metaflowbot.store import Store

    store = Store.open(settings.sqlalchemy_url)
    try:
        yield store
    finally:
        store.close()


def _store() -> AbstractContextManager[Store]:
    return opened(settings_module.load())


def _rule(key: str, verdict: ReviewVerdict, *, as_json: bool) -> None:
    with _store() as store:
        review = store.threads.review(_key(key), verdict, _person())
        thread = store.threads.thread(review.key)
    if as_json:
        print_json({**_values(thread, review), "takes_effect": "at the next ingest"})
    else:
        print(f"{verdict}: {review.key}; takes effect at the next `metaflowbot ingest`")


def _check_state(state: str) -> None:
    from metaflowbot.threads import ThreadState

    known = get_args(ThreadState)
    if state and state not in known:
        raise UsageError(f"--state {state}: there is no such state; there are {', '.join(known)}")


def _key(given: str) -> str:
    """A thread's key; a document's id does as well."""
    return given.removeprefix("slack:")


def _person() -> str:
    """Who is at the terminal; 'cli' where the system has no name for them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):
        return "cli"


def _urgency(thread: SeenThread) -> tuple[int, float, str]:
    """Quarantined first, then unresolved with the most evidence, then resolved with the least."""
    from metaflowbot.threads import ThreadState

    rank = get_args(ThreadState).index(thread.state)
    doubt = thread.confidence if thread.state == "resolved" else -thread.confidence
    return rank, doubt, thread.key


def _values(thread: SeenThread, review: Review | None) -> dict[str, Any]:
    values = plain_values(thread)
    del values["people"]
    return {**values, "review": plain_values(review) if review else None}


def _print_list(threads: Sequence[SeenThread], reviews: Mapping[str, Review]) -> None:
    for thread in threads:
        review = reviews.get(thread.key)
        ruled = f"{review.verdict}, " if review else ""
        print(f"{thread.key}  {ruled}{thread.state} {thread.confidence:.2f}")
        print(f"    {_plain(thread.title)}")
        print(f"    {', '.join(thread.evidence) or thread.why}")


def _plain(title: str) -> str:
    """Without what a terminal would take for a command."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", title)


def _ruling(review: Review | None) -> str:
    if review is None:
        return "none: `metaflowbot threads approve` and `reject` rule on it"
    by = f" by {review.person}" if review.person else ""
    return (
        f"{review.verdict}{by} on {review.reviewed_at:%Y-%m-%d}; it counts from the next ingest on"
    )
