"""Step that is an execution of another pipeline."""

import asyncio

from temporaletl.errors import NotFoundError, PermanentError
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_executions import StoredExecution, read_execution
from temporaletl.warehouse.pipeline_nodes import read_nodes
from temporaletl.worker.pipelines.executions import enter
from temporaletl.worker.pipelines.messages import CloseRequest, ExecutionInput, Wait
from temporaletl.worker.pipelines.nodes.logic import PipelineData
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting

#: Executions that may stand within each other.
_DEEPEST = 8
#: Stands in no id of a node: else a.b of one would be b within a of another.
_WITHIN = "~"


class NestingError(PermanentError):
    """A pipeline that contains itself, or too many within each other."""


class ExecutionFailedError(PermanentError):
    """The execution that a node waited for did not complete."""


async def run_pipeline(context: NodeContext[PipelineData]) -> Waiting:
    """Enter an execution of the pipeline, by an id of this node's own, and wait for it."""
    data = context.data
    execution_id = context.execution.execution_id
    warehouse = context.services.warehouse
    await asyncio.to_thread(_check_nesting, warehouse, execution_id, data.pipeline)
    value = None if data.input is None else await context.fill(data.input)
    child = f"{execution_id}{_WITHIN}{context.node}"
    request = ExecutionInput(pipeline=data.pipeline, version=data.version, input=value)
    await asyncio.to_thread(
        enter,
        warehouse,
        request,
        execution_id=child,
        started_how="pipeline",
        parent=(execution_id, context.node),
    )
    return Waiting(Wait(execution_id=child), details={"execution": child})


async def close_pipeline(context: NodeContext[PipelineData], end: CloseRequest) -> Produced:
    """Give the result of the other's last node."""
    ended = end.execution
    if ended is None:
        raise ExecutionFailedError("its execution has left no summary")
    if ended.state != "completed":
        where = f" at {ended.error.node}: {ended.error.message}" if ended.error else ""
        raise ExecutionFailedError(f"execution {ended.execution_id} is {ended.state}{where}")
    last = ended.last
    if last is None:
        # It had ended before, and only its books tell.
        nodes = await asyncio.to_thread(read_nodes, context.services.warehouse, ended.execution_id)
        found = [(one.ended_at, one.node) for one in nodes if one.ended_at and one.attempts]
        last = max(found)[1] if found else None
    return Produced() if last is None else Produced(copied_from=(ended.execution_id, last))


def _check_nesting(warehouse: Warehouse, execution_id: str, pipeline: str) -> None:
    """Refuse what would never end.

    Raises:
        NestingError: the pipeline is one of those that this node stands in, or they are too many.
    """
    above: list[str] = []
    at: StoredExecution | None = read_execution(warehouse, execution_id)
    while at is not None:
        above.insert(0, at.pipeline or "a definition without a name")
        at = _parent(warehouse, at)
    way = " → ".join((*above, pipeline))
    if pipeline in above:
        raise NestingError(f"pipeline {pipeline} contains itself: {way}")
    if len(above) > _DEEPEST:
        raise NestingError(f"more than {_DEEPEST} pipelines within each other: {way}")


def _parent(warehouse: Warehouse, execution: StoredExecution) -> StoredExecution | None:
    if execution.parent is None:
        return None
    try:
        return read_execution(warehouse, execution.parent)
    except NotFoundError:
        return None  # its time was over
