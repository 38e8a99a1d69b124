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
        self._most = max(1, math.floor(requests_per_second * _RESERVED_SECONDS))
        # Doubled each time: a segment of few requests leaves few turns unused.
        self._at_once = 1
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
                self._at_once = min(2 * self._at_once, self._most)
            self._left -= 1
            turn = max(time.monotonic(), self._next)
            self._next = turn + self._interval
        remaining = turn - time.monotonic()
        if remaining > 0:
            (stop or threading.Event()).wait(remaining)


class Requests:
    """How many requests a segment made, and how long they took together. For many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.count = 0
        self.seconds = 0.0  # summed, also over those that were under way at once

    def add(self, seconds: float) -> None:
        with self._guard:
            self.count += 1
            self.seconds += seconds


_permits: ContextVar[Permits | None] = ContextVar("permits", default=None)
_requests: ContextVar[Requests | None] = ContextVar("requests", default=None)


@contextmanager
def spending(permits: Permits | None) -> Iterator[Requests]:
    """Have every request of this context wait for its turn and be counted; None: no turns.

    Tasks belong to the context, and threads that are started with it, as `asyncio.to_thread` does.
    """
    requests = Requests()
    tokens = _permits.set(permits), _requests.set(requests)
    try:
        yield requests
    finally:
        _permits.reset(tokens[0])
        _requests.reset(tokens[1])


@contextmanager
def without_turns() -> Iterator[None]:
    """Have requests of this context wait for no turn: they go elsewhere. They are counted."""
    token = _permits.set(None)
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


@contextmanager
def counted_request() -> Iterator[None]:
    """Count a request of the running segment, and how long it takes. `HttpClient` does."""
    began = time.perf_counter()
    try:
        yield
    finally:
        requests = _requests.get()
        if requests is not None:
            requests.add(time.perf_counter() - began)
