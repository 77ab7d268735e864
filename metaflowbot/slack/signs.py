"""Signs of life: shown within a second of a question, whatever the workers are busy with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal

from slack_sdk import WebClient

from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.slack.writing import Place

# Enough for some 50 questions a second with a Slack that takes 200 ms.
_THREADS = 12
_WAIT_SECONDS = 6.0
_LOADING = ["Searching the docs…", "Reading…", "Checking the citations…"]
_log = logging.getLogger(__name__)
_Sign = Literal["status", "eyes", "none"]


class Signs:
    """Shows a status under a question, and an :eyes: reaction where Slack refuses the status."""

    def __init__(self, client: WebClient) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="signs")
        self._shown: dict[str, Future[_Sign]] = {}
        self._lock = threading.Lock()

    def show(self, place: Place) -> None:
        """Begin to show that the question was seen; returns at once."""
        with self._lock:
            if place.key not in self._shown:
                self._shown[place.key] = self._pool.submit(self._show, place)

    def settle(self, place: Place) -> None:
        """Wait until the sign is shown, for it must not come after the answer."""
        with self._lock:
            shown = self._shown.get(place.key)
        if shown is not None:
            wait([shown], _WAIT_SECONDS)

    def hide(self, place: Place) -> None:
        """Take the sign away, also one that another process showed."""
        with self._lock:
            shown = self._shown.pop(place.key, None)
        known = shown is not None and shown.done() and not shown.cancelled()
        sign = shown.result() if shown is not None and known else None
        if sign in ("status", None):
            self._accepted(lambda: self._set_status(place, ""))
        if sign in ("eyes", None):
            self._accepted(lambda: self._react("reactions_remove", place))

    def close(self) -> None:
        """Show no more signs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _show(self, place: Place) -> _Sign:
        if self._accepted(lambda: self._set_status(place, "is looking it up…")):
            return "status"
        if self._accepted(lambda: self._react("reactions_add", place)):
            return "eyes"
        return "none"

    def _set_status(self, place: Place, status: str) -> None:
        self._client.assistant_threads_setStatus(
            channel_id=place.channel,
            thread_ts=place.thread,
            status=status,
            loading_messages=_LOADING if status else None,
        )

    def _react(self, method: str, place: Place) -> None:
        getattr(self._client, method)(channel=place.channel, timestamp=place.message, name="eyes")

    def _accepted(self, call: Callable[[], object]) -> bool:
        """Make a call that is a courtesy: refused or failed, the answer goes on without it."""
        try:
            call()
        except SLACK_FAILURES as error:
            if why(error) in ("already_reacted", "no_reaction"):
                return True
            _log.info("Slack did not take a sign of life: %s", why(error))
            return False
        return True
