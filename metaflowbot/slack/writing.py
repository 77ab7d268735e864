"""One message while it is being written in a thread, and whole whatever happens to it.

It is streamed where Slack streams. Where that is refused, a placeholder is posted and updated.
A stream that breaks, or that Slack ends after five minutes, goes on as a message that is updated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slack_sdk.errors import SlackApiError

from metaflowbot.domain import Hit, Progress
from metaflowbot.slack.clients import SLACK_FAILURES, Clients, refusal, why
from metaflowbot.slack.markdown import mrkdwn, split, tame
from metaflowbot.slack.rendering import TEXT_LIMIT, Block, Chunk, Message, step_chunk

EVENT_TYPE = "metaflowbot_answer"

# Slack takes some 100 appends a minute, and fewer updates.
_APPEND_SECONDS = 0.7
_UPDATE_SECONDS = 3.0
# chat.update refuses a longer text.
_UPDATE_TEXT = 3_900
_BLOCKS_REFUSED = {
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "invalid_arguments",
    "unsupported_block",
}
_LOOKING = "_Looking it up…_"
_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The person pressed Slack's stop button."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is answered: Slack's ids, and timestamps of thread and question.

    `key` is the inbox item's; every message carries it, so that it is found again.
    """

    team: str
    channel: str
    thread: str
    message: str
    user: str
    key: str

    def metadata(self, answer_id: str, part: int = 0, parts: int = 1) -> dict[str, Any]:
        """What a message of ours carries unseen; 0 parts say that it is not whole yet."""
        payload = {
            "answer_id": answer_id,
            "inbox_key": self.key,
            "part": str(part),
            "parts": str(parts),
        }
        return {"event_type": EVENT_TYPE, "event_payload": payload}


