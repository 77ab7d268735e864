"""What Slack accepts as a message, a block or a view: the limits as one table.

Taken from Slack's Block Kit reference. The table is the double's own: no code of a bot reads it,
so a bot that is wrong about a limit is told so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .rules import Anything, Items, Number, OneOf, Rule, Shape, String, Typed
from .workspace import SlackError

TEXT_KEPT = 40_000  # chat.postMessage cuts the rest off
UPDATE_TEXT = 4_000  # chat.update refuses more
MARKDOWN_TEXT = 12_000  # one markdown block or markdown_text, and all of them in one message
BLOCKS_TEXT = 13_200  # where all the text of a message's blocks together is refused
MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100
VIEW_BYTES = 250_000
CHUNK_COUNT = 100

TABLE: dict[str, Rule] = {}


def _types(*names: str) -> Typed:
    return Typed(frozenset(names), TABLE)


def _plain(most: int) -> Shape:
    return Shape({"type": OneOf(frozenset({"plain_text"})), "text": String(most)}, _EMOJI)


def _text(most: int) -> Shape:
    kinds = OneOf(frozenset({"plain_text", "mrkdwn"}))
    return Shape({"type": kinds, "text": String(most)}, _EMOJI | {"verbatim": _FLAG})


_FLAG = OneOf(frozenset({True, False}))
_EMOJI: dict[str, Rule] = {"emoji": _FLAG}
_ANY = Anything()
_ID = String(255)
_BLOCK: dict[str, Rule] = {"block_id": _ID}
_STYLE = OneOf(frozenset({"primary", "danger"}))
_CONFIRM = Shape(
    {"title": _plain(100), "text": _text(300), "confirm": _plain(30), "deny": _plain(30)},
    {"style": _STYLE},
)
_ELEMENT: dict[str, Rule] = {"action_id": _ID, "confirm": _CONFIRM, "focus_on_load": _FLAG}
_PEOPLE = Items(100, String(20))
_OPTION = Shape(
    {"text": _text(75), "value": String(150)}, {"description": _text(75), "url": String(3000)}
)
_GROUPS = Items(100, Shape({"label": _plain(75), "options": Items(100, _OPTION)}))
_HINT: dict[str, Rule] = {"placeholder": _plain(150)}
_SELECT = _ELEMENT | _HINT
_LIST: dict[str, Rule] = {"options": Items(100, _OPTION), "option_groups": _GROUPS}
_MANY: dict[str, Rule] = {"max_selected_items": Number(1, 100)}
_ENTRY = _SELECT | {"dispatch_action_config": _ANY}
_IMAGE: dict[str, Rule] = {"image_url": String(3000), "slack_file": _ANY}
_VERDICT = Shape({"text": _plain(75), "value": String(2000)}, {"accessibility_label": String(75)})
_STATES = OneOf(frozenset({"pending", "in_progress", "complete", "error"}))

_BUTTONS = {
    "button",
    "overflow",
    "datepicker",
    "timepicker",
    "datetimepicker",
    "checkboxes",
    "radio_buttons",
}
_SELECTS = {"static_select", "users_select", "conversations_select", "channels_select"}
_SELECTS |= {"external_select"} | {f"multi_{name}" for name in _SELECTS | {"external_select"}}
_TEXTS = {"plain_text_input", "rich_text_input", "number_input", "url_text_input"}
_TEXTS |= {"email_text_input"}
_INPUTS = (
    _SELECTS
    | _TEXTS
    | {"datepicker", "timepicker", "datetimepicker", "checkboxes", "radio_buttons"}
)
_CHILDREN = {"section", "context", "divider", "image", "actions", "rich_text", "markdown"}
_CHILDREN |= {"header", "table", "context_actions", "task_card"}
COMMON = _CHILDREN | {"input", "card", "carousel", "container", "plan", "video"}
IN_MESSAGES = Items(MESSAGE_BLOCKS, Typed(frozenset(COMMON), TABLE), unique="block_id")
IN_HOME = Items(
    VIEW_BLOCKS, Typed(frozenset(COMMON - {"context_actions"}), TABLE), least=0, unique="block_id"
)
IN_MODALS = Items(
    VIEW_BLOCKS,
    Typed(frozenset((COMMON - {"context_actions"}) | {"alert"}), TABLE),
    least=0,
    unique="block_id",
)

_ROWS: dict[str, Rule] = {
    # blocks
    "section": Shape(
        may=_BLOCK
        | {
            "text": _text(3000),
            "fields": Items(10, _text(2000)),
            "accessory": Typed(frozenset(_BUTTONS | _SELECTS | {"image"}), TABLE),
            "expand": _FLAG,
        },
        either=("text", "fields"),
    ),
    "divider": Shape(may=_BLOCK),
    "header": Shape({"text": _plain(150)}, _BLOCK),
    "markdown": Shape({"text": String(MARKDOWN_TEXT)}, _BLOCK),
    "image": Shape(
        {"alt_text": String(2000)},
        _BLOCK | _IMAGE | {"title": _plain(2000)},
        either=("image_url", "slack_file"),
    ),
    "context": Shape(
        {"elements": Items(10, _types("image", "plain_text", "mrkdwn"))},
        _BLOCK,
    ),
    "actions": Shape(
        {"elements": Items(25, Typed(frozenset(_BUTTONS | _SELECTS), TABLE), unique="action_id")},
        _BLOCK,
    ),
    "context_actions": Shape(
        {"elements": Items(5, _types("feedback_buttons", "icon_button"), unique="action_id")},
        _BLOCK,
    ),
    "input": Shape(
        {"label": _plain(2000), "element": Typed(frozenset(_INPUTS), TABLE)},
        _BLOCK | {"hint": _plain(2000), "optional": _FLAG, "dispatch_action": _FLAG},
    ),
    "rich_text": Shape({"elements": Items(1000, _ANY, least=0)}, _BLOCK),
    "table": Shape(
        {"rows": Items(100, Items(20, _ANY))}, _BLOCK | {"column_settings": Items(20, _ANY)}
    ),
    "video": Shape(
        {
            "alt_text": String(),
            "title": _plain(200),
            "thumbnail_url": String(),
            "video_url": String(),
        },
        _BLOCK
        | {
            "author_name": String(50),
            "description": _plain(200),
            "provider_icon_url": String(),
            "provider_name": String(),
            "title_url": String(),
        },
    ),
    "card": Shape(
        may=_BLOCK
        | {
            "title": _text(150),
            "subtitle": _text(150),
            "body": _text(200),
            "hero_image": _ANY,
            "icon": _ANY,
            "slack_icon": _ANY,
            "subtext": _text(200),
            "actions": Items(5, _types("button", "icon_button")),
        },
    ),
    "carousel": Shape({"elements": Items(10, _types("card"))}, _BLOCK),
    "container": Shape(
        {"child_blocks": Items(10, Typed(frozenset(_CHILDREN), TABLE))},
        _BLOCK
        | {
            "title": _plain(150),
            "rich_text_title": _ANY,
            "subtitle": _text(150),
            "width": OneOf(frozenset({"narrow", "standard", "wide", "full"})),
            "icon": _ANY,
            "is_collapsible": _FLAG,
            "default_collapsed": _FLAG,
            "has_header_divider": _FLAG,
        },
        either=("title", "rich_text_title"),
    ),
    "plan": Shape({"title": String(256)}, _BLOCK | {"tasks": Items(50, _types("task_card"))}),
    "task_card": Shape(
        {"task_id": _ID, "title": String(256)},
        _BLOCK
        | {
            "status": _STATES,
            "details": _ANY,
            "output": _ANY,
            "sources": Items(50, _types("url")),
        },
    ),
    "alert": Shape(
        {"text": _text(200)},
        _BLOCK | {"level": OneOf(frozenset({"default", "info", "warning", "error", "success"}))},
    ),
    # the chunks of a stream
    "markdown_text": Shape({"text": String()}),
    "task_update": Shape(
        {"id": _ID, "title": String(256), "status": _STATES},
        {"details": String(), "output": String(), "sources": Items(50, _types("url"))},
    ),
    "plan_update": Shape({"title": String(256)}),
    "blocks": Shape({"blocks": IN_MESSAGES}),
    # texts and sources
    "plain_text": _plain(2000),
    "mrkdwn": _text(2000),
    "url": Shape({"url": String(3000), "text": String(256)}),
    # elements
    "button": Shape(
        {"text": _plain(75)},
        _ELEMENT
        | {
            "url": String(3000),
            "value": String(2000, least=0),
            "style": _STYLE,
            "agent_prompt": _ANY,
            "agent_prompt_display": _ANY,
            "accessibility_label": String(75),
            "visible_to_user_ids": _PEOPLE,
        },
    ),
    "icon_button": Shape(
        {"icon": String(), "text": _plain(75)},
        _ELEMENT
        | {
            "value": String(2000),
            "accessibility_label": String(75),
            "visible_to_user_ids": _PEOPLE,
        },
    ),
    "feedback_buttons": Shape(
        {"positive_button": _VERDICT, "negative_button": _VERDICT}, {"action_id": _ID}
    ),
    "overflow": Shape({"options": Items(5, _OPTION)}, _ELEMENT),
    "datepicker": Shape(may=_SELECT | {"initial_date": String(10)}),
    "timepicker": Shape(may=_SELECT | {"initial_time": String(5), "timezone": String()}),
    "checkboxes": Shape(
        {"options": Items(10, _OPTION)}, _ELEMENT | {"initial_options": Items(10, _OPTION)}
    ),
    "radio_buttons": Shape({"options": Items(10, _OPTION)}, _ELEMENT | {"initial_option": _OPTION}),
    "plain_text_input": Shape(
        may=_ENTRY
        | {
            "initial_value": String(3000, least=0),
            "multiline": _FLAG,
            "min_length": Number(0, 3000),
            "max_length": Number(1, 3000),
        }
    ),
    "rich_text_input": Shape(
        may=_ENTRY | {"initial_value": _ANY, "min_lines": _ANY, "max_lines": _ANY}
    ),
    "datetimepicker": Shape(may=_ELEMENT | {"initial_date_time": Number(0, 9_999_999_999)}),
    "number_input": Shape(
        {"is_decimal_allowed": _FLAG},
        _ENTRY | {"initial_value": String(), "min_value": String(), "max_value": String()},
    ),
    "url_text_input": Shape(may=_ENTRY | {"initial_value": String()}),
    "email_text_input": Shape(may=_ENTRY | {"initial_value": String()}),
    "static_select": Shape(
        may=_SELECT | _LIST | {"initial_option": _OPTION}, either=("options", "option_groups")
    ),
    "multi_static_select": Shape(
        may=_SELECT | _LIST | _MANY | {"initial_options": Items(100, _OPTION)},
        either=("options", "option_groups"),
    ),
    "users_select": Shape(may=_SELECT | {"initial_user": _ID}),
    "multi_users_select": Shape(may=_SELECT | _MANY | {"initial_users": _PEOPLE}),
    "channels_select": Shape(may=_SELECT | {"initial_channel": _ID, "response_url_enabled": _FLAG}),
    "multi_channels_select": Shape(may=_SELECT | _MANY | {"initial_channels": _PEOPLE}),
    "conversations_select": Shape(
        may=_SELECT
        | {
            "initial_conversation": _ID,
            "response_url_enabled": _FLAG,
            "default_to_current_conversation": _FLAG,
            "filter": _ANY,
        }
    ),
    "multi_conversations_select": Shape(
        may=_SELECT
        | _MANY
        | {
            "initial_conversations": _PEOPLE,
            "default_to_current_conversation": _FLAG,
            "filter": _ANY,
        }
    ),
    "external_select": Shape(
        may=_SELECT | {"initial_option": _OPTION, "min_query_length": Number(0, 100)}
    ),
    "multi_external_select": Shape(
        may=_SELECT
        | _MANY
        | {"initial_options": Items(100, _OPTION), "min_query_length": Number(0, 100)}
    ),
}

TABLE.update(_ROWS)

_CALLBACK: dict[str, Rule] = {
    "callback_id": String(255, least=0),
    "private_metadata": String(3000, least=0),
    "external_id": String(255, least=0),
}
MODAL = Shape(
    {"type": OneOf(frozenset({"modal"})), "title": _plain(24), "blocks": IN_MODALS},
    _CALLBACK
    | {
        "submit": _plain(24),
        "close": _plain(24),
        "clear_on_close": _FLAG,
        "notify_on_close": _FLAG,
        "submit_disabled": _FLAG,
    },
)
HOME = Shape({"type": OneOf(frozenset({"home"})), "blocks": IN_HOME}, _CALLBACK)
CHUNKS = Items(
    CHUNK_COUNT, _types("markdown_text", "task_update", "plan_update", "blocks"), least=0
)
METADATA = Shape({"event_type": String(255), "event_payload": _ANY}, {"entities": _ANY})
PROMPTS = Items(4, Shape({"title": String(), "message": String()}))
LOADING_MESSAGES = Items(10, String(), least=0)


def refuse(code: str, faults: list[str]) -> None:
    """Raises Slack's error answer when there are faults."""
    if faults:
        notes = {"messages": [f"[ERROR] {fault}" for fault in faults]}
        raise SlackError(code, errors=faults, response_metadata=notes)


