"""Slack's clock: real time scaled, and moved on by hand.

All seconds here are Slack's own: `scale` real seconds pass for each of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class Clock:
    """Counts Slack's seconds from 0; every time limit of the double reads it."""

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale
        self._before = 0.0
        self._since = time.monotonic()
        self._sleepers: set[Callable[[], object]] = set()
        self._lock = threading.Lock()

    @property
    def scale(self) -> float:
        """Real seconds that pass for one of Slack's."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._before, self._since = self.now(), time.monotonic()
        self._scale = scale
        self._wake()

    def now(self) -> float:
        """Slack's seconds since the clock was made."""
        return self._before + (time.monotonic() - self._since) / self._scale

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass at once: whatever was due in them is due now."""
        self._before += seconds
        self._wake()

    async def until(self, deadline: float) -> None:
        """Returns when it is `deadline` by this clock, whether time passed or was skipped."""
        loop, moved = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(moved.set)

        with self._lock:
            self._sleepers.add(wake)
        try:
            while (left := deadline - self.now()) > 0:
                moved.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), left * self._scale)
        finally:
            with self._lock:
                self._sleepers.discard(wake)

    async def within(self, seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`; TimeoutError when it takes longer than `seconds`."""
        deadline = self.now() + seconds
        task, alarm = asyncio.ensure_future(work), asyncio.ensure_future(self.until(deadline))
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise TimeoutError
        finally:
            task.cancel()
            alarm.cancel()

    def _wake(self) -> None:
        with self._lock:
            sleepers = list(self._sleepers)
        for wake in sleepers:
            wake()
