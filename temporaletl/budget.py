"""Rate limits of requests to sources, counted over all workers together.

A source that declares a `RateBudget` has a task queue of its own, from which Temporal starts no
more segments a second than requests are allowed. Within a segment, and while a batch is planned, a
rate limiter delays each request; the warehouse hands out its reservations: see
`temporaletl.warehouse.budget`.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

from temporaletl.errors import ConfigurationError
from temporaletl.telemetry import metrics

#: A segment reserves requests for so long ahead: few reservations, and few of them unused.
_RESERVED_SECONDS = 0.5

#: Of a segment's pages, as their answers came. One page may be as large as an answer may be.
HELD_BYTES = 64 << 20
_LOOKS_FOR_STOP_SECONDS = 0.2

#: Requests a second, least and most. A slower source would not get through one page before its
#: reservations count as those of a wrong clock; a faster one needs no limit.
RATES = (0.01, 1_000_000.0)

#: Reserves a number of requests; returns the time until the first of them.
Reserve = Callable[[int], timedelta]


@dataclass(frozen=True, slots=True)
class RateBudget:
    """The rate limit of one credential, from 0.01 to 1,000,000; None is without limit.

    It counts over all workers together, for each connection.

        budget = RateBudget(requests_per_second=2.5)
        assert RateBudget().requests_per_second is None
    """

    requests_per_second: float | None = None

    def __post_init__(self) -> None:
        """Check the rate.

        Raises:
            ConfigurationError: it is not within `RATES`.
        """
        rate, (least, most) = self.requests_per_second, RATES
        if rate is not None and not least <= rate <= most:
            raise ConfigurationError(
                f"a rate limit must be from {least:g} to {most:,.0f} requests a second, not {rate}"
            )


class RateLimiter:
    """Rate limiter of the requests of one segment, or of a plan. Safe to use from many threads."""

    def __init__(self, requests_per_second: float, reserve: Reserve) -> None:
        self._interval = 1 / requests_per_second
        self._reserve = reserve
        self._most = max(1, math.floor(requests_per_second * _RESERVED_SECONDS))
        # Doubled each time: a segment of few requests leaves few reservations unused.
        self._at_once = 1
        self._guard = threading.Lock()
        self._left = 0
        self._next = 0.0  # monotonic seconds
        self._over = threading.Event()

    def acquire(self, stop: threading.Event | None = None) -> None:
        """Wait until the rate allows one request; setting `stop` ends the waiting. Blocks.

        Raises: what `reserve` raises.
            CancelledError: nobody waits for the request any more.
        """
        with self._guard:
            self._check()
            if self._left == 0:
                delay = self._reserve(self._at_once)
                self._next = time.monotonic() + delay.total_seconds()
                self._left = self._at_once
                self._at_once = min(2 * self._at_once, self._most)
            self._left -= 1
            allowed_at = max(time.monotonic(), self._next)
            self._next = allowed_at + self._interval
        remaining = allowed_at - time.monotonic()
        if remaining > 0:
            metrics.note_wait("budget", remaining)
            wanted_no_more = stop or self._over
            while remaining > 0 and not (wanted_no_more.is_set() or self._over.is_set()):
                wanted_no_more.wait(min(remaining, _LOOKS_FOR_STOP_SECONDS))
                remaining = allowed_at - time.monotonic()
        self._check()

    def end(self) -> None:
        """Let no request through any more: what waits, as it was begun ahead, is not sent."""
        self._over.set()

    def _check(self) -> None:
        if self._over.is_set():
            raise CancelledError("the work that the request was for has ended")


class Requests:
    """Meter of a segment's requests: their number, their time, the memory of their answers.

    No request is sent while pages of more than `HELD_BYTES` wait to be loaded, or are being loaded.
    Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0
        self.seconds = 0.0  # summed, also over those that were under way at once
        self.received_bytes = 0  # decompressed
        self._held_bytes = 0

    def add(self, seconds: float, received_bytes: int) -> None:
        with self._changed:
            self.count += 1
            self.seconds += seconds
            self.received_bytes += received_bytes

    def hold(self, size: int) -> None:
        """Note that a page made of so many bytes is kept until it is loaded; negative: it is."""
        with self._changed:
            self._held_bytes += size
            self._changed.notify_all()

    def end(self) -> None:
        """Keep nobody waiting any more: what was held is loaded, or given up."""
        with self._changed:
            self._held_bytes = 0
            self._changed.notify_all()

    def wait_for_room(self, stop: threading.Event | None = None) -> None:
        """Wait until little enough is held; setting `stop` ends the waiting. Blocks."""
        with self._changed:
            while self._held_bytes > HELD_BYTES and not (stop is not None and stop.is_set()):
                self._changed.wait(timeout=_LOOKS_FOR_STOP_SECONDS)


_limiter: ContextVar[RateLimiter | None] = ContextVar("rate_limiter", default=None)
_requests: ContextVar[Requests | None] = ContextVar("requests", default=None)


@contextmanager
def rate_limited(limiter: RateLimiter | None) -> Iterator[Requests]:
    """Rate-limit and count the requests of this context; with None they are only counted.

    Tasks belong to the context, and threads that are started with it, as `asyncio.to_thread` does.
    What waits for its turn when the context ends is not sent any more.
    """
    requests = Requests()
    tokens = _limiter.set(limiter), _requests.set(requests)
    try:
        yield requests
    finally:
        requests.end()
        if limiter is not None:
            limiter.end()
        _limiter.reset(tokens[0])
        _requests.reset(tokens[1])


@contextmanager
def unlimited() -> Iterator[None]:
    """Lift the rate limit in this context: its requests go elsewhere. They are counted."""
    token = _limiter.set(None)
    try:
        yield
    finally:
        _limiter.reset(token)


def acquire(stop: threading.Event | None = None) -> None:
    """Wait until the rate limit allows one request to the source of the segment or plan. Blocks.

    `HttpClient` calls it; a source with another client does so before each of its requests.
    Outside of both there is nothing to wait for; for a source without a budget, until
    enough of what was read before is loaded.

        def get(path: str) -> bytes:
            acquire()
            return shop.get(path)

    Raises:
        RateLimitedError: the source is in a cool-down that is too long to be waited out.
        CancelledError: the segment, or the planning, has ended.
    """
    requests, limiter = _requests.get(), _limiter.get()
    if requests is not None:
        requests.wait_for_room(stop)
    if limiter is not None:
        limiter.acquire(stop)


class Counted:
    """A request under way; the reader of its answer says how it was answered, and how large."""

    received_bytes = 0
    outcome: metrics.RequestOutcome = "no_answer"


@contextmanager
def counted_request() -> Iterator[Counted]:
    """Count a request of the running segment, and how long it takes. `HttpClient` does."""
    began, counted = time.perf_counter(), Counted()
    try:
        yield counted
    finally:
        seconds = time.perf_counter() - began
        metrics.note_request(counted.outcome, seconds, counted.received_bytes)
        requests = _requests.get()
        if requests is not None:
            requests.add(seconds, counted.received_bytes)
