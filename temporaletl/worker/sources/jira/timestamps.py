"""Jira's timestamps: text with an offset, or a number since 1970."""

from datetime import UTC, datetime, timedelta

from temporaletl import RecordError

#: A timestamp as Jira may write it.
Timestamp = str | int | float

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_MS = timedelta(milliseconds=1)
#: As seconds it lies in the year 2200, as milliseconds 84 days from 1970: Jira knows neither.
_LEAST_MS = 7_258_118_400


def utc(timestamp: Timestamp | None) -> datetime:
    """Return a timestamp as an aware datetime in UTC; numbers are in ms, or seconds if small.

    Raises:
        RecordError: there is no time, or it cannot be read.
    """
    try:
        if isinstance(timestamp, str):
            parsed = datetime.fromisoformat(timestamp)
            if parsed.tzinfo is UTC:
                return parsed
            if parsed.tzinfo is not None:
                return parsed.astimezone(UTC)
        elif timestamp is not None:
            return _EPOCH + _ONE_MS * (
                timestamp if abs(timestamp) >= _LEAST_MS else timestamp * 1000
            )
    except (ValueError, OverflowError):
        pass
    raise RecordError(
        "a time is missing" if timestamp is None else f"{timestamp!r} is no time in a zone"
    )


def ms_of(timestamp: Timestamp | None) -> int | None:
    """Return a timestamp as milliseconds since 1970, rounded down; None where it cannot be read."""
    try:
        return (utc(timestamp) - _EPOCH) // _ONE_MS
    except RecordError:
        return None
