"""Schedules of sources and pipelines, created and replaced, each from a whole definition."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Self, TypedDict

from pydantic import Field, JsonValue, ValidationError, model_validator

from temporaletl import names
from temporaletl.connections.providers import provided
from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.control.operations.runs import run_request
from temporaletl.control.operations.schedule_reports import ScheduleReport, report_of, version_of
from temporaletl.control.operations.schedules import absent, note_of, record_change
from temporaletl.control.operations.sources import check_params, find_source
from temporaletl.errors import ConfigurationError, ConflictError
from temporaletl.messages import Message
from temporaletl.names import ScheduleKey
from temporaletl.queuer.scheduling import (
    Overlap,
    calendar,
    cron_calendars,
    make_schedule,
    schedule_of,
)
from temporaletl.temporal import sdk
from temporaletl.validation import faults_of
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.pipelines import find_version
from temporaletl.warehouse.source_connections import VersionConflictError
from temporaletl.worker.pipelines.messages import ExecutionInput

if TYPE_CHECKING:
    from temporalio.client import (
        Client,
        Schedule,
        ScheduleCalendarSpec,
        ScheduleDescription,
    )

#: What a report says of a definition, beside the note.
_DEFINED = (
    *("mode", "streams", "params", "times", "days", "hours", "cron", "every_minutes"),
    *("jitter_minutes", "timezone", "overlap", "catchup_window_minutes", "note"),
    *("pipeline_version", "input"),
)
#: What only runs of a source take, and only executions of a pipeline.
_OF_SOURCES, _OF_PIPELINES = ("mode", "streams", "params"), ("pipeline_version", "input")
#: An input is in the history of each execution that the schedule starts.
_MOST_INPUT_BYTES = 64 * 1024


class ScheduleDefinition(Message):
    """When a source's connection is synced, or a stored pipeline executed, and how.

    Its times are days and hours, a cron expression, or an interval; where none is given, every day
    at 00:00.
    """

    #: 0 or 7 is Sunday, 1 Monday; a range (1-5), a list (1,3) or *; none: every day.
    days: str | None = Field(None, max_length=100)
    #: 0 to 23, likewise; runs are due at the full hour; none: at 0.
    hours: str | None = Field(None, max_length=100)
    #: Minute, hour, day of month, month and day of week.
    cron: str | None = Field(None, max_length=200)
    every_minutes: float | None = Field(None, ge=1, le=366 * 24 * 60)
    #: Each run is delayed by up to so much, by chance.
    jitter_minutes: float = Field(0, ge=0, le=24 * 60)
    timezone: str = Field("UTC", max_length=100)
    mode: str = Field("incremental", pattern="^(incremental|full)$")
    streams: tuple[str, ...] = Field((), max_length=100)  # none: all of the source
    params: dict[str, JsonValue] = Field(default_factory=dict)
    #: Of a pipeline: its number or hash; none: whichever is the latest then.
    pipeline_version: str | None = Field(None, max_length=64)
    input: JsonValue = None  # of a pipeline's executions
    overlap: Overlap = Overlap.SKIP
    catchup_window_minutes: float = Field(60, gt=0, le=366 * 24 * 60)

    @model_validator(mode="after")
    def _with_times_of_one_kind(self) -> Self:
        by_week = self.days is not None or self.hours is not None
        if [by_week, self.cron is not None, self.every_minutes is not None].count(True) > 1:
            msg = "its times are days and hours, or cron, or an interval: only one of these"
            raise ValueError(msg)
        return self

    @property
    def times(self) -> list[ScheduleCalendarSpec] | timedelta:
        """When its runs are due; raises ConfigurationError where that is none."""
        if self.every_minutes is not None:
            return timedelta(minutes=self.every_minutes)
        if self.cron is not None:
            return cron_calendars(self.cron)
        days, hours = self.days, self.hours
        return [calendar("*" if days is None else days, "0" if hours is None else hours)]


def define(**given: object) -> ScheduleDefinition:
    """The definition of these fields; those of None are not given.

    Raises:
        ConfigurationError: one is wrong; names it.
    """
    try:
        return ScheduleDefinition.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(str, faults_of(error)))) from None


async def create_schedule(
    platform: Platform,
    key: ScheduleKey,
    definition: ScheduleDefinition,
    *,
    author: Author | None = None,
) -> ScheduleReport:
    """Create a schedule of a connection, beside those it has by other names.

    Raises:
        ConflictError: it has one of that name.
        ConfigurationError: source, connection, name, times, stream, parameter, input, time zone or
            window is wrong.
        NotFoundError: there is no such pipeline, or version of it.
        ETLError: as `Platform.client`.
    """
    schedule = await _described(platform, key, definition, note_of("made", author))
    client = await platform.client()
    with translated_errors():
        try:
            handle = await client.create_schedule(key.id, schedule, rpc_timeout=PATIENCE)
        except sdk.ScheduleAlreadyRunningError:
            raise ConflictError(
                f"{key.label} has a schedule: replace it, or delete it first"
            ) from None
        report = await report_of(client, await handle.describe(rpc_timeout=PATIENCE))
    await record_change(platform, author, "create", key)
    return report


async def replace_schedule(
    platform: Platform,
    key: ScheduleKey,
    definition: ScheduleDefinition,
    *,
    version: str | None = None,
    author: Author | None = None,
) -> ScheduleReport:
    """Give a schedule another definition; a paused one stays paused. Safe to repeat.

    Raises:
        NotFoundError: it has none.
        VersionConflictError: its version is not `version`.
        ConflictError: somebody else changed it at the same time, and that stands.
        ConfigurationError: as `create_schedule`.
        ETLError: as `Platform.client`.
    """
    note = note_of("changed", author)
    wanted = await _described(platform, key, definition, note)
    client = await platform.client()
    whose = key.label
    handle = client.get_schedule_handle(key.id)
    with translated_errors(absent=absent(key)):
        present = await handle.describe(rpc_timeout=PATIENCE)
        if version is not None and version != version_of(present):
            raise VersionConflictError(
                f"the schedule of {whose} has changed: read it again (its version is "
                f"{version_of(present)!r}, not {version!r})"
            )
        state = present.schedule.state
        # Why it is paused is said until it is resumed.
        kept = state if state.paused else dataclasses.replace(state, note=note)
        wanted = dataclasses.replace(wanted, state=kept)
        await _update(client, present, wanted)
        report = await report_of(client, await handle.describe(rpc_timeout=PATIENCE))
        # The server drops an update that comes too late, and says nothing.
        present.schedule = wanted
        expected = await report_of(client, present)
    if any(getattr(report, name) != getattr(expected, name) for name in _DEFINED):
        raise ConflictError(
            f"the schedule of {whose} was changed by somebody else at the same time: read it again"
        )
    await record_change(platform, author, "replace", key)
    return report


class Put(NamedTuple):
    """A schedule as it is from now on, and whether it was there before."""

    created: bool
    schedule: ScheduleReport


async def put_schedule(platform: Platform, key: ScheduleKey, definition: ScheduleDefinition) -> Put:
    """Create a schedule, or replace it; no other one is changed. Safe to repeat.

    Raises: as `create_schedule` and `replace_schedule`.
    """
    try:
        return Put(created=True, schedule=await create_schedule(platform, key, definition))
    except ConflictError:
        return Put(created=False, schedule=await replace_schedule(platform, key, definition))


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
    platform: Platform, key: ScheduleKey, definition: ScheduleDefinition, note: str
) -> Schedule:
    when = _When(
        times=definition.times,
        time_zone=definition.timezone,
        jitter=timedelta(minutes=definition.jitter_minutes),
        overlap=definition.overlap,
        catchup_window=timedelta(minutes=definition.catchup_window_minutes),
    )
    if key.pipeline is None:
        schedule = await _of_source(platform, key, definition, when)
    else:
        schedule = await _of_pipeline(platform, key, definition, when)
    return dataclasses.replace(schedule, state=dataclasses.replace(schedule.state, note=note))


class _When(TypedDict):
    """When a schedule's runs are due, and what becomes of those that are not started then."""

    times: list[ScheduleCalendarSpec] | timedelta
    time_zone: str
    jitter: timedelta
    overlap: Overlap
    catchup_window: timedelta