def texts(value: Any) -> Iterator[str]:
    """Every `text` string anywhere in blocks."""
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for name, part in value.items():
            if name == "text" and isinstance(part, str):
                yield part
            else:
                yield from texts(part)


def check_blocks(blocks: Any) -> None:
    """Raises what Slack answers to a message with these blocks, if it refuses them."""
    refuse("invalid_blocks", list(IN_MESSAGES.faults(blocks, "/blocks")))
    markdown = sum(len(block["text"]) for block in blocks if block["type"] == "markdown")
    if markdown > MARKDOWN_TEXT or sum(map(len, texts(blocks))) > BLOCKS_TEXT:
        raise SlackError("msg_blocks_too_long")


def check_view(view: Any) -> None:
    """Raises what Slack answers to this modal or home view, if it refuses it."""
    home = isinstance(view, dict) and view.get("type") == "home"
    refuse("invalid_arguments", list((HOME if home else MODAL).faults(view, "/view")))
    inputs = any(block["type"] == "input" for block in view["blocks"])
    if inputs and not home and "submit" not in view:
        refuse("invalid_arguments", ["missing required field: submit [json-pointer:/view]"])
    if len(json.dumps(view)) > VIEW_BYTES:
        raise SlackError("view_too_large")


def check_metadata(metadata: Any) -> None:
    """Message metadata is an event_type with an event_payload object."""
    payload = metadata.get("event_payload") if isinstance(metadata, dict) else None
    if list(METADATA.faults(metadata, "/metadata")) or not isinstance(payload, dict):
        raise SlackError("invalid_metadata_format")


def check_chunks(chunks: Any) -> None:
    """The chunks of one streaming call; the length limit holds for each chunk, not their sum."""
    if isinstance(chunks, list) and any(
        len(_chunk_text(chunk)) > MARKDOWN_TEXT for chunk in chunks
    ):
        raise SlackError("msg_too_long")
    refuse("invalid_chunks", list(CHUNKS.faults(chunks, "/chunks")))


def _chunk_text(chunk: Any) -> str:
    return str(chunk.get("text", "")) if isinstance(chunk, dict) else ""
