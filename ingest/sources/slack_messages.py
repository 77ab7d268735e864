"""Slack's own JSON -> threads of messages: the same for an export, the Web API and live events."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ingest.threads import Message, Thread

# Subtypes that a person writes; every other one is the channel's own notice.
_WRITTEN = frozenset(
    {"", "file_share", "thread_broadcast", "me_message", "file_comment", "reply_broadcast"}
)
_TOKENS = {
    "user": ("<@{}>", "user_id"),
    "channel": ("<#{}>", "channel_id"),
    "usergroup": ("<!subteam^{}>", "usergroup_id"),
    "broadcast": ("<!{}>", "range"),
    "emoji": (":{}:", "name"),
}
_MARKS = {"code": "`", "bold": "*", "italic": "_", "strike": "~"}
_BOTS = frozenset({"bot_message", "bot_add", "bot_remove", "slackbot_response"})


class _Reaction(BaseModel):
    name: str = ""
    users: tuple[str, ...] = ()


class _Profile(BaseModel):
    name: str | None = None
    display_name: str | None = None
    real_name: str | None = None
    first_name: str | None = None
    last_name: str | None = None

    def names(self) -> frozenset[str]:
        fields = (self.name, self.display_name, self.real_name, self.first_name, self.last_name)
        return frozenset(name.strip() for name in fields if name and name.strip())


class User(BaseModel):
    """A member, as users.json and users.list give it."""

    id: str
    name: str | None = None
    real_name: str | None = None
    is_bot: bool | None = None
    profile: _Profile | None = None

    def names(self) -> frozenset[str]:
        """Every name that this person goes by."""
        own = {name.strip() for name in (self.name, self.real_name) if name and name.strip()}
        return frozenset(own) | (self.profile.names() if self.profile else frozenset())


# Seconds since 1970, up to the year 5138.
_TS = r"^[0-9]{1,11}(\.[0-9]+)?$"


class SlackMessage(BaseModel):
    """A message as Slack sends it, down to what we use; everything but `ts` may be missing."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    ts: str = Field(pattern=_TS)
    thread_ts: str | None = None
    user: str | None = None
    bot_id: str | None = None
    username: str | None = None
    subtype: str | None = None
    hidden: bool | None = None
    text: str | None = None
    blocks: list[Any] | None = None
    attachments: list[Any] | None = None
    reactions: tuple[_Reaction, ...] | None = None
    user_profile: _Profile | None = None

    @field_validator("thread_ts")
    @classmethod
    def _numeric(cls, value: str | None) -> str | None:
        return value if value and re.fullmatch(_TS, value) else None

    @property
    def root_ts(self) -> str:
        return self.thread_ts or self.ts

    def message(self, bots: Collection[str] = frozenset()) -> Message:
        """As a Message; `bots` are the ids of users that are programs."""
        subtype = self.subtype or ""
        by_bot = bool(self.bot_id) or subtype in _BOTS or (self.user or "") in bots
        deleted = subtype == "tombstone"
        text = (self.text or "").strip()
        if not text or (self.attachments and by_bot):
            text = "\n".join(filter(None, (text, _blocks(self.blocks), _cards(self.attachments))))
        return Message(
            ts=self.ts,
            author=self.user or "",
            text="" if deleted else text.strip(),
            reactions={r.name: frozenset(r.users) for r in self.reactions or ()},
            by_bot=by_bot and not deleted,
            notice=not (by_bot or deleted) and subtype not in _WRITTEN,
            deleted=deleted,
        )


def threads(
    channel_id: str,
    channel: str,
    messages: Iterable[Message],
    root_of: Mapping[str, str],
) -> list[Thread]:
    """Join one channel's messages on their root, by its ts, oldest thread first.

    `root_of` maps a message's ts to its root's; of two messages with one ts the later one counts
    (an edit). Replies without their root (it was deleted, or is older than the export) stand
    under a deleted root.
    """
    by_root: dict[str, dict[str, Message]] = defaultdict(dict)
    for message in messages:
        by_root[root_of.get(message.ts, message.ts)][message.ts] = message
    found = []
    for root_ts, members in sorted(by_root.items(), key=lambda item: float(item[0])):
        root = members.pop(root_ts, None) or Message(root_ts, "", "", {}, deleted=True)
        replies = sorted(members.values(), key=lambda message: float(message.ts))
        found.append(Thread(channel_id, channel, root, tuple(replies)))
    return found


def _blocks(blocks: Any) -> str:
    """Block Kit -> Slack's markup; a block of a kind not known gives what text it holds."""
    parts = [_block(block) for block in blocks or () if isinstance(block, dict)]
    return "\n".join(part for part in parts if part)


def _block(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    elements = block.get("elements") or []
    if kind == "rich_text_preformatted":
        return f"```{_inline(elements)}```"
    if kind == "rich_text_quote":
        return "\n".join(f"&gt; {line}" for line in _inline(elements).split("\n"))
    if kind == "rich_text_section":
        return _inline(elements)
    if kind == "rich_text_list":
        return "\n".join(f"- {_block(item)}" for item in elements if isinstance(item, dict))
    if kind in ("rich_text", "context"):
        return _blocks(elements)
    texts = [block.get("text"), *(block.get("fields") or [])]
    return "\n".join(filter(None, (_text_object(text) for text in texts)))


def _text_object(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value.get("text") or "") if isinstance(value, dict) else ""


def _inline(elements: Any) -> str:
    return "".join(_span(element) for element in elements or () if isinstance(element, dict))


def _span(element: Mapping[str, Any]) -> str:
    """One piece of rich text; its text is plain, so it is escaped here as `text` fields are."""
    text = str(element.get("text") or "")
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    kind = str(element.get("type") or "text")
    if kind == "link":
        return f"<{element.get('url') or ''}{'|' + text if text else ''}>"
    if kind in _TOKENS:
        form, key = _TOKENS[kind]
        return form.format(element.get(key) or "")
    style = element.get("style")
    styles: Mapping[str, Any] = style if isinstance(style, dict) else {}
    for name, mark in _MARKS.items():
        text = f"{mark}{text}{mark}" if styles.get(name) and text.strip() else text
    return text


def _cards(attachments: Any) -> str:
    """What attachments say; links that Slack unfolded carry the linked page's words, not these."""
    parts = []
    for card in attachments or ():
        if isinstance(card, dict) and not (card.get("from_url") or card.get("original_url")):
            texts = [_text_object(card.get(key)) for key in ("pretext", "title", "text")]
            said = "\n".join(filter(None, texts))
            parts.append(said or _blocks(card.get("blocks")) or _text_object(card.get("fallback")))
    return "\n".join(filter(None, parts))
