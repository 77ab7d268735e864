"""What was read of a Slack workspace -> documents: the same for an export and the Web API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

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
    superseded,
)
from metaflowbot.threads import ReviewVerdict, SeenThread

Note = Callable[[Sequence[SeenThread]], None]
"""Takes all threads that were read, as the evidence has them."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A channel or direct message; everybody in the workspace can read a `public` one."""

    id: str
    name: str
    public: bool

    def is_named(self, names: Collection[str]) -> bool:
        """Whether one of `names` is its id or its name, with or without a #."""
        return bool({self.id, self.name} & {name.lstrip("#") for name in names})


@dataclass
class Reading:
    """Threads, the names and kinds of their people, what is private, and what was left out.

    Nothing of the people in `opted_out` (ids) is kept. `removed` counts, by kind, secrets that
    were scrubbed before the threads came here.
    """

    opted_out: frozenset[str] = frozenset()
    threads: list[Thread] = field(default_factory=list)
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    bots: set[str] = field(default_factory=lambda: {"USLACKBOT"})
    private: set[str] = field(default_factory=set)
    omissions: list[Omission] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)

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
        """Take the conversation's threads, those of people who opted out and empty ones aside."""
        self.threads += [self._without(thread) for thread in found if self._may_read(thread)]
        if not conversation.public:
            self.private.add(conversation.id)

    def documents(
        self,
        maintainers: Collection[str],
        workspace: str,
        reviews: Mapping[str, ReviewVerdict],
        note: Note | None = None,
    ) -> Iterator[Item]:
        """Yield a Document for each resolved thread and an Omission for each that was left out.

        `maintainers` are user ids; empty means that they are inferred from the threads.
        `workspace` is the base of permalinks, '' where it is not known. `reviews` are maintainers'
        rulings by the thread's key; `note` is given all threads, as the evidence has them.
        """
        yield from self.omissions
        chosen = frozenset(maintainers) or infer_maintainers(self.threads)
        names = known_names(self.names)
        people = People(chosen, names, ordinary_words(names, self.threads))
        writer = ThreadWriter(people, workspace)
        judged = [(thread, resolve(thread, chosen)) for thread in self.threads]
        if note:
            note([self._seen(writer, *pair) for pair in judged if not pair[0].root.notice])
        rulings = [
            (thread, reviewed(thread, resolution, reviews.get(thread.key), chosen))
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

    def _may_read(self, thread: Thread) -> bool:
        return thread.asker not in self.opted_out and not _is_empty(thread)

    def _without(self, thread: Thread) -> Thread:
        """The thread without what people who opted out wrote or marked."""
        if not self.opted_out:
            return thread
        root, *replies = (
            _unmarked(message, self.opted_out)
            for message in (thread.root, *thread.replies)
            if message.author not in self.opted_out
        )
        return Thread(thread.channel_id, thread.channel, root, tuple(replies))


def no_message(where: str, error: ValidationError) -> Omission:
    """The omission of what Slack's messages never are, naming the field."""
    fault: Any = error.errors()[0]
    field_name = ".".join(map(str, fault["loc"])) or "it"
    return Omission(f"{where}: {field_name}", "not a message of Slack")


def _is_empty(thread: Thread) -> bool:
    return thread.root.deleted and all(reply.deleted for reply in thread.replies)


def _unmarked(message: Message, people: frozenset[str]) -> Message:
    reactions = {name: who - people for name, who in message.reactions.items()}
    return replace(message, reactions=reactions)
