"""What of an answer stands in its thread already, after a crash or before a new answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slack_sdk.errors import SlackApiError

from metaflowbot.slack.clients import SLACK_FAILURES, Clients, refusal, why
from metaflowbot.slack.writing import EVENT_TYPE, Place
from metaflowbot.slack_records import Post, SlackRecords

# What Slack says where we are not allowed to read a thread, or there is none any more.
READING_REFUSED = {"missing_scope", "not_in_channel", "channel_not_found", "thread_not_found"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """The ts of each whole part, of how many parts (0: unknown), and of a part that broke off."""

    parts: Mapping[int, str] = field(default_factory=dict)
    of: int = 0
    half: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.of) and len(self.parts) >= self.of


def left_behind(clients: Clients, records: SlackRecords, place: Place) -> Standing:
    """What an earlier attempt posted, by what was kept and what the thread shows.

    Where Slack does not let us read the thread, what was kept counts alone. Any other failure is
    raised: it is better to look again later than to post twice.
    """
    kept = records.posts_for(place.key)
    parts = {post.part: post.ts for post in kept if post.state == "standing"}
    half = next((post.ts for post in kept if post.state == "writing"), "")
    try:
        ours = list(_ours(clients, place))
    except SlackApiError as error:
        if refusal(error) not in READING_REFUSED:
            raise
        _log.warning("can't look for an earlier answer to %s: %s", place.key, why(error))
        return Standing(parts, 0, half)
    whole = [(ts, payload) for ts, payload in ours if int(payload.get("parts", 0))]
    broken = [ts for ts, payload in ours if not int(payload.get("parts", 0))]
    parts |= {int(payload["part"]): ts for ts, payload in whole}
    of = max((int(payload["parts"]) for _, payload in whole), default=0)
    return Standing(parts, of, "" if 0 in parts else (broken or [half])[0])


def _ours(clients: Clients, place: Place) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The messages in the thread that carry the place's key; a broken stream has it in a step."""
    for message in thread_messages(clients, place.channel, place.thread, place.message):
        metadata = message.get("metadata") or {}
        payload = metadata.get("event_payload", {})
        if metadata.get("event_type") == EVENT_TYPE and payload.get("inbox_key") == place.key:
            yield message["ts"], payload
        elif not metadata and any(
            task.startswith(f"{place.key}#") for task in _tasks(message.get("blocks") or [])
        ):
            yield message["ts"], {}


def _tasks(blocks: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for block in blocks:
        yield str(block.get("task_id", ""))
        yield from _tasks(block.get("tasks", ()))


def thread_messages(
    clients: Clients, channel: str, thread: str, oldest: str = "0"
) -> list[dict[str, Any]]:
    """The root and the replies after `oldest`, oldest first, with their metadata."""
    pages = clients.patient.conversations_replies(
        channel=channel, ts=thread, oldest=oldest, include_all_metadata=True, limit=200
    )
    return [message for page in pages for message in page["messages"]]


def withdraw(clients: Clients, records: SlackRecords, posts: Iterable[Post]) -> None:
    """Take these posts away; one that is gone already is as good. Raises SLACK_FAILURES."""
    for post in posts:
        records.withdraw(post)
        try:
            clients.patient.chat_delete(channel=post.channel, ts=post.ts)
        except SLACK_FAILURES as error:
            if refusal(error) not in ("message_not_found", "channel_not_found", "is_archived"):
                raise
            _log.info("a post to be taken away was gone: %s", why(error))
