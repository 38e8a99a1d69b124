"""Books of executions, kept by the workers: those that are lost are ended, old ones are removed."""

import asyncio
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.errors import ETLError
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_executions import (
    end_execution,
    open_executions,
    remove_executions,
)
from temporaletl.worker.pipelines.settings import PipelineSettings

log = get_logger("temporaletl.worker.pipelines.retention")

_EVERY = timedelta(minutes=1)
#: An execution that was entered so long ago has its workflow.
_SETTLED_AFTER = timedelta(minutes=2)
_PATIENCE = timedelta(seconds=5)
_REMOVED_AT_ONCE = 20


async def keep_books(client: Client, warehouse: Warehouse, settings: PipelineSettings) -> None:
    """End lost executions and remove old ones from time to time, until cancelled."""
    while True:
        try:
            await end_lost_executions(client, warehouse)
            await remove_old_executions(warehouse, settings)
        except (ETLError, RPCError) as error:
            log.warning("books_of_executions_not_kept", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the next time may be better
            log.warning("books_of_executions_not_kept", exception=unexpected(error))
        await asyncio.sleep(_EVERY.total_seconds())


async def end_lost_executions(
    client: Client, warehouse: Warehouse, *, older_than: timedelta = _SETTLED_AFTER
) -> list[str]:
    """End the executions whose workflow here has ended without them; returns their ids.

    Safe to repeat, and for several workers at once: the first end stands.
    """
    lost = []
    for execution_id, workflow_id in await asyncio.to_thread(
        open_executions, warehouse, older_than
    ):
        cause = await _cause_of_loss(client, workflow_id)
        if cause is None:
            continue
        await asyncio.to_thread(
            end_execution,
            warehouse,
            execution_id,
            "failed",
            skipped={},
            error=cause,
            error_node=None,
        )
        log.warning("execution_lost", execution_id=execution_id, reason=cause)
        lost.append(execution_id)
    return lost


async def _cause_of_loss(client: Client, workflow_id: str) -> str | None:
    """Why an execution will never end by itself; None where its workflow does not say so."""
    handle = client.get_workflow_handle(workflow_id)
    try:
        found = await handle.describe(rpc_timeout=_PATIENCE)
    except RPCError as error:
        absent = error.status == RPCStatusCode.NOT_FOUND
        if not absent or b"NamespaceNotFound" in error.raw_grpc_status:
            raise
        # It may be another Temporal's, of a platform that shares the warehouse.
        return None
    if found.status in (None, WorkflowExecutionStatus.RUNNING):
        return None
    status = found.status.name.lower().replace("_", " ")
    return f"its workflow was {status} before it could close its books"


async def remove_old_executions(warehouse: Warehouse, settings: PipelineSettings) -> int:
    """Remove executions that ended longer ago than results are kept; returns how many."""
    kept = timedelta(days=settings.results_kept_days)
    removed = 0
    while step := await asyncio.to_thread(remove_executions, warehouse, kept, _REMOVED_AT_ONCE):
        removed += step
        await asyncio.sleep(0)
    if removed:
        log.info("executions_removed", executions=removed)
    return removed
