"""One question of the inbox answered in Slack: a sign of life, the answer once, never silence."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slack_sdk.errors import SlackApiError

from metaflowbot.domain import Answer, AnswerEvent, Hit, Progress, Question, Turn
from metaflowbot.errors import MetaflowbotError, StoreError
from metaflowbot.slack.attachments import described, fit, read_text_files
from metaflowbot.slack.clients import SLACK_FAILURES, refusal, why
from metaflowbot.slack.desk import Desk
from metaflowbot.slack.listening import is_call, is_greeting, is_thanks
from metaflowbot.slack.markdown import question_text
from metaflowbot.slack.rendering import (
    HOW_TO_ASK,
    YOU_ARE_WELCOME,
    Message,
    Setting,
    answer_messages,
    asked_before,
    line_message,
    private_answer,
)
from metaflowbot.slack.signs import Signs
from metaflowbot.slack.standing import Standing, left_behind, withdraw
from metaflowbot.slack.talk import Talk
from metaflowbot.slack.writing import Place, StoppedError, Writing, post, with_any_blocks
from metaflowbot.slack_records import Post, PostState
from metaflowbot.store import Asking, InboxItem

# What Slack says where we will never be able to post.
_NOWHERE = {
    "is_archived",
    "channel_not_found",
    "not_in_channel",
    "restricted_action",
    "thread_not_found",
    "cannot_reply_to_message",
}
_GIVEN_UP = "I tried several times and could not answer this. Please ask it again."
# In a direct message people write on without a thread; so much of it is one conversation.
_LATELY = timedelta(hours=1)
_LATEST = 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the inbox holds it.

    `how` is 'asked', 'follow_up', 'overheard', or 'again' for an edited one whose answer takes the
    place of the first; `files` are Slack's descriptions of what was attached.
    """

    place: Place
    text: str
    how: str = "asked"
    files: tuple[Mapping[str, Any], ...] = ()

    @property
    def payload(self) -> dict[str, Any]:
        """As plain JSON; `of` reads it back."""
        place = self.place
        return {
            "team": place.team,
            "channel": place.channel,
            "thread": place.thread,
            "message": place.message,
            "user": place.user,
            "text": self.text,
            "how": self.how,
            "files": described(self.files),
        }

    @classmethod
    def of(cls, item: InboxItem) -> Asked:
        """The question of an item, also one that an earlier version put there."""
        given = item.payload
        team = given.get("team") or item.key.partition("/")[0]
        place = Place(
            team, given["channel"], given["thread"], given["message"], given["user"], item.key
        )
        files = tuple(given.get("files", ()))
        return cls(place, given["text"], given.get("how", "asked"), files)

    @property
    def asking(self) -> Asking:
        place = self.place
        return Asking(f"slack:{place.user}", place.channel, place.thread, place.message)


