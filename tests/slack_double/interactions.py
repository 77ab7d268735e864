"""Payloads: events, and what people do with buttons, shortcuts, commands and modals.

Only what a person could do in Slack can be done here: clicking a button that is not there, or
that this user can't see, raises LookupError, which is a fault of the test.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from .chat import content
from .methods import Arguments
from .views import change_view, new_trigger, push
from .workspace import TEAM_DOMAIN, Channel, Ephemeral, Json, ResponseUrl, SlackError, Workspace

RESPONSE_SECONDS = 1800.0
RESPONSE_USES = 5


def base(workspace: Workspace, kind: str, user: str, view: str = "") -> Json:
    """The fields every interaction payload has."""
    team = {"id": workspace.team_id, "domain": TEAM_DOMAIN}
    name = workspace.user(user).name
    person = {"id": user, "username": name, "name": name, "team_id": workspace.team_id}
    extra: Json = {"enterprise": None, "is_enterprise_install": False}
    own = {"type": kind, "token": "verification", "api_app_id": workspace.app_id}
    trigger = {"trigger_id": new_trigger(workspace, user, view)}
    return own | {"team": team, "user": person} | trigger | extra


def place(channel: Channel) -> Json:
    names = {"channel": channel.name, "im": "directmessage", "group": "privategroup"}
    return {"id": channel.id, "name": names[channel.kind]}


def response_url(
    workspace: Workspace, channel: str, user: str, message: Json | None, *, ephemeral: bool = False
) -> str:
    """A fresh address at which the app may answer this interaction."""
    key = secrets.token_hex(8)
    ts = str(message["ts"]) if message else ""
    thread_ts = str(message.get("thread_ts") or "") if message else ""
    until = workspace.clock.now() + RESPONSE_SECONDS
    workspace.response_urls[key] = ResponseUrl(channel, user, ts, ephemeral, thread_ts, until)
    return f"{workspace.base_url}/response/{key}"


def event_callback(workspace: Workspace, event: Json) -> Json:
    """An event in the envelope of the Events API, with an event id of its own."""
    install = {"enterprise_id": None, "team_id": workspace.team_id}
    grant: Json = install | {"user_id": workspace.bot_user_id, "is_bot": True}
    event_id = workspace.new_id("Ev")
    own = {"token": "verification", "team_id": workspace.team_id, "api_app_id": workspace.app_id}
    about = {"type": "event_callback", "event_id": event_id, "event_time": int(time.time())}
    context = {"event_context": f"4-{event_id}", "is_ext_shared_channel": False}
    grants = {"authorizations": [grant | {"is_enterprise_install": False}]}
    return own | {"event": event} | about | context | grants


# -- clicks


def elements(blocks: Any) -> Iterator[tuple[str, Json]]:
    """Every interactive element in blocks, with the id of its block."""
    for block in blocks:
        inner = [*block.get("elements", []), block.get("accessory"), block.get("element")]
        for element in inner:
            if isinstance(element, dict) and "action_id" in element:
                yield block["block_id"], element
        yield from elements(block.get("child_blocks", []))
        yield from elements([c | {"block_id": block["block_id"]} for c in _cards(block)])


def _cards(block: Json) -> list[Json]:
    cards = block["elements"] if block.get("type") == "carousel" else [block]
    return [{"elements": card["actions"]} for card in cards if card.get("actions")]


def block_actions(workspace: Workspace, channel: Channel, ts: str, user: str, action: Json) -> Json:
    """The payload of an action on a message, ephemeral ones included."""
    message, ephemeral = seen_message(workspace, channel, ts, user)
    container: Json = {"type": "message_ephemeral" if ephemeral else "message"}
    container |= {"message_ts": ts, "channel_id": channel.id, "is_ephemeral": ephemeral}
    if message.get("thread_ts"):
        container["thread_ts"] = message["thread_ts"]
    payload = base(workspace, "block_actions", user) | {"container": container}
    payload |= {"channel": place(channel), "state": {"values": {}}, "actions": [action]}
    if not ephemeral:
        payload["message"] = workspace.shown(channel, message)
    url = response_url(workspace, channel.id, user, message, ephemeral=ephemeral)
    return payload | {"response_url": url}


def view_actions(workspace: Workspace, view_id: str, user: str, action: Json) -> Json:
    """The payload of an action in a modal or on the App Home."""
    view = workspace.views[view_id]
    payload = base(workspace, "block_actions", user, view_id)
    payload |= {"container": {"type": "view", "view_id": view_id}, "view": view}
    return payload | {"state": view["state"], "actions": [action]}


def seen_message(workspace: Workspace, channel: Channel, ts: str, user: str) -> tuple[Json, bool]:
    """A message as `user` sees it, and whether it is an ephemeral one."""
    for shown in workspace.ephemerals:
        if (shown.channel, shown.user, shown.message["ts"]) == (channel.id, user, ts):
            return shown.message, True
    return workspace.message(channel, ts), False


def action_of(workspace: Workspace, blocks: Any, action_id: str, user: str, value: Any) -> Json:
    """The action that `user` sets off; `value` picks an option, or which feedback button."""
    found = [(b, e) for b, e in elements(blocks) if e["action_id"] == action_id]
    if not found:
        offered = [e["action_id"] for _, e in elements(blocks)]
        raise LookupError(f"no element {action_id!r} here, only {offered}")
    block_id, element = found[0]
    if user not in element.get("visible_to_user_ids", [user]):
        raise LookupError(f"{action_id!r} is not visible to {user}")
    own = {"type": element["type"], "action_id": action_id, "block_id": block_id}
    own["action_ts"] = workspace.new_ts()
    return own | _chosen(element, value)


def _chosen(element: Json, value: Any) -> Json:
    kind = element["type"]
    if kind == "feedback_buttons":
        sides = [element["positive_button"], element["negative_button"]]
        side = sides[0] if value is None else _pick(sides, value)
        return {"text": side["text"], "value": side["value"]}
    if kind in {"button", "icon_button"}:
        kept = ("text", "value", "style")
        return {name: part for name, part in element.items() if name in kept}
    return state_of(element, value)


def _pick(options: list[Json], value: Any) -> Json:
    for option in options:
        if option["value"] == value:
            return option
    raise LookupError(f"no option {value!r}, only {[option['value'] for option in options]}")


def state_of(element: Json, value: Any) -> Json:
    """What an input holds as Slack's state has it; `value` None means as it was first shown."""
    kind = str(element["type"]).removeprefix("multi_")
    many = str(element["type"]).startswith("multi_") or kind == "checkboxes"
    if kind in {"static_select", "overflow", "radio_buttons", "checkboxes", "external_select"}:
        return _options_state(element, value, many=many)
    key = {"users_select": "user", "channels_select": "channel"}.get(kind)
    key = "conversation" if kind == "conversations_select" else key
    key = {"datepicker": "date", "timepicker": "time", "datetimepicker": "date_time"}.get(kind, key)
    if key is None:
        return {"value": element.get("initial_value") if value is None else value}
    key = f"{key}s" if many else key
    return {f"selected_{key}": element.get(f"initial_{key}") if value is None else value}