class Writing:
    """The first message of an answer; `keep` is told its ts as soon as it stands in the thread.

    `ts` is that of what an earlier attempt left behind; it is then replaced at the end. Calls
    raise one of SLACK_FAILURES where Slack takes nothing at all, or where it is unknown whether
    it did.
    """

    def __init__(
        self, clients: Clients, place: Place, keep: Callable[[str], None], ts: str = ""
    ) -> None:
        self._clients = clients
        self._place = place
        self._keep = keep
        self.ts = ts
        self._mode: Literal["late", "stream", "updates"] = "late"  # late: nothing before the end
        self._text = ""
        self._shown = ""
        self._steps: list[tuple[str, Sequence[Hit]]] = []
        self._waiting: list[Chunk] = []
        self._pause_until = 0.0

    def begin(self) -> None:
        """Show that work has begun: a stream with its first step, or a placeholder."""
        try:
            self.ts = self._start_stream()
            self._mode = "stream"
        except SLACK_FAILURES as error:
            if not refusal(error):
                raise  # it may stand in the thread: the next attempt looks
            _log.info("Slack refused to stream %s: %s", self._place.key, why(error))
            self.ts = self._post(
                Message(mrkdwn(_LOOKING), _LOOKING), self._place.metadata("", parts=0)
            )
            self._mode = "updates"
        self._pause(_APPEND_SECONDS)
        self._keep(self.ts)

    def _start_stream(self) -> str:
        self._steps.append(("searching", ()))
        started = self._clients.posting.chat_startStream(
            channel=self._place.channel,
            thread_ts=self._place.thread,
            recipient_team_id=self._place.team,
            recipient_user_id=self._place.user,
            task_display_mode="plan",
            chunks=[
                {"type": "plan_update", "title": "Looking it up"},
                step_chunk(self._place.key, "searching"),
            ],
        )
        return str(started["ts"])

    def step(self, progress: Progress) -> None:
        """Show a step; the one before it is done."""
        if self._mode != "stream" or progress.step == "searching":
            return
        self._waiting += [*self._done(), step_chunk(self._place.key, progress.step)]
        self._steps.append((progress.step, progress.hits))
        self._flush(now=True)

    def _done(self) -> list[Chunk]:
        return [step_chunk(self._place.key, *last, "complete") for last in self._steps[-1:]]

    def add(self, text: str, *, now: bool = False) -> None:
        """Show more of the text; unless `now`, a little later where much comes at once."""
        self._text += text
        if self._mode == "stream":
            self._flush(now=now)
        elif self._mode == "updates" and text and (now or time.monotonic() >= self._pause_until):
            self._update_partly()

    def _flush(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._pause_until:
            return
        ready = _safe_part(self._text)
        more = ready[len(self._shown) :] if ready.startswith(self._shown) else ""
        text = [{"type": "markdown_text", "text": more}] if more else []
        if not (text or self._waiting):
            return
        if self._append([*self._waiting, *text]):
            self._shown += more
            self._waiting = []

    def _append(self, chunks: list[Chunk]) -> bool:
        try:
            self._clients.hasty.chat_appendStream(
                channel=self._place.channel, ts=self.ts, chunks=chunks
            )
        except SLACK_FAILURES as error:
            self._after_failed_append(error)
            return False
        self._pause(_APPEND_SECONDS)
        return True

    def _after_failed_append(self, error: BaseException) -> None:
        match refusal(error):
            case "stopped_by_user":
                raise StoppedError from None
            case "ratelimited":
                assert isinstance(error, SlackApiError)
                headers = {name.lower(): at for name, at in error.response.headers.items()}
                self._pause(float(headers.get("retry-after", 1)))
            case _:
                _log.warning("the stream of %s broke: %s", self._place.key, why(error))
                self._mode = "updates"

    def _update_partly(self) -> None:
        """A courtesy: whatever goes wrong here, the whole answer comes at the end."""
        shown = _safe_part(self._text) + " …"
        blocks = [{"type": "markdown", "text": shown}]
        try:
            self._clients.hasty.chat_update(
                channel=self._place.channel, ts=self.ts, text=_LOOKING, blocks=blocks
            )
        except SLACK_FAILURES as error:
            _log.info("an update of %s failed: %s", self._place.key, why(error))
            if refusal(error) == "streaming_state_conflict":
                self._stop_bare()
        self._pause(_UPDATE_SECONDS)

    def _pause(self, seconds: float) -> None:
        self._pause_until = time.monotonic() + seconds

    # The end

    def finish(self, message: Message, metadata: dict[str, Any]) -> str:
        """Make it this message, whole; its ts, '' where somebody deleted it meanwhile."""
        if self._mode == "stream" and message.body.startswith(self._shown):
            if self._stop(message, metadata):
                return self.ts
            self._mode = "late"
        elif self._mode == "stream":
            self._stop_bare()
        if self.ts:
            return self.replace(message, metadata)
        return self._post(message, metadata)

    def _stop(self, message: Message, metadata: dict[str, Any]) -> bool:
        """End the stream with the rest; False where it is not certain that this worked."""
        rest = message.body[len(self._shown) :]
        chunks = [
            *self._waiting,
            *self._closing(is_answer=bool(metadata["event_payload"]["answer_id"])),
        ]
        chunks += [{"type": "markdown_text", "text": rest}] if rest else []
        for blocks in (message.below, message.simple, ()):
            try:
                self._clients.posting.chat_stopStream(
                    channel=self._place.channel,
                    ts=self.ts,
                    chunks=chunks,
                    blocks=blocks or None,
                    metadata=metadata,
                )
            except SLACK_FAILURES as error:
                _log.warning("Slack did not end the stream of %s: %s", self._place.key, why(error))
                if refusal(error) == "stopped_by_user":
                    raise StoppedError from None
                if refusal(error) not in _BLOCKS_REFUSED:
                    return False
            else:
                return True
        return False

    def _closing(self, *, is_answer: bool) -> list[Chunk]:
        """The steps as they stay above the answer, or above what is told instead of one."""
        status = "complete" if is_answer else "error"
        last = [step_chunk(self._place.key, *step, status) for step in self._steps[-1:]]
        title = "Looked it up" if is_answer else "Could not look it up"
        return [*last, {"type": "plan_update", "title": title}]

    def _stop_bare(self) -> None:
        """A stream must end before its message can be changed."""
        try:
            self._clients.posting.chat_stopStream(channel=self._place.channel, ts=self.ts)
        except SLACK_FAILURES as error:
            _log.info("the stream of %s had ended: %s", self._place.key, why(error))

    def replace(self, message: Message, metadata: dict[str, Any]) -> str:
        """Make what stands this message, as `finish`.

        Where Slack does not allow that, it is deleted and posted anew.
        """
        try:
            self._update(message, metadata)
        except SlackApiError as error:
            match refusal(error):
                case "message_not_found":
                    return ""
                case "streaming_state_conflict":
                    self._stop_bare()
                    self._update(message, metadata)
                case "":
                    raise
                case code:
                    _log.warning("Slack refused to update %s: %s", self._place.key, code)
                    return self._post_instead(message, metadata)
        return self.ts

    def _post_instead(self, message: Message, metadata: dict[str, Any]) -> str:
        half, self.ts = self.ts, self._post(message, metadata)
        try:
            self._clients.patient.chat_delete(channel=self._place.channel, ts=half)
        except SLACK_FAILURES as error:
            _log.warning("half of %s stays: %s", self._place.key, why(error))
        return self.ts

    def _update(self, message: Message, metadata: dict[str, Any]) -> None:
        text = (split(message.text, _UPDATE_TEXT) or [""])[0]
        patient = self._clients.patient
        with_any_blocks(
            message,
            lambda blocks: patient.chat_update(
                channel=self._place.channel,
                ts=self.ts,
                text=text,
                blocks=blocks,
                metadata=metadata,
            ),
        )

    def _post(self, message: Message, metadata: dict[str, Any]) -> str:
        return post(self._clients, self._place, message, metadata)


def post(clients: Clients, place: Place, message: Message, metadata: dict[str, Any]) -> str:
    """Post one message in the thread, with simpler blocks or none where Slack refuses them."""
    posted = with_any_blocks(
        message,
        lambda blocks: clients.posting.chat_postMessage(
            channel=place.channel,
            thread_ts=place.thread or None,
            text=message.text,
            blocks=blocks or None,
            metadata=metadata,
            unfurl_links=False,
            unfurl_media=False,
        ),
    )
    return str(posted["ts"])


def with_any_blocks(message: Message, call: Callable[[Sequence[Block]], Any]) -> Any:
    """Call with the best blocks that Slack takes; () stands for none."""
    *tried, last = message.variants
    for blocks in tried:
        try:
            return call(blocks)
        except SlackApiError as error:
            if refusal(error) not in _BLOCKS_REFUSED:
                raise
            _log.warning("Slack refused the blocks of a message: %s", why(error))
    return call(last)


def _safe_part(text: str) -> str:
    """As much of the text so far as will not look different when the rest is known.

    It ends at a space outside inline code, in a quote at the end of a line, and well before the
    message is full.
    """
    end = max(text.rfind(" "), text.rfind("\n")) + 1
    line = text.rfind("\n", 0, end) + 1
    if text.count("`", line, end) % 2 or text.startswith(">", line):
        end = line
    pieces = split(tame(text[:end]), TEXT_LIMIT)
    return pieces[0] if pieces else ""
