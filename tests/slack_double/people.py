"""auth.*, apps.connections.*, users.*, bots.* and usergroups.*: who is who."""

from __future__ import annotations

import secrets

from .methods import Arguments, method, page
from .workspace import TEAM_DOMAIN, Json, SlackError, User, Workspace


@method("auth.test")
def auth_test(workspace: Workspace, args: Arguments) -> Json:
    bot = workspace.users[workspace.bot_user_id]
    team = {"url": f"https://{TEAM_DOMAIN}.slack.com/", "team": workspace.name}
    own = {"user": bot.name, "user_id": bot.id, "bot_id": workspace.bot_id}
    return team | own | {"team_id": workspace.team_id, "is_enterprise_install": False}


@method("apps.connections.open", with_app_token=True)
def open_connection(workspace: Workspace, args: Arguments) -> Json:
    ticket = secrets.token_hex(8)
    workspace.socket_tickets.add(ticket)
    base = workspace.base_url.replace("http://", "ws://", 1)
    return {"url": f"{base}/link/?ticket={ticket}&app_id={workspace.app_id}"}


def described(workspace: Workspace, user: User) -> Json:
    """A user as users.info and users.list give it."""
    names = {"real_name": user.name, "display_name": user.name}
    names |= {"real_name_normalized": user.name, "display_name_normalized": user.name}
    profile = names | ({"email": user.email} if user.email else {})
    flags = {"is_bot": user.is_bot, "deleted": user.deleted, "is_app_user": False}
    flags |= {"is_restricted": False, "is_ultra_restricted": False, "is_admin": False}
    place = {"tz": "Europe/Amsterdam", "tz_label": "Central European Time", "tz_offset": 3600}
    ids = {"id": user.id, "team_id": workspace.team_id, "name": user.name}
    return ids | {"real_name": user.name, "profile": profile} | flags | place


@method("users.info", "users:read")
def users_info(workspace: Workspace, args: Arguments) -> Json:
    return {"user": described(workspace, workspace.user(args.required("user")))}


@method("users.list", "users:read")
def users_list(workspace: Workspace, args: Arguments) -> Json:
    found = [described(workspace, user) for user in workspace.users.values()]
    return page(found, args, "members")


@method("bots.info", "users:read")
def bots_info(workspace: Workspace, args: Arguments) -> Json:
    if args.text("bot") != workspace.bot_id:
        raise SlackError("bot_not_found")
    bot = workspace.users[workspace.bot_user_id]
    own = {"id": workspace.bot_id, "app_id": workspace.app_id, "user_id": bot.id}
    return {"bot": own | {"name": bot.name, "deleted": False, "updated": 0, "icons": {}}}


@method("usergroups.list", "usergroups:read")
def usergroups_list(workspace: Workspace, args: Arguments) -> Json:
    team = workspace.team_id
    return {
        "usergroups": [
            {"id": key, "team_id": team, "handle": key.lower(), "user_count": len(people)}
            for key, people in workspace.groups.items()
        ]
    }


@method("usergroups.users.list", "usergroups:read")
def usergroup_users(workspace: Workspace, args: Arguments) -> Json:
    group = args.required("usergroup")
    if group not in workspace.groups:
        raise SlackError("no_such_subteam")
    return {"users": list(workspace.groups[group])}
