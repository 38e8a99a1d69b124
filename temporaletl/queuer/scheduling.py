"""Schedules described: when a connection is synced, and what becomes of overlaps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from temporaletl import names
from temporaletl.errors import ConfigurationError
from temporaletl.messages import Message, QueuerInput
from temporaletl.queuer.planning import check_request
from temporaletl.temporal import sdk
from temporaletl.timezones import known_timezone

if TYPE_CHECKING:
    from temporalio.client import (
        Schedule,
        ScheduleCalendarSpec,
        ScheduleOverlapPolicy,
        ScheduleRange,
        ScheduleSpec,
    )

_PART = re.compile(r"(?:(?P<every>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
#: Temporal accepts no shorter catch-up window.
_SHORTEST_CATCHUP = timedelta(seconds=10)
_SHORTEST_INTERVAL = timedelta(minutes=1)
_LONGEST_INTERVAL = timedelta(days=366)
_OTHER_SUNDAY = 7
_WEEK = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_DAYS = {word: number for number, day in enumerate(_WEEK) for word in (day, day[:3])}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Overlap(StrEnum):
    """What happens when a run is due while the last one still goes on."""

    SKIP = "skip"
    BUFFER_ONE = "buffer-one"
    BUFFER_ALL = "buffer-all"
    CANCEL_OTHER = "cancel-other"
    TERMINATE_OTHER = "terminate-other"
    ALLOW_ALL = "allow-all"

    @property
    def policy(self) -> ScheduleOverlapPolicy:
        return sdk.ScheduleOverlapPolicy[self.name]


def parse_ranges(
    text: str, *, what: str, least: int, most: int, words: dict[str, int] | None = None
) -> list[ScheduleRange]:
    """Read `3`, `1-5`, `1,3`, `0-23/6`, `*` or `*/15` as ranges, both ends inclusive.

    Raises:
        ConfigurationError: not of that form, or outside least..most; says what was expected.
    """

    def number(word: str) -> int:
        return int(word) if word.isdecimal() else (words or {}).get(word.lower(), -1)

    ranges = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first = last = step = -1
        if match is not None and match["every"]:
            # Cron's week has Sunday at both ends: steps are counted from the first one.
            first, last = least, most - 1 if words is _DAYS else most
        elif match is not None:
            first = number(match["first"])
            last = number(match["last"]) if match["last"] else first
        if match is not None:
            step = int(match["step"] or 1)
        if not (least <= first <= last <= most and 1 <= step <= most):
            raise ConfigurationError(
                f"{what} {text!r} is not a number from {least} to {most}, a range (1-5), "
                f"a list (1,3) or *"
            )
        ranges.append(sdk.ScheduleRange(first, last, step))
    return ranges


def calendar(day_of_week: str, hour: str) -> ScheduleCalendarSpec:
    """The days (0 or 7 is Sunday, 1 Monday) and hours (0 to 23) at whose beginning to run.

    Raises:
        ConfigurationError: a bad day or hour.
    """
    return sdk.ScheduleCalendarSpec(
        second=[sdk.ScheduleRange(0)],
        minute=[sdk.ScheduleRange(0)],
        hour=parse_ranges(hour, what="hour", least=0, most=23),
        day_of_week=_days_of_week(day_of_week),
    )


def cron_calendars(expression: str) -> list[ScheduleCalendarSpec]:
    """The times of a cron expression: minute, hour, day of month, month and day of week.

    Days and months have names (`mon`, `jan`), too, and `@daily` and its like stand for their
    expressions. As cron has it, a run is due on a day of the month or of the week where both are
    limited. The comment of each is the expression.

    Raises:
        ConfigurationError: a field is missing or wrong; names it.
    """
    text = " ".join(expression.split())
    fields = _MACROS.get(text.lower(), text).split()
    if len(fields) != 5:  # noqa: PLR2004 - cron's own number
        raise ConfigurationError(
            f"cron {expression!r} has not the five fields minute, hour, day of month, month and "
            "day of week, as in '*/15 * * * *'"
        )
    minute, hour, day, month, day_of_week = fields
    times = sdk.ScheduleCalendarSpec(
        second=[sdk.ScheduleRange(0)],
        minute=parse_ranges(minute, what="minute", least=0, most=59),
        hour=parse_ranges(hour, what="hour", least=0, most=23),
        month=parse_ranges(month, what="month", least=1, most=12, words=_MONTHS),
        comment=text,
    )
    by_day = dataclasses.replace(
        times, day_of_month=parse_ranges(day, what="day of month", least=1, most=31)
    )
    by_week = dataclasses.replace(times, day_of_week=_days_of_week(day_of_week))
    if day.startswith("*") or day_of_week.startswith("*"):
        return [dataclasses.replace(by_day, day_of_week=by_week.day_of_week)]
    return [by_day, by_week]


def parse_interval(text: str) -> timedelta:
    """Read `15m`, `2h`, `1d` or `1h30m`.

    Raises:
        ConfigurationError: it is none of these.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise ConfigurationError(f"{text!r} is no span of time such as 15m, 2h, 1d or 1h30m")
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ConfigurationError(f"{text!r} is too long") from None


