"""Executions of pipelines, over the API: started, watched and controlled."""

from datetime import datetime

from pydantic import BaseModel, JsonValue

from temporaletl.control.client.api import Api
from temporaletl.control.client.calls.pipelines import read_fault
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.execution_details import (
    ExecutionDetails,
    NodeDetails,
    execution_details,
)
from temporaletl.control.operations.executions import (
    ExecutionAction,
    Resumption,
    Started,
    control_execution,
    decide,
    find_executions,
    read_node_result,
    start_execution,
)
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.pipeline_executions import (
    ExecutionEntry,
    ExecutionFilter,
    StoredExecution,
)
from temporaletl.warehouse.pipeline_nodes import NodeRecord
from temporaletl.worker.pipelines.graph import NodeState
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionStatus, FoundFault

_WORKFLOW = "workflow"


class _Started(BaseModel):
    execution_id: str
    pipeline: str | None
    version: str
    again: bool
    warnings: tuple[FoundFault, ...]


class _Listed(BaseModel):
    execution_id: str
    pipeline: str | None
    version: str
    state: str
    error: str | None
    error_node: str | None
    started_how: str
    started_by: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    nodes: int
    of: int


class _Executions(BaseModel):
    items: list[_Listed]


class _Node(BaseModel):
    id: str
    type: str
    label: str
    state: NodeState
    attempts: int
    outcomes: list[str | None]
    started_at: datetime | None
    ended_at: datetime | None
    input_bytes: int
    result_bytes: int | None
    result_items: int | None
    error: dict[str, JsonValue] | None
    details: dict[str, JsonValue] | None
    recorded_by: str | None
    chunks_done: int | None


class _Execution(BaseModel):
    execution_id: str
    pipeline: str | None
    version: str
    state: str
    answered: bool
    error: str | None
    error_node: str | None
    started_how: str
    started_by: str | None
    event_key: str | None
    parent: str | None
    parent_node: str | None
    resumed_from: str | None
    resumed_node: str | None
    workflow_id: str | None
    recorded_state: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    nodes: list[_Node]


class _Result(BaseModel):
    value: JsonValue


class _Decided(BaseModel):
    first: bool


@over_api(start_execution)
async def _start_execution(
    api: Api,
    request: ExecutionInput,
    *,
    how: str,
    author: Author | None = None,
    event_key: str | None = None,
    resumption: Resumption | None = None,
) -> Started:
    del how, author, event_key  # the API knows who sends the request; it has no events of ours
    wanted = request.model_dump(mode="json", include={"definition", "pipeline", "version", "input"})
    if resumption is not None:
        wanted["resume"] = {
            "execution_id": resumption.execution_id,
            "node": resumption.node,
            "version": resumption.version,
            "failed_items_only": resumption.failed_items_only,
        }
    made = await api.start(_Started, _WORKFLOW, "execute", "", json=wanted)
    warnings = tuple(map(read_fault, made.warnings))
    return Started(made.execution_id, made.pipeline, made.version, made.again, warnings)


@over_api(find_executions)
async def _find_executions(api: Api, wanted: ExecutionFilter) -> list[ExecutionEntry]:
    found = await api.get(_Executions, _WORKFLOW, "executions", params=wanted._asdict())
    return [
        ExecutionEntry(sha256=one.version, **one.model_dump(exclude={"version"}))
        for one in found.items
    ]


@over_api(execution_details)
async def _execution_details(api: Api, execution_id: str) -> ExecutionDetails:
    found = await api.get(_Execution, _WORKFLOW, "status", execution_id)
    own = {"version", "state", "recorded_state", "answered", "nodes"}
    execution = StoredExecution(
        document={},
        sha256=found.version,
        state=found.recorded_state,
        **found.model_dump(exclude=own),
    )
    return ExecutionDetails(
        execution=execution,
        state=found.state,
        answered=found.answered,
        nodes=tuple(map(_details_of, found.nodes)),
        chunks={one.id: one.chunks_done for one in found.nodes if one.chunks_done is not None},
    )


def _details_of(found: _Node) -> NodeDetails:
    record = None
    if found.started_at is not None:
        record = NodeRecord(
            node=found.id,
            type=found.type,
            state=found.state,
            attempts=found.attempts,
            handles=found.outcomes,
            wait=None,
            input_bytes=found.input_bytes,
            result_bytes=found.result_bytes,
            result_items=found.result_items,
            result_sha256=None,
            error=found.error,
            details=found.details,
            recorded_by=found.recorded_by,
            started_at=found.started_at,
            ended_at=found.ended_at,
        )
    return NodeDetails(found.id, found.type, found.label, found.state, record)


@over_api(read_node_result)
async def _read_node_result(api: Api, execution_id: str, node: str) -> JsonValue:
    path = (_WORKFLOW, "executions", execution_id, "nodes", node, "result")
    return (await api.get(_Result, *path)).value


@over_api(control_execution)
async def _control_execution(
    api: Api, execution_id: str, action: ExecutionAction, *, author: Author | None = None
) -> ExecutionStatus:
    del author
    path = (_WORKFLOW, "executions", execution_id, action)
    return await api.send("POST", ExecutionStatus, *path)


@over_api(decide)
async def _decide(
    api: Api,
    execution_id: str,
    node: str,
    outcome: str,
    *,
    comment: str | None = None,
    body: JsonValue = None,
    author: Author | None = None,
) -> bool:
    del author
    path = (_WORKFLOW, "executions", execution_id, "nodes", node, "decide")
    wanted = {"outcome": outcome, "comment": comment, "body": body}
    return (await api.send("POST", _Decided, *path, json=wanted)).first
