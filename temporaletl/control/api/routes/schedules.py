"""`/temporal/schedules`: schedules listed, created, replaced, paused, triggered and deleted."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.schedule_definitions import (
    ScheduleDefinition,
    create_schedule,
    replace_schedule,
)
from temporaletl.control.operations.schedule_reports import ScheduleReport
from temporaletl.control.operations.schedules import (
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
    show_schedule,
    trigger_schedule,
)
from temporaletl.names import DEFAULT_SCHEDULE, ScheduleKey

router = APIRouter(prefix="/temporal/schedules", tags=["schedules"], responses=RESPONSES)

_SCHEDULES = "schedules"
SourceName = Annotated[str, Path(max_length=100, examples=["jira"])]


def _key(
    source: SourceName,
    connection: Annotated[str, Query(max_length=100, examples=[DEFAULT])] = DEFAULT,
    name: Annotated[
        str, Query(max_length=50, description="of several, which", examples=[DEFAULT_SCHEDULE])
    ] = DEFAULT_SCHEDULE,
) -> ScheduleKey:
    """The schedule that a path and its query name."""
    return ScheduleKey(source, connection, name)


Key = Annotated[ScheduleKey, Depends(_key)]
Version = Annotated[
    str | None,
    Header(
        max_length=100,
        description="the ETag that was read: what somebody else changed since then is not replaced",
        examples=['"0f8d2c1b5e6a7f90"'],
    ),
]


class Schedules(BaseModel):
    """All schedules, as they were at `as_of`."""

    items: list[ScheduleReport]
    as_of: AwareDatetime
    #: Faults of the connections file, which hide no schedule.
    remarks: list[str] = Field(default=[])


class Reason(BaseModel):
    """Why something is done: for the schedule's note and the audit."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "Jira moves on Saturday"}]}
    )

    reason: str | None = Field(None, max_length=300)


_DEFINITION: dict[str, JsonValue] = {
    "days": "1-5",
    "hours": "3",
    "timezone": "Europe/London",
    "overlap": "skip",
}
_OF_PIPELINE: dict[str, JsonValue] = {
    "source": "pipeline",
    "connection": "orders",
    "name": "often",
    "every_minutes": 15,
    "pipeline_version": "3",
    "input": {"region": "north"},
}


class ScheduleReplacement(ScheduleDefinition):
    """When a connection is synced, or a pipeline executed, from now on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{**_DEFINITION, "reason": "after working hours"}]},
    )

    reason: str | None = Field(None, max_length=300)


class ScheduleRequest(ScheduleReplacement):
    """When a source's connection is to be synced, or a stored pipeline executed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"source": "jira", **_DEFINITION}, _OF_PIPELINE]},
    )

    source: str = Field(max_length=100, description="`pipeline` for a stored pipeline")
    connection: str = Field(DEFAULT, max_length=100, description="of a pipeline, its name")
    name: str = Field(
        DEFAULT_SCHEDULE,
        max_length=50,
        description="of several schedules of a connection, each has another",
    )


