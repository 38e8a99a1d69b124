"""The time of a segment: the warehouse's, whatever the clock of this machine says.

What is loaded is ordered by the time at which it was asked for. Workers whose clocks differ agree
on that only where one clock tells it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta


def _elapsed() -> float:
    """Seconds since some moment, counted on while the machine sleeps; no clock can be set so."""
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
def told_by(clock: Callable[[], datetime]) -> Iterator[None]:
    """Have `utc_now` tell this clock's time in the context: in its tasks and their threads."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


def utc_now() -> datetime:
    """The time in UTC: by the warehouse's clock within a segment, else by this machine's."""
    return _clock.get()()
