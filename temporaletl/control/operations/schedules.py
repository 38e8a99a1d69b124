"""Schedules of the sources: listed, paused, resumed, triggered, deleted, run for a past span."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from temporaletl import names, sdk
from temporaletl.connection_entries import Connection
from temporaletl.connection_providers import provided, read_entries
from temporaletl.connections import DEFAULT
from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.control.operations.sources import known_planners
from temporaletl.control.operations.timetable import Timetable, members
from temporaletl.errors import ConfigurationError
from temporaletl.messages import Message, QueuerInput
from temporaletl.rows import storable_text
from temporaletl.warehouse.audit import Author

if TYPE_CHECKING:
    from temporalio.client import (
        Client,
        Schedule,
        ScheduleDescription,
        ScheduleHandle,
        ScheduleRange,
    )

_PREFIX = names.schedule_id("")
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
#: How many starts Temporal keeps waiting for one schedule; it drops any above.
MOST_BUFFERED = 1_000
_LONGEST_SPAN = timedelta(days=3_653)
_NOTE_CHARACTERS = 500


class ScheduleReport(Message):
    """One connection's schedule."""

    source: str
    connection: str = DEFAULT
    schedule_id: str
    mode: str
    days: str
    hours: str
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
    #: Names what the schedule is now: it changes with every change of it, pauses too.
    version: str = ""


class Schedules(NamedTuple):
    """The schedules, and what is wrong in the connections file."""

    schedules: list[ScheduleReport]
    faults: list[str]


async def list_schedules(platform: Platform) -> Schedules:
    """Every schedule; those of known sources and connections even if they are new.

    A fault in the connections file hides none that Temporal lists.

    Raises: as `Platform.client`.
    """
    found, faults = await describe_schedules(platform)
    client = await platform.client()
    return Schedules([await report_of(client, described) for described in found], faults)


async def describe_schedules(platform: Platform) -> tuple[list[ScheduleDescription], list[str]]:
    """As `list_schedules`, each as Temporal describes it."""
    client, sources = await platform.client(), known_planners()
    with provided(await platform.stored_connections()):
        connections, faults = _sound_connections()
    with translated_errors():
        listed = {
            listed.id
            async for listed in await client.list_schedules(rpc_timeout=PATIENCE)
            if listed.id.startswith(_PREFIX)
        }
        listed |= {names.schedule_id(source) for source in sources}
        listed |= {names.schedule_id(one.source, one.name) for one in connections}
        wanted = sorted(listed)
        found = await asyncio.gather(*(_describe(client, schedule_id) for schedule_id in wanted))
    return [described for described in found if described is not None], faults


def _sound_connections() -> tuple[list[Connection], list[str]]:
    try:
        entries = read_entries()
    except ConfigurationError as error:
        return [], [str(error)]
    sound = [entry for _, entry in entries if isinstance(entry, Connection)]
    return sound, [str(entry) for _, entry in entries if isinstance(entry, ConfigurationError)]


async def show_schedule(
    platform: Platform, source: str, *, connection: str = DEFAULT
) -> ScheduleReport:
    """A connection's schedule.

    Raises:
        NotFoundError: the source has no schedule.
        ETLError: as `Platform.client`.
    """
    with translated_errors(absent=absent(source, connection)):
        handle = await _handle(platform, source, connection)
        return await report_of(await platform.client(), await handle.describe(rpc_timeout=PATIENCE))


async def _describe(client: Client, schedule_id: str) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(schedule_id).describe(rpc_timeout=PATIENCE)
    except sdk.RPCError as error:
        if error.status == sdk.RPCStatusCode.NOT_FOUND:
            return None
        raise


async def report_of(client: Client, found: ScheduleDescription) -> ScheduleReport:
    """The report of a schedule that was described."""
    schedule, info = found.schedule, found.info
    request = await request_of(client, schedule)
    calendars = schedule.spec.calendars
    upcoming = () if schedule.state.paused else tuple(info.next_action_times)
    source, connection = names.parse_label(found.id.removeprefix(_PREFIX))
    return ScheduleReport(
        source=source,
        connection=connection,
        schedule_id=found.id,
        mode=request.mode if request else "",
        days="; ".join(show_ranges(calendar.day_of_week, _DAYS) for calendar in calendars),
        hours="; ".join(show_ranges(calendar.hour) for calendar in calendars),
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
        version=version_of(found),
    )


def version_of(found: ScheduleDescription) -> str:
    """The version of a schedule: another one after each change of it, in whatever way."""
    token = found.raw_description.conflict_token
    return hashlib.blake2b(token, digest_size=8).hexdigest()


async def request_of(client: Client, schedule: Schedule) -> QueuerInput | None:
    """The request for the runs that a schedule starts; None where it starts something else."""
    action = schedule.action
    if not isinstance(action, sdk.ScheduleActionStartWorkflow) or not action.args:
        return None
    request = action.args[0]
    if not isinstance(request, QueuerInput):
        [request] = await client.data_converter.decode([request], [QueuerInput])
    return request if isinstance(request, QueuerInput) else None


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


def absent(source: str, connection: str) -> str:
    """The message where a connection has no schedule."""
    named, what = names.connection_option(connection), names.label(source, connection)
    return f"source {what!r} has no schedule: `etl schedule {source}{named}` makes one"


