"""`/workflow`: executions of pipelines: validated, started, watched and controlled."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from temporaletl.control.api.access import Caller, Operator, Reader
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.executions import (
    ExecutionAction,
    ExecutionDetails,
    NodeDetails,
    Resumption,
    control_execution,
    decide,
    execution_details,
    find_executions,
    read_node_result,
    start_execution,
)
from temporaletl.control.operations.pipelines import pipeline_schema, validate_document
from temporaletl.warehouse.pipeline_executions import (
    ExecutionEntry,
    ExecutionFilter,
)
from temporaletl.worker.pipelines.faults import DefinitionFault
from temporaletl.worker.pipelines.graph import NodeState
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionState, NodeError

router = APIRouter(prefix="/workflow", tags=["workflow"], responses=RESPONSES)

_DEFINITION: dict[str, JsonValue] = {
    "nodes": [
        {
            "id": "result",
            "type": "transform",
            "data": {"transform_type": "mapping", "mapping": {"result": "inputs.data"}},
        }
    ],
    "edges": [],
}
ExecutionId = Annotated[
    str, Path(max_length=200, description="the execution", examples=["orders-20261128T040000Z-1f"])
]


class ResumeFrom(BaseModel):
    """The execution that is gone on from, and the node from which on its nodes run anew."""

    model_config = ConfigDict(extra="forbid")

    execution_id: str = Field(max_length=200)
    node: str | None = Field(
        None, max_length=100, description="none: whatever did not complete runs again"
    )
    version: Literal["same", "latest"] = Field(
        "same", description="the definition of then, or the latest version of its pipeline"
    )
    failed_items_only: bool = Field(
        default=False,
        description="maps with failed items run again, without the items that completed",
    )


class ExecuteRequest(BaseModel):
    """What is executed: a definition, or a stored pipeline; or an execution that is resumed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"definition": _DEFINITION, "input": {"data": 1}}]},
    )

    definition: dict[str, JsonValue] | None = None
    pipeline: str | None = Field(None, max_length=63)
    version: str | None = Field(None, max_length=64, description="its number or hash")
    input: JsonValue = Field(None, description="what expressions read as `trigger`")
    resume: ResumeFrom | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [self.definition is not None, self.pipeline is not None]
        if sum(given) > 1 or not (any(given) or self.resume):
            raise ValueError("give one of definition, pipeline and resume")
        return self


class PipelineFault(BaseModel):
    """A fault of a definition, with its place; a warning keeps nothing from running."""

    path: str
    message: str
    node: str | None
    line: int | None
    column: int | None
    warning: bool


class StartedExecution(BaseModel):
    """An execution that was started; `again`: by a request, or an event, that came before."""

    execution_id: str
    pipeline: str | None
    version: str
    again: bool
    warnings: list[PipelineFault]


