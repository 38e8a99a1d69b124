"""Timetables: the hours of the week at which a schedule's runs are due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

from temporaletl import sdk
from temporaletl.messages import Message

if TYPE_CHECKING:
    from temporalio.client import Schedule, ScheduleCalendarSpec, ScheduleRange

_WEEK = 7
#: No run was due before.
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Hours(Message):
    """Full hours of some days of the week; Sunday is 0."""

    days: frozenset[int]
    hours: frozenset[int]


class Timetable(Message):
    """The full hours at which runs are due, in a time zone."""

    calendars: tuple[Hours, ...]
    timezone: str = "UTC"

    @classmethod
    def of(cls, schedule: Schedule) -> Self | None:
        """The timetable of a schedule; None where it has other times than `etl schedule` makes."""
        spec = schedule.spec
        others = (
            spec.intervals or spec.cron_expressions or spec.skip or spec.start_at or spec.end_at
        )
        if others or not all(map(_is_weekly, spec.calendars)):
            return None
        calendars = [
            Hours(
                days=frozenset(day % _WEEK for day in members(one.day_of_week)),
                hours=frozenset(members(one.hour)),
            )
            for one in spec.calendars
        ]
        if not any(one.days and one.hours for one in calendars):
            return None
        return cls(calendars=tuple(calendars), timezone=spec.time_zone_name or "UTC")

    def due(self, start: datetime) -> Iterator[datetime]:
        """The times at which runs are due, from `start` on (inclusive), for ever.

        As Temporal has it, an hour that a change of the clocks leaves out has no run. One that
        comes twice has two runs west of Greenwich, and elsewhere one, the second time.
        """
        zone = ZoneInfo(self.timezone)
        day = max(start, _BEGINNING).astimezone(zone).date() - timedelta(days=1)
        while True:
            yield from sorted(each for each in self._of_day(day, zone) if each >= start)
            day += timedelta(days=1)

    def _of_day(self, day: date, zone: ZoneInfo) -> set[datetime]:
        weekday = day.isoweekday() % _WEEK
        hours = {hour for one in self.calendars if weekday in one.days for hour in one.hours}
        found = set()
        for hour in hours:
            offset = datetime.combine(day, time(hour), zone).utcoffset() or timedelta(0)
            for fold in (0, 1) if offset < timedelta(0) else (1,):
                timestamp = datetime.combine(day, time(hour, fold=fold), zone).astimezone(UTC)
                if timestamp.astimezone(zone).hour == hour:
                    found.add(timestamp)
        return found

    def nth_due(self, start: datetime, number: int) -> datetime:
        """The `number`th of these times, from 1."""
        return next(islice(self.due(start), number - 1, None))


def _is_weekly(calendar: ScheduleCalendarSpec) -> bool:
    always = sdk.ScheduleCalendarSpec()
    return (
        members(calendar.minute) == members(calendar.second) == {0}
        and members(calendar.day_of_month) == members(always.day_of_month)
        and members(calendar.month) == members(always.month)
        and not calendar.year
    )


def members(ranges: Sequence[ScheduleRange]) -> set[int]:
    """The numbers that ranges of a schedule hold."""
    return {
        number
        for one in ranges
        for number in range(one.start, max(one.end, one.start) + 1, max(one.step, 1))
    }
