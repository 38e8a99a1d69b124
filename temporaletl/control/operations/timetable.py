"""Timetables: the times at which a schedule's runs are due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

from temporaletl.messages import Message

if TYPE_CHECKING:
    from temporalio.client import (
        Schedule,
        ScheduleCalendarSpec,
        ScheduleRange,
    )

_WEEK = 7
#: No run was due before.
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
#: Longer than from one 29th of February to the next, over a century without one.
_LONGEST_GAP = timedelta(days=9 * 366)


class Calendar(Message):
    """Times of some days; Sunday is 0, and all sets of days and months must hold."""

    days: frozenset[int]
    hours: frozenset[int]
    minutes: frozenset[int] = frozenset({0})
    month_days: frozenset[int] = frozenset(range(1, 32))
    months: frozenset[int] = frozenset(range(1, 13))

    @classmethod
    def of(cls, spec: ScheduleCalendarSpec) -> Self:
        """The times that a calendar of a schedule holds."""
        return cls(
            days=frozenset(day % _WEEK for day in members(spec.day_of_week)),
            hours=frozenset(members(spec.hour)),
            minutes=frozenset(members(spec.minute)),
            month_days=frozenset(members(spec.day_of_month)),
            months=frozenset(members(spec.month)),
        )

    def times_of(self, day: date) -> Iterator[time]:
        """Its times of a day, by the clock."""
        if (
            day.isoweekday() % _WEEK in self.days
            and day.day in self.month_days
            and day.month in self.months
        ):
            for hour in self.hours:
                yield from (time(hour, minute) for minute in self.minutes)


class Timetable(Message):
    """The times at which runs are due: those of calendars in a time zone, and of an interval.

    A run may start up to `jitter` after its time.
    """

    calendars: tuple[Calendar, ...] = ()
    timezone: str = "UTC"
    every: timedelta | None = None
    offset: timedelta = timedelta(0)
    jitter: timedelta = timedelta(0)

    @classmethod
    def of(cls, schedule: Schedule) -> Self | None:
        """The timetable of a schedule; None where it has other times than `etl schedule` makes."""
        spec = schedule.spec
        others = spec.cron_expressions or spec.skip or spec.start_at or spec.end_at
        intervals = list(spec.intervals)
        if others or not all(map(_is_plain, spec.calendars)) or len(intervals) > 1:
            return None
        found = cls(
            calendars=tuple(map(Calendar.of, spec.calendars)),
            timezone=spec.time_zone_name or "UTC",
            every=intervals[0].every if intervals else None,
            offset=(intervals[0].offset if intervals else None) or timedelta(0),
            jitter=spec.jitter or timedelta(0),
        )
        return None if next(found.due(_BEGINNING), None) is None else found

    def due(self, start: datetime) -> Iterator[datetime]:
        """The times at which runs are due, from `start` on (inclusive), for ever.

        As Temporal has it, an hour that a change of the clocks leaves out has no run. One that
        comes twice has two runs west of Greenwich, and elsewhere one, the second time. It ends
        where no run is due for years: on the 30th of February.
        """
        zone = ZoneInfo(self.timezone)
        start = max(start, _BEGINNING)
        day = start.astimezone(zone).date() - timedelta(days=1)
        empty = timedelta(0)
        while empty < _LONGEST_GAP:
            found = sorted(each for each in self._of_day(day, zone) if each >= start)
            yield from found
            empty = timedelta(0) if found else empty + timedelta(days=1)
            day += timedelta(days=1)

    def _of_day(self, day: date, zone: ZoneInfo) -> set[datetime]:
        found = set(self._of_interval(day, zone))
        for clock in {one for calendar in self.calendars for one in calendar.times_of(day)}:
            local = datetime.combine(day, clock, zone)
            west = (local.utcoffset() or timedelta(0)) < timedelta(0)
            for fold in (0, 1) if west else (1,):
                timestamp = local.replace(fold=fold).astimezone(UTC)
                if timestamp.astimezone(zone).time() == clock:
                    found.add(timestamp)
        return found

    def _of_interval(self, day: date, zone: ZoneInfo) -> Iterator[datetime]:
        if self.every is None:
            return
        begin = datetime.combine(day, time(0), zone).astimezone(UTC)
        end = datetime.combine(day + timedelta(days=1), time(0), zone).astimezone(UTC)
        first = _BEGINNING + self.offset
        timestamp = first + max(-((first - begin) // self.every), 0) * self.every
        while timestamp < end:
            if timestamp >= begin:
                yield timestamp
            timestamp += self.every

    def nth_due(self, start: datetime, number: int) -> datetime:
        """The `number`th of these times, from 1."""
        return next(islice(self.due(start), number - 1, None))


def _is_plain(calendar: ScheduleCalendarSpec) -> bool:
    return members(calendar.second) == {0} and not calendar.year


def members(ranges: Sequence[ScheduleRange]) -> set[int]:
    """The numbers that ranges of a schedule hold."""
    return {
        number
        for one in ranges
        for number in range(one.start, max(one.end, one.start) + 1, max(one.step, 1))
    }
