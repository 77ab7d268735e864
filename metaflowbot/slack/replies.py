"""One item of the inbox answered in Slack: a sign of life, the answer once, and never silence."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from metaflowbot.domain import Answer, Feedback, Question
from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack.markdown import question_text
from metaflowbot.slack.rendering import HOW_TO_ASK, Message, answer_messages, line_message
from metaflowbot.store import Asking, InboxItem, Store

# What a call of Slack's Web API may raise.
SLACK_FAILURES = (SlackClientError, OSError, HTTPException)
EVENT_TYPE = "metaflowbot_answer"

_BLOCKS_REFUSED = {
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "invalid_arguments",
    "unsupported_block",
}
# What Slack says where we are not allowed to read a thread, or there is none any more.
_READING_REFUSED = {"missing_scope", "not_in_channel", "channel_not_found", "thread_not_found"}
_log = logging.getLogger(__name__)


class Bot(Protocol):
    """What this room needs of the bot."""

    def ask(self, question: Question, asking: Asking) -> Answer: ...

    def rate(self, feedback: Feedback) -> None: ...


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is to be posted, and the answer it stems from ('' for a line of ours)."""

    messages: tuple[Message, ...]
    answer_id: str = ""


class Replies:
    """Answers inbox items; called from several threads.

    `client` posts, and never tries again by itself what may have arrived. `hasty` neither waits
    nor retries: it is for the signs of life, which must not hold up an answer.
    """

    def __init__(
        self, bot: Bot, store: Store, client: WebClient, hasty: WebClient, bot_user_id: str
    ) -> None:
        self._bot = bot
        self._store = store
        self._client = client
        self._hasty = hasty
        self._bot_user_id = bot_user_id

    def __call__(self, item: InboxItem) -> None:
        """Answer one item; raise one of SLACK_FAILURES when Slack takes no message."""
        place = _Place(self._client, self._hasty, item)
        posted = place.posted() if item.attempts > 1 else _Posted()
        if posted.complete:
            return
        place.show_work()
        try:
            reply = self._reply(item)
            for part, message in enumerate(reply.messages):
                if part not in posted.parts:
                    place.post(message, reply.answer_id, part, len(reply.messages))
        finally:
            place.hide_work()

    def _reply(self, item: InboxItem) -> _Reply:
        if item.dead:
            return _line("I tried several times and could not answer this. Please ask it again.")
        try:
            return self._answer(item)
        except MetaflowbotError as error:
            return _line(str(error))
        except Exception:  # noqa: BLE001 - the entry point: whatever happens, the person is told
            return _line(unexpected(f"answering {item.key}"))

    def _answer(self, item: InboxItem) -> _Reply:
        """The saved answer when an earlier attempt got that far, else a new one."""
        asked = item.payload
        asking = Asking(
            f"slack:{asked['user']}", asked["channel"], asked["thread"], asked["message"]
        )
        text = question_text(asked["text"], self._bot_user_id)
        if not text:
            return _line(HOW_TO_ASK)
        answer = self._store.answer_to(asking) if item.attempts > 1 else None
        if answer is None:
            history = self._store.conversation(asking.channel, asking.thread)
            answer = self._bot.ask(Question(text, history, channel=asking.channel), asking)
        return _Reply(answer_messages(answer), answer.id)


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


@dataclass(frozen=True, slots=True)
class _Posted:
    """Which parts of a reply stand in the thread already, of how many (0: none yet)."""

    parts: frozenset[int] = frozenset()
    of: int = 0

    @property
    def complete(self) -> bool:
        return bool(self.of) and len(self.parts) >= self.of


class _Place:
    """The thread in which one item is answered."""

    def __init__(self, client: WebClient, hasty: WebClient, item: InboxItem) -> None:
        self._client = client
        self._hasty = hasty
        self._key = item.key
        self._channel: str = item.payload["channel"]
        self._thread: str = item.payload["thread"]
        self._message: str = item.payload["message"]
        self._undo: Callable[[], object] | None = None

    def show_work(self) -> None:
        """A status in the thread; where Slack refuses that, an :eyes: reaction."""
        if _accepted(self._set_status, "is looking it up…"):
            self._undo = lambda: self._set_status("")
        elif _accepted(self._react, "reactions_add"):
            self._undo = lambda: self._react("reactions_remove")

    def hide_work(self) -> None:
        if self._undo:
            _accepted(self._undo)

    def _set_status(self, status: str) -> None:
        loading = ["Searching the docs…", "Reading…", "Checking the citations…"]
        self._hasty.assistant_threads_setStatus(
            channel_id=self._channel,
            thread_ts=self._thread,
            status=status,
            loading_messages=loading if status else None,
        )

    def _react(self, method: str) -> None:
        getattr(self._hasty, method)(channel=self._channel, timestamp=self._message, name="eyes")

    def posted(self) -> _Posted:
        """What an earlier attempt posted; nothing where Slack does not let us look.

        Any other failure is raised: it is better to look again later than to post twice.
        """
        try:
            payloads = [
                message["metadata"]["event_payload"]
                for message in self._later_messages()
                if message.get("metadata", {}).get("event_type") == EVENT_TYPE
            ]
        except SlackApiError as error:
            if why(error) not in _READING_REFUSED:
                raise
            _log.warning("can't look for an earlier answer to %s: %s", self._key, why(error))
            return _Posted()
        ours = [each for each in payloads if each.get("inbox_key") == self._key]
        parts = frozenset(int(each["part"]) for each in ours)
        return _Posted(parts, max((int(each["parts"]) for each in ours), default=0))

    def _later_messages(self) -> list[dict[str, Any]]:
        pages = self._client.conversations_replies(
            channel=self._channel,
            ts=self._thread,
            oldest=self._message,
            include_all_metadata=True,
            limit=200,
        )
        return [message for page in pages for message in page["messages"]]

    def post(self, message: Message, answer_id: str, part: int, parts: int) -> None:
        """Post one message; with its text alone when Slack refuses the blocks."""
        payload = {
            "answer_id": answer_id,
            "inbox_key": self._key,
            "part": str(part),
            "parts": str(parts),
        }
        common: dict[str, Any] = {
            "channel": self._channel,
            "thread_ts": self._thread,
            "text": message.text,
            "metadata": {"event_type": EVENT_TYPE, "event_payload": payload},
            "unfurl_links": False,
            "unfurl_media": False,
        }
        if message.blocks:
            try:
                self._client.chat_postMessage(**common, blocks=message.blocks)
            except SlackApiError as error:
                if why(error) not in _BLOCKS_REFUSED:
                    raise
                _log.warning("Slack refused the blocks for %s: %s", self._key, why(error))
            else:
                return
        self._client.chat_postMessage(**common)


def _accepted(call: Callable[..., object], *arguments: str) -> bool:
    """Make a call that is a courtesy: refused or failed, the answer goes on without it."""
    try:
        call(*arguments)
    except SLACK_FAILURES as error:
        if why(error) in ("already_reacted", "no_reaction"):
            return True
        _log.info("Slack did not take a sign of life: %s", why(error))
        return False
    return True


def why(error: BaseException) -> str:
    """Slack's own code for a refusal, else the kind of the failure; never anybody's text."""
    if isinstance(error, SlackApiError) and isinstance(error.response.get("error"), str):
        return str(error.response["error"])
    return type(error).__name__
