"""`/backfills`: a past span loaded again, and the runs that a schedule had due in one."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Caller, Operator
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.flags import Flag
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.paging import MOST
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.routes.sync import Started, start
from temporaletl.control.api.times import Timestamp
from temporaletl.control.operations.backfills import RunPlan, plan_backfill
from temporaletl.control.operations.runs import run_request
from temporaletl.control.operations.schedules import backfill_schedule, due_runs
from temporaletl.messages import QueuerInput
from temporaletl.names import DEFAULT_SCHEDULE, ScheduleKey

router = APIRouter(tags=["backfills"], responses=RESPONSES)

#: A dry run answers 200 with what would start.
_DRY: dict[int | str, dict[str, Any]] = {
    200: {"model": RunPlan, "description": "what would start; nothing was written"}
}


class Span(BaseModel):
    """A past span of time: `start` inclusive, `end` exclusive."""

    start: Timestamp
    connection: str = Field(DEFAULT, max_length=100)
    dry_run: Flag = Field(default=False, description="list what would start, and start nothing")


class BackfillRequest(Span):
    """The span to load again, over a connection, of all of its streams or some."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "source": "jira",
                    "start": "2026-11-01T00:00:00Z",
                    "end": "2026-11-08T00:00:00Z",
                    "dry_run": True,
                }
            ]
        },
    )

    source: str = Field(max_length=100)
    end: Timestamp | None = Field(None, description="none: up to now")
    streams: list[str] = Field(default=[], max_length=100, description="none: all of the source")
    params: dict[str, JsonValue] = Field(
        default={}, validation_alias=AliasChoices("params", "parameters")
    )
    notify: Flag = Field(default=True, description="notify whom the settings name of its end")
    force: Flag = Field(
        default=False,
        validation_alias=AliasChoices("force", "forced"),
        description="start although a run of the source and connection goes on",
    )


class DueRequest(Span):
    """The past span whose due runs are started."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "start": "2026-11-01T00:00:00Z",
                    "end": "2026-11-08T00:00:00Z",
                    "dry_run": True,
                }
            ]
        },
    )

    end: Timestamp
    name: str = Field(DEFAULT_SCHEDULE, max_length=50, description="of several, which")


class DueRuns(BaseModel):
    """The times at which runs were due, and how many of them were started, one after another."""

    due: list[AwareDatetime]
    started: int


@router.post(
    "/backfills",
    summary="Load a past span again",
    operation_id="start_backfill",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
    responses=_DRY,
)
async def post_backfill(
    request: Request,
    context: InContext,
    caller: Operator,
    wanted: BackfillRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run over a span of the source's time; it moves no watermark."""
    asked = run_request(
        wanted.source,
        connection=wanted.connection,
        mode="backfill",
        streams=wanted.streams,
        date_start=wanted.start,
        date_end=wanted.end,
        params=wanted.params,
        notify=wanted.notify,
    )
    if wanted.dry_run:
        plan = await plan_backfill(context.platform, asked, limit=MOST)
        return Response(plan.model_dump_json(), media_type="application/json")
    act = partial(_start, context, caller, asked, force=wanted.force)
    return await once(context, caller, request, idempotency_key, act, status=HTTPStatus.ACCEPTED)


async def _start(context: Context, caller: Caller, asked: QueuerInput, *, force: bool) -> Started:
    return await start(context, caller, asked, "backfill.start", force=force)


@router.post(
    "/temporal/schedules/{source}/backfill",
    summary="Start the runs that a schedule had due",
    operation_id="backfill_schedule",
    status_code=HTTPStatus.ACCEPTED,
    response_model=DueRuns,
    responses={200: {"model": DueRuns, "description": "what would start; nothing was written"}},
)
async def post_due(
    request: Request,
    context: InContext,
    caller: Operator,
    source: Annotated[str, Path(max_length=100, examples=["jira"])],
    wanted: DueRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start the runs that were due in a span, as if at their times; each does what it is set to."""
    if wanted.dry_run:
        key = ScheduleKey(source, wanted.connection, wanted.name)
        due = await due_runs(context.platform, key, wanted.start, wanted.end)
        return Response(
            DueRuns(due=due, started=0).model_dump_json(), media_type="application/json"
        )
    act = partial(_start_due, context, caller, source, wanted)
    return await once(context, caller, request, idempotency_key, act, status=HTTPStatus.ACCEPTED)


async def _start_due(context: Context, caller: Caller, source: str, wanted: DueRequest) -> DueRuns:
    key, span = ScheduleKey(source, wanted.connection, wanted.name), (wanted.start, wanted.end)
    due = await due_runs(context.platform, key, *span)
    started = await backfill_schedule(context.platform, key, *span, author=caller.author())
    context.forget()
    return DueRuns(due=due, started=started)
