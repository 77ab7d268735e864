"""Threads as people wrote them, and which of them hold an answer that worked.

    messages -> Thread -> resolve() -> Resolution -> (ingest.thread_documents) -> Document

Everything here is pure: where messages come from (an export, the Web API, live events) makes no
difference. A thread counts as resolved only on evidence; without any it is not.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from ingest.remarks import Remark, is_question, is_technical, read

if TYPE_CHECKING:
    from metaflowbot.threads import ReviewVerdict

CHECKS = frozenset(
    "white_check_mark heavy_check_mark ballot_box_with_check check check_mark checkmark "
    "solved resolved done accepted fixed".split()
)
APPROVALS = frozenset(
    "+1 thumbsup tada raised_hands pray heart 100 star rocket bulb brain exploding_head fire "
    "ok_hand clap bow".split()
)
RESOLVED_FROM = 0.6
# What each kind of evidence is worth, alone; together they add up as independent chances do.
_WORTH = {
    "marked-by-asker": 0.95,
    "marked-by-maintainer": 0.95,
    "asker-reaction": 0.85,
    "maintainer-reaction": 0.85,
    "closing-reaction": 0.65,
    "root-reaction": 0.55,
    "maintainer-answer": 0.6,
    "maintainer-answer-open": 0.35,
    "others-reaction": 0.35,
    "marked-by-others": 0.35,
    "asker-approval": 0.4,
    "self-answer": 0.6,
}

Marks = Mapping[str, Set[str]]
"""Who (ids) marked a thread as resolved, by the ts of the answer that was marked; '' for none."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `ts` is Slack's; `text` is its markup as sent; `author` is '' where unknown.

    `reactions` maps an emoji's name to who used it. A `notice` is the channel's own (joins,
    topics); `deleted` has no text left.
    """

    ts: str
    author: str
    text: str
    reactions: Mapping[str, frozenset[str]]
    by_bot: bool = False
    notice: bool = False
    deleted: bool = False

    @property
    def checked_by(self) -> frozenset[str]:
        """Who put a check mark on it, its author included."""
        return self.reacted(CHECKS)

    def reacted(self, names: Collection[str]) -> frozenset[str]:
        """Who used one of these emoji on it; a skin tone makes no difference."""
        people = (who for name, who in self.reactions.items() if name.split("::")[0] in names)
        return frozenset().union(*people)

    def unmarked_by(self, people: Container[str]) -> Message:
        """The message without these people's reactions."""
        reactions = {
            name: frozenset(person for person in who if person not in people)
            for name, who in self.reactions.items()
        }
        return replace(self, reactions=reactions)


