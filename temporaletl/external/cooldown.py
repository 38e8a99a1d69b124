"""Cool-downs: how long a client of this process is rate-limited by its source.

A rate limit that one client meets reaches the other workers through the warehouse; it may be
lifted there, too, and then by every client: see `lift_cool_downs`.
"""

import threading
import time
from datetime import timedelta
from weakref import WeakSet

from temporaletl.bound_connection import connection_in_use

#: So long it may take until the warehouse knows of a client's rate limit.
_REPORTED_WITHIN = timedelta(seconds=10)


class CoolDown:
    """The time until which one client sends no request. Safe to use from many threads.

    A client belongs to the connection that is bound when it is created.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.connection = connection_in_use()
        self._guard = threading.Lock()
        self._until = self._since = 0.0  # monotonic seconds
        self._reason = ""
        with _all_guard:
            _all.add(self)

    def begin(self, delay: timedelta, reason: str) -> None:
        """Send no request for so long; a shorter wait than the present one changes nothing."""
        now = time.monotonic()
        with self._guard:
            if now + delay.total_seconds() > self._until:
                self._until, self._reason = now + delay.total_seconds(), reason
                self._since = now

    def remaining(self) -> tuple[timedelta, str]:
        """The remaining time, zero or less where it is over, and the reason."""
        with self._guard:
            return timedelta(seconds=self._until - time.monotonic()), self._reason

    def lift(self) -> None:
        """End it, unless it began so lately that whoever lifts it cannot know of it."""
        with self._guard:
            if time.monotonic() - self._since > _REPORTED_WITHIN.total_seconds():
                self._until = 0.0


_all: WeakSet[CoolDown] = WeakSet()
_all_guard = threading.Lock()


def lift_cool_downs(source: str, connection: str) -> None:
    """Lift the cool-downs of a connection's clients: for all workers, it is over or lifted."""
    with _all_guard:
        known = [cool for cool in _all if (cool.source, cool.connection) == (source, connection)]
    for cool_down in known:
        cool_down.lift()
