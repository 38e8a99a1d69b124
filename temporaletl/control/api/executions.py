"""Bodies of requests and answers about executions of pipelines."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from temporaletl.control.api.flags import Flag
from temporaletl.control.operations.execution_details import (
    ExecutionDetails,
    NodeDetails,
)
from temporaletl.warehouse.pipeline_executions import (
    ExecutionEntry,
)
from temporaletl.worker.pipelines.faults import DefinitionFault
from temporaletl.worker.pipelines.graph import NodeState
from temporaletl.worker.pipelines.messages import ExecutionState, NodeError

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


class ResumeFrom(BaseModel):
    """The execution that is gone on from, and the node from which on its nodes run anew."""

    model_config = ConfigDict(extra="forbid")

    execution_id: str = Field(max_length=1_000)
    node: str | None = Field(
        None, max_length=100, description="none: whatever did not complete runs again"
    )
    version: Literal["same", "latest"] = Field(
        "same", description="the definition of then, or the latest version of its pipeline"
    )
    failed_items_only: Flag = Field(
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
    recorded_state: str = Field(description="what the warehouse knows, where it is not answered")
    answered: bool
    error: str | None
    error_node: str | None
    started_how: str
    started_by: str | None
    event_key: str | None = Field(description="of the event that started it, and starts it once")
    parent: str | None = Field(description="the execution whose node waits for it")
    parent_node: str | None
    resumed_from: str | None
    resumed_node: str | None
    workflow_id: str | None = Field(description="null where it follows from the execution's id")
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


def fault_of(fault: DefinitionFault) -> PipelineFault:
    return PipelineFault(
        path=fault.path,
        message=fault.message,
        node=fault.node,
        line=fault.line,
        column=fault.column,
        warning=fault.warning,
    )


def listed_of(entry: ExecutionEntry) -> ListedExecution:
    return ListedExecution.model_validate({**entry._asdict(), "version": entry.sha256})


def report_of(found: ExecutionDetails) -> ExecutionReport:
    execution = found.execution
    return ExecutionReport(
        execution_id=execution.execution_id,
        pipeline=execution.pipeline,
        version=execution.sha256,
        state=found.state,
        recorded_state=execution.state,
        answered=found.answered,
        error=execution.error,
        error_node=execution.error_node,
        started_how=execution.started_how,
        started_by=execution.started_by,
        event_key=execution.event_key,
        parent=execution.parent,
        parent_node=execution.parent_node,
        resumed_from=execution.resumed_from,
        resumed_node=execution.resumed_node,
        workflow_id=execution.workflow_id,
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
