"""The delay that a response over HTTP requests: Retry-After and its kin."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: No honest wait, in seconds: a number this large is a time since 1970, or nonsense.
_TIMES_BEGIN_AT = 1_000_000_000
#: Beyond it, Python and PostgreSQL have no time to come back at.
_LONGEST_SECONDS = timedelta(days=36_500).total_seconds()


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """The delay that a response requests by its headers, which ignore case or are in lower case.

    None where it requests none.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    # Against the server's own clock, where it shows it: ours may be fast.
    now = _http_date(headers.get("date", "")) or datetime.now(UTC)
    try:
        seconds = float(value)
    except ValueError:
        until = _http_date(value)
        return None if until is None else max(timedelta(0), until - now)
    if seconds >= _TIMES_BEGIN_AT and seconds > now.timestamp():
        seconds -= now.timestamp()
    if seconds != seconds:  # NaN  # noqa: PLR0124
        return None
    return timedelta(seconds=min(max(0.0, seconds), _LONGEST_SECONDS))


def _http_date(value: str) -> datetime | None:
    try:
        timestamp = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return timestamp if timestamp.tzinfo is not None else timestamp.replace(tzinfo=UTC)
