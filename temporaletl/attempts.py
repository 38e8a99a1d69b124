"""Which attempts of an activity count: one that met no warehouse is nobody's failure.

Temporal counts all attempts alike and knows one limit for all of them. So it gets none, and the
limit is kept here: heartbeats carry from one attempt to the next how many were lost to an outage.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporaletl.errors import WarehouseOverloadedError, WarehouseUnavailableError
from temporaletl.messages import RunPolicy

_OUTAGES = "outages"
_FIRST_DELAY = timedelta(seconds=1)
#: Once the warehouse is back, work goes on within so long.
_LONGEST_DELAY = timedelta(seconds=15)
#: Doublings that reach the longest delay from the first.
_DOUBLINGS = 4


class Attempts:
    """The attempts of one activity, this one included, by its number (from 1) and heartbeats."""

    def __init__(self, number: int, details: Sequence[Any], limit: int) -> None:
        found = details[-1] if details else None
        lost = found.get(_OUTAGES) if isinstance(found, dict) else None
        self.outages = lost if isinstance(lost, int) else 0
        self.counted = number - self.outages
        #: With so many counted attempts, the activity has failed.
        self.limit = limit

    @property
    def details(self) -> dict[str, int]:
        """What every heartbeat must have as its last detail."""
        return {_OUTAGES: self.outages}

    @property
    def unanswered(self) -> bool:
        """Whether the attempts before this one were all there are, and the last never answered."""
        return self.counted > self.limit

    def excuse(self, error: BaseException) -> timedelta | None:
        """Do not count this attempt if it met an outage; return when to try again, if it did."""
        if not is_outage(error):
            return None
        doubled: int = 2 ** min(self.outages, _DOUBLINGS)
        self.outages += 1
        self.counted -= 1
        return min(_FIRST_DELAY * doubled, _LONGEST_DELAY)


def is_outage(error: BaseException) -> bool:
    """Whether nothing can be done but to wait for the warehouse."""
    return isinstance(error, WarehouseUnavailableError) and not isinstance(
        error, WarehouseOverloadedError
    )


def limit_of(argument: object) -> int:
    """How many attempts an activity has that was given this message."""
    policy = getattr(argument, "policy", None)
    return (policy if isinstance(policy, RunPolicy) else RunPolicy()).max_attempts
