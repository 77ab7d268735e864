"""What was read of a Slack workspace -> documents: the same for an export and the Web API."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from ingest.outdated import superseded
from ingest.sources import Item, Omission, Removed
from ingest.sources.slack_messages import User
from ingest.thread_documents import People, ThreadWriter, known_names, ordinary_words
from ingest.threads import (
    Message,
    Resolution,
    Thread,
    infer_maintainers,
    resolve,
    reviewed,
)
from metaflowbot.threads import Change, Mark, ReviewVerdict, SeenThread

Note = Callable[[Sequence[SeenThread], Sequence[Change], Collection[str]], None]
"""Takes all threads that were read, as the evidence has them, the changes that are in the reading,
and the channels (ids) that could not be read."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A channel or direct message; everybody in the workspace can read a `public` one."""

    id: str
    name: str
    public: bool

    def is_named(self, names: Collection[str]) -> bool:
        """Whether one of `names` is its id or its name, with or without a #."""
        return bool({self.id, self.name} & {name.lstrip("#") for name in names})


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of threads before they are read.

    `reviews` are maintainers' rulings by the thread's key. Nothing of the people in `opted_out`
    (ids) is read. `changes` name threads that are to be read whatever their age. `spoken` names
    the maintainers (ids) whose answers the bot posted, by channel and ts of the post.
    """

    reviews: Mapping[str, ReviewVerdict] = field(default_factory=dict)
    marks: Sequence[Mark] = ()
    opted_out: Container[str] = ()
    changes: Sequence[Change] = ()
    spoken: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass
class Reading:
    """Threads, the names and kinds of their people, what is private, and what was left out.

    `removed` counts, by kind, secrets that were scrubbed before the threads came here; `unread`
    are the channels (ids) that could not be read.
    """

    known: Known = field(default_factory=Known)
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    bots: set[str] = field(default_factory=lambda: {"USLACKBOT"})
    private: set[str] = field(default_factory=set)
    omissions: list[Omission] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    unread: set[str] = field(default_factory=set)
    _threads: dict[tuple[str, str], Thread] = field(default_factory=dict)

    @property
    def threads(self) -> list[Thread]:
        """All threads that may be read."""
        return list(self._threads.values())

    def meet(self, entry: object) -> None:
        """Learn a member's names and kind; what is no member is passed over."""
        try:
            user = User.model_validate(entry)
        except ValidationError:
            return
        self.names[user.id] = user.names()
        if user.is_bot:
            self.bots.add(user.id)

    def keep(self, conversation: Conversation, found: Iterable[Thread]) -> None:
        """Take the conversation's threads, each in place of an earlier reading of it.

        Those of people who opted out and empty ones go.
        """
        for thread in found:
            place = thread.channel_id, thread.root.ts
            self._threads.pop(place, None)
            if self._may_read(thread):
                self._threads[place] = self._without(thread)
        if not conversation.public:
            self.private.add(conversation.id)

    def documents(
        self,
        maintainers: Collection[str],
        workspace: str,
        note: Note | None = None,
    ) -> Iterator[Item]:
        """Yield a Document for each resolved thread and an Omission for each that was left out.

        `maintainers` are user ids; empty means that they are inferred from the threads.
        `workspace` is the base of permalinks, '' where it is not known.
        """
        yield from self.omissions
        chosen = frozenset(maintainers) or infer_maintainers(self.threads)
        chosen |= frozenset(self.known.spoken.values())
        names = known_names(self.names)
        people = People(chosen, names, ordinary_words(names, self.threads))
        writer = ThreadWriter(people, workspace)
        marks = self._marks()
        judged = [
            (thread, resolve(thread, chosen, marks.get((thread.channel_id, thread.root.ts), {})))
            for thread in self.threads
        ]
        if note:
            seen = [self._seen(writer, *pair) for pair in judged if not pair[0].root.notice]
            note(seen, self.known.changes, self.unread)
        rulings = [
            (thread, reviewed(thread, resolution, self.known.reviews.get(thread.key), chosen))
            for thread, resolution in judged
        ]
        yield from self._written(writer, rulings)

    def _seen(self, writer: ThreadWriter, thread: Thread, resolution: Resolution) -> SeenThread:
        return writer.seen(thread, resolution, private=thread.channel_id in self.private)

    def _written(
        self, writer: ThreadWriter, rulings: Sequence[tuple[Thread, Resolution]]
    ) -> Iterator[Item]:
        kept = [(thread, resolution) for thread, resolution in rulings if resolution.resolved]
        newer = superseded(kept)
        by_key = {thread.key: thread for thread, _ in kept}
        removed = Counter(self.removed)
        for thread, resolution in rulings:
            if resolution.resolved:
                later = by_key.get(newer.get(thread.key, ""))
                document, counts = writer.document(thread, resolution, later)
                removed.update(counts)
                private = thread.channel_id in self.private
                yield replace(document, channel=thread.channel_id) if private else document
            elif not thread.root.notice:
                yield Omission(thread.key, resolution.why_not)
        if removed:
            yield Removed(dict(removed))

    def _marks(self) -> Mapping[tuple[str, str], Mapping[str, set[str]]]:
        """Who marked what, by the thread's channel and root."""
        found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for mark in self.known.marks:
            person = mark.person.removeprefix("slack:")
            if person not in self.known.opted_out:
                found[mark.channel, mark.thread][mark.answer].add(person)
        return found

    def _may_read(self, thread: Thread) -> bool:
        return thread.asker not in self.known.opted_out and not _is_empty(thread)

    def _without(self, thread: Thread) -> Thread:
        """The thread without what people who opted out wrote or marked."""
        root, *replies = (
            message.unmarked_by(self.known.opted_out)
            for message in map(partial(self._by_its_author, thread), (thread.root, *thread.replies))
            if message.author not in self.known.opted_out
        )
        return Thread(thread.channel_id, thread.channel, root, tuple(replies))

    def _by_its_author(self, thread: Thread, message: Message) -> Message:
        """What the bot posted for a maintainer is theirs; the bot's line above it goes."""
        author = self.known.spoken.get((thread.channel_id, message.ts), "")
        if not author:
            return message
        return replace(message, author=author, text=message.text.partition("\n\n")[2], by_bot=False)


def no_message(where: str, error: ValidationError) -> Omission:
    """The omission of what Slack's messages never are, naming the field."""
    fault: Any = error.errors()[0]
    field_name = ".".join(map(str, fault["loc"])) or "it"
    return Omission(f"{where}: {field_name}", "not a message of Slack")


def _is_empty(thread: Thread) -> bool:
    return thread.root.deleted and all(reply.deleted for reply in thread.replies)