class Resumed(BaseModel):
    """A schedule that starts runs again, and when the next one is due."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"next_run": "2026-11-30T03:00:00Z"}]}
    )

    next_run: datetime | None = Field(description="null where it has no time to come")


class Triggered(BaseModel):
    """A schedule whose run is being started; the schedule shows it as running."""

    schedule_id: str = Field(examples=["etl-schedule-jira"])


def _definition(wanted: ScheduleReplacement) -> ScheduleDefinition:
    fields = ScheduleDefinition.model_fields
    return ScheduleDefinition(**{name: getattr(wanted, name) for name in fields})


@router.get("", summary="List schedules", operation_id="list_schedules")
async def get_schedules(context: InContext, _: Reader) -> Schedules:
    """List every schedule: next and last times, runs that go on, and those that did not start."""
    observed = await context.observations.latest(
        _SCHEDULES, partial(list_schedules, context.platform)
    )
    found = observed.value
    return Schedules(items=found.schedules, remarks=found.faults, as_of=observed.as_of)


@router.post(
    "",
    summary="Create a schedule",
    operation_id="create_schedule",
    status_code=HTTPStatus.CREATED,
)
async def post_schedule(
    context: InContext, caller: Operator, response: Response, wanted: ScheduleRequest
) -> ScheduleReport:
    """Sync a connection, or execute a pipeline, regularly; 409 where the name is taken."""
    key = ScheduleKey(wanted.source, wanted.connection, wanted.name)
    author = caller.author(wanted.reason)
    made = await create_schedule(context.platform, key, _definition(wanted), author=author)
    response.headers["ETag"] = f'"{made.version}"'
    context.forget()
    return made


@router.get("/{source}", summary="Show a schedule", operation_id="get_schedule")
async def get_schedule(
    context: InContext,
    _: Reader,
    response: Response,
    key: Key,
) -> ScheduleReport:
    """Show a connection's schedule as it is now; its ETag guards a replacement."""
    found = await show_schedule(context.platform, key)
    response.headers["ETag"] = f'"{found.version}"'
    return found


@router.put("/{source}", summary="Replace a schedule", operation_id="replace_schedule")
async def put_schedule(
    context: InContext,
    caller: Operator,
    response: Response,
    key: Key,
    wanted: ScheduleReplacement,
    if_match: Version = None,
) -> ScheduleReport:
    """Give a schedule another definition; a paused one stays paused. Safe to repeat."""
    changed = await replace_schedule(
        context.platform,
        key,
        _definition(wanted),
        version=None if if_match in (None, "*") else if_match.strip('"'),
        author=caller.author(wanted.reason),
    )
    response.headers["ETag"] = f'"{changed.version}"'
    context.forget()
    return changed


@router.post(
    "/{source}/pause",
    summary="Pause a schedule",
    operation_id="pause_schedule",
    status_code=HTTPStatus.NO_CONTENT,
)
async def post_pause(
    context: InContext,
    caller: Operator,
    key: Key,
    why: Annotated[Reason | None, Body()] = None,
) -> None:
    """Start no more runs by it; one that goes on is not touched. Safe to repeat."""
    reason = why.reason if why else None
    await pause_schedule(context.platform, key, author=caller.author(reason))
    context.forget()


@router.post("/{source}/resume", summary="Resume a schedule", operation_id="resume_schedule")
async def post_resume(
    context: InContext,
    caller: Operator,
    key: Key,
    why: Annotated[Reason | None, Body()] = None,
) -> Resumed:
    """Start runs by it again. Safe to repeat."""
    reason = why.reason if why else None
    upcoming = await resume_schedule(context.platform, key, author=caller.author(reason))
    context.forget()
    return Resumed(next_run=upcoming)


@router.post(
    "/{source}/trigger",
    summary="Trigger a schedule",
    operation_id="trigger_schedule",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Triggered,
)
async def post_trigger(
    request: Request,
    context: InContext,
    caller: Operator,
    key: Key,
    idempotency_key: IdempotencyKey = None,
    why: Annotated[Reason | None, Body()] = None,
) -> Response:
    """Start a run now as the schedule would, a paused one too; its overlap policy decides."""

    async def trigger() -> Triggered:
        author = caller.author(why.reason if why else None)
        await trigger_schedule(context.platform, key, author=author)
        context.forget()
        return Triggered(schedule_id=key.id)

    accepted = HTTPStatus.ACCEPTED
    return await once(context, caller, request, idempotency_key, trigger, status=accepted)


@router.delete(
    "/{source}",
    summary="Delete a schedule",
    operation_id="delete_schedule",
    status_code=HTTPStatus.NO_CONTENT,
)
async def delete(context: InContext, caller: Operator, key: Key) -> None:
    """Remove a schedule; a run that goes on is not touched."""
    await delete_schedule(context.platform, key, author=caller.author())
    context.forget()
