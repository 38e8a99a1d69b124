"""Schedules described and put: when a connection is synced, and what becomes of overlaps."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from temporaletl import names, sdk
from temporaletl.connections import DEFAULT
from temporaletl.errors import ConfigurationError
from temporaletl.messages import QueuerInput
from temporaletl.queuer.planning import check_request
from temporaletl.timezones import known_timezone

if TYPE_CHECKING:
    from temporalio.client import (
        Client,
        Schedule,
        ScheduleCalendarSpec,
        ScheduleOverlapPolicy,
        ScheduleRange,
        ScheduleUpdate,
        ScheduleUpdateInput,
    )

_PART = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?(?:/(?P<step>\d+))?")
#: Temporal accepts no shorter catch-up window.
_SHORTEST_CATCHUP = timedelta(seconds=10)
_OTHER_SUNDAY = 7


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


def parse_ranges(text: str, *, what: str, least: int, most: int) -> list[ScheduleRange]:
    """Read `3`, `1-5`, `1,3`, `0-23/6` or `*` as ranges, both ends inclusive.

    Raises:
        ConfigurationError: not of that form, or outside least..most; says what was expected.
    """
    if text == "*":
        return [sdk.ScheduleRange(least, most)]
    ranges = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first = int(match["first"]) if match else -1
        last = int(match["last"] or first) if match else -1
        step = int(match["step"] or 1) if match else 0
        if not (least <= first <= last <= most and step >= 1):
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
    days = parse_ranges(day_of_week, what="day of week", least=0, most=7)
    return sdk.ScheduleCalendarSpec(
        second=[sdk.ScheduleRange(0)],
        minute=[sdk.ScheduleRange(0)],
        hour=parse_ranges(hour, what="hour", least=0, most=23),
        day_of_week=[part for day in days for part in _sunday_first(day)],
    )


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
    day_of_week: str,
    hour: str,
    time_zone: str = "UTC",
    overlap: Overlap = Overlap.SKIP,
    catchup_window: timedelta = timedelta(hours=1),
    task_queue: str = names.QUEUER_TASK_QUEUE,
) -> Schedule:
    """Describe the schedule of one connection of a source.

    Raises:
        ConfigurationError: a bad source, stream, day, hour, time zone or catch-up window.
    """
    check_request(request)
    spec = sdk.ScheduleSpec(
        calendars=[calendar(day_of_week, hour)], time_zone_name=_known_zone(time_zone)
    )
    if catchup_window < _SHORTEST_CATCHUP:
        raise ConfigurationError(
            f"catch-up window {catchup_window.total_seconds():g} s is shorter than "
            f"{_SHORTEST_CATCHUP.total_seconds():g} s"
        )
    return sdk.Schedule(
        action=sdk.ScheduleActionStartWorkflow(
            names.QUEUER_FLOW,
            request,
            id=names.scheduled_workflow_id(request.source, request.connection),
            task_queue=task_queue,
            static_summary=f"{names.label(request.source, request.connection)} {request.mode}",
        ),
        spec=spec,
        policy=sdk.SchedulePolicy(overlap=overlap.policy, catchup_window=catchup_window),
    )


def _known_zone(name: str) -> str:
    if known_timezone(name) is None:
        raise ConfigurationError(f"time zone {name!r} is not an IANA name such as Europe/London")
    return ZoneInfo(name).key


class Put(NamedTuple):
    """What became of a schedule: made or changed, and whether it starts no runs."""

    created: bool
    paused: bool


def put_sentence(
    source: str, day: str, hour: str, timezone: str, put: Put, *, connection: str = DEFAULT
) -> str:
    """What became of a schedule, in a sentence."""
    done = "created" if put.created else "updated"
    resume = f"etl schedule-resume {source}{names.connection_option(connection)}"
    paused = f"; still paused until `{resume}`" if put.paused else ""
    schedule_id = names.schedule_id(source, connection)
    return f"{done} {schedule_id}: day {day}, hour {hour}, {timezone}{paused}"


async def put_schedule(
    client: Client, source: str, schedule: Schedule, *, connection: str = DEFAULT
) -> Put:
    """Create the connection's schedule, or update it.

    An update keeps the schedule's state: one that is paused stays paused. Safe to repeat.
    """
    paused = False

    def updated(present: ScheduleUpdateInput) -> ScheduleUpdate:
        nonlocal paused
        state = present.description.schedule.state
        paused = state.paused
        return sdk.ScheduleUpdate(schedule=dataclasses.replace(schedule, state=state))

    schedule_id = names.schedule_id(source, connection)
    try:
        await client.create_schedule(schedule_id, schedule)
    except sdk.ScheduleAlreadyRunningError:
        await client.get_schedule_handle(schedule_id).update(updated)
        return Put(created=False, paused=paused)
    return Put(created=True, paused=False)
