"""How many requests a source may be asked, counted over all workers together.

A source that declares a `RateBudget` has a task queue of its own, from which Temporal starts no
more segments a second than requests are allowed. Within a segment each request waits for its
turn, which the warehouse gives out: see `temporaletl.warehouse.budget`.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

#: A segment reserves turns for so long ahead: few reservations, and few turns left unused.
_RESERVED_SECONDS = 0.5

#: Reserves turns for a number of requests; returns how long it is to the first one.
Reserve = Callable[[int], timedelta]


@dataclass(frozen=True, slots=True)
class RateBudget:
    """What one credential may ask; None is without limit."""

    requests_per_second: float | None = None


class Permits:
    """The turns of one segment's requests. Safe to use from many threads."""

    def __init__(self, requests_per_second: float, reserve: Reserve) -> None:
        self._interval = 1 / requests_per_second
        self._reserve = reserve
        self._at_once = max(1, math.floor(requests_per_second * _RESERVED_SECONDS))
        self._guard = threading.Lock()
        self._left = 0
        self._next = 0.0  # monotonic seconds

    def take(self, stop: threading.Event | None = None) -> None:
        """Wait for the turn of one request; setting `stop` ends the waiting. Blocks.

        Raises: what `reserve` raises.
        """
        with self._guard:
            if self._left == 0:
                delay = self._reserve(self._at_once)
                self._next = time.monotonic() + delay.total_seconds()
                self._left = self._at_once
            self._left -= 1
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._interval
        remaining = turn - time.monotonic()
        if remaining > 0:
            (stop or threading.Event()).wait(remaining)


_permits: ContextVar[Permits | None] = ContextVar("permits", default=None)


@contextmanager
def spending(permits: Permits | None) -> Iterator[None]:
    """Have every request of this context, its tasks and threads wait for its turn; None for none.

    Threads belong to it when they are started with its context, as `asyncio.to_thread` does.
    """
    token = _permits.set(permits)
    try:
        yield
    finally:
        _permits.reset(token)


def take_permit(stop: threading.Event | None = None) -> None:
    """Wait for the turn of one request to the source of the running segment. Blocks.

    `HttpClient` calls it; a source with another client does so before each of its requests.
    Outside of a segment, and for a source without a budget, there is nothing to wait for.

    Raises:
        RateLimitedError: the source asked one of the workers to be left alone for longer.
    """
    permits = _permits.get()
    if permits is not None:
        permits.take(stop)
