"""Once a day, what nobody answered, to each maintainer alone; nothing where all is answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from metaflowbot.errors import MetaflowbotError
from metaflowbot.slack import outdated
from metaflowbot.slack.desk import Desk, Handler
from metaflowbot.slack.home import listed, unanswered
from metaflowbot.store import InboxItem

_HOUR = 9  # UTC
_DAY = timedelta(days=1)
_TICK_SECONDS = 60.0
_log = logging.getLogger(__name__)


def order(desk: Desk, now: datetime) -> None:
    """Put today's digests into the inbox, once for each maintainer, when it is time for them."""
    if now.hour < _HOUR or not unanswered(desk, now - _DAY):
        return
    for user in desk.people.maintainers():
        payload = {"user": user, "since": (now - _DAY).isoformat()}
        desk.receive(f"digest/{now.date()}/{user}", "digest", payload)


def handlers(desk: Desk) -> Mapping[str, Handler]:
    """What writes to a maintainer."""

    def send(item: InboxItem) -> None:
        since = datetime.fromisoformat(item.payload["since"])
        found = unanswered(desk, since)
        if found:
            desk.clients.posting.chat_postMessage(
                channel=item.payload["user"],
                text=f"*Unanswered since yesterday*\n{listed(found)}",
                unfurl_links=False,
                unfurl_media=False,
            )

    return {"digest": send}


class Daily:
    """Orders the digests, and looks for outdated answers in every new index, until `stop`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        checked = ""
        while not self._stopping.wait(_TICK_SECONDS):
            try:
                order(self._desk, datetime.now(UTC))
                if (generation := self._desk.bot.generation()) != checked:
                    outdated.order(self._desk, datetime.now(UTC))
                    checked = generation
            except MetaflowbotError as error:
                _log.warning("no digest was written: %s", type(error).__name__)
