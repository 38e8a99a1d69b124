"""Schedules of sources and pipelines: listed, paused, triggered, deleted, run for a past span."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from temporaletl import names
from temporaletl.connections.entries import Connection
from temporaletl.connections.providers import provided, read_entries
from temporaletl.control.operations.audit import local_author, record_outcome
from temporaletl.control.operations.platform import (
    PATIENCE,
    NoLedgerError,
    OldLedgerError,
    Platform,
    translated_errors,
)
from temporaletl.control.operations.schedule_reports import ScheduleReport, report_of
from temporaletl.control.operations.sources import known_planners
from temporaletl.control.operations.timetable import Timetable
from temporaletl.errors import (
    ConfigurationError,
    ConflictError,
    ETLError,
    TemporalDisabledError,
    TemporalUnavailableError,
)
from temporaletl.names import DEFAULT_SCHEDULE, ScheduleKey
from temporaletl.rows import storable_text
from temporaletl.temporal import sdk
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.schedules import skipped_runs

if TYPE_CHECKING:
    from pydantic import JsonValue
    from temporalio.client import (
        Client,
        Schedule,
        ScheduleDescription,
        ScheduleHandle,
    )

#: How many starts Temporal keeps waiting for one schedule; it drops any above.
MOST_BUFFERED = 1_000
_LONGEST_SPAN = timedelta(days=3_653)
_NOTE_CHARACTERS = 500


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
    client, skipped = await platform.client(), await skipped_of(platform)
    reports = [await report_of(client, described, skipped) for described in found]
    return Schedules(sorted(reports, key=lambda report: report.key), faults)


async def skipped_of(platform: Platform) -> Counter[ScheduleKey]:
    """How many runs of each schedule were skipped for others; none where no ledger is at hand."""
    if not platform.has_warehouse:
        return Counter()
    try:
        return await asyncio.to_thread(skipped_runs, await platform.current_warehouse())
    except ETLError:
        return Counter()


async def describe_schedules(platform: Platform) -> tuple[list[ScheduleDescription], list[str]]:
    """As `list_schedules`, each as Temporal describes it."""
    client, sources = await platform.client(), known_planners()
    with provided(await platform.stored_connections()):
        connections, faults = _sound_connections()
    with translated_errors():
        listed = {
            listed.id
            async for listed in await client.list_schedules(rpc_timeout=PATIENCE)
            if listed.id.startswith(names.SCHEDULE_PREFIX)
        }
        listed |= {ScheduleKey(source).id for source in sources}
        listed |= {ScheduleKey(one.source, one.name).id for one in connections}
        wanted = sorted(listed)
        found = await asyncio.gather(*(_describe(client, schedule_id) for schedule_id in wanted))
    return [described for described in found if described is not None], faults


async def schedules_of(platform: Platform, source: str, connection: str) -> list[ScheduleKey]:
    """The schedules of a connection, by name. Raises: as `Platform.client`."""
    described, _ = await describe_schedules(platform)
    keys = sorted(ScheduleKey.of_id(one.id) for one in described)
    return [key for key in keys if key[:2] == (source, connection)]


async def check_unscheduled(platform: Platform, source: str, connection: str) -> None:
    """Check that what is to be deleted has no schedule, whose runs would fail.

    Raises:
        ConflictError: it has one, or Temporal does not say.
    """
    target = names.label(source, connection)
    try:
        found = await schedules_of(platform, source, connection)
    except TemporalDisabledError:
        return  # without it, there are none
    except TemporalUnavailableError as error:
        raise ConflictError(
            f"whether {target} has a schedule cannot be known now: {error}; with force, it is "
            "deleted all the same"
        ) from None
    if found:
        deletions = ", ".join(f"`{key.command('schedule-delete')}`" for key in found)
        has = "a schedule" if len(found) == 1 else f"{len(found)} schedules"
        raise ConflictError(
            f"{target} has {has}, whose runs would fail: delete that first ({deletions})"
        )


def _sound_connections() -> tuple[list[Connection], list[str]]:
    try:
        entries = read_entries()
    except ConfigurationError as error:
        return [], [str(error)]
    sound = [entry for _, entry in entries if isinstance(entry, Connection)]
    return sound, [str(entry) for _, entry in entries if isinstance(entry, ConfigurationError)]


async def show_schedule(platform: Platform, key: ScheduleKey) -> ScheduleReport:
    """A schedule, by its name.

    Raises:
        NotFoundError: the connection has none of that name.
        ETLError: as `Platform.client`.
    """
    with translated_errors(absent=absent(key)):
        handle = await _handle(platform, key)
        described = await handle.describe(rpc_timeout=PATIENCE)
        return await report_of(await platform.client(), described, await skipped_of(platform))


async def _describe(client: Client, schedule_id: str) -> ScheduleDescription | None:
    try:
        return await client.get_schedule_handle(schedule_id).describe(rpc_timeout=PATIENCE)
    except sdk.RPCError as error:
        if error.status == sdk.RPCStatusCode.NOT_FOUND:
            return None
        raise


def absent(key: ScheduleKey) -> str:
    """The message where a connection, or a pipeline, has no schedule of that name."""
    whose = f"source {names.label(key.source, key.connection)!r}"
    if key.pipeline is not None:
        whose = f"pipeline {key.pipeline!r}"
    makes = f"`{key.command('schedule')}` makes one"
    if key.name == DEFAULT_SCHEDULE:
        return f"{whose} has no schedule: {makes}"
    return (
        f"{whose} has no schedule named {key.name!r}: {makes}, and `etl schedules` lists those "
        "there are"
    )


async def _handle(platform: Platform, key: ScheduleKey) -> ScheduleHandle:
    return (await platform.client()).get_schedule_handle(key.id)


def note_of(what: str, author: Author | None) -> str:
    """What was done to a schedule, by whom and why, as Temporal shows it."""
    by = author or local_author()
    reason = f": {storable_text(by.reason)}" if by.reason else ""
    return f"{what} by {by.name}{reason}"[:_NOTE_CHARACTERS]


async def record_change(
    platform: Platform,
    author: Author | None,
    verb: str,
    key: ScheduleKey,
    details: Mapping[str, JsonValue] | None = None,
) -> None:
    """Enter in the audit what Temporal has done, wherever there is a warehouse that keeps one.

    Raises:
        ETLError: as `Platform.warehouse`; the change stands, and its note names the author.
    """
    if not platform.has_warehouse:
        return
    by, action = author or local_author(), f"schedule.{verb}"
    with contextlib.suppress(NoLedgerError, OldLedgerError):
        await record_outcome(platform, by, action, key.label, "done", details=details)


async def pause_schedule(
    platform: Platform, key: ScheduleKey, *, author: Author | None = None
) -> None:
    """Start no more runs; one that goes on is not touched. Safe to repeat.

    The schedule's note says who paused it, and why.

    Raises:
        NotFoundError: the connection has no such schedule.
        ETLError: as `Platform.client`.
    """
    with translated_errors(absent=absent(key)):
        handle = await _handle(platform, key)
        await handle.pause(note=note_of("paused", author), rpc_timeout=PATIENCE)
    await record_change(platform, author, "pause", key)


async def resume_schedule(
    platform: Platform, key: ScheduleKey, *, author: Author | None = None
) -> datetime | None:
    """Start runs again; return when the next one is due. Raises: as `pause_schedule`."""
    with translated_errors(absent=absent(key)):
        handle = await _handle(platform, key)
        await handle.unpause(note=note_of("resumed", author), rpc_timeout=PATIENCE)
        upcoming = (await handle.describe(rpc_timeout=PATIENCE)).info.next_action_times
    await record_change(platform, author, "resume", key)
    return upcoming[0] if upcoming else None


async def trigger_schedule(
    platform: Platform, key: ScheduleKey, *, author: Author | None = None
) -> None:
    """Start a run now, as the schedule would, a paused one too; its overlap policy decides.

    Every call is another run. Raises: as `pause_schedule`.
    """
    with translated_errors(absent=absent(key)):
        await (await _handle(platform, key)).trigger(rpc_timeout=PATIENCE)
    await record_change(platform, author, "trigger", key)


async def delete_schedule(
    platform: Platform, key: ScheduleKey, *, author: Author | None = None
) -> None:
    """Remove a schedule; a run that goes on is not touched. Raises: as `pause_schedule`."""
    with translated_errors(absent=absent(key)):
        await (await _handle(platform, key)).delete(rpc_timeout=PATIENCE)
    await record_change(platform, author, "delete", key)


async def backfill_schedule(
    platform: Platform,
    key: ScheduleKey,
    start: datetime,
    end: datetime,
    *,
    author: Author | None = None,
) -> int:
    """Start the runs that were due in a past span, one after another; return their number.

    `start` is inclusive, `end` exclusive.

    Raises: as `due_runs`.
    """
    due = await due_runs(platform, key, start, end)
    with translated_errors(absent=absent(key)):
        handle = await _handle(platform, key)
        # The server takes both ends as inclusive; runs are due at whole seconds.
        await handle.backfill(
            sdk.ScheduleBackfill(
                start_at=start,
                end_at=end - timedelta(seconds=1),
                overlap=sdk.ScheduleOverlapPolicy.BUFFER_ALL,
            ),
            rpc_timeout=PATIENCE,
        )
    span: dict[str, JsonValue] = {"start": start.isoformat(), "end": end.isoformat()}
    await record_change(platform, author, "backfill", key, {**span, "runs": len(due)})
    return len(due)


async def due_runs(
    platform: Platform, key: ScheduleKey, start: datetime, end: datetime
) -> list[datetime]:
    """The times at which runs were due in a past span: what `backfill_schedule` would start.

    Raises:
        NotFoundError: the connection has no such schedule.
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
    with translated_errors(absent=absent(key)):
        handle = await _handle(platform, key)
        described = await handle.describe(rpc_timeout=PATIENCE)
    # Years of hours take a while: not on the event loop.
    due = await asyncio.to_thread(lambda: list(due_times(described.schedule, start, end)))
    if not due:
        raise ConfigurationError(
            f"the schedule of {key.label!r} has no run due from "
            f"{start.isoformat()} to {end.isoformat()}"
        )
    if len(due) > MOST_BUFFERED:
        raise ConfigurationError(
            f"more than {MOST_BUFFERED:,} runs were due in that span, which is what Temporal "
            f"keeps waiting: take a shorter one"
        )
    return due


def due_times(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """The times at which runs were due; ends soon after there are too many."""
    timetable = Timetable.of(schedule)
    if timetable is not None:
        due = takewhile(lambda timestamp: timestamp < end, timetable.due(start))
        yield from islice(due, MOST_BUFFERED + 1)