@dataclass(frozen=True)
class Thread:
    """A root and its replies, oldest first, in the channel with this id and name."""

    channel_id: str
    channel: str
    root: Message
    replies: tuple[Message, ...]

    @property
    def key(self) -> str:
        return f"{self.channel}/{self.root.ts}"

    @cached_property
    def asker(self) -> str:
        """Who asked: the root's author; where the root was deleted, whom the replies address."""
        if not self.root.deleted:
            return self.root.author
        mentions = (re.search(r"<@(\w+)", reply.text) for reply in self.replies)
        return next((match[1] for match in mentions if match), "")


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whether a thread was resolved, how sure that is (0 to 1), by what evidence, and where.

    `answers` are the ts of the messages that hold the answer, oldest first. `why_not` gives the
    reason in a few words where it was not. `commands` are the ts of messages that address an
    assistant: they are part of nothing, and a thread that has any is for a person to review.
    """

    resolved: bool
    confidence: float
    evidence: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    why_not: str = ""
    commands: tuple[str, ...] = ()


def resolve(
    thread: Thread, maintainers: Collection[str], marks: Marks = MappingProxyType({})
) -> Resolution:
    """Weigh a thread's evidence; a thread without replies or without a question is unresolved.

    What its asker or a maintainer marked is a question and its answer, whatever the words.
    """
    remarks = {message.ts: read(message.text) for message in (thread.root, *thread.replies)}
    commands = tuple(ts for ts, remark in remarks.items() if remark.commands)
    trusted = frozenset(maintainers) | {thread.asker}
    is_settled = any(people & trusted for people in marks.values())
    why_not = _out_of_scope(thread, maintainers, remarks, is_settled=is_settled)
    if why_not:
        return Resolution(False, 0.0, why_not=why_not, commands=commands)
    weighing = _Weighing(thread, frozenset(maintainers), remarks, marks)
    doubt = math.prod(1 - worth for worth in weighing.evidence.values())
    confidence = round(1 - doubt, 3)
    answers = tuple(sorted(weighing.answers, key=float))
    evidence = tuple(sorted(weighing.evidence, key=weighing.evidence.__getitem__, reverse=True))
    if confidence < RESOLVED_FROM or not answers:
        why_not = "nothing shows that it was resolved"
        return Resolution(False, confidence, evidence, (), why_not, commands)
    return Resolution(True, confidence, evidence, answers, commands=commands)


def reviewed(
    thread: Thread,
    resolution: Resolution,
    verdict: ReviewVerdict | None,
    maintainers: Collection[str],
) -> Resolution:
    """What counts in the end: `resolved` says whether the thread is to become a document.

    Unless a person approved it, one that addresses an assistant is not; rejected ones never are.
    """
    if verdict == "rejected":
        return replace(resolution, resolved=False, why_not="rejected in review")
    if verdict == "approved":
        return _approved(thread, resolution, frozenset(maintainers))
    if resolution.commands:
        why_not = "held back for review: it addresses an assistant"
        return replace(resolution, resolved=False, why_not=why_not)
    why_not = resolution.why_not and f"not resolved: {resolution.why_not}"
    return replace(resolution, why_not=why_not)


def _approved(thread: Thread, resolution: Resolution, maintainers: frozenset[str]) -> Resolution:
    if resolution.resolved:
        return resolution
    remarks = {message.ts: read(message.text) for message in (thread.root, *thread.replies)}
    answers = _Weighing(thread, maintainers, remarks, {}).likely_answers()
    if not answers:
        return replace(resolution, why_not="approved in review, but nothing in it is an answer")
    return replace(resolution, resolved=True, answers=tuple(sorted(answers, key=float)))


def _out_of_scope(
    thread: Thread,
    maintainers: Collection[str],
    remarks: Mapping[str, Remark],
    *,
    is_settled: bool,
) -> str:
    root = thread.root
    human = [reply for reply in thread.replies if not (reply.by_bot or reply.deleted)]
    asks = root.deleted or is_question(root.text, by_maintainer=root.author in maintainers)
    technical = is_technical(" ".join(message.text for message in (root, *human)))
    reasons = {
        "a bot's post": root.by_bot,
        "a notice of the channel": root.notice,
        "no reply": not human,
        "points to another thread": not is_settled
        and all(remarks[reply.ts].redirects for reply in human),
        "an announcement or chat": not (is_settled or (asks and technical)),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class _Weighing:
    """Goes through one thread once; leaves the evidence, by kind, and the answers it speaks for."""

    def __init__(
        self,
        thread: Thread,
        maintainers: frozenset[str],
        remarks: Mapping[str, Remark],
        marks: Marks,
    ) -> None:
        self.asker = thread.asker
        self.maintainers = maintainers
        trusted = maintainers | {self.asker}
        self.chosen = {ts for ts, people in marks.items() if people & trusted}
        self.remarks = remarks
        self.replies = [
            reply
            for reply in thread.replies
            if not (reply.by_bot or reply.notice or reply.deleted or remarks[reply.ts].commands)
        ]
        self.evidence: dict[str, float] = {}
        self.answers: set[str] = set()
        self.rejected = self._find_rejected()
        offered: list[Message] = []  # answers since the asker spoke last
        asker_spoke = False
        for reply in self.replies:
            if reply.author == self.asker:
                asker_spoke = True
                if reply.ts not in self.rejected:
                    self._asker_says(reply, self._meant(offered))
            elif self.could_answer(reply):
                offered = [] if asker_spoke else offered
                offered.append(reply)
                asker_spoke = False
                self._marked(reply)
        if thread.root.checked_by & (maintainers | {self.asker}):
            self._add("root-reaction")
        self._last_word_of_maintainers()
        self._take_marks(thread.root.ts, marks)
        self._widen()

    def _add(self, kind: str, answer: Message | None = None, worth: float = 0.0) -> None:
        self.evidence[kind] = max(worth or _WORTH[kind], self.evidence.get(kind, 0.0))
        if answer:
            self.answers.add(answer.ts)

    def _find_rejected(self) -> frozenset[str]:
        """What is taken back later: by the asker's retraction all before it, by a plain no of the
        asker or a correction by a maintainer the replies since the asker spoke last.

        What others report is no more than how it went for them.
        """
        rejected: set[str] = set()
        retracted = 0
        for place, reply in enumerate(self.replies):
            remark = self.remarks[reply.ts]
            by_asker = reply.author == self.asker
            corrects = reply.author in self.maintainers and remark.retracts
            if by_asker and remark.retracts:
                retracted = place
            elif corrects or (by_asker and remark.denies):
                rejected |= {earlier.ts for earlier in self._since_asker_spoke(place)}
        return frozenset(rejected | {reply.ts for reply in self.replies[:retracted]})

    def _since_asker_spoke(self, place: int) -> list[Message]:
        start = place
        while start and self.replies[start - 1].author != self.asker:
            start -= 1
        return self.replies[start:place]

    def could_answer(self, reply: Message) -> bool:
        """What the asker marked is an answer in whatever words: "did you set …?" often is."""
        remark = self.remarks[reply.ts]
        is_marked = self.asker in reply.checked_by - {reply.author}
        is_promise = remark.defers and not remark.releases and remark.substance < 40
        is_empty = remark.substance < 2 or remark.asks or remark.redirects
        is_usable = reply.ts not in self.rejected and (is_marked or not (is_empty or is_promise))
        return is_usable or reply.ts in self.chosen

    def likely_answers(self) -> set[str]:
        """The answers for which there is evidence, else all that could be one: others' words first,
        the asker's own where there are none.
        """
        possible = [reply for reply in self.replies if self.could_answer(reply)]
        others = [reply for reply in possible if reply.author != self.asker]
        return self.answers or {reply.ts for reply in others or possible}

    def _take_marks(self, root_ts: str, marks: Marks) -> None:
        """A marked message is the answer. A mark on a bot's post says nothing: what a bot answers
        stands in documents already.
        """
        answers = {reply.ts for reply in self.replies}
        whole = {"", root_ts}
        for people in (marks[ts] for ts in marks.keys() & (answers | whole)):
            if self.asker in people:
                self._add("marked-by-asker")
            if people & (self.maintainers - {self.asker}):
                self._add("marked-by-maintainer")
            elif people - {self.asker}:
                self._add("marked-by-others")
        if self.chosen & answers:
            self.answers = self.chosen & answers
        elif self.chosen & whole:
            self.answers = self.likely_answers()

    def _marked(self, reply: Message) -> None:
        """Check marks on somebody else's answer."""
        marked_by = reply.checked_by - {reply.author}
        if self.asker in marked_by:
            self._add("asker-reaction", reply)
        elif self.asker in reply.reacted(APPROVALS):
            self._add("asker-approval", reply)
        if marked_by & self.maintainers:
            self._add("maintainer-reaction", reply)
        elif marked_by - {self.asker}:
            self._add("others-reaction")

    def _asker_says(self, reply: Message, target: Message | None) -> None:
        """The asker confirms an answer, or gives their own; others may put check marks on it."""
        remark = self.remarks[reply.ts]
        marked_by = reply.checked_by - {self.asker}
        is_own = remark.solves or (target is None and remark.substance >= 5 and bool(marked_by))
        if is_own and not (target and remark.confirms >= 0.8):
            self._add("self-answer", reply)
            target = reply
        elif target is None or not (remark.settles or marked_by & self.maintainers):
            return
        elif remark.settles:
            is_news = not self.answers or target.author in self.maintainers
            self._add("asker-words", target if is_news else None, remark.confirms)
        if remark.shares:
            self.answers.add(reply.ts)
        if marked_by & self.maintainers:
            self._add("closing-reaction", None if self.answers else target)
        elif marked_by:
            self._add("others-reaction", None if self.answers else target)

    def _meant(self, offered: Sequence[Message]) -> Message | None:
        """Which of the answers the asker speaks of: a marked one, a maintainer's, the last."""
        return max(
            offered,
            key=lambda reply: (
                self.asker in reply.checked_by,
                reply.author in self.maintainers,
                float(reply.ts),
            ),
            default=None,
        )

    def _last_word_of_maintainers(self) -> None:
        """A maintainer's answer that nobody contradicted; weak while the asker's reply is open."""
        for place in reversed(range(len(self.replies))):
            reply = self.replies[place]
            remark = self.remarks[reply.ts]
            answers = self.could_answer(reply) and remark.substance >= 6
            if answers and reply.author in self.maintainers - {self.asker}:
                break
        else:
            return
        later = [self.remarks[r.ts] for r in self.replies[place + 1 :] if r.author == self.asker]
        is_open = (later and not any(said.settles for said in later)) or (
            remark.inquires and not later
        )
        kind = "maintainer-answer-open" if is_open else "maintainer-answer"
        self._add(kind, reply if remark.releases or not self.answers else None)

    def _widen(self) -> None:
        """Add what belongs to an answer: its author's messages right before and after it, and what
        its author stated earlier, if that is a maintainer.
        """
        usable = [self.could_answer(reply) and reply.author != self.asker for reply in self.replies]
        runs = list(enumerate(pairwise(self.replies)))
        for place, (first, second) in [*runs, *reversed(runs)]:
            if first.author == second.author and usable[place] and usable[place + 1]:
                pair = {first.ts, second.ts}
                self.answers |= pair if pair & self.answers else set()
        authors = {
            reply.author: place
            for place, reply in enumerate(self.replies)
            if reply.ts in self.answers and reply.author in self.maintainers - {self.asker}
        }
        for place, reply in enumerate(self.replies):
            remark = self.remarks[reply.ts]
            is_statement = usable[place] and remark.substance >= 10 and not remark.inquires
            if is_statement and place < authors.get(reply.author, 0):
                self.answers.add(reply.ts)


def infer_maintainers(threads: Iterable[Thread]) -> frozenset[str]:
    """Who answers many people's questions, and mostly so that the asker accepts it.

    For workspaces that name no maintainers. Few threads give nobody: then only what askers
    say and mark counts.
    """
    askers: dict[str, set[str]] = defaultdict(set)
    answered: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for thread in threads:
        replies = [reply for reply in thread.replies if reply.author not in ("", thread.asker)]
        for person in {reply.author for reply in replies if not reply.by_bot}:
            answered[person] += 1
            askers[person].add(thread.asker)
        accepted.update({r.author for r in replies if thread.asker in r.checked_by})
    return frozenset(
        person
        for person, count in answered.items()
        if count >= 5 and len(askers[person]) >= 3 and accepted[person] >= 0.45 * count
    )
