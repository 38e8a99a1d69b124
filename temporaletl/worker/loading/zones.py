"""Wall clocks: the offsets of named time zones, and the weeks of days.

Days and seconds count from 2000-01-01, as PostgreSQL's times do.
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

_DAY = 86_400
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

# The first and the last day that a datetime can hold.
_FIRST_DAY = date.min.toordinal() - _EPOCH.toordinal()
_LAST_DAY = date.max.toordinal() - _EPOCH.toordinal()

# One zone over two hundred years; beyond that the days are worked out again.
_DAYS_KEPT = 73_000
# There are about six hundred names; a source that sends other things must not fill the memory.
_ZONES_KEPT = 2_000

# No zone in the IANA data changes twice within three days, so that equal offsets that far apart
# hold in between; a stretch of days is worked out at once.
_DAYS_BETWEEN = 3
_DAYS_AT_ONCE = 3 * _DAYS_BETWEEN

_FIXED = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?([0-5]\d)(?::?([0-5]\d))?)?")


class UnknownZoneError(ValueError):
    """No such time zone."""


class ChangesError(Exception):
    """The offset changes on that day."""


class Offsets(dict[int, int]):
    """A zone's offset in seconds by UTC day, worked out for the days around each that occurs.

    Raises:
        ChangesError: the offset changes on that day; `at` knows it by the second.
    """

    def __init__(self, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone
        self._changing: set[int] = set()

    def __missing__(self, day: int) -> int:
        if day not in self._changing:
            if len(self) >= _DAYS_KEPT:
                self.clear()
                self._changing.clear()
            self._work_out(day - day % _DAYS_AT_ONCE)
        if day in self._changing:
            raise ChangesError
        return self[day]

    def _work_out(self, begin: int) -> None:
        days = range(begin, begin + _DAYS_AT_ONCE + 1, _DAYS_BETWEEN)
        offsets = [self.at(day * _DAY) for day in days]
        for first, (offset, following) in zip(days, pairwise(offsets), strict=False):
            between = range(first, first + _DAYS_BETWEEN)
            if offset == following:
                self.update(dict.fromkeys(between, offset))
                continue
            for day in between:
                at_first, at_last = self.at(day * _DAY), self.at((day + 1) * _DAY - 1)
                if at_first == at_last:
                    self[day] = at_first
                else:
                    self._changing.add(day)

    def at(self, second: int) -> int:
        # At the ends of the calendar zoneinfo overflows; no zone changes in those two days.
        inside = min(max(second, (_FIRST_DAY + 2) * _DAY), (_LAST_DAY - 2) * _DAY)
        offset = (_EPOCH + timedelta(seconds=inside)).astimezone(self._zone).utcoffset()
        return 0 if offset is None else offset.days * _DAY + offset.seconds


class Zones(dict[str, Offsets]):
    """Offsets by the zone's name: an IANA zone, or a fixed offset as `+08:00`, `-0330`, `UTC+8`.

    Raises:
        UnknownZoneError: the name is neither.
    """

    def __init__(self) -> None:
        super().__init__()
        # Looking for a file that is not there takes long, and a source may repeat itself.
        self._unknown: set[str] = set()

    def __missing__(self, name: str) -> Offsets:
        zone = None if name in self._unknown else _find(name)
        if zone is None:
            if len(self._unknown) >= _ZONES_KEPT:
                self._unknown.clear()
            self._unknown.add(name)
            raise UnknownZoneError(f"unknown time zone {name!r:.100}")
        if len(self) >= _ZONES_KEPT:
            self.clear()
        self[name] = offsets = Offsets(zone)
        return offsets


def _find(name: str) -> tzinfo | None:
    fixed = _FIXED.fullmatch(name)
    if fixed is not None:
        sign, *parts = fixed.groups(default="0")
        hours, minutes, seconds = map(int, parts)
        offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if offset < timedelta(days=1):
            return timezone(offset if sign == "+" else -offset)
    try:
        return UTC if name == "Z" else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # ValueError: not a file of zone data, or a path that leaves its folder; OSError: a folder.
        return None


class Mondays(dict[int, int]):
    """The Monday of a day's week.

    Raises:
        OverflowError: the day lies before year 1 or after year 9999.
    """

    def __missing__(self, day: int) -> int:
        if not _FIRST_DAY <= day <= _LAST_DAY:
            raise OverflowError("the local time lies outside of years 1 to 9999")
        if len(self) >= _DAYS_KEPT:
            self.clear()
        # 2000-01-03 was a Monday.
        self[day] = monday = day - (day - 2) % 7
        return monday
