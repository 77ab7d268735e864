"""Talks on GitHub -> documents: by the same evidence, and written in the same way, as Slack's.

What GitHub knows itself is evidence too: the answer that was chosen, an issue closed as completed
(only its asker or a maintainer can close it), readers' reactions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ingest.outdated import superseded
from ingest.sources import Item, Omission, Removed
from ingest.sources.github_archive import Said, Talk
from ingest.sources.github_markdown import with_people
from ingest.thread_documents import People, ThreadWriter, ordinary_words
from ingest.threads import Message, Resolution, Thread, resolve
from metaflowbot.domain import Document, Section

_CLOSED_ACCOUNT = "ghost"
_READERS = "somebody_else"
# So many readers approve of an answer before it counts as a check mark of theirs.
_APPROVED_FROM = 2


@dataclass(frozen=True, slots=True)
class _Judged:
    """A talk as a thread, and what its evidence says."""

    talk: Talk
    thread: Thread
    resolution: Resolution


def documents(repository: str, talks: Sequence[Talk]) -> Iterator[Item]:
    """Yield a Document for each talk with an answer that worked, and an Omission for each other.

    Of a talk in which somebody addresses an assistant nothing becomes a document.
    """
    maintainers = _maintainers(talks)
    judged = [_judged(repository, talk, maintainers) for talk in talks]
    threads = [it.thread for it in judged]
    authors = {said.author for talk in talks for said in _all(talk)} - {""}
    names = {author: _spellings(author) for author in authors}
    people = People(maintainers, names, ordinary_words(names, threads))
    writer = ThreadWriter(people, markdown=with_people)
    kept = [it for it in judged if it.resolution.resolved]
    newer = superseded([(it.thread, it.resolution) for it in kept])
    by_key = {it.thread.key: it for it in kept}
    removed: Counter[str] = Counter()
    for it in judged:
        removed.update(it.talk.removed)
        if it.resolution.resolved:
            later = by_key.get(newer.get(it.thread.key, ""))
            document, finds = _document(writer, repository, it, later)
            removed.update(finds)
            yield document
        else:
            yield Omission(f"{repository}/{it.talk.key}", it.resolution.why_not)
    if removed:
        yield Removed(dict(removed))


def _all(talk: Talk) -> tuple[Said, ...]:
    return talk.opening, *talk.comments


def _maintainers(talks: Sequence[Talk]) -> frozenset[str]:
    """Who is one by GitHub's own word anywhere, and who chose the answer to another's question."""
    said = {said.author for talk in talks for said in _all(talk) if said.by_maintainer}
    chose = {talk.chosen_by for talk in talks if talk.chosen_by != talk.opening.author}
    return frozenset((said | chose) - {""})


def _spellings(author: str) -> frozenset[str]:
    """A login as people write it: its id has _ where the login has -."""
    return frozenset({author, author.replace("_", "-")})


def _judged(repository: str, talk: Talk, maintainers: frozenset[str]) -> _Judged:
    thread = _thread(repository, talk)
    chooser = frozenset({talk.chosen_by or thread.asker})
    pairs = zip(thread.replies, talk.comments, strict=True)
    found = resolve(
        thread, maintainers, {reply.ts: chooser for reply, said in pairs if said.accepted}
    )
    if found.commands:
        found = replace(found, resolved=False, why_not="it addresses an assistant")
    elif not found.resolved:
        closed = talk.outcome == "not planned"
        why = "closed as not planned" if closed else f"not resolved: {found.why_not}"
        found = replace(found, why_not=why)
    return _Judged(talk, thread, found)


def _thread(repository: str, talk: Talk) -> Thread:
    """With a check mark on its root if it was closed as completed."""
    opening = talk.opening
    marks = {"white_check_mark": frozenset({opening.author})} if talk.outcome == "completed" else {}
    root = Message(
        ts=f"{opening.at}.000000",
        author=opening.author,
        text=f"{talk.title}\n\n{opening.text}".strip(),
        reactions=marks,
        by_bot=opening.by_bot,
    )
    replies = tuple(_message(said, place) for place, said in enumerate(talk.comments, start=1))
    return Thread(f"{repository}/{talk.key}", f"{repository}/{talk.key}", root, replies)


def _message(said: Said, place: int) -> Message:
    """`place` keeps apart what was said in the same second."""
    reactions = {"+1": frozenset(said.approved_by)}
    if said.approvals >= _APPROVED_FROM:
        reactions["white_check_mark"] = frozenset({_READERS})
    return Message(
        ts=f"{said.at}.{place:06d}",
        author=said.author or _CLOSED_ACCOUNT,
        text=said.text,
        reactions=reactions,
        by_bot=said.by_bot,
        deleted=not said.text,
    )


def _document(
    writer: ThreadWriter, repository: str, it: _Judged, later: _Judged | None
) -> tuple[Document, Mapping[str, int]]:
    """The document, and how many finds of each kind were scrubbed while it was written."""
    asked = it.talk.opening.text or it.talk.title
    thread = replace(it.thread, root=replace(it.thread.root, text=asked))
    document, finds = writer.document(thread, it.resolution)
    title = writer.people.redact(
        with_people(it.talk.title, lambda person: writer.people.role(person, thread)), thread
    )
    changed = replace(
        document,
        id=f"github:{repository}/{it.talk.key}",
        source="github",
        title=title or document.title,
        url=it.talk.url,
        sections=(*document.sections[:-1], _answer(document.sections[-1], it.talk, later)),
    )
    return changed, finds


def _answer(section: Section, talk: Talk, later: _Judged | None) -> Section:
    """The last section, with what GitHub adds to what people said."""
    parts = [section.text]
    if later:
        when = datetime.fromtimestamp(later.talk.opening.at, UTC).date().isoformat()
        outdated = f"Outdated: a later thread ({when}) supersedes this: {later.talk.url}"
        parts.insert(0, outdated)
    if talk.chosen_by:
        parts.append("It was chosen as the answer on GitHub.")
    return replace(section, text="\n\n".join(parts))
