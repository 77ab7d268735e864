"""A resolved thread -> a document: the question and the answer that worked, said by roles.

No names, handles or mentions: people are "the asker", "a maintainer", "a member". Secrets and
personal data are scrubbed from every text before it goes anywhere.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from ingest.mrkdwn import Person, to_markdown
from ingest.threads import Message, Resolution, Thread
from metaflowbot.domain import Document, Section
from metaflowbot.scrub import scrub
from metaflowbot.threads import SeenThread, ThreadState

_TITLE_LENGTH = 120
# A single word that many threads without that person use is a word first, and a name second.
_ORDINARY_FROM = 3


@dataclass(frozen=True)
class People:
    """Who is who: ids of maintainers, and every name that each person (by id) goes by.

    `ordinary` are names that are words of the language as well: they count as names only after a
    greeting or an @.
    """

    maintainers: frozenset[str]
    names: Mapping[str, frozenset[str]]
    ordinary: frozenset[str] = frozenset()

    @cached_property
    def owner(self) -> Mapping[str, str]:
        """Name in lower case -> whose it is, '' where several share it."""
        owners: dict[str, set[str]] = defaultdict(set)
        for person, names in self.names.items():
            for name in names:
                if len(name) > 2:
                    owners[name.lower()].add(person)
        return {name: min(who) if len(who) == 1 else "" for name, who in owners.items()}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds every name, the longest first; never matches where there are no names."""
        by_length = sorted(self.owner, key=len, reverse=True)
        certain = "|".join(re.escape(name) for name in by_length if name not in self.ordinary)
        doubtful = "|".join(re.escape(name) for name in by_length if name in self.ordinary)
        greeted = r"(?<=@)|(?<=thanks )|(?<=thank you )|(?<=hi )|(?<=hey )|(?<=hello )|(?<=cc )"
        return re.compile(
            rf"(?i)@?(?<![\w.-])(?P<certain>{certain or '(?!)'})(?![\w])"
            rf"|@?(?:{greeted})(?P<doubtful>{doubtful or '(?!)'})(?![\w])"
        )

    def role(self, person: str, thread: Thread) -> str:
        """What a person is in this thread."""
        if person and person == thread.asker:
            return "the asker"
        return "a maintainer" if person in self.maintainers else "a member"

    def redact(self, text: str, thread: Thread) -> str:
        """Every name replaced by its owner's role."""

        def role(match: re.Match[str]) -> str:
            name = match["certain"] or match["doubtful"]
            return self.role(self.owner[name.lower()], thread)

        return self.pattern.sub(role, text)


def ordinary_words(
    names: Mapping[str, frozenset[str]], threads: Iterable[Thread]
) -> frozenset[str]:
    """The names, in lower case, that threads without their owner use as words."""
    owners: dict[str, set[str]] = defaultdict(set)
    for person, known in names.items():
        for name in known:
            if re.fullmatch(r"[a-z]{3,}", name.lower()):
                owners[name.lower()].add(person)
    used: Counter[str] = Counter()
    for thread in threads:
        messages = (thread.root, *thread.replies)
        present = {message.author for message in messages}
        words = {w for message in messages for w in re.findall(r"[a-z]{3,}", message.text.lower())}
        used.update(word for word in words & owners.keys() if not owners[word] & present)
    return frozenset(word for word, count in used.items() if count >= _ORDINARY_FROM)


