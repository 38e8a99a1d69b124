"""Delays before a process that died is started again: growing, and bounded."""

from datetime import timedelta

_FIRST = timedelta(seconds=1)
_LONGEST = timedelta(seconds=30)
#: A process that ran so long did not die of what it died of before.
_STEADY_SECONDS = 60.0


class RestartDelay:
    """The delays of one process."""

    def __init__(self) -> None:
        self._next = _FIRST

    def after(self, seconds: float) -> timedelta:
        """How long to wait after it has died, having run for so many seconds."""
        if seconds > _STEADY_SECONDS:
            self._next = _FIRST
        delay, self._next = self._next, min(self._next * 2, _LONGEST)
        return delay
