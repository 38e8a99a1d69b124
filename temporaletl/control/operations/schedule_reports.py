"""Reports of schedules: when their runs are due, those that go on, and those that did not start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.operations.timetable import members
from temporaletl.messages import Message, QueuerInput
from temporaletl.names import DEFAULT_SCHEDULE, ScheduleKey
from temporaletl.temporal import sdk
from temporaletl.worker.pipelines.messages import ExecutionInput

if TYPE_CHECKING:
    from temporalio.client import (
        Client,
        Schedule,
        ScheduleCalendarSpec,
        ScheduleDescription,
        ScheduleRange,
    )

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


class ScheduleReport(Message):
    """A schedule of a connection, or of a stored pipeline: its source is `pipeline` then.

    Of its times, either `days` and `hours`, or `cron`, or `every_minutes` is there; none of them
    where other programs made it. `times` says them in words.
    """

    source: str
    connection: str = DEFAULT
    name: str = DEFAULT_SCHEDULE
    schedule_id: str
    mode: str
    streams: tuple[str, ...] = ()  # none: all of the source
    params: dict[str, JsonValue] = Field(default_factory=dict)
    #: Of a pipeline, which has no mode, streams and params; None: the latest version.
    pipeline_version: str | None = None
    input: JsonValue = None
    times: str = ""
    days: str = ""
    hours: str = ""
    cron: str | None = None
    every_minutes: float | None = None
    jitter_minutes: float = 0
    timezone: str
    overlap: str
    catchup_window_minutes: float | None
    paused: bool
    note: str | None
    running: tuple[str, ...]  # workflow ids
    last_run: datetime | None  # scheduled time
    next_run: datetime | None
    next_runs: tuple[datetime, ...] = ()  # up to ten; none while it is paused
    #: Runs that did not start: no service could start them in time, or another one went on.
    num_actions_missed_catchup_window: int = 0
    num_actions_skipped_overlap: int = 0
    #: Runs that were skipped since a run of another schedule, or of a person, loads the same.
    num_skipped_for_others: int = 0
    #: Names what the schedule is now: it changes with every change of it, pauses too.
    version: str = ""

    @property
    def key(self) -> ScheduleKey:
        return ScheduleKey(self.source, self.connection, self.name)


async def report_of(
    client: Client, found: ScheduleDescription, skipped: Mapping[ScheduleKey, int] | None = None
) -> ScheduleReport:
    """The report of a schedule that was described; `skipped` as `skipped_of` has it."""
    schedule, info = found.schedule, found.info
    upcoming = () if schedule.state.paused else tuple(info.next_action_times)
    key = ScheduleKey.of_id(found.id)
    return ScheduleReport(
        **key._asdict(),
        schedule_id=found.id,
        **await _asked(client, key, schedule),
        **_times(schedule),
        jitter_minutes=_minutes(schedule.spec.jitter) or 0,
        timezone=schedule.spec.time_zone_name or "UTC",
        overlap=schedule.policy.overlap.name.lower().replace("_", "-"),
        catchup_window_minutes=_minutes(schedule.policy.catchup_window),
        paused=schedule.state.paused,
        note=schedule.state.note,
        running=tuple(
            action.workflow_id
            for action in info.running_actions
            if isinstance(action, sdk.ScheduleActionExecutionStartWorkflow)
        ),
        last_run=info.recent_actions[-1].scheduled_at if info.recent_actions else None,
        next_run=upcoming[0] if upcoming else None,
        next_runs=upcoming,
        num_actions_missed_catchup_window=info.num_actions_missed_catchup_window,
        num_actions_skipped_overlap=info.num_actions_skipped_overlap,
        num_skipped_for_others=(skipped or {}).get(key, 0),
        version=version_of(found),
    )


async def _asked(client: Client, key: ScheduleKey, schedule: Schedule) -> dict[str, Any]:
    """What a schedule has done, as a report has it."""
    if key.pipeline is not None:
        started = await _request(client, schedule, ExecutionInput)
        fields = {"pipeline_version": started.version, "input": started.input} if started else {}
        return {"mode": "", **fields}
    request = await request_of(client, schedule)
    if request is None:
        return {"mode": ""}
    return {name: getattr(request, name) for name in ("mode", "streams", "params")}


def _times(schedule: Schedule) -> dict[str, Any]:
    """When a schedule's runs are due, as a report has it."""
    spec, shown, fields = schedule.spec, [], dict[str, Any]()
    zone = spec.time_zone_name or "UTC"
    crons = dict.fromkeys(calendar.comment for calendar in spec.calendars if calendar.comment)
    if crons:
        fields["cron"] = "; ".join(filter(None, crons))
        shown.append(f"cron {fields['cron']}")
    elif spec.calendars and not all(map(_is_weekly, spec.calendars)):
        shown.append("at other times than `etl schedule` makes")
    elif spec.calendars:
        fields["days"] = "; ".join(show_ranges(one.day_of_week, _DAYS) for one in spec.calendars)
        fields["hours"] = "; ".join(show_ranges(one.hour) for one in spec.calendars)
        days = "every day" if fields["days"] == "every" else fields["days"]
        hours = fields["hours"]
        hours = "every hour" if hours == "every" else f"at {_clock(hours)}"
        shown.append(f"{days} {hours}")
    if spec.calendars and zone != "UTC":
        shown[-1] += f" {zone}"
    for interval in spec.intervals:
        fields["every_minutes"] = _minutes(interval.every)
        shown.append(f"every {show_interval(interval.every)}")
    times = ", ".join(shown)
    if spec.jitter:
        times += f", up to {show_interval(spec.jitter)} later"
    return {**fields, "times": times}


