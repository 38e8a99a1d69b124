"""Attempts of activities: which of them count, and when there is another.

Temporal counts all attempts alike and has one limit for all of them. So it gets none, and the
limit is kept here. An attempt that met no warehouse does not count: it is nobody's failure.
Heartbeats carry from one attempt of an activity to the next how many were lost to an outage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporaletl.errors import (
    ETLError,
    ExcessiveWaitError,
    PermanentError,
    RecordError,
    RetryableError,
    WarehouseOverloadedError,
    WarehouseUnavailableError,
)
from temporaletl.messages import RunPolicy
from temporaletl.secrets import redacted

#: A fault of our own rarely heals; it gets this many attempts in case it was a passing one.
UNEXPECTED_ATTEMPTS = 3
#: Characters of an error that are kept beside the log, which has all of them.
_LONGEST_MESSAGE = 2_000

_OUTAGES = "outages"
_FIRST_DELAY = timedelta(seconds=1)
#: Once the warehouse is back, work goes on within so long.
_LONGEST_DELAY = timedelta(seconds=15)
#: Doublings that reach the longest delay from the first.
_DOUBLINGS = 4


@dataclass(frozen=True, slots=True)
class Recovery:
    """Recovery from a failed attempt. `delay` is when to try again, None as the policy says."""

    final: bool
    delay: timedelta | None = None


def recovery_of(error: Exception, *, attempt: int, limit: int) -> Recovery:
    """Classify an error of a counted `attempt` (from 1); the one of number `limit` is final."""
    if isinstance(error, RetryableError):
        # Once it was waited for as long as we do, and nothing came of it.
        given_up = isinstance(error, ExcessiveWaitError) and attempt > 1
        return Recovery(final=given_up or attempt >= limit, delay=error.delay)
    if isinstance(error, PermanentError | RecordError):
        return Recovery(final=True)
    return Recovery(final=attempt >= min(UNEXPECTED_ATTEMPTS, limit))


def message_of(error: Exception) -> str:
    """Message of an error without secrets, cut to a length that fits ledger and history."""
    message = (redacted(str(error)) or type(error).__name__)[:_LONGEST_MESSAGE]
    message = message.replace("\0", "\N{REPLACEMENT CHARACTER}")  # which no text in PostgreSQL has
    if isinstance(error, ETLError):
        return message
    # Not our own words: behind the first line, drivers and validators like to quote the data.
    return f"{type(error).__name__}: {message.partition('\n')[0]}"


def pause_behind(attempt: int, policy: RunPolicy) -> timedelta:
    """Backoff after the failed `attempt` (from 1), as Temporal computes it."""
    pause, longest = policy.initial_interval, policy.maximum_interval
    for _ in range(attempt - 1):
        if pause >= longest:
            break
        pause *= policy.backoff_coefficient
    return min(pause, longest)


class Attempts:
    """Counted attempts of one activity, from its number (from 1) and heartbeat details."""

    def __init__(self, number: int, details: Sequence[Any], limit: int) -> None:
        found = details[-1] if details else None
        lost = found.get(_OUTAGES) if isinstance(found, dict) else None
        self.outages = lost if isinstance(lost, int) else 0
        self.counted = number - self.outages
        #: With so many counted attempts, the activity has failed.
        self.limit = limit

    @property
    def details(self) -> dict[str, int]:
        """The last detail of every heartbeat: it carries the count to the next attempt."""
        return {_OUTAGES: self.outages}

    @property
    def unanswered(self) -> bool:
        """Whether the attempts before this one were all there are, and the last never answered."""
        return self.counted > self.limit

    def begin_next(self) -> None:
        """Count the attempt that begins now, where no server numbers them."""
        self.counted += 1

    def excuse(self, error: BaseException) -> timedelta | None:
        """Do not count an attempt that met an outage; return the delay before the next one."""
        if not is_outage(error):
            return None
        doubled: int = 2 ** min(self.outages, _DOUBLINGS)
        self.outages += 1
        self.counted -= 1
        return min(_FIRST_DELAY * doubled, _LONGEST_DELAY)


def is_outage(error: BaseException) -> bool:
    """Whether an error is an outage of the warehouse, which is waited out."""
    return isinstance(error, WarehouseUnavailableError) and not isinstance(
        error, WarehouseOverloadedError
    )


def limit_of(argument: object) -> int:
    """Maximum attempts of an activity, from the policy of its message."""
    policy = getattr(argument, "policy", None)
    return (policy if isinstance(policy, RunPolicy) else RunPolicy()).max_attempts
