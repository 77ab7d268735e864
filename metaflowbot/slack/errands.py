"""What is done for a person after Slack was told that their click arrived."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from metaflowbot.slack.desk import Errand

_THREADS = 8
_log = logging.getLogger(__name__)


class Errands:
    """Runs errands at once, some at a time, until `close`; what one raises is logged."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="errands")

    def run(self, errand: Errand) -> None:
        """Begin an errand; returns at once."""
        try:
            self._pool.submit(_attempt, errand)
        except RuntimeError:
            _log.info("an errand came after the end: it is left undone")

    def close(self) -> None:
        """Finish what has begun; the calls to Slack in it have time limits of their own."""
        self._pool.shutdown(wait=True)


def _attempt(errand: Errand) -> None:
    try:
        errand()
    except Exception:  # noqa: BLE001 - the thread's entry point: nobody else would hear of it
        _log.exception("an errand failed")
