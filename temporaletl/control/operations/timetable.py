"""Timetables: the hours of the week at which a schedule's runs are due."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Self
from zoneinfo import ZoneInfo

from temporalio.client import Schedule, ScheduleCalendarSpec, ScheduleRange

from temporaletl.messages import Message

_WEEK = 7
_ALWAYS = ScheduleCalendarSpec()


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
                days=frozenset(day % _WEEK for day in _members(one.day_of_week)),
                hours=frozenset(_members(one.hour)),
            )
            for one in spec.calendars
        ]
        if not any(one.days and one.hours for one in calendars):
            return None
        return cls(calendars=tuple(calendars), timezone=spec.time_zone_name or "UTC")

    def due(self, start: datetime) -> Iterator[datetime]:
        """The times at which runs are due, from `start` on (inclusive), for ever."""
        zone = ZoneInfo(self.timezone)
        day = start.astimezone(zone).date() - timedelta(days=1)
        while True:
            hours = {
                hour
                for one in self.calendars
                if day.isoweekday() % _WEEK in one.days
                for hour in one.hours
            }
            times = (datetime.combine(day, time(hour), zone).astimezone(UTC) for hour in hours)
            yield from sorted(timestamp for timestamp in times if timestamp >= start)
            day += timedelta(days=1)

    def nth_due(self, start: datetime, number: int) -> datetime:
        """The `number`th of these times, from 1."""
        return next(islice(self.due(start), number - 1, None))


def _is_weekly(calendar: ScheduleCalendarSpec) -> bool:
    return (
        _members(calendar.minute) == _members(calendar.second) == {0}
        and _members(calendar.day_of_month) == _members(_ALWAYS.day_of_month)
        and _members(calendar.month) == _members(_ALWAYS.month)
        and not calendar.year
    )


def _members(ranges: Sequence[ScheduleRange]) -> set[int]:
    return {
        number
        for one in ranges
        for number in range(one.start, max(one.end, one.start) + 1, max(one.step, 1))
    }