async def _of_source(
    platform: Platform, key: ScheduleKey, definition: ScheduleDefinition, when: _When
) -> Schedule:
    _refuse(definition, _OF_PIPELINES, "a pipeline's schedule")
    find_source(key.source, key.connection)
    request = run_request(
        key.source,
        connection=key.connection,
        mode="full" if definition.mode == "full" else "incremental",
        streams=definition.streams,
        params=definition.params,
    )
    check_params(request)
    with provided(await platform.stored_connections(key.connection)):
        return make_schedule(
            request, name=key.name, task_queue=platform.settings.queuer_queue, **when
        )


async def _of_pipeline(
    platform: Platform, key: ScheduleKey, definition: ScheduleDefinition, when: _When
) -> Schedule:
    _refuse(definition, _OF_SOURCES, "a source's schedule")
    size = len(json.dumps(definition.input).encode())
    if size > _MOST_INPUT_BYTES:
        raise ConfigurationError(
            f"the input has {size:,} bytes: a schedule keeps {_MOST_INPUT_BYTES:,} at most"
        )
    warehouse = await platform.current_warehouse()
    version = definition.pipeline_version
    found = await asyncio.to_thread(find_version, warehouse, key.connection, version)
    request = ExecutionInput(
        pipeline=found.pipeline, version=version, input=definition.input, schedule=key.name
    )
    return schedule_of(
        key,
        names.PIPELINE_FLOW,
        request,
        summary=f"{key.label} {version or 'latest'}",
        task_queue=platform.settings.worker_queue,
        **when,
    )


def _refuse(definition: ScheduleDefinition, fields: Iterable[str], whose: str) -> None:
    """Refuse what a definition says that only `whose` can have."""
    known = ScheduleDefinition.model_fields
    given = [
        name
        for name in fields
        if getattr(definition, name) != known[name].get_default(call_default_factory=True)
    ]
    if given:
        raise ConfigurationError(f"{', '.join(given)}: only {whose} has that")