@dataclass(frozen=True, slots=True)
class _Task:
    """An item of the inbox as it is answered: the whole question, and what was said before it."""

    item: InboxItem
    asked: Asked
    text: str
    history: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is to be posted, and the answer it stems from ('' for a line of ours).

    What is not `final` gives way to the answer, should the question be tried again.
    """

    messages: tuple[Message, ...]
    answer_id: str = ""
    final: bool = True


class Replies:
    """Answers questions of the inbox; called from several threads."""

    def __init__(self, desk: Desk, signs: Signs, metaflow: str) -> None:
        self._desk = desk
        self._signs = signs
        self._metaflow = metaflow

    def __call__(self, item: InboxItem) -> None:
        """Answer one item; raise StoreError or one of SLACK_FAILURES to try it again."""
        asked = Asked.of(item)
        self._signs.settle(asked.place)
        try:
            self._take(item, asked)
        except SlackApiError as error:
            if refusal(error) not in _NOWHERE:
                raise
            _log.warning("Slack lets nobody post the answer to %s: %s", item.key, why(error))
        finally:
            self._signs.hide(asked.place)

    def _take(self, item: InboxItem, asked: Asked) -> None:
        talk = self._talk(asked)
        if asked.how == "follow_up" and not self._is_ours(asked.place, talk):
            return
        asked, history = self._in_its_context(asked, talk)
        task = _Task(item, asked, whole_question(self._desk, asked.text, asked.files), history)
        if asked.how == "overheard" and self._desk.rules.of(asked.place.channel).answer == (
            "suggest"
        ):
            self._suggest(task)
        else:
            self._reply(task)

    def _talk(self, asked: Asked) -> Talk:
        """What was said before; a mention is answered also where that can't be read now."""
        try:
            return Talk.before(self._desk.clients, asked.place)
        except SLACK_FAILURES as error:
            if asked.how == "follow_up":
                raise
            _log.info("can't read the thread of %s: %s", asked.place.key, why(error))
            return Talk(known=False)

    def _is_ours(self, place: Place, talk: Talk) -> bool:
        """Whether a follow-up is to us: the last one to speak before its author was the bot."""
        if talk.known:
            return talk.answers_to(place.user, self._desk.identity.user_id)
        posts = self._desk.store.slack.posts_in(place.channel, place.thread)
        return any(post.person == f"slack:{place.user}" for post in posts)

    def _in_its_context(self, asked: Asked, talk: Talk) -> tuple[Asked, tuple[Turn, ...]]:
        """The question with what was said before it, which it may lean on.

        A mention that only calls for an answer asks what people said last, in its author's name.
        Of people who opted out nothing is looked at but what they ask.
        """
        desk, place = self._desk, asked.place
        silent = desk.store.threads.opted_out() if talk.said else ()
        said = list(talk.since_answer(desk.identity.user_id, silent))
        own = question_text(asked.text, desk.identity.user_id)
        if said and not asked.files and is_call(own):
            meant = said.pop()
            author = replace(place, user=str(meant["user"]))
            files = tuple(meant.get("files") or ())
            asked = replace(asked, place=author, text=str(meant.get("text") or ""), files=files)
        words = (question_text(str(m.get("text") or ""), desk.identity.user_id) for m in said)
        turns = (Turn("user", each) for each in words if each)
        return asked, (*self._answered(place), *turns)

    def _answered(self, place: Place) -> tuple[Turn, ...]:
        """What was asked and answered before: in the thread, or in a direct message lately."""
        conversation, before = self._desk.store.conversation, place.message
        if place.channel.startswith("D") and place.thread == place.message:
            turns = conversation(place.channel, before=before, since=datetime.now(UTC) - _LATELY)
            return turns[-_LATEST:]
        return conversation(place.channel, place.thread, before=before)

    def _suggest(self, task: _Task) -> None:
        """Tell the asker alone, and only where there is an answer."""
        answer, thread = answer_and_thread(self._events(task))
        if answer.abstained:
            return
        place = task.asked.place
        setting = Setting(metaflow=self._metaflow, asked_before=thread)
        message = private_answer(answer, setting, answer.id)
        with_any_blocks(
            message,
            lambda blocks: self._desk.clients.posting.chat_postEphemeral(
                channel=place.channel,
                user=place.user,
                thread_ts=place.thread if place.thread != place.message else None,
                text=message.text,
                blocks=blocks or None,
            ),
        )

    # The answer in the thread

    def _reply(self, task: _Task) -> None:
        item, asked = task.item, task.asked
        standing = self._standing(item, asked)
        if standing.complete or self._is_withdrawn(asked):
            return
        writing = Writing(self._desk.clients, asked.place, self._keeper(asked), standing.half)
        if not _line_for(task.text) and item.attempts == 1 and not standing.half:
            writing.begin()
        try:
            reply = self._write(task, writing)
            self._finish(asked, writing, reply, standing)
        except StoppedError:
            line = line_message("Stopped, as you asked. Ask again at any time.")
            writing.replace(line, asked.place.metadata(""))
        if self._is_withdrawn(asked):
            posts = self._desk.store.slack.posts_for(item.key)
            withdraw(self._desk.clients, self._desk.store.slack, posts)

    def _standing(self, item: InboxItem, asked: Asked) -> Standing:
        """What is there already: of an earlier attempt, or the answer that is to be replaced."""
        place, records = asked.place, self._desk.store.slack
        standing = Standing()
        if item.attempts > 1:
            standing = left_behind(self._desk.clients, records, place)
        if asked.how != "again" or standing.parts or standing.half:
            return standing
        old = [p for p in records.posts_to(place.channel, place.message) if p.state == "standing"]
        withdraw(self._desk.clients, records, [post for post in old if post.part])
        return Standing(half=next((post.ts for post in old if post.part == 0), ""))

    def _is_withdrawn(self, asked: Asked) -> bool:
        """Whether the question was deleted meanwhile."""
        return self._desk.store.slack.was_received(deletion_key(asked.place))

    def _write(self, task: _Task, writing: Writing) -> _Reply:
        if task.item.dead:
            return replace(_line(_GIVEN_UP), final=False)
        if line := _line_for(task.text):
            return _line(line)
        asked = task.asked
        thread: Hit | None = None
        try:
            for event in self._events(task):
                if isinstance(event, Answer):
                    return _Reply(answer_messages(event, self._setting(asked, thread)), event.id)
                if isinstance(event, Progress):
                    found = _elsewhere(event.asked_before, asked.place)
                    thread = found or thread
                    writing.add(asked_before(found), now=True)
                    writing.step(event)
                else:
                    writing.add(event.text)
        except (StoppedError, StoreError, *SLACK_FAILURES):
            raise
        except MetaflowbotError as error:
            return _line(str(error))
        except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
            return _line(unexpected(f"answering {task.item.key}"))
        return _line(unexpected(f"answering {task.item.key}: no answer came"))

    def _events(self, task: _Task) -> Iterator[AnswerEvent]:
        """The saved answer when an earlier attempt got that far, else a new one."""
        asking = task.asked.asking
        saved = self._desk.store.answer_to(asking) if task.item.attempts > 1 else None
        if saved is not None and task.asked.how != "again":
            return iter((saved,))
        rules = self._desk.rules.of(asking.channel)
        sources = frozenset(rules.sources)
        question = Question(task.text, task.history, sources, asking.channel, rules.language)
        return self._desk.bot.stream(question, asking)

    def _setting(self, asked: Asked, thread: Hit | None) -> Setting:
        maintainers = self._desk.people.maintainers()
        return Setting(asked.place.user, maintainers, self._metaflow, thread)

    def _finish(self, asked: Asked, writing: Writing, reply: _Reply, standing: Standing) -> None:
        """Post what does not stand yet, and keep where it stands."""
        parts = len(reply.messages) if reply.final else 0
        for part, message in enumerate(reply.messages):
            if part in standing.parts:
                continue
            metadata = asked.place.metadata(reply.answer_id, part, parts)
            if part == 0:
                ts = writing.finish(message, metadata)
            else:
                ts = post(self._desk.clients, asked.place, message, metadata)
            if not ts:
                return
            self._keep(asked, ts, reply.answer_id, part, "standing" if reply.final else "writing")

    def _keeper(self, asked: Asked) -> Callable[[str], None]:
        return lambda ts: self._keep(asked, ts, state="writing")

    def _keep(
        self,
        asked: Asked,
        ts: str,
        answer_id: str = "",
        part: int = 0,
        state: PostState = "standing",
    ) -> None:
        place = asked.place
        person = f"slack:{place.user}"
        here = place.channel, ts, place.thread, place.message, place.key
        self._desk.store.slack.note(Post(*here, person, answer_id, part, state))


