"""One channel's threads as the Web API gave them, kept on disk between runs.

Raw messages hold secrets, and a run must not fetch years again to see one week: so each text is
scrubbed before it is written, and nothing else of the message is kept but what decides whether a
thread is resolved. A file is a log of pages: a run that was stopped loses at most its last one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ingest.threads import Message
from metaflowbot.scrub import scrub

# Stand for &lt; and &gt; while a text is scrubbed: bare brackets would make up new tokens.
_OPEN, _CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True)
class Kept:
    """A message with its text scrubbed, and how many finds of each kind were removed from it.

    `names` are those of an author who is no member of the workspace.
    """

    message: Message
    removed: Mapping[str, int]
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Span:
    """A pass over the history that goes back in time: from `top` it has come down to `upto`.

    All are ts; `since` (exclusive) is where it ends, `top` is '' before the first message.
    """

    top: str
    since: str
    upto: str


class Archive:
    """The threads by their root's ts.

    `newest` is the ts of the newest root up to which all was read, '' before the first whole pass;
    `span` is the pass that was not finished, None where there is none.
    """

    def __init__(self, path: Path, opted_out: Container[str] = ()) -> None:
        """Read what is there; a damaged end is cut off.

        Threads of people in `opted_out` (ids) are left out, and what they wrote or marked in
        others'.
        """
        self._path = path
        self._opted_out = opted_out
        self.threads: dict[str, tuple[Kept, ...]] = {}
        self.newest = ""
        self.span: Span | None = None
        self._load()

    def add(
        self,
        threads: Mapping[str, Iterable[Kept]],
        gone: Collection[str],
        newest: str,
        span: Span | None,
    ) -> None:
        """Put a page in, on disk as well: threads replace older readings, those `gone` go."""
        allowed = {root: self._allowed(root, messages) for root, messages in threads.items()}
        page = _page(allowed, gone, newest, span)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(page, ensure_ascii=False) + "\n")
        self._fold(page)

    def save(self) -> None:
        """Write the file anew: nothing of what is gone is left in it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.touch(mode=0o600)
        with partial.open("w", encoding="utf-8") as file:
            # How far it goes is said last: a file that lost its end is read from Slack again.
            for root, messages in self.threads.items():
                page = _page({root: messages}, (), "", None)
                file.write(json.dumps(page, ensure_ascii=False) + "\n")
            file.write(json.dumps(_page({}, (), self.newest, self.span)) + "\n")
        partial.replace(self._path)

    def _load(self) -> None:
        try:
            with self._path.open(encoding="utf-8") as file:
                for line in file:
                    self._fold(json.loads(line))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # A first run, or a line cut short: what came before it holds.

    def _fold(self, page: Mapping[str, Any]) -> None:
        fresh = {root: list(map(_kept, values)) for root, values in page["threads"].items()}
        span = Span(**page["span"]) if page["span"] else None
        for root_ts in page["gone"]:
            self._put(root_ts, [])
        for root_ts, messages in fresh.items():
            self._put(root_ts, self._allowed(root_ts, messages))
        self.newest, self.span = page["newest"], span

    def _allowed(self, root_ts: str, messages: Iterable[Kept]) -> list[Kept]:
        found = list(messages)
        left_out = {kept.message.ts for kept in found if kept.message.author in self._opted_out}
        if root_ts in left_out:
            return []
        return [
            replace(kept, message=kept.message.unmarked_by(self._opted_out))
            for kept in found
            if kept.message.ts not in left_out
        ]

    def put(self, root_ts: str, messages: Iterable[Kept]) -> None:
        """Put one thread in, on disk as well; how far the archive goes stays as it is."""
        self.add({root_ts: messages}, (), self.newest, self.span)

    def root_of(self, ts: str) -> str:
        """The ts of the root under which the message stands, itself where it is not known."""
        places = (
            root
            for root, messages in self.threads.items()
            if any(kept.message.ts == ts for kept in messages)
        )
        return ts if ts in self.threads else next(places, ts)

    def _put(self, root_ts: str, messages: list[Kept]) -> None:
        if messages:
            self.threads[root_ts] = tuple(messages)
        else:
            self.threads.pop(root_ts, None)


def scrubbed(message: Message, names: frozenset[str] = frozenset()) -> Kept:
    """A message as it may be kept: its text is scrubbed as what people read, then escaped again."""
    read = message.text.replace("&lt;", _OPEN).replace("&gt;", _CLOSE).replace("&amp;", "&")
    found = scrub(read)
    text = found.text.replace("&", "&amp;").replace(_OPEN, "&lt;").replace(_CLOSE, "&gt;")
    return Kept(replace(message, text=text), found.counts, names)


def _page(
    threads: Mapping[str, Iterable[Kept]], gone: Collection[str], newest: str, span: Span | None
) -> dict[str, Any]:
    """A line of the file."""
    return {
        "threads": {root: list(map(_values, messages)) for root, messages in threads.items()},
        "gone": list(gone),
        "newest": newest,
        "span": asdict(span) if span else None,
    }


def _values(kept: Kept) -> dict[str, Any]:
    message = asdict(kept.message)
    message["reactions"] = {name: sorted(who) for name, who in kept.message.reactions.items()}
    return {"message": message, "removed": dict(kept.removed), "names": sorted(kept.names)}


def _kept(values: Mapping[str, Any]) -> Kept:
    message = dict(values["message"])
    reactions = {name: frozenset(who) for name, who in message.pop("reactions").items()}
    return Kept(
        Message(**message, reactions=reactions), values["removed"], frozenset(values["names"])
    )