async def _handle(platform: Platform, source: str, connection: str) -> ScheduleHandle:
    return (await platform.client()).get_schedule_handle(names.schedule_id(source, connection))


def note_of(what: str, author: Author | None) -> str:
    """What was done to a schedule, by whom and why, as Temporal shows it."""
    by = author or local_author()
    reason = f": {storable_text(by.reason)}" if by.reason else ""
    return f"{what} by {by.name}{reason}"[:_NOTE_CHARACTERS]


async def pause_schedule(
    platform: Platform, source: str, *, connection: str = DEFAULT, author: Author | None = None
) -> None:
    """Start no more runs; one that goes on is not touched. Safe to repeat.

    The schedule's note says who paused it, and why.

    Raises:
        NotFoundError: the source has no schedule.
        ETLError: as `Platform.client`.
    """
    with translated_errors(absent=absent(source, connection)):
        handle = await _handle(platform, source, connection)
        await handle.pause(note=note_of("paused", author), rpc_timeout=PATIENCE)


async def resume_schedule(
    platform: Platform, source: str, *, connection: str = DEFAULT, author: Author | None = None
) -> datetime | None:
    """Start runs again; return when the next one is due. Raises: as `pause_schedule`."""
    with translated_errors(absent=absent(source, connection)):
        handle = await _handle(platform, source, connection)
        await handle.unpause(note=note_of("resumed", author), rpc_timeout=PATIENCE)
        upcoming = (await handle.describe(rpc_timeout=PATIENCE)).info.next_action_times
    return upcoming[0] if upcoming else None


async def trigger_schedule(platform: Platform, source: str, *, connection: str = DEFAULT) -> None:
    """Start a run now, as the schedule would, a paused one too; its overlap policy decides.

    Every call is another run. Raises: as `pause_schedule`.
    """
    with translated_errors(absent=absent(source, connection)):
        await (await _handle(platform, source, connection)).trigger(rpc_timeout=PATIENCE)


async def delete_schedule(platform: Platform, source: str, *, connection: str = DEFAULT) -> None:
    """Remove a schedule; a run that goes on is not touched. Raises: as `pause_schedule`."""
    with translated_errors(absent=absent(source, connection)):
        await (await _handle(platform, source, connection)).delete(rpc_timeout=PATIENCE)


async def backfill_schedule(
    platform: Platform,
    source: str,
    start: datetime,
    end: datetime,
    *,
    connection: str = DEFAULT,
) -> int:
    """Start the runs that were due in a past span, one after another; return their number.

    `start` is inclusive, `end` exclusive.

    Raises: as `due_runs`.
    """
    due = await due_runs(platform, source, start, end, connection=connection)
    with translated_errors(absent=absent(source, connection)):
        handle = await _handle(platform, source, connection)
        # The server takes both ends as inclusive; runs are due at whole seconds.
        await handle.backfill(
            sdk.ScheduleBackfill(
                start_at=start,
                end_at=end - timedelta(seconds=1),
                overlap=sdk.ScheduleOverlapPolicy.BUFFER_ALL,
            ),
            rpc_timeout=PATIENCE,
        )
    return len(due)


async def due_runs(
    platform: Platform,
    source: str,
    start: datetime,
    end: datetime,
    *,
    connection: str = DEFAULT,
) -> list[datetime]:
    """The times at which runs were due in a past span: what `backfill_schedule` would start.

    Raises:
        NotFoundError: the source has no schedule.
        ConfigurationError: the span is empty or has not come yet, no run was due in it, or too
            many were.
        ETLError: as `Platform.client`.
    """
    if end <= start:
        raise ConfigurationError(f"the end {end.isoformat()} is not after {start.isoformat()}")
    now = await platform.now()
    if end > now:
        raise ConfigurationError(
            f"the end {end.isoformat()} has not come yet: only runs that were due can be started, "
            f"up to {now.isoformat(timespec='seconds')}"
        )
    if end - start > _LONGEST_SPAN:
        raise ConfigurationError(
            f"{start.isoformat()} to {end.isoformat()} is longer than ten years: take a shorter one"
        )
    with translated_errors(absent=absent(source, connection)):
        handle = await _handle(platform, source, connection)
        described = await handle.describe(rpc_timeout=PATIENCE)
    # Years of hours take a while: not on the event loop.
    due = await asyncio.to_thread(lambda: list(due_times(described.schedule, start, end)))
    if not due:
        raise ConfigurationError(
            f"the schedule of {names.label(source, connection)!r} has no run due from "
            f"{start.isoformat()} to {end.isoformat()}"
        )
    if len(due) > MOST_BUFFERED:
        raise ConfigurationError(
            f"more than {MOST_BUFFERED:,} runs were due in that span, which is what Temporal "
            f"keeps waiting: take a shorter one"
        )
    return due


def due_times(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """The full hours at which runs were due; ends soon after there are too many."""
    timetable = Timetable.of(schedule)
    if timetable is not None:
        due = takewhile(lambda timestamp: timestamp < end, timetable.due(start))
        yield from islice(due, MOST_BUFFERED + 1)
