"""A small pool of threads that works off the inbox."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from metaflowbot import telemetry
from metaflowbot.errors import StoreError
from metaflowbot.slack.clients import SLACK_FAILURES, why
from metaflowbot.store import InboxItem, Store

# Workers wait for Slack and for the model most of the time.
_COUNT = 32
# How often idle workers look, taken together, for items whose turn came without a wake-up: retries,
# and what other processes put in or left behind.
_LOOKS_A_SECOND = 4
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 512.0
# By then a process that stops has ended, and whatever of its last calls Slack took is to be seen.
_HAND_BACK_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Workers:
    """Threads that claim items, hand them to `work`, and complete them.

    When `work` raises, the item is released, and tried again later. A worker that dies gives its
    item back after `lease_seconds`, and after as many times that as there were attempts before: an
    item that kills its workers, or was in hand whenever one was killed, makes way for others. A
    worker that lives renews its lease in time.
    """

    def __init__(
        self, store: Store, work: Callable[[InboxItem], None], lease_seconds: float = 20.0
    ) -> None:
        self._store = store
        self._work = work
        self._lease_seconds = lease_seconds
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._stopping = threading.Event()
        self._in_hand: dict[str, float] = {}  # the lease of each
        # Daemons: a worker that waits for a model must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._run, name=f"inbox-{n}", daemon=True)
            for n in range(_COUNT)
        ]
        self._keeper = threading.Thread(target=self._keep_leases, name="inbox-leases", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left behind."""
        for thread in (*self._threads, self._keeper):
            thread.start()

    def wake(self) -> None:
        """Something came in."""
        self._wakes.put(None)

    def stop(self, seconds: float = 10.0) -> None:
        """Take nothing new, wait that long for what is in hand, and hand the rest back."""
        self._stopping.set()
        for _ in self._threads:
            self.wake()
        deadline = time.monotonic() + seconds
        for thread in (*self._threads, self._keeper):
            thread.join(max(0.0, deadline - time.monotonic()))
        for key in tuple(self._in_hand):
            self._hand_back(key)

    def _hand_back(self, key: str) -> None:
        """The next process, or another one, takes it up without waiting for the lease to end."""
        try:
            self._store.release(key, error="the process ended", retry_in=_HAND_BACK_SECONDS)
        except StoreError as error:
            _log.error("can't hand back %s: %s", key, error)

    def _run(self) -> None:
        while not self._stopping.is_set():
            item = self._claim()
            if item is None:
                self._wait()
                continue
            self._in_hand[item.key] = lease = self._lease_seconds * item.attempts
            if item.attempts > 1:
                self._renew(item.key, lease)
            try:
                with telemetry.request(item.key):
                    self._finish(item, self._outcome(item))
            finally:
                self._in_hand.pop(item.key)

    def _wait(self) -> None:
        with suppress(Empty):
            self._wakes.get(timeout=random.uniform(0.5, 1.5) * _COUNT / _LOOKS_A_SECOND)

    def _claim(self) -> InboxItem | None:
        try:
            return self._store.claim(self._lease_seconds)
        except StoreError as error:
            _log.error("can't read the inbox: %s", error)
            self._stopping.wait(_PAUSE_SECONDS)
            return None

    def _outcome(self, item: InboxItem) -> str:
        """What went wrong with the item, '' for nothing."""
        try:
            self._work(item)
        except (StoreError, *SLACK_FAILURES) as error:
            reason = str(error) if isinstance(error, StoreError) else why(error)
            _log.warning("attempt %d at %s: %s", item.attempts, item.key, reason)
            return reason
        except Exception as error:  # noqa: BLE001 - the thread's entry point: it must go on
            _log.exception("attempt %d at %s failed", item.attempts, item.key)
            return type(error).__name__
        return ""

    def _finish(self, item: InboxItem, failure: str) -> None:
        """Settle the item; where even that fails, its lease runs out and it comes again."""
        try:
            if item.dead:
                return  # it stays for an operator to look at, and to try again
            if not failure:
                self._store.complete(item.key)
            else:
                # 1, 8, 64, 512, 512 s …: an outage of an hour costs no answer.
                retry_in = min(8.0 ** (item.attempts - 1), _LONGEST_PAUSE_SECONDS)
                self._store.release(item.key, error=failure, retry_in=retry_in)
        except StoreError as error:
            _log.error("can't settle %s: %s", item.key, error)

    def _keep_leases(self) -> None:
        while not self._stopping.wait(self._lease_seconds / 4):
            for key, lease in tuple(self._in_hand.items()):
                self._renew(key, lease)

    def _renew(self, key: str, lease: float) -> None:
        try:
            self._store.renew(key, lease)
        except StoreError as error:
            _log.error("can't keep %s: %s", key, error)
