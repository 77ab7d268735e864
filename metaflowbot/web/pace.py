"""How often one caller may ask over HTTP."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection

# Whoever shows a wrong API token more often than this in a minute is guessing.
GUESSES = 10
_CALLERS = 10_000


class Pace:
    """A bucket of a minute's worth of tokens for each caller, filled evenly; 0 means no limit.

    Callers on this machine are not held back: whoever works there may do as they like anyway.
    """

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, connection: HTTPConnection) -> float:
        """Take a token; seconds until there is one where there is none now, else 0."""
        caller = _caller(connection)
        if not self._a_minute or not caller:
            return 0.0
        now, each = self._clock(), 60 / self._a_minute
        with self._lock:
            tokens, since = self._buckets.pop(caller, (float(self._a_minute), now))
            tokens = min(float(self._a_minute), tokens + (now - since) / each)
            lacking = max(0.0, 1 - tokens)
            self._buckets[caller] = (tokens if lacking else tokens - 1, now)
            if len(self._buckets) > _CALLERS:
                self._buckets.popitem(last=False)
        return lacking * each


def _caller(connection: HTTPConnection) -> str:
    """The caller's address, of IPv6 the network that one household has; '' for this machine."""
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.is_loopback:
        return ""
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