class ValidateRequest(BaseModel):
    """A definition that is checked."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"definition": _DEFINITION}]}
    )

    definition: dict[str, JsonValue]


class Validated(BaseModel):
    """Whether a definition can run, and all that is wrong with it."""

    valid: bool
    sha256: str | None = Field(description="hash of what it does, without its picture")
    faults: list[PipelineFault]


class NodeStatus(BaseModel):
    """A node of an execution. Sizes are in bytes of JSON, durations in seconds."""

    id: str
    type: str
    label: str
    state: NodeState
    attempts: int
    outcomes: list[str | None]
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    input_bytes: int
    result_bytes: int | None
    result_items: int | None
    error: NodeError | None
    details: dict[str, JsonValue] | None
    recorded_by: str | None = Field(description="the execution whose result was taken over")
    chunks_done: int | None


class ExecutionReport(BaseModel):
    """An execution. `answered` is false where its workflow did not say what it does just now."""

    execution_id: str
    pipeline: str | None
    version: str
    state: str
    answered: bool
    error: str | None
    error_node: str | None
    started_how: str
    started_by: str | None
    resumed_from: str | None
    resumed_node: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    nodes: list[NodeStatus]


class ListedExecution(BaseModel):
    """An execution in a list; `nodes` of `of` are settled."""

    execution_id: str
    pipeline: str | None
    version: str
    state: ExecutionState
    error: str | None
    error_node: str | None
    started_how: str
    started_by: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    nodes: int
    of: int


class Executions(BaseModel):
    """Executions, the latest first; the next page is of those `before` the last of them."""

    items: list[ListedExecution]


class NodeResult(BaseModel):
    """The result of a node."""

    value: JsonValue


class Controlled(BaseModel):
    """What an execution does from then on."""

    execution_id: str
    state: str


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
        by=caller.name,
        resumption=None
        if resume is None
        else Resumption(resume.execution_id, resume.node, resume.version, resume.failed_items_only),
    )
    return StartedExecution(
        execution_id=started.execution_id,
        pipeline=started.pipeline,
        version=started.version,
        again=started.again,
        warnings=[_fault(one) for one in started.warnings],
    )


@router.post("/validate/", summary="Check a definition", operation_id="validate_pipeline")
async def validate(context: InContext, _: Reader, wanted: ValidateRequest) -> Validated:
    """Name everything that is wrong with a definition, each with its place; changes nothing."""
    found = await validate_document(context.platform, wanted.definition)
    return Validated(
        valid=found.pipeline is not None,
        sha256=found.pipeline.definition.content_hash() if found.pipeline else None,
        faults=[_fault(one) for one in found.faults],
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
        datetime | None, Query(description="created before, exclusive: the last one's `created_at`")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Executions:
    """List executions, the latest first."""
    wanted = ExecutionFilter(pipeline=pipeline, state=state, before=before, limit=limit)
    found = await find_executions(context.platform, wanted)
    return Executions(items=[_listed(one) for one in found])


@router.get("/status/{execution_id}", summary="Show an execution", operation_id="execution_status")
async def get_status(context: InContext, _: Reader, execution_id: ExecutionId) -> ExecutionReport:
    """Show an execution and the state of each node, live while it runs."""
    return _report(await execution_details(context.platform, execution_id))


@router.get(
    "/history/{execution_id}",
    summary="Show what the nodes of an execution did",
    operation_id="execution_history",
)
async def get_history(context: InContext, _: Reader, execution_id: ExecutionId) -> ExecutionReport:
    """Show the nodes that have begun, in that order: attempts, durations, sizes and errors."""
    report = _report(await execution_details(context.platform, execution_id))
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


class DecisionRequest(BaseModel):
    """A decision: `approved` or `rejected` of an approval, `received` of an awaited request."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"outcome": "approved"}]}
    )

    outcome: Literal["approved", "rejected", "received"]
    comment: str | None = Field(None, max_length=2_000)
    body: JsonValue = Field(None, description="of `received`: what came, the node's result")


class Decided(BaseModel):
    """Whether it was the first decision, which is the one that stands."""

    execution_id: str
    node: str
    first: bool


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
        by=caller.name,
        comment=wanted.comment,
        body=wanted.body,
    )
    return Decided(execution_id=execution_id, node=node, first=first)


def _control(action: ExecutionAction, summary: str) -> None:
    @router.post(
        f"/executions/{{execution_id}}/{action}",
        summary=summary,
        operation_id=f"{action}_execution",
    )
    async def control(context: InContext, _: Operator, execution_id: ExecutionId) -> Controlled:
        answer = await control_execution(context.platform, execution_id, action)
        return Controlled(execution_id=execution_id, state=answer.state)

    control.__doc__ = f"{summary}; safe to repeat."


_control("pause", "Let an execution start no more nodes")
_control("resume", "Let a paused execution go on")
_control("cancel", "End an execution and the nodes that run")


def _fault(fault: DefinitionFault) -> PipelineFault:
    return PipelineFault(
        path=fault.path,
        message=fault.message,
        node=fault.node,
        line=fault.line,
        column=fault.column,
        warning=fault.warning,
    )


def _listed(entry: ExecutionEntry) -> ListedExecution:
    return ListedExecution.model_validate({**entry._asdict(), "version": entry.sha256})


def _report(found: ExecutionDetails) -> ExecutionReport:
    execution = found.execution
    return ExecutionReport(
        execution_id=execution.execution_id,
        pipeline=execution.pipeline,
        version=execution.sha256,
        state=found.state,
        answered=found.answered,
        error=execution.error,
        error_node=execution.error_node,
        started_how=execution.started_how,
        started_by=execution.started_by,
        resumed_from=execution.resumed_from,
        resumed_node=execution.resumed_node,
        created_at=execution.created_at,
        started_at=execution.started_at,
        ended_at=execution.ended_at,
        nodes=[_node(one, found.chunks.get(one.id)) for one in found.nodes],
    )


def _node(node: NodeDetails, chunks: int | None) -> NodeStatus:
    record, duration = node.record, node.duration
    return NodeStatus(
        id=node.id,
        type=node.type,
        label=node.label,
        state=node.state,
        attempts=record.attempts if record else 0,
        outcomes=(record.handles or []) if record else [],
        started_at=record.started_at if record else None,
        ended_at=record.ended_at if record else None,
        duration_seconds=None if duration is None else round(duration.total_seconds(), 3),
        input_bytes=record.input_bytes if record else 0,
        result_bytes=record.result_bytes if record else None,
        result_items=record.result_items if record else None,
        error=NodeError.model_validate(record.error) if record and record.error else None,
        details=record.details if record else None,
        recorded_by=record.recorded_by if record else None,
        chunks_done=chunks,
    )
