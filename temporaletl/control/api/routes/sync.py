"""`/sync`: runs started, paused, resumed and cancelled."""

from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Caller, Operator
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.flags import Flag
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.paths import WorkflowName
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.control import Action, Kind, control_run
from temporaletl.control.operations.following import TemporalRun
from temporaletl.control.operations.runs import run_request, start_only_run, start_run
from temporaletl.messages import Mode, OpenState, QueuerInput
from temporaletl.names import label
from temporaletl.warehouse.runs import Engine

router = APIRouter(prefix="/sync", tags=["sync"], responses=RESPONSES)


class SyncRequest(BaseModel):
    """What to load: a source, over one of its connections, all of its streams or some."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"source": "jira", "connection": "default", "streams": ["issues"]}]
        },
    )

    source: str = Field(max_length=100)
    connection: str = Field(DEFAULT, max_length=100)
    streams: list[str] = Field(default=[], max_length=100)
    params: dict[str, JsonValue] = Field(default={})
    force: Flag = Field(
        default=False, description="start although a run of the source and connection goes on"
    )


class Started(BaseModel):
    """A run that was started."""

    model_config = ConfigDict(populate_by_name=True)

    workflow_id: str = Field(alias="workflowId", examples=["etl-jira-full-20261127T180000.000000Z"])
    run_id: str = Field(alias="runId")
    engine: Engine = Field(description="what executes it: Temporal's services, or the local engine")
    queue: str | None = Field(
        description="the task queue of the services that take it up; null for the local engine"
    )
    source: str
    connection: str
    mode: Mode
    retries: str | None = Field(None, description="the batch whose failed jobs it runs again")


class ControlAccepted(BaseModel):
    """What holds of a run from now on."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Kind
    workflow_id: str = Field(alias="workflowId")
    action: Action
    state: OpenState | None = Field(description="null where its workflow did not answer")
    jobs_running: int | None = Field(alias="jobsRunning")
    stored: bool = Field(
        description="no service polls: the request is stored, and heeded when one does"
    )
    queue: str | None = Field(None, description="the task queue that no service polls")
    engine: Engine = "temporal"
    changed: bool = Field(default=True, description="false where that held already")
    ended_batch: str | None = Field(
        None,
        alias="endedBatch",
        description="the batch that was closed of a run whose workflow is lost",
    )


#: What is answered where no service polls; beside 200, with which the run itself answers.
STORED: dict[int | str, dict[str, Any]] = {
    202: {"model": ControlAccepted, "description": "Stored; heeded when a service polls"}
}


@router.post(
    "/full",
    summary="Start a full run",
    operation_id="sync_full",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_full(
    request: Request,
    context: InContext,
    caller: Operator,
    wanted: SyncRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Load everything anew. Rows that are there already and have not changed are left alone."""
    start = partial(_start, context, caller, "full", wanted)
    return await once(context, caller, request, idempotency_key, start, status=HTTPStatus.ACCEPTED)


@router.post(
    "/incremental",
    summary="Start an incremental run",
    operation_id="sync_incremental",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_incremental(
    request: Request,
    context: InContext,
    caller: Operator,
    wanted: SyncRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Load what happened since the watermark of each stream."""
    start = partial(_start, context, caller, "incremental", wanted)
    return await once(context, caller, request, idempotency_key, start, status=HTTPStatus.ACCEPTED)


async def _start(context: Context, caller: Caller, mode: Mode, wanted: SyncRequest) -> Started:
    request = run_request(
        wanted.source,
        connection=wanted.connection,
        mode=mode,
        streams=wanted.streams,
        params=wanted.params,
    )
    return await start(context, caller, request, f"sync.{mode}", force=wanted.force)


async def start(
    context: Context,
    caller: Caller,
    request: QueuerInput,
    action: str,
    *,
    force: bool = False,
    engine: Engine | None = None,
) -> Started:
    """Start a run that nobody waits for here, and enter it in the audit.

    Raises:
        RunGoesOnError: one of the source and connection goes on; not with `force`.
        ETLError: as `start_run`.
    """
    starting = start_run if force else start_only_run
    run = await starting(context.platform, request, engine=engine, by=caller.name)
    run.ending.cancel()
    context.forget()
    await record_outcome(
        context.platform,
        caller.author(),
        action,
        label(request.source, request.connection),
        "done",
        details={"workflow_id": run.workflow_id, "engine": run.engine},
    )
    return Started(
        workflow_id=run.workflow_id,
        run_id=run.run_id,
        engine=run.engine,
        queue=run.queue if isinstance(run, TemporalRun) else None,
        source=request.source,
        connection=request.connection,
        mode=request.mode,
        retries=request.retries,
    )


@router.post(
    "/{workflow_id:name}/pause",
    summary="Pause a run",
    operation_id="pause_run",
    responses=STORED,
)
async def post_pause(
    context: InContext, caller: Operator, response: Response, workflow_id: WorkflowName
) -> ControlAccepted:
    """Let running jobs stop at their next page, and start no others. Safe to repeat."""
    return await control(context, caller, response, workflow_id, "pause")


@router.post(
    "/{workflow_id:name}/resume",
    summary="Resume a run",
    operation_id="resume_run",
    responses=STORED,
)
async def post_resume(
    context: InContext, caller: Operator, response: Response, workflow_id: WorkflowName
) -> ControlAccepted:
    """Let jobs go on where they stopped. Safe to repeat."""
    return await control(context, caller, response, workflow_id, "resume")


@router.post(
    "/{workflow_id:name}/cancel",
    summary="Cancel a run",
    operation_id="cancel_run",
    responses=STORED,
)
async def post_cancel(
    context: InContext, caller: Operator, response: Response, workflow_id: WorkflowName
) -> ControlAccepted:
    """End a run at the next page of each job; what is loaded stays. Safe to repeat."""
    return await control(context, caller, response, workflow_id, "cancel")


async def control(
    context: Context, caller: Caller, response: Response, workflow_id: str, action: Action
) -> ControlAccepted:
    """Pause, resume or cancel, with an audit row; 202 where no service polls."""
    done = await control_run(context.platform, workflow_id, action, by=caller.name)
    context.forget()
    await record_outcome(
        context.platform, caller.author(), f"sync.{action}", done.workflow_id, "done"
    )
    if done.stored:
        response.status_code = HTTPStatus.ACCEPTED
    return ControlAccepted.model_validate(asdict(done))
