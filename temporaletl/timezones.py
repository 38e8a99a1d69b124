"""Validation of time zone names."""

from functools import cache
from zoneinfo import available_timezones


def known_timezone(name: str | None) -> str | None:
    """Return the name if it is one of the IANA's, such as `Europe/Helsinki`; else None."""
    return name if name in _names() else None


@cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones())