def _days_of_week(text: str) -> list[ScheduleRange]:
    days = parse_ranges(text, what="day of week", least=0, most=7, words=_DAYS)
    return [part for day in days for part in _sunday_first(day)]


def _sunday_first(days: ScheduleRange) -> list[ScheduleRange]:
    """Days of Temporal's week, 0 to 6, for cron's, whose 7 is Sunday once more."""
    if days.end < _OTHER_SUNDAY:
        return [days]
    sunday = [sdk.ScheduleRange(0)] if (_OTHER_SUNDAY - days.start) % days.step == 0 else []
    if days.start == _OTHER_SUNDAY:
        return sunday
    return [*([] if days.start == 0 else sunday), dataclasses.replace(days, end=_OTHER_SUNDAY - 1)]


def make_schedule(
    request: QueuerInput,
    *,
    times: Sequence[ScheduleCalendarSpec] | timedelta,
    name: str = names.DEFAULT_SCHEDULE,
    time_zone: str = "UTC",
    jitter: timedelta = timedelta(0),
    overlap: Overlap = Overlap.SKIP,
    catchup_window: timedelta = timedelta(hours=1),
    task_queue: str = names.QUEUER_TASK_QUEUE,
) -> Schedule:
    """Describe a schedule of one connection of a source, as `schedule_of` does.

    Where the policy is to skip, a run that is due while another one loads the same already is
    skipped, whoever started that.

    Raises:
        ConfigurationError: a bad source, stream or parameter; or as `schedule_of`.
    """
    check_request(request)
    key = names.ScheduleKey(request.source, request.connection, name)
    skips = overlap is Overlap.SKIP
    return schedule_of(
        key,
        names.QUEUER_FLOW,
        request.model_copy(update={"schedule": name, "only": skips}),
        summary=f"{key.label} {request.mode}",
        times=times,
        time_zone=time_zone,
        jitter=jitter,
        overlap=overlap,
        catchup_window=catchup_window,
        task_queue=task_queue,
    )


def schedule_of(
    key: names.ScheduleKey,
    workflow: str,
    request: Message,
    *,
    summary: str,
    times: Sequence[ScheduleCalendarSpec] | timedelta,
    time_zone: str,
    jitter: timedelta,
    overlap: Overlap,
    catchup_window: timedelta,
    task_queue: str,
) -> Schedule:
    """Describe a schedule that starts a workflow, due at `times` or in such an interval.

    Each run is delayed by up to `jitter`.

    Raises:
        ConfigurationError: a bad name, time zone, span or catch-up window.
    """
    if not names.is_schedule_name(key.name):
        raise ConfigurationError(
            f"{key.name!r} is no name of a schedule: lower-case words, such as nightly or full_load"
        )
    if catchup_window < _SHORTEST_CATCHUP:
        raise ConfigurationError(
            f"catch-up window {catchup_window.total_seconds():g} s is shorter than "
            f"{_SHORTEST_CATCHUP.total_seconds():g} s"
        )
    return sdk.Schedule(
        action=sdk.ScheduleActionStartWorkflow(
            workflow, request, id=key.workflow_id, task_queue=task_queue, static_summary=summary
        ),
        spec=_spec(times, time_zone, jitter),
        policy=sdk.SchedulePolicy(overlap=overlap.policy, catchup_window=catchup_window),
    )


def _spec(
    times: Sequence[ScheduleCalendarSpec] | timedelta, time_zone: str, jitter: timedelta
) -> ScheduleSpec:
    zone = _known_zone(time_zone)
    if isinstance(times, timedelta):
        if not _SHORTEST_INTERVAL <= times <= _LONGEST_INTERVAL:
            raise ConfigurationError(
                f"an interval of {times.total_seconds():g} s is not between a minute and a year"
            )
        if zone != "UTC":
            raise ConfigurationError(f"an interval has no time zone such as {zone}: leave it out")
        spec = sdk.ScheduleSpec(intervals=[sdk.ScheduleIntervalSpec(every=times)])
    else:
        spec = sdk.ScheduleSpec(calendars=times, time_zone_name=zone)
    return dataclasses.replace(spec, jitter=jitter) if jitter else spec


def _known_zone(name: str) -> str:
    if known_timezone(name) is None:
        raise ConfigurationError(f"time zone {name!r} is not an IANA name such as Europe/London")
    return ZoneInfo(name).key
