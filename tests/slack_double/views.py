"""views.*: modals and the App Home, and the trigger ids that open them."""

from __future__ import annotations

import secrets
from typing import Any

from .chat import with_ids
from .limits import check_view
from .methods import Arguments, method
from .workspace import Json, SlackError, Trigger, Workspace

TRIGGER_SECONDS = 3.0
STACK = 3


def new_trigger(workspace: Workspace, user: str, view: str = "") -> str:
    """A fresh trigger_id of a user's interaction; `view` is the modal it happened in."""
    trigger_id = f"{len(workspace.triggers) + 1}.{secrets.token_hex(8)}"
    until = workspace.clock.now() + TRIGGER_SECONDS
    workspace.triggers[trigger_id] = Trigger(user, until, view=view)
    return trigger_id


def spend_trigger(workspace: Workspace, args: Arguments) -> Trigger:
    """The trigger of a call, now used up."""
    trigger = workspace.triggers.get(args.required("trigger_id"))
    if trigger is None:
        raise SlackError("invalid_trigger_id")
    if trigger.used:
        raise SlackError("exchanged_trigger_id")
    if workspace.clock.now() > trigger.until:
        raise SlackError("expired_trigger_id")
    trigger.used = True
    return trigger


def new_view(workspace: Workspace, given: Any, previous: str = "") -> Json:
    """Stores a view with an id of its own; `previous` is the view below it on the stack."""
    view_id = workspace.new_id("V")
    root = workspace.views[previous]["root_view_id"] if previous else view_id
    own = {"id": view_id, "root_view_id": root, "previous_view_id": previous or None}
    view = _stored(workspace, given) | own
    workspace.views[view_id] = view
    return view


def change_view(workspace: Workspace, view_id: str, given: Any) -> Json:
    """Replaces a view's content and keeps its place on the stack."""
    workspace.views[view_id] |= _stored(workspace, given)
    return workspace.views[view_id]


def _stored(workspace: Workspace, given: Any) -> Json:
    check_view(given)
    plain: Json = {"callback_id": "", "private_metadata": "", "external_id": "", "submit": None}
    plain |= {"close": None, "clear_on_close": False, "notify_on_close": False, "title": None}
    own = {"team_id": workspace.team_id, "app_id": workspace.app_id, "bot_id": workspace.bot_id}
    state = {"state": {"values": {}}, "hash": f"{workspace.new_ts()}.{secrets.token_hex(4)}"}
    content: Json = given | {"blocks": with_ids(given["blocks"])}
    return plain | content | own | state


@method("views.open")
def open_view(workspace: Workspace, args: Arguments) -> Json:
    check_view(args.structure("view"))
    trigger = spend_trigger(workspace, args)
    view = new_view(workspace, args.structure("view"))
    workspace.modals[trigger.user] = [view["id"]]
    return {"view": view}


@method("views.push")
def push_view(workspace: Workspace, args: Arguments) -> Json:
    check_view(args.structure("view"))
    trigger = spend_trigger(workspace, args)
    return {"view": push(workspace, trigger.user, args.structure("view"))}


def push(workspace: Workspace, user: str, given: Any) -> Json:
    """Puts a view on top of the user's open modals."""
    stack = workspace.modals.setdefault(user, [])
    if len(stack) >= STACK:
        raise SlackError("push_limit_reached")
    view = new_view(workspace, given, stack[-1] if stack else "")
    stack.append(view["id"])
    return view


@method("views.update")
def update_view(workspace: Workspace, args: Arguments) -> Json:
    view = _found(workspace, args)
    if args.has("hash") and args.text("hash") != view["hash"]:
        raise SlackError("hash_conflict")
    return {"view": change_view(workspace, view["id"], args.structure("view"))}


@method("views.publish")
def publish_home(workspace: Workspace, args: Arguments) -> Json:
    user = workspace.user(args.required("user_id")).id
    given = args.structure("view")
    check_view(given)
    if given["type"] != "home":
        raise SlackError("invalid_arguments")
    if user not in workspace.homes:
        workspace.homes[user] = new_view(workspace, given)["id"]
    return {"view": change_view(workspace, workspace.homes[user], given)}


def _found(workspace: Workspace, args: Arguments) -> Json:
    if not (args.has("view_id") or args.has("external_id")):
        raise SlackError("invalid_arguments")
    for view in workspace.views.values():
        if args.text("view_id") == view["id"]:
            return view
        if args.has("external_id") and args.text("external_id") == view["external_id"]:
            return view
    raise SlackError("not_found")