def _options_state(element: Json, value: Any, *, many: bool) -> Json:
    options = [*element.get("options", [])]
    options += [o for group in element.get("option_groups", []) for o in group["options"]]
    if many:
        first = element.get("initial_options", [])
        chosen = first if value is None else [_pick(options, one) for one in value]
        return {"selected_options": chosen}
    first = element.get("initial_option")
    return {"selected_option": first if value is None else _pick(options, value)}


# -- shortcuts, commands, submissions


def message_action(
    workspace: Workspace, channel: Channel, ts: str, user: str, callback_id: str
) -> Json:
    """The payload of a message shortcut."""
    message = workspace.message(channel, ts)
    payload = base(workspace, "message_action", user) | {"callback_id": callback_id}
    payload |= {"action_ts": workspace.new_ts(), "message_ts": ts, "channel": place(channel)}
    url = response_url(workspace, channel.id, user, message)
    return payload | {"message": workspace.shown(channel, message), "response_url": url}


def global_shortcut(workspace: Workspace, user: str, callback_id: str) -> Json:
    """The payload of a shortcut that is not about a message."""
    payload = base(workspace, "shortcut", user) | {"callback_id": callback_id}
    return payload | {"action_ts": workspace.new_ts()}


def command(workspace: Workspace, name: str, text: str, user: str, channel: Channel) -> Json:
    """The form fields of a slash command."""
    team = {"team_id": workspace.team_id, "team_domain": TEAM_DOMAIN}
    where = {"channel_id": channel.id, "channel_name": place(channel)["name"]}
    who = {"user_id": user, "user_name": workspace.user(user).name}
    what = {"command": name, "text": text, "api_app_id": workspace.app_id}
    url = response_url(workspace, channel.id, user, None)
    more = {"is_enterprise_install": "false", "response_url": url, "token": "verification"}
    return team | where | who | what | more | {"trigger_id": new_trigger(workspace, user)}