@dataclass(frozen=True)
class ThreadWriter:
    """Writes documents. `workspace` is the base of permalinks, '' where it is not known.

    `markdown` makes Markdown of a message's text, given what to call each `<@id>` in it.
    """

    people: People
    workspace: str = ""
    markdown: Callable[[str, Person], str] = to_markdown

    def document(
        self, thread: Thread, resolution: Resolution, newer: Thread | None = None
    ) -> tuple[Document, Mapping[str, int]]:
        """The document of a resolved thread, and how many finds of each kind were scrubbed.

        `newer` is the thread that supersedes this one. Messages that address an assistant are
        left out, so a thread that a person approved can be written as well.
        """
        removed: Counter[str] = Counter()
        question = self._question(thread, resolution)
        answers = [reply for reply in thread.replies if reply.ts in resolution.answers]
        asked = [text for text in (self._text(m, thread, removed) for m in question) if text]
        answered = [(message, self._text(message, thread, removed)) for message in answers]
        sections = []
        if asked:
            text = "\n\n".join(["The asker:", *asked])
            sections.append(Section(("Question",), "", text))
        sections.append(Section(("Answer",), "", self._answer(thread, resolution, answered, newer)))
        document = Document(
            id=f"slack:{thread.key}",
            source="slack",
            title=_title([*asked, *(text for _, text in answered)]),
            url=self.permalink(thread),
            sections=tuple(sections),
            version=_version(answers, asked, [text for _, text in answered]),
        )
        return document, removed

    def seen(self, thread: Thread, resolution: Resolution, *, private: bool) -> SeenThread:
        """What maintainers are told of a thread; nothing of a message to an assistant is in it."""
        found: ThreadState = "resolved" if resolution.resolved else "unresolved"
        messages = [*self._question(thread, resolution), *thread.replies]
        spoken_by = (thread.root, *thread.replies)
        spoken = (message for message in messages if message.ts not in resolution.commands)
        texts = (self._text(message, thread, Counter()) for message in spoken)
        return SeenThread(
            key=thread.key,
            title=_title([next(filter(None, texts), "")]),
            url=self.permalink(thread),
            state="quarantined" if resolution.commands else found,
            confidence=resolution.confidence,
            evidence=resolution.evidence,
            why=resolution.why_not,
            channel=thread.channel,
            channel_id=thread.channel_id,
            private=private,
            people=tuple(sorted({f"slack:{it.author}" for it in spoken_by if it.author})),
        )

    def permalink(self, thread: Thread) -> str:
        """The thread in Slack; through Slack's own redirect where the workspace is not known."""
        if not self.workspace:
            redirect = "https://slack.com/app_redirect"
            return f"{redirect}?channel={thread.channel_id}&message_ts={thread.root.ts}"
        return f"{self.workspace}/archives/{thread.channel_id}/p{thread.root.ts.replace('.', '')}"

    def _question(self, thread: Thread, resolution: Resolution) -> list[Message]:
        """The root, with what the asker added before anyone else spoke."""
        question = [] if thread.root.deleted else [thread.root]
        for reply in thread.replies:
            if reply.author != thread.asker or reply.ts in resolution.answers:
                break
            question.append(reply)
        return [message for message in question if message.ts not in resolution.commands]

    def _answer(
        self,
        thread: Thread,
        resolution: Resolution,
        answered: list[tuple[Message, str]],
        newer: Thread | None,
    ) -> str:
        parts = []
        if newer:
            link = self.permalink(newer)
            parts.append(f"Outdated: a later thread ({_date(newer.root)}) supersedes this: {link}")
        for message, text in answered:
            role = self.people.role(message.author, thread)
            parts += [f"{role[0].upper()}{role[1:]} ({_date(message)}):", text]
        if {"asker-words", "asker-reaction", "marked-by-asker"} & set(resolution.evidence):
            parts.append("The asker confirmed that this settled it.")
        return "\n\n".join(parts)

    def _text(self, message: Message, thread: Thread, removed: Counter[str]) -> str:
        """A message without the address in front of it, as Markdown, redacted and scrubbed."""
        said = re.sub(r"^(?:<@\w+(?:\|[^>]*)?>[,:]?\s*)+", "", message.text)
        markdown = self.markdown(said, lambda person: self._mention(person, thread))
        scrubbed = scrub(self.people.redact(markdown, thread))
        removed.update(scrubbed.counts)
        return scrubbed.text

    def _mention(self, person: str, thread: Thread) -> str:
        return self.people.role(person.partition("|")[0], thread)


def known_names(*sources: Mapping[str, Collection[str]]) -> Mapping[str, frozenset[str]]:
    """Names by person, joined from several places; full names count in their parts as well."""
    names: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        for person, known in source.items():
            names[person] |= set(known) | {part for name in known for part in name.split()}
    return {person: frozenset(known) for person, known in names.items()}


def _date(message: Message) -> str:
    return datetime.fromtimestamp(float(message.ts), UTC).date().isoformat()


def _title(texts: list[str]) -> str:
    """The first text in one line without marks, of code blocks their last line, cut at a word."""
    for text in texts:
        line = re.sub(r"```\n(?:[^`]*\n)?([^`\n]+)\n```", r"\1", text)
        line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
        line = re.sub(r"\s+", " ", line.replace("**", "").replace("`", "")).strip(" :>-")
        if line and len(line) <= _TITLE_LENGTH:
            return line
        if line:
            return line[:_TITLE_LENGTH].rsplit(" ", 1)[0].rstrip(" ,.;:-") + " …"
    return "A question in Slack"


_NAMED_VERSION = re.compile(r"(?i)\bmetaflow(?:`|\s|==|>=|\s+version|\s+v)*(\d+\.\d+(?:\.\d+)?)\b")
_BARE_VERSION = re.compile(r"(?<![\w.=/@:-])(2\.\d{1,2}\.\d{1,3})(?![\w]|\.\d)")
# Where these are spoken of, a version that stands alone may be theirs.
_OTHERS = re.compile(
    r"(?i)\b(?:(?:metadata|metaflow|the) service|goose|pylint|ui v?\d|ui backend|boto3|pandas)\b"
)


def _version(answers: list[Message], asked: list[str], answered: list[str]) -> str:
    """The date of the last answer, and the newest Metaflow version said, of the answer's first."""
    when = _date(answers[-1])
    alone = not _OTHERS.search("\n".join([*asked, *answered]))
    for texts in ("\n".join(answered), "\n".join(asked)):
        found = _NAMED_VERSION.findall(texts) + (_BARE_VERSION.findall(texts) if alone else [])
        if found:
            newest = max(found, key=lambda version: [int(part) for part in version.split(".")])
            return f"{when}, Metaflow {newest}"
    return when
