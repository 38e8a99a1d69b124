"""What a failed attempt comes to: whether there is another, when, and what it counts.

Temporal counts all attempts alike and knows one limit for all of them. So it gets none, and the
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
    """What follows a failed attempt. `delay` is when to try again, None as the policy says."""

    final: bool
    delay: timedelta | None = None


def recovery_of(error: Exception, *, attempt: int, limit: int) -> Recovery:
    """Judge an error of the `attempt` (from 1) that counts; after `limit` of them all is final."""
    if isinstance(error, RetryableError):
        # Once it was waited for as long as we do, and nothing came of it.
        given_up = isinstance(error, ExcessiveWaitError) and attempt > 1
        return Recovery(final=given_up or attempt >= limit, delay=error.delay)
    if isinstance(error, PermanentError | RecordError):
        return Recovery(final=True)
    return Recovery(final=attempt >= min(UNEXPECTED_ATTEMPTS, limit))


def message_of(error: Exception) -> str:
    """An error's words without secrets, no longer than a ledger or a history shall hold."""
    message = (redacted(str(error)) or type(error).__name__)[:_LONGEST_MESSAGE]
    if isinstance(error, ETLError):
        return message
    # Not our own words: behind the first line, drivers and validators like to quote the data.
    return f"{type(error).__name__}: {message.partition('\n')[0]}"


def pause_behind(attempt: int, policy: RunPolicy) -> timedelta:
    """How long to wait behind the `attempt` (from 1) that failed, as Temporal does."""
    pause, longest = policy.initial_interval, policy.maximum_interval
    for _ in range(attempt - 1):
        if pause >= longest:
            break
        pause *= policy.backoff_coefficient
    return min(pause, longest)


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

    def begin_next(self) -> None:
        """Count the attempt that begins now, where no server numbers them."""
        self.counted += 1

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