def view_submission(workspace: Workspace, view_id: str, user: str, values: Json) -> Json:
    """The payload of a submitted modal; `values` maps block ids to what was entered."""
    view = workspace.views[view_id]
    view["state"] = {"values": _entered(view, values)}
    payload = base(workspace, "view_submission", user, view_id)
    return payload | {"view": view, "response_urls": []}


def _entered(view: Json, values: Json) -> Json:
    inputs = {b["block_id"]: b for b in view["blocks"] if b["type"] == "input"}
    unknown = values.keys() - {block["block_id"] for block in view["blocks"]}
    if unknown:
        raise LookupError(f"no blocks {sorted(unknown)} in the view, only {sorted(inputs)}")
    state: Json = {}
    for block_id, element in elements(view["blocks"]):
        held = state_of(element, _value(values.get(block_id), element["action_id"]))
        empty = all(part in (None, "", []) for part in held.values())
        if empty and block_id in inputs and not inputs[block_id].get("optional"):
            raise LookupError(f"Slack does not submit without an entry in {block_id!r}")
        state.setdefault(block_id, {})[element["action_id"]] = {"type": element["type"]} | held
    return state


def _value(given: Any, action_id: str) -> Any:
    return given.get(action_id) if isinstance(given, dict) else given


def apply_submission(workspace: Workspace, user: str, view_id: str, body: Json) -> None:
    """What the app's answer to a submission does to the user's open modals."""
    stack = workspace.modals.get(user, [])
    match body.get("response_action"):
        case "errors":
            known = {block["block_id"] for block in workspace.views[view_id]["blocks"]}
            unknown = sorted(body["errors"].keys() - known)
            if unknown:
                raise LookupError(f"errors for blocks that are not in the view: {unknown}")
        case "update":
            change_view(workspace, view_id, body["view"])
        case "push":
            push(workspace, user, body["view"])
        case "clear":
            stack.clear()
        case _:
            stack[:] = [open_id for open_id in stack if open_id != view_id]


# -- answers by response_url or in an acknowledgement


def respond(workspace: Workspace, key: str, given: Json) -> None:
    """Applies a post to a response_url; SlackError when it is unknown, expired or used up."""
    with workspace.lock:
        url = workspace.response_urls.get(key)
        if url is None or workspace.clock.now() > url.until:
            raise SlackError("expired_url")
        if url.uses >= RESPONSE_USES:
            raise SlackError("used_url")
        url.uses += 1
        if given.get("delete_original"):
            _delete_original(workspace, url)
        elif given.get("replace_original"):
            _replace_original(workspace, url, given)
        else:
            answer_in(workspace, url.channel, url.user, given)


def answer_in(workspace: Workspace, channel_id: str, user: str, given: Json) -> None:
    """Posts an answer where an interaction happened: to the user alone, or in_channel."""
    channel = workspace.channels[channel_id]
    message = content(Arguments(given)) | workspace.by_bot()
    thread_ts = str(given.get("thread_ts") or "")
    if given.get("response_type") == "in_channel":
        workspace.post(channel, message, thread_ts or None)
        return
    message |= {"ts": workspace.new_ts(), "thread_ts": thread_ts}
    workspace.ephemerals.append(Ephemeral(channel_id, user, message))


def _delete_original(workspace: Workspace, url: ResponseUrl) -> None:
    if url.ephemeral:
        kept = [e for e in workspace.ephemerals if e.message["ts"] != url.message_ts]
        workspace.ephemerals[:] = kept
    else:
        workspace.delete(workspace.channels[url.channel], url.message_ts)


def _replace_original(workspace: Workspace, url: ResponseUrl, given: Json) -> None:
    changes = content(Arguments(given))
    if not url.ephemeral:
        channel = workspace.channels[url.channel]
        workspace.edit(channel, url.message_ts, changes, workspace.bot_user_id)
        return
    for shown in workspace.ephemerals:
        if shown.message["ts"] == url.message_ts:
            shown.message |= changes
