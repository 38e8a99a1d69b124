"""`/temporal/schedules`: schedules listed, made, paused, resumed, triggered and deleted."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from temporaletl.connections import DEFAULT
from temporaletl.control.api.access import Caller, Operator, Reader
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.schedules import (
    ScheduleReport,
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
)
from temporaletl.names import label

router = APIRouter(prefix="/temporal/schedules", tags=["schedules"], responses=RESPONSES)

_SCHEDULES = "schedules"
SourceName = Annotated[str, Path(max_length=100, examples=["jira"])]
ConnectionName = Annotated[str, Query(max_length=100, examples=[DEFAULT])]


class Schedules(BaseModel):
    """All schedules, as they were at `as_of`."""

    items: list[ScheduleReport]
    as_of: AwareDatetime


class Resumed(BaseModel):
    """A schedule that starts runs again, and when the next one is due."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"next_run": "2026-11-30T03:00:00Z"}]}
    )

    next_run: datetime | None = Field(description="null where it has no time to come")


@router.get("", summary="List schedules", operation_id="list_schedules")
async def get_schedules(context: InContext, _: Reader) -> Schedules:
    """List every schedule, with its next and last times and the runs that go on."""
    observed = await context.observations.latest(
        _SCHEDULES, partial(list_schedules, context.platform)
    )
    return Schedules(items=observed.value, as_of=observed.as_of)


@router.post(
    "/{source}/pause",
    summary="Pause a schedule",
    operation_id="pause_schedule",
    status_code=HTTPStatus.NO_CONTENT,
)
async def post_pause(
    context: InContext, caller: Operator, source: SourceName, connection: ConnectionName = DEFAULT
) -> None:
    """Start no more runs by it; one that goes on is not touched. Safe to repeat."""
    await pause_schedule(context.platform, source, connection=connection)
    await _done(context, caller, "pause", source, connection)


@router.post("/{source}/resume", summary="Resume a schedule", operation_id="resume_schedule")
async def post_resume(
    context: InContext, caller: Operator, source: SourceName, connection: ConnectionName = DEFAULT
) -> Resumed:
    """Start runs by it again. Safe to repeat."""
    upcoming = await resume_schedule(context.platform, source, connection=connection)
    await _done(context, caller, "resume", source, connection)
    return Resumed(next_run=upcoming)


@router.delete(
    "/{source}",
    summary="Delete a schedule",
    operation_id="delete_schedule",
    status_code=HTTPStatus.NO_CONTENT,
)
async def delete(
    context: InContext, caller: Operator, source: SourceName, connection: ConnectionName = DEFAULT
) -> None:
    """Remove a schedule; a run that goes on is not touched."""
    await delete_schedule(context.platform, source, connection=connection)
    await _done(context, caller, "delete", source, connection)


async def _done(context: Context, caller: Caller, verb: str, source: str, connection: str) -> None:
    """Enter in the audit what Temporal has done, and let the next list be a new one."""
    context.observations.forget()
    whose = label(source, connection)
    await record_outcome(context.platform, caller.author(), f"schedule.{verb}", whose, "done")
