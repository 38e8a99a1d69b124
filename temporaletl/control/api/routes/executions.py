"""`/workflow`: executions of pipelines: validated, started, watched and controlled."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from temporaletl.control.api.access import Caller, Operator, Reader
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.executions import (
    Controlled,
    Decided,
    DecisionRequest,
    ExecuteRequest,
    ExecutionReport,
    Executions,
    NodeResult,
    StartedExecution,
    Validated,
    ValidateRequest,
    fault_of,
    listed_of,
    report_of,
)
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.times import Timestamp
from temporaletl.control.operations.execution_details import (
    execution_details,
)
from temporaletl.control.operations.executions import (
    ExecutionAction,
    Resumption,
    control_execution,
    decide,
    find_executions,
    read_node_result,
    start_execution,
)
from temporaletl.control.operations.pipelines import pipeline_schema, validate_document
from temporaletl.warehouse.pipeline_executions import (
    ExecutionFilter,
)
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionState

router = APIRouter(prefix="/workflow", tags=["workflow"], responses=RESPONSES)

ExecutionId = Annotated[
    str,
    Path(max_length=1_000, description="the execution", examples=["orders-20261128T040000Z-1f"]),
]


@router.post(
    "/execute/",
    summary="Start an execution",
    operation_id="execute_pipeline",
    status_code=HTTPStatus.ACCEPTED,
    response_model=StartedExecution,
)
async def execute(
    request: Request,
    context: InContext,
    caller: Operator,
    wanted: ExecuteRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start an execution of a definition or a stored pipeline, or go on from an earlier one."""
    start = partial(_execute, context, caller, wanted)
    return await once(context, caller, request, idempotency_key, start, status=HTTPStatus.ACCEPTED)


async def _execute(context: Context, caller: Caller, wanted: ExecuteRequest) -> StartedExecution:
    resume = wanted.resume
    started = await start_execution(
        context.platform,
        ExecutionInput(
            definition=wanted.definition,
            pipeline=wanted.pipeline,
            version=wanted.version,
            input=wanted.input,
        ),
        how="api",
        author=caller.author(),
        resumption=None
        if resume is None
        else Resumption(resume.execution_id, resume.node, resume.version, resume.failed_items_only),
    )
    return StartedExecution(
        execution_id=started.execution_id,
        pipeline=started.pipeline,
        version=started.version,
        again=started.again,
        warnings=[fault_of(one) for one in started.warnings],
    )


@router.post("/validate/", summary="Check a definition", operation_id="validate_pipeline")
async def validate(context: InContext, _: Reader, wanted: ValidateRequest) -> Validated:
    """Name everything that is wrong with a definition, each with its place; changes nothing."""
    found = await validate_document(context.platform, wanted.definition)
    return Validated(
        valid=found.pipeline is not None,
        sha256=found.pipeline.definition.content_hash() if found.pipeline else None,
        faults=[fault_of(one) for one in found.faults],
    )


@router.get("/schema", summary="Show the schema of definitions", operation_id="pipeline_schema")
async def schema(_: Reader) -> dict[str, Any]:
    """Show the JSON Schema of definitions, for editors."""
    return pipeline_schema()


@router.get("/executions", summary="List executions", operation_id="list_executions")
async def get_executions(
    context: InContext,
    _: Reader,
    pipeline: Annotated[str | None, Query(max_length=63)] = None,
    state: ExecutionState | None = None,
    before: Annotated[
        Timestamp | None,
        Query(description="created before it: the last one's `created_at`"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Executions:
    """List executions, the latest first."""
    wanted = ExecutionFilter(pipeline=pipeline, state=state, before=before, limit=limit)
    found = await find_executions(context.platform, wanted)
    return Executions(items=[listed_of(one) for one in found])


@router.get("/status/{execution_id}", summary="Show an execution", operation_id="execution_status")
async def get_status(context: InContext, _: Reader, execution_id: ExecutionId) -> ExecutionReport:
    """Show an execution and the state of each node, live while it runs."""
    return report_of(await execution_details(context.platform, execution_id))


@router.get(
    "/history/{execution_id}",
    summary="Show what the nodes of an execution did",
    operation_id="execution_history",
)
async def get_history(context: InContext, _: Reader, execution_id: ExecutionId) -> ExecutionReport:
    """Show the nodes that have begun, in that order: attempts, durations, sizes and errors."""
    report = report_of(await execution_details(context.platform, execution_id))
    begun = [one for one in report.nodes if one.started_at is not None]
    begun.sort(key=lambda one: (one.started_at, one.id))
    return report.model_copy(update={"nodes": begun})


@router.get(
    "/executions/{execution_id}/nodes/{node}/result",
    summary="Show the result of a node",
    operation_id="node_result",
)
async def get_result(
    context: InContext,
    _: Reader,
    execution_id: ExecutionId,
    node: Annotated[str, Path(max_length=100, examples=["fetch"])],
) -> NodeResult:
    """Show what a node of an execution gave; 422 where it is too large to be read at once."""
    return NodeResult(value=await read_node_result(context.platform, execution_id, node))


@router.post(
    "/executions/{execution_id}/nodes/{node}/decide",
    summary="Decide what a node waits for",
    operation_id="decide_node",
)
async def post_decision(
    context: InContext,
    caller: Operator,
    execution_id: ExecutionId,
    node: Annotated[str, Path(max_length=100, examples=["approve"])],
    wanted: DecisionRequest,
) -> Decided:
    """Decide what a node waits for; the first decision stands, and a repeat changes nothing."""
    first = await decide(
        context.platform,
        execution_id,
        node,
        wanted.outcome,
        comment=wanted.comment,
        body=wanted.body,
        author=caller.author(),
    )
    return Decided(execution_id=execution_id, node=node, first=first)


def _control(action: ExecutionAction, summary: str) -> None:
    @router.post(
        f"/executions/{{execution_id}}/{action}",
        summary=summary,
        operation_id=f"{action}_execution",
    )
    async def control(
        context: InContext, caller: Operator, execution_id: ExecutionId
    ) -> Controlled:
        author = caller.author()
        answer = await control_execution(context.platform, execution_id, action, author=author)
        return Controlled(execution_id=execution_id, state=answer.state)

    control.__doc__ = f"{summary}; safe to repeat."


_control("pause", "Let an execution start no more nodes")
_control("resume", "Let a paused execution go on")
_control("cancel", "End an execution and the nodes that run")
