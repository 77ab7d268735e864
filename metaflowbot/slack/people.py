"""Who may do what: people and user groups by their ids."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from slack_sdk import WebClient

from metaflowbot.slack.clients import SLACK_FAILURES, why

_KEPT_SECONDS = 300.0
_RETRY_SECONDS = 60.0
_log = logging.getLogger(__name__)


class People:
    """The maintainers of the settings, with the members of the groups among them.

    A group's members are read from Slack and kept for some minutes. A group that can't be read has
    no members.
    """

    def __init__(self, client: WebClient, maintainers: Sequence[str]) -> None:
        self._client = client
        self._named = tuple(maintainers)
        self._groups: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def maintainers(self) -> tuple[str, ...]:
        """Their ids, in the settings' order; () when none are set."""
        return self._resolved(self._named)

    def is_maintainer(self, user: str) -> bool:
        """Whether that user is one of the maintainers."""
        return self.is_among(user, self._named)

    def may_act(self, user: str, asker: str) -> bool:
        """Whether that user may act on what `asker` (e.g. 'slack:U1') asked."""
        return asker == f"slack:{user}" or self.is_maintainer(user)

    def is_among(self, user: str, named: Sequence[str]) -> bool:
        """Whether that user is one of those people, or in one of those user groups."""
        return user in named or user in self._resolved(named)

    def _resolved(self, named: Sequence[str]) -> tuple[str, ...]:
        everyone: dict[str, None] = {}
        for each in named:
            members = sorted(self._members(each)) if each.startswith("S") else [each]
            everyone.update(dict.fromkeys(members))
        return tuple(everyone)

    def _members(self, group: str) -> frozenset[str]:
        with self._lock:
            until, members = self._groups.get(group, (0.0, frozenset()))
        if time.monotonic() < until:
            return members
        try:
            members = frozenset(self._client.usergroups_users_list(usergroup=group)["users"])
            kept = _KEPT_SECONDS
        except SLACK_FAILURES as error:
            _log.warning("can't read the members of the user group %s: %s", group, why(error))
            kept = _RETRY_SECONDS
        with self._lock:
            self._groups[group] = (time.monotonic() + kept, members)
        return members