def _is_weekly(calendar: ScheduleCalendarSpec) -> bool:
    """Whether a calendar has full hours of days of the week alone."""
    always = sdk.ScheduleCalendarSpec()
    return members(calendar.minute) == {0} and all(
        members(getattr(calendar, part)) == members(getattr(always, part))
        for part in ("second", "day_of_month", "month", "year")
    )


def _clock(hours: str) -> str:
    return f"{int(hours):02}:00" if hours.isdecimal() else f"hours {hours}"


def show_interval(span: timedelta) -> str:
    """A span as it is given: `15m`, `1h30m`."""
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def version_of(found: ScheduleDescription) -> str:
    """The version of a schedule: another one after each change of it, in whatever way."""
    token = found.raw_description.conflict_token
    return hashlib.blake2b(token, digest_size=8).hexdigest()


async def request_of(client: Client, schedule: Schedule) -> QueuerInput | None:
    """The request for the runs that a schedule starts; None where it starts something else."""
    return await _request(client, schedule, QueuerInput)


async def _request[T](client: Client, schedule: Schedule, kind: type[T]) -> T | None:
    action = schedule.action
    if not isinstance(action, sdk.ScheduleActionStartWorkflow) or not action.args:
        return None
    request = action.args[0]
    if not isinstance(request, kind):
        [request] = await client.data_converter.decode([request], [kind])
    return request if isinstance(request, kind) else None


def _minutes(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds() / 60


def show_ranges(ranges: Sequence[ScheduleRange], words: Sequence[str] | None = None) -> str:
    """Format ranges as they were given: `Mon-Fri`, `3,15`, `every`."""
    every = 7 if words else 24
    if len(members(ranges)) == every:
        return "every"

    def name_of(number: int) -> str:
        return words[number % len(words)] if words else str(number)

    shown = []
    for one in ranges:
        last = max(one.end, one.start)
        text = name_of(one.start) if last == one.start else f"{name_of(one.start)}-{name_of(last)}"
        shown.append(f"{text}/{one.step}" if one.step > 1 else text)
    return ",".join(shown)
