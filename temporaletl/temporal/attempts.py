"""Attempts of activities: which of them count, and when there is another.

Temporal counts all attempts alike and has one limit for all of them. So it gets none, and the
limits are kept here. An attempt that met no warehouse does not count: it is nobody's failure. One
that never answered, as its worker died, is no failure of what it did: such are counted apart, until
there is progress. Heartbeats carry the counts from one attempt of an activity to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporaletl.errors import (
    CredentialsError,
    ETLError,
    ExcessiveWaitError,
    PermanentError,
    RecordError,
    RetryableError,
    SourceUnavailableError,
    WarehouseCredentialsError,
    WarehouseOverloadedError,
    WarehouseUnavailableError,
)
from temporaletl.messages import RunPolicy
from temporaletl.secrets import redacted
from temporaletl.settings.secret_files import replaced_since

#: A fault of our own rarely heals; it gets this many attempts in case it was a passing one.
UNEXPECTED_ATTEMPTS = 3
#: So many attempts may go unanswered, where fewer failures are allowed: what kills every worker
#: that tries it must end, and what stood beside it should not.
UNANSWERED_ATTEMPTS = 5
#: Type of the failure of what was tried so often and never answered.
UNANSWERED = "UnansweredError"
#: Characters of an error that are kept beside the log, which has all of them.
_LONGEST_MESSAGE = 2_000

_OUTAGES = "outages"
_FAILURES = "failures"
_FORGIVEN = "forgiven"
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


def unless_replaced(error: Exception, began: float) -> Exception:
    """The error of an attempt that `began` at a time of `monotonic`, as it is to be recovered from.

    Credentials that were refused while the file that holds them was replaced are read again by the
    next attempt.
    """
    if not isinstance(error, CredentialsError) or not replaced_since(began):
        return error
    message = f"{error}; a file of secrets was replaced meanwhile: it is tried again"
    if isinstance(error, WarehouseCredentialsError):
        return WarehouseUnavailableError(message)
    return SourceUnavailableError(message)


class Attempts:
    """Counted attempts of one activity, from its number (from 1) and heartbeat details."""

    def __init__(self, number: int, details: Sequence[Any], limit: int) -> None:
        found = details[-1] if details else None
        counts = found if isinstance(found, dict) else {}
        self.outages = _count(counts.get(_OUTAGES))
        #: Attempts that count, as they failed.
        self.failures = _count(counts.get(_FAILURES))
        self._forgiven = _count(counts.get(_FORGIVEN))
        #: Attempts that never answered, since there was progress.
        self.unanswered = max(0, number - 1 - self.outages - self.failures - self._forgiven)
        #: With so many failures, the activity has failed.
        self.limit = limit
        self._progress = _progress_of(details)

    @property
    def details(self) -> dict[str, int]:
        """The last detail of every heartbeat: it carries the counts to the next attempt."""
        counts = {
            _OUTAGES: self.outages,
            _FAILURES: self.failures,
            _FORGIVEN: self._forgiven,
        }
        return {name: count for name, count in counts.items() if count or name == _OUTAGES}

    @property
    def most_unanswered(self) -> int:
        """With so many attempts that never answered, the activity has failed."""
        return max(self.limit, UNANSWERED_ATTEMPTS)

    def note_heartbeat(self, details: Sequence[Any]) -> None:
        """Forgive what went unanswered where an activity's first detail, a number, has grown."""
        now, before = _progress_of(details), self._progress
        if now is None:
            return
        if before is not None and now > before:
            self._forgiven += self.unanswered
            self.unanswered = 0
        self._progress = now if before is None else max(now, before)

    def note_failure(self, error: BaseException) -> timedelta | None:
        """Count an attempt that failed; of one that met an outage, return the pause behind it."""
        if not is_outage(error):
            self.failures += 1
            return None
        return self.excuse()

    def excuse(self) -> timedelta:
        """Do not count the attempt; return the pause behind it, should it have met an outage."""
        doubled: int = 2 ** min(self.outages, _DOUBLINGS)
        self.outages += 1
        return min(_FIRST_DELAY * doubled, _LONGEST_DELAY)


def _count(found: object) -> int:
    return found if isinstance(found, int) else 0


def _progress_of(details: Sequence[Any]) -> int | None:
    first = details[0] if details else None
    return first if isinstance(first, int) else None


def is_outage(error: BaseException) -> bool:
    """Whether an error is an outage of the warehouse, which is waited out."""
    return isinstance(error, WarehouseUnavailableError) and not isinstance(
        error, WarehouseOverloadedError
    )


def limit_of(argument: object) -> int:
    """Maximum attempts of an activity, from the policy of its message."""
    policy = getattr(argument, "policy", None)
    return (policy if isinstance(policy, RunPolicy) else RunPolicy()).max_attempts
