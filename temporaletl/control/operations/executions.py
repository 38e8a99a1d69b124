"""Executions of pipelines: started, watched, controlled, and run anew from a node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Literal

from pydantic import JsonValue

from temporaletl import names
from temporaletl.control.operations.audit import local_author, record_outcome
from temporaletl.control.operations.execution_details import workflow_of
from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.control.operations.sources import registered
from temporaletl.control_messages import ControlUpdate
from temporaletl.errors import ConfigurationError, ConflictError, ETLError, NotFoundError
from temporaletl.temporal import sdk
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_decisions import read_decision, record_decision
from temporaletl.warehouse.pipeline_executions import (
    ENDED,
    ExecutionEntry,
    ExecutionFilter,
    StoredExecution,
    end_execution,
    find_event,
    list_executions,
    read_execution,
)
from temporaletl.warehouse.pipeline_nodes import read_nodes
from temporaletl.warehouse.pipeline_results import read_result
from temporaletl.worker.pipelines.executions import enter, new_execution_id
from temporaletl.worker.pipelines.faults import DefinitionFault
from temporaletl.worker.pipelines.messages import Decision, ExecutionInput, ExecutionStatus
from temporaletl.worker.pipelines.secrets import refuse_secrets
from temporaletl.worker.pipelines.validation import validate

#: What is read of a result at once.
_MOST_SHOWN_MEGABYTES = 16
ExecutionAction = Literal["pause", "resume", "cancel"]
_UPDATES: dict[ExecutionAction, str] = {
    "pause": names.PAUSE,
    "resume": names.RESUME,
    "cancel": names.CANCEL_WORKFLOW,
}


@dataclass(frozen=True)
class Started:
    """An execution that was started, or had been by the same event; and warnings about it."""

    execution_id: str
    pipeline: str | None
    version: str
    again: bool = False
    warnings: tuple[DefinitionFault, ...] = ()


@dataclass(frozen=True)
class Resumption:
    """Where an execution goes on: from a node of an earlier one, whose other results it takes over.

    Without a `node`, from what did not complete. `version`: the definition of then, or the latest.
    """

    execution_id: str
    node: str | None = None
    version: Literal["same", "latest"] = "same"
    failed_items_only: bool = False


async def start_execution(
    platform: Platform,
    request: ExecutionInput,
    *,
    how: str,
    author: Author | None = None,
    event_key: str | None = None,
    resumption: Resumption | None = None,
) -> Started:
    """Start an execution; returns once Temporal has it.

    With an `event_key`, an event starts its pipeline once, however often it comes; where Temporal
    did not answer, it is started when the event comes again. Pipelines run on Temporal alone: the
    local engine has none.

    Raises:
        DefinitionError: the definition cannot run.
        ConfigurationError: a secret stands in the definition, or in the input.
        NotFoundError: there is no such pipeline, version or execution.
        TemporalDisabledError, TemporalUnavailableError: nothing runs pipelines; nothing is entered.
        ETLError: as `Platform.current_warehouse`.
    """
    client = await platform.answering_client()
    warehouse = await platform.current_warehouse()
    await asyncio.to_thread(_know_sources)
    for what, value in (("definition", request.definition), ("input", request.input)):
        await asyncio.to_thread(refuse_secrets, what, value)
    if event_key is not None and request.pipeline is not None:
        known = await asyncio.to_thread(find_event, warehouse, request.pipeline, event_key)
        if known is not None:
            return await _started_before(platform, client, warehouse, known)
    resumed = None
    if resumption is not None:
        resumed = await asyncio.to_thread(read_execution, warehouse, resumption.execution_id)
        if resumed.ended_at is None:
            raise ConflictError(f"{resumed.execution_id} has not ended: cancel it first")
        request = await asyncio.to_thread(_resuming, warehouse, request, resumed, resumption)
    execution_id = new_execution_id(request.pipeline)
    by = author or local_author()
    pipeline = await asyncio.to_thread(
        enter,
        warehouse,
        request,
        execution_id=execution_id,
        started_how="resume" if resumption else how,
        started_by=by.name,
        event_key=event_key,
        resumed_from=resumed,
        resumed_node=resumption.node if resumption else None,
        failed_items_only=resumption is not None and resumption.failed_items_only,
        author=by,
        elsewhere=True,
    )
    try:
        entered = await asyncio.to_thread(read_execution, warehouse, execution_id)
    except NotFoundError:  # the same event has come twice at once
        known = await asyncio.to_thread(
            find_event, warehouse, request.pipeline or "", event_key or ""
        )
        return await _started_before(platform, client, warehouse, known or execution_id)
    await _start_workflow(platform, client, warehouse, entered)
    return Started(execution_id, entered.pipeline, entered.sha256, warnings=pipeline.warnings)


@cache
def _know_sources() -> None:
    """Import the sources, whose names and tables definitions are checked against; once."""
    registered()


def _resuming(
    warehouse: Warehouse, request: ExecutionInput, resumed: StoredExecution, how: Resumption
) -> ExecutionInput:
    """The request of an execution that goes on from another one: its definition, its input."""
    value = read_result(warehouse, resumed.execution_id, "")
    given = request.definition is not None or request.pipeline is not None
    if how.version == "latest" and not given:
        if resumed.pipeline is None:
            raise ConfigurationError("its definition is not stored: there is no later version")
        return ExecutionInput(pipeline=resumed.pipeline, input=value)
    if given:
        return request.model_copy(update={"input": value})
    return ExecutionInput(definition=resumed.document, input=value)


async def _started_before(
    platform: Platform, client: Any, warehouse: Warehouse, execution_id: str
) -> Started:
    found = await asyncio.to_thread(read_execution, warehouse, execution_id)
    if found.state == "pending":
        # Whoever entered it may have gone away since.
        await _start_workflow(platform, client, warehouse, found)
    return Started(execution_id, found.pipeline, found.sha256, again=True)


async def _start_workflow(
    platform: Platform, client: Any, warehouse: Warehouse, execution: StoredExecution
) -> None:
    """Start the workflow of an execution, unless it runs already."""
    execution_id = execution.execution_id
    try:
        with translated_errors():
            await client.start_workflow(
                names.PIPELINE_FLOW,
                ExecutionInput(execution_id=execution_id),
                id=workflow_of(execution),
                id_conflict_policy=sdk.WorkflowIDConflictPolicy.USE_EXISTING,
                task_queue=platform.settings.worker_queue,
                rpc_timeout=PATIENCE,
            )
    except ETLError as error:
        if execution.event_key is not None:
            raise  # its event will come again
        # Should Temporal have it all the same, its workflow finds that it has ended.
        await asyncio.to_thread(
            end_execution,
            warehouse,
            execution_id,
            "failed",
            skipped={},
            error=f"it could not be started: {error}",
            error_node=None,
        )
        raise


async def find_executions(platform: Platform, wanted: ExecutionFilter) -> list[ExecutionEntry]:
    """Executions, the latest first.

    Raises:
        ETLError: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(list_executions, await platform.current_warehouse(), wanted)


