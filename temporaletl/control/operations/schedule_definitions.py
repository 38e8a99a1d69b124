"""Schedules created and replaced, each from a whole definition."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import Field

from temporaletl import names, sdk
from temporaletl.connection_providers import provided
from temporaletl.connections import DEFAULT
from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.control.operations.schedules import (
    ScheduleReport,
    absent,
    note_of,
    report_of,
    version_of,
)
from temporaletl.control.operations.sources import check_services, find_source
from temporaletl.errors import ConflictError
from temporaletl.messages import Message, QueuerInput
from temporaletl.queuer.scheduling import Overlap, Put, make_schedule
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.source_connections import VersionConflictError

if TYPE_CHECKING:
    from temporalio.client import Client, Schedule, ScheduleDescription

#: What a report says of a definition, beside the note.
_DEFINED = ("mode", "days", "hours", "timezone", "overlap", "catchup_window_minutes", "note")


class ScheduleDefinition(Message):
    """When a source's connection is synced, and how."""

    #: 0 or 7 is Sunday, 1 Monday; a range (1-5), a list (1,3) or *.
    days: str = Field("*", max_length=100)
    #: 0 to 23, likewise; runs are due at the full hour.
    hours: str = Field("0", max_length=100)
    timezone: str = Field("UTC", max_length=100)
    mode: str = Field("incremental", pattern="^(incremental|full)$")
    overlap: Overlap = Overlap.SKIP
    catchup_window_minutes: float = Field(60, gt=0, le=366 * 24 * 60)


async def create_schedule(
    platform: Platform,
    source: str,
    definition: ScheduleDefinition,
    *,
    connection: str = DEFAULT,
    author: Author | None = None,
) -> ScheduleReport:
    """Create a connection's schedule.

    Raises:
        ConflictError: it has one.
        ConfigurationError: source, connection, day, hour, time zone or window is wrong.
        ETLError: as `Platform.client`.
    """
    schedule = await _described(platform, source, definition, connection, note_of("made", author))
    client = await platform.client()
    schedule_id = names.schedule_id(source, connection)
    with translated_errors():
        try:
            handle = await client.create_schedule(schedule_id, schedule, rpc_timeout=PATIENCE)
        except sdk.ScheduleAlreadyRunningError:
            raise ConflictError(
                f"{names.label(source, connection)} has a schedule: replace it, or delete it first"
            ) from None
        return await report_of(client, await handle.describe(rpc_timeout=PATIENCE))


async def replace_schedule(
    platform: Platform,
    source: str,
    definition: ScheduleDefinition,
    *,
    connection: str = DEFAULT,
    version: str | None = None,
    author: Author | None = None,
) -> ScheduleReport:
    """Give a connection's schedule another definition; a paused one stays paused. Safe to repeat.

    Raises:
        NotFoundError: it has none.
        VersionConflictError: its version is not `version`.
        ConflictError: somebody else changed it at the same time, and that stands.
        ConfigurationError: as `create_schedule`.
        ETLError: as `Platform.client`.
    """
    note = note_of("changed", author)
    wanted = await _described(platform, source, definition, connection, note)
    client = await platform.client()
    whose = names.label(source, connection)
    handle = client.get_schedule_handle(names.schedule_id(source, connection))
    with translated_errors(absent=absent(source, connection)):
        present = await handle.describe(rpc_timeout=PATIENCE)
        if version is not None and version != version_of(present):
            raise VersionConflictError(
                f"the schedule of {whose} has changed: read it again (its version is "
                f"{version_of(present)!r}, not {version!r})"
            )
        state = dataclasses.replace(present.schedule.state, note=note)
        wanted = dataclasses.replace(wanted, state=state)
        await _update(client, present, wanted)
        report = await report_of(client, await handle.describe(rpc_timeout=PATIENCE))
        # The server drops an update that comes too late, and says nothing.
        present.schedule = wanted
        expected = await report_of(client, present)
    if any(getattr(report, name) != getattr(expected, name) for name in _DEFINED):
        raise ConflictError(
            f"the schedule of {whose} was changed by somebody else at the same time: read it again"
        )
    return report


async def put_schedule(
    platform: Platform, source: str, definition: ScheduleDefinition, *, connection: str = DEFAULT
) -> Put:
    """Create a connection's schedule, or replace it. Safe to repeat; raises as these."""
    try:
        await create_schedule(platform, source, definition, connection=connection)
    except ConflictError:
        made = await replace_schedule(platform, source, definition, connection=connection)
        return Put(created=False, paused=made.paused)
    return Put(created=True, paused=False)


async def _update(client: Client, present: ScheduleDescription, wanted: Schedule) -> None:
    """Update a schedule, unless it is another than `present` by then."""
    await client.workflow_service.update_schedule(
        sdk.UpdateScheduleRequest(
            namespace=client.namespace,
            schedule_id=present.id,
            # The SDK's own update has no place for the token.
            schedule=await wanted._to_proto(client),  # noqa: SLF001
            conflict_token=present.raw_description.conflict_token,
            identity=client.identity,
            request_id=str(uuid.uuid4()),
        ),
        retry=True,
        timeout=PATIENCE,
    )


async def _described(
    platform: Platform, source: str, definition: ScheduleDefinition, connection: str, note: str
) -> Schedule:
    find_source(source, connection)
    check_services(source)
    request = QueuerInput(
        source=source,
        connection=connection,
        mode="full" if definition.mode == "full" else "incremental",
    )
    with provided(await platform.stored_connections(connection)):
        schedule = make_schedule(
            request,
            day_of_week=definition.days,
            hour=definition.hours,
            time_zone=definition.timezone,
            overlap=definition.overlap,
            catchup_window=timedelta(minutes=definition.catchup_window_minutes),
            task_queue=platform.settings.queuer_queue,
        )
    return dataclasses.replace(schedule, state=dataclasses.replace(schedule.state, note=note))
