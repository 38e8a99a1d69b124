"""The clock of a segment: the warehouse's, whatever the clock of this machine says.

Pages are ordered by the time at which they were requested. Workers whose clocks differ agree on
that order only where all of them read one clock.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta


def _elapsed() -> float:
    """Seconds since an arbitrary start, also while the machine sleeps; nobody can set them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """A time that was read once, carried on by what has elapsed since. Safe to share."""

    def __init__(self, read: datetime) -> None:
        self._read = read
        self._at = _elapsed()

    def __call__(self) -> datetime:
        return self._read + timedelta(seconds=_elapsed() - self._at)


def _of_this_machine() -> datetime:
    return datetime.now(UTC)


_clock: ContextVar[Callable[[], datetime]] = ContextVar("clock", default=_of_this_machine)


@contextmanager
def use_clock(clock: Callable[[], datetime]) -> Iterator[None]:
    """Make `utc_now` read this clock within the context: in its tasks and their threads."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


def utc_now() -> datetime:
    """The time in UTC: by the warehouse's clock within a segment, else by this machine's."""
    return _clock.get()()