async def control_execution(
    platform: Platform,
    execution_id: str,
    action: ExecutionAction,
    *,
    author: Author | None = None,
) -> ExecutionStatus:
    """Pause, resume or cancel an execution, with an audit row; safe to repeat.

    Nodes that run come to their end when it is paused, and are ended when it is cancelled.

    Raises:
        NotFoundError: there is no such execution.
        ConflictError: it has ended, or is about to.
        TemporalUnavailableError: Temporal, or a worker, did not answer.
    """
    warehouse = await platform.current_warehouse()
    execution = await asyncio.to_thread(read_execution, warehouse, execution_id)
    if execution.state in ENDED:
        raise ConflictError(f"{execution_id} has ended ({execution.state})")
    client = await platform.client()
    handle = client.get_workflow_handle(workflow_of(execution))
    update = ControlUpdate(heed_until=datetime.now(UTC) + PATIENCE)
    try:
        with translated_errors():
            answer: ExecutionStatus = await handle.execute_update(
                _UPDATES[action], update, result_type=ExecutionStatus, rpc_timeout=PATIENCE
            )
    except sdk.WorkflowUpdateFailedError as failure:
        raise ConflictError(f"{execution_id}: {failure.cause}") from None
    except sdk.WorkflowUpdateRPCTimeoutOrCancelledError:
        # No worker polls: the server keeps a signal until one does.
        with translated_errors():
            await handle.signal(_UPDATES[action], rpc_timeout=PATIENCE)
        answer = ExecutionStatus(execution_id=execution_id, state="running")
    by = author or local_author()
    await record_outcome(platform, by, f"execution.{action}", execution_id, "done")
    return answer


async def decide(
    platform: Platform,
    execution_id: str,
    node: str,
    outcome: str,
    *,
    comment: str | None = None,
    body: JsonValue = None,
    author: Author | None = None,
) -> bool:
    """Decide what a node waits for; returns whether it is the first decision, which stands.

    An `approval` is decided as `approved` or `rejected`; a `wait_for_webhook` as `received`, with
    the `body` that came. It is in the warehouse before the workflow is told. Safe to repeat.

    Raises:
        NotFoundError: there is no such execution or node.
        ConflictError: the node waits for no such decision.
        TemporalUnavailableError: it is recorded, but Temporal does not answer: say it again.
    """
    warehouse = await platform.current_warehouse()
    execution = await asyncio.to_thread(read_execution, warehouse, execution_id)
    pipeline = await asyncio.to_thread(validate, execution.document)
    if node not in pipeline.steps:
        raise NotFoundError(f"{execution_id} has no node {node!r}")
    known = [one for one in pipeline.steps[node].data.handles() if one not in (None, "timeout")]
    if outcome not in known:
        raise ConflictError(f"node {node} is decided as one of {known}, not as {outcome!r}")
    by = author or local_author()
    first = await asyncio.to_thread(
        partial(record_decision, by=by.name, comment=comment, body=body, author=by),
        warehouse,
        execution_id,
        node,
        outcome,
    )
    stands = await asyncio.to_thread(read_decision, warehouse, execution_id, node)
    # Also for a later one: the signal of the first may have been lost.
    client = await platform.client()
    handle = client.get_workflow_handle(workflow_of(execution))
    decision = Decision(node=node, outcome=stands.outcome if stands else outcome)
    try:
        with translated_errors():
            await handle.signal(names.DECIDE, decision, rpc_timeout=PATIENCE)
    except NotFoundError:
        if first:
            raise
        # The execution has ended since, as the first decision had it.
    return first


async def read_node_result(platform: Platform, execution_id: str, node: str) -> JsonValue:
    """The result of a node of an execution; the empty name has its input.

    Raises:
        NotFoundError: there is no such execution, or the node has none.
        OversizedResultError: it is too large to be read at once.
    """
    warehouse = await platform.current_warehouse()
    found = await asyncio.to_thread(read_nodes, warehouse, execution_id)
    begun = {one.node: one.is_settled for one in found}
    if node and not begun.get(node):
        await asyncio.to_thread(read_execution, warehouse, execution_id)
        has = "has not ended" if node in begun else "has not begun"
        raise NotFoundError(f"node {node!r} of {execution_id} {has}")
    return await asyncio.to_thread(
        read_result, warehouse, execution_id, node, most_megabytes=_MOST_SHOWN_MEGABYTES
    )
