"""Jira's times: text with an offset, or a number since 1970."""

from datetime import UTC, datetime, timedelta

from temporaletl import RecordError

#: A time as Jira may write it.
Moment = str | int | float

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_MS = timedelta(milliseconds=1)
#: As seconds it lies in the year 2200, as milliseconds 84 days from 1970: Jira knows neither.
_LEAST_MS = 7_258_118_400


def utc(moment: Moment | None) -> datetime:
    """Return a time as an aware datetime in UTC; numbers are milliseconds, or seconds if small.

    Raises:
        RecordError: there is no time, or it cannot be read.
    """
    try:
        if isinstance(moment, str):
            found = datetime.fromisoformat(moment)
            if found.tzinfo is UTC:
                return found
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        elif moment is not None:
            return _EPOCH + _ONE_MS * (moment if abs(moment) >= _LEAST_MS else moment * 1000)
    except (ValueError, OverflowError):
        pass
    raise RecordError("a time is missing" if moment is None else f"{moment!r} is no time in a zone")


def ms_of(moment: Moment | None) -> int | None:
    """Return a time as milliseconds since 1970, rounded down; None where it cannot be read."""
    try:
        return (utc(moment) - _EPOCH) // _ONE_MS
    except RecordError:
        return None
