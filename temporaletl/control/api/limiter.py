"""Rate limiter: how many requests a caller may send in a minute, by a sliding window."""

from collections.abc import Callable
from time import monotonic

_WINDOW_SECONDS = 60.0


class RateLimiter:
    """Counts of this window and of the one before, whose share fades as time goes on.

    Callers that have sent nothing for two windows are forgotten. For one event loop.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._began = clock()
        self._counts: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def delay(self, caller: str) -> float:
        """Count a request; return 0, or how many seconds are to pass before it may be sent."""
        elapsed = self._turn()
        count, before = self._counts.get(caller, 0), self._before.get(caller, 0)
        if before * (1 - elapsed / _WINDOW_SECONDS) + count < self.per_minute:
            self._counts[caller] = count + 1
            return 0.0
        if count >= self.per_minute:
            return _WINDOW_SECONDS - elapsed
        # The share of the window before is to fade so far that another one fits in.
        return _WINDOW_SECONDS * (1 - (self.per_minute - count) / before) - elapsed

    def _turn(self) -> float:
        """Begin another window where this one is over; return the seconds since it began."""
        elapsed = self._clock() - self._began
        if elapsed >= _WINDOW_SECONDS:
            old = elapsed >= 2 * _WINDOW_SECONDS
            self._before, self._counts = {} if old else self._counts, {}
            self._began += elapsed // _WINDOW_SECONDS * _WINDOW_SECONDS
            elapsed %= _WINDOW_SECONDS
        return elapsed
