"""Details of an execution: what each node does, live while its workflow runs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporaletl import names
from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.errors import ETLError
from temporaletl.queuer.reconciliation import closings, describe_workflow
from temporaletl.temporal import sdk
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_executions import (
    StoredExecution,
    end_execution,
    read_execution,
)
from temporaletl.warehouse.pipeline_nodes import NodeRecord, read_nodes
from temporaletl.worker.pipelines.graph import SETTLED, NodeState, Progress
from temporaletl.worker.pipelines.messages import ExecutionStatus
from temporaletl.worker.pipelines.validation import Pipeline, validate


@dataclass(frozen=True)
class NodeDetails:
    """A node of an execution; `record` is None as long as it has not begun."""

    id: str
    type: str
    label: str
    state: NodeState
    record: NodeRecord | None

    @property
    def duration(self) -> timedelta | None:
        """From its beginning to its end, or to now."""
        if self.record is None or self.state == "skipped":
            return None
        return (self.record.ended_at or datetime.now(UTC)) - self.record.started_at

    @property
    def model_tokens(self) -> str | None:
        """What it took of a language model, in words; None where it asked none."""
        told = (self.record.details if self.record else None) or {}
        if "reserved_tokens" not in told:
            return None
        taken = f"{told['prompt_tokens']:,} + {told['completion_tokens']:,} tokens"
        of = f" of {told['model']}" if told["model"] else ""
        unknown = told["reserved_tokens"]
        return f"{taken}{of}{f', {unknown:,} reserved' if unknown else ''}"


@dataclass(frozen=True)
class ExecutionDetails:
    """An execution, and each of its nodes in the order of the definition.

    `state` is that of its workflow while it has not ended, as far as that answered: else
    `answered` is False, and it is what the warehouse knows. `chunks` counts what a `map` has done.
    """

    execution: StoredExecution
    state: str
    answered: bool
    nodes: tuple[NodeDetails, ...]
    chunks: dict[str, int]


async def execution_details(platform: Platform, execution_id: str) -> ExecutionDetails:
    """An execution and its nodes, live while it runs.

    Raises:
        NotFoundError: there is no such execution.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    execution = await asyncio.to_thread(read_execution, warehouse, execution_id)
    live = None
    if execution.ended_at is None:
        live = await _live(platform, execution)
        if live is None and await _is_lost(platform, warehouse, execution):
            execution = await asyncio.to_thread(read_execution, warehouse, execution_id)
    records = await asyncio.to_thread(read_nodes, warehouse, execution_id)
    pipeline = await asyncio.to_thread(validate, execution.document)
    return ExecutionDetails(
        execution=execution,
        state=live.state if live else execution.state,
        answered=live is not None or execution.ended_at is not None,
        nodes=tuple(_nodes(pipeline, {record.node: record for record in records})),
        chunks=live.chunks_done if live else {},
    )


def _nodes(pipeline: Pipeline, records: dict[str, NodeRecord]) -> list[NodeDetails]:
    """The nodes as the join rule has them: what is skipped is known before anything says so."""
    progress = Progress.of(pipeline.graph)
    for node in pipeline.graph.order:
        record = records.get(node)
        if record is None:
            continue
        state: Any = record.state
        if state in SETTLED:
            progress.settle(node, state, record.handles or ())
        else:
            progress.start(node)
    progress.ready()
    return [
        NodeDetails(
            node, step.type, step.data.label or node, progress.states[node], records.get(node)
        )
        for node, step in pipeline.steps.items()
    ]


async def _live(platform: Platform, execution: StoredExecution) -> ExecutionStatus | None:
    """What the workflow says of an execution; None where it does not say."""
    with contextlib.suppress(ETLError, sdk.RPCError, sdk.WorkflowQueryFailedError):
        client = await platform.client()
        handle = client.get_workflow_handle(workflow_of(execution))
        found: ExecutionStatus = await handle.query(
            names.GET_STATUS, result_type=ExecutionStatus, rpc_timeout=PATIENCE
        )
        return None if found.execution_id is None else found
    return None


async def _is_lost(platform: Platform, warehouse: Warehouse, execution: StoredExecution) -> bool:
    """End an execution whose workflow has ended without its books: terminated, or timed out."""
    try:
        client = await platform.client()
        with translated_errors():
            found = await describe_workflow(client, workflow_of(execution))
    except ETLError:
        return False
    if found is None or found.status not in closings():
        return False
    cause = found.status.name.lower().replace("_", " ") if found.status else "gone"
    await asyncio.to_thread(
        end_execution,
        warehouse,
        execution.execution_id,
        "failed",
        skipped={},
        error=f"its workflow was {cause} before it could close its books",
        error_node=None,
    )
    return True


def workflow_of(execution: StoredExecution) -> str:
    return execution.workflow_id or names.execution_workflow_id(execution.execution_id)