def answer_and_thread(events: Iterable[AnswerEvent]) -> tuple[Answer, Hit | None]:
    """The answer that comes last, and the thread that answers the question already."""
    thread: Hit | None = None
    for event in events:
        if isinstance(event, Progress):
            thread = event.asked_before or thread
    assert isinstance(event, Answer)
    return event, thread


def whole_question(desk: Desk, text: str, files: Iterable[Mapping[str, Any]]) -> str:
    """The words and the attached text, whole, or without the middle of what is too long."""
    settings = desk.settings
    token = settings.slack_bot_token.get_secret_value()
    attached = read_text_files(files, token, settings.slack_api_url)
    words = question_text(text, desk.identity.user_id)
    return fit("\n\n".join(part for part in (words, attached) if part))


def deletion_key(place: Place) -> str:
    """The inbox key of the news that a question was deleted."""
    return f"{place.team}/{place.channel}/{place.message}/deleted"


def _elsewhere(hit: Hit | None, place: Place) -> Hit | None:
    """A thread that answers the question, unless it is the one in which it is asked."""
    if hit is None or hit.best.document_id.rpartition("/")[2] == place.thread:
        return None
    return hit


def _line_for(text: str) -> str:
    """What is said to words that ask nothing; '' for a question."""
    if is_thanks(text):
        return YOU_ARE_WELCOME
    return HOW_TO_ASK if not text or is_greeting(text) else ""


def _line(text: str) -> _Reply:
    return _Reply((line_message(text),))


def unexpected(doing: str) -> str:
    """Log the exception being handled under a new request id; the line to tell the person."""
    request = uuid.uuid4().hex[:8]
    _log.exception("request %s failed while %s", request, doing)
    return (
        f"Something went wrong on my side (request {request}). Please ask again; if it stays, "
        "the maintainers find the reason in the log under that number."
    )
