"""Instants as the service keeps them: ticks of 100 ns since 1970 UTC, seven digits in the text."""

import re
import time
from datetime import UTC, datetime, timedelta

SECOND = 10_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,7})\d*)?)?\s*(Z|[+-]\d\d:?\d\d)?"
)


def now() -> int:
    return time.time_ns() // 100


def ticks(timestamp: datetime) -> int:
    return (timestamp - _EPOCH) // timedelta(microseconds=1) * 10


def parse(text: str) -> int:
    """Return a date or time, UTC where it has no zone.

    Raises:
        ValueError: it is none.
    """
    matched = _TEXT.fullmatch(text.strip())
    if matched is None:
        raise ValueError(f"{text!r} is no time")
    day, clock, fraction, zone = matched.groups()
    timestamp = datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone or 'Z'}")
    return ticks(timestamp) + int((fraction or "0").ljust(7, "0"))


def text(instant: int) -> str:
    """Write an instant as .NET does: without the fraction where there is none."""
    seconds, fraction = divmod(instant, SECOND)
    clock = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f".{fraction:07d}".rstrip("0") if fraction else ""
    return f"{clock}{digits}Z"
