"""Instants: milliseconds since the epoch in the model, text with an offset in the answers."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_JIRA_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\s*(Z|[+-]\d\d:?\d\d)?"
)
_QUARTER = 900_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse(value: int | str) -> int:
    """Return an instant, given as text with an offset or as epoch milliseconds, in milliseconds.

    Raises:
        ValueError: the text is no time.
    """
    if isinstance(value, int):
        return value
    matched = _JIRA_TIME.fullmatch(value.strip())
    if matched is None:
        raise ValueError(f"{value!r} is not a Jira time")
    day, clock, fraction, offset = matched.groups()
    timestamp = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
    milliseconds = (timestamp - _EPOCH) // timedelta(milliseconds=1)
    milliseconds += int((fraction or "0").ljust(3, "0")[:3])
    if offset and offset != "Z":
        sign = -1 if offset[0] == "-" else 1
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        milliseconds -= sign * (hours * 60 + minutes) * 60_000
    return milliseconds


class Clockface:
    """Writes instants as Jira does for a person in one time zone: 2024-03-01T09:05:00.123+0200."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._quarters: dict[int, tuple[str, int, str]] = {}

    def text(self, value: int | str) -> str:
        """Return the instant as text; text is returned as it is."""
        if isinstance(value, str):
            return value
        quarter, rest = divmod(value, _QUARTER)
        known = self._quarters.get(quarter)
        if known is None:
            known = self._quarters[quarter] = self._quarter(quarter)
        hour, minute, offset = known
        minutes, milliseconds = divmod(rest, 60_000)
        seconds, milliseconds = divmod(milliseconds, 1000)
        return f"{hour}{minute + minutes:02d}:{seconds:02d}.{milliseconds:03d}{offset}"

    def _quarter(self, quarter: int) -> tuple[str, int, str]:
        """Return what all times of a quarter of an hour share: no zone moves its clocks in one."""
        local = datetime.fromtimestamp(quarter * _QUARTER / 1000, self.zone)
        minutes = (local.utcoffset() or timedelta(0)) // timedelta(minutes=1)
        sign = "-" if minutes < 0 else "+"
        offset = f"{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
        return f"{local:%Y-%m-%dT%H:}", local.minute, offset
