"""How many requests a source may be asked, held by all workers together.

A source that declares a `RateBudget` has a task queue of its own for its segments. Temporal
dispatches from it at a rate that every worker shares; a segment spends what one dispatch stands
for, evenly, and then ends at its next page.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateBudget:
    """What one credential may ask; None is without limit."""

    requests_per_second: float | None = None
    #: What one segment may ask before it ends at its next page boundary.
    requests_per_segment: int = 100


class Permits:
    """The requests that one segment may make. Safe to use from many threads."""

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget
        self._guard = threading.Lock()
        self._next = 0.0  # monotonic seconds
        self.taken = 0

    @property
    def spent(self) -> bool:
        """Whether the segment has asked as much as it may."""
        return (
            self._budget.requests_per_second is not None
            and self.taken >= self._budget.requests_per_segment
        )

    def take(self, stop: threading.Event | None = None) -> None:
        """Wait for the turn of one request; setting `stop` ends the waiting. Blocks."""
        rate = self._budget.requests_per_second
        with self._guard:
            self.taken += 1
            if rate is None:
                return
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 1 / rate
        if turn > now:
            (stop or threading.Event()).wait(turn - now)


_UNLIMITED = Permits(RateBudget())
_permits: ContextVar[Permits | None] = ContextVar("permits", default=None)


@contextmanager
def spending(permits: Permits) -> Iterator[None]:
    """Have every request of this context, its tasks and threads taken from `permits`."""
    token = _permits.set(permits)
    try:
        yield
    finally:
        _permits.reset(token)


def take_permit(stop: threading.Event | None = None) -> None:
    """Wait for the turn of one request to the source of the running segment. Blocks.

    `HttpClient` calls it; a source with another client does so before each of its requests.
    Outside of a segment there is nothing to wait for.
    """
    (_permits.get() or _UNLIMITED).take(stop)
