"""Pause, resume and cancel a run or a job."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from temporaletl import names
from temporaletl.control.operations.platform import (
    PATIENCE,
    Platform,
    is_polled,
    translated_errors,
)
from temporaletl.errors import ConflictError, ETLError, NotFoundError
from temporaletl.queuer.finishing import end_lost
from temporaletl.queuer.reconciliation import namespace_of
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace, open_batch
from temporaletl.warehouse.reports import find_batch

Signal = Literal["pause", "resume", "cancel"]
Kind = Literal["run", "job"]

_KINDS: dict[str, Kind] = {
    names.QUEUER_FLOW: "run",
    names.DISPATCH_FLOW: "run",
    names.ETL_FLOW: "job",
}


@dataclass(frozen=True, slots=True)
class Signalled:
    """A workflow that was signalled.

    `unattended` is its task queue where no service polls it: it heeds the signal when one does.
    `ended_batch`: it was a run whose workflow this Temporal does not know; its batch and jobs are
    closed in the ledger instead.
    """

    kind: Kind
    workflow_id: str
    signal: Signal
    unattended: str | None = None
    ended_batch: str | None = None


async def signal_run(platform: Platform, name: str, signal: Signal) -> Signalled:
    """Signal a run or a job, named by its workflow, batch or job id. Safe to repeat.

    What runs stops at its next page; what is loaded stays.

    Raises:
        NotFoundError: there is none of that name.
        ConflictError: it has ended, or is neither a run nor a job.
        TemporalUnavailableError, CredentialsError: as `Platform.client`.
    """
    client = await platform.client()
    found = await find_workflow(platform, name)
    if found is None:
        if signal == "cancel" and (ended := await _end_without_workflow(platform, client, name)):
            return ended
        raise NotFoundError(f"no run or job is called {name!r} (`etl status` lists the latest)")
    kind = _KINDS.get(found.workflow_type)
    if kind is None:
        raise ConflictError(
            f"workflow {found.id} is a {found.workflow_type}, neither a run nor a job"
        )
    if found.status != WorkflowExecutionStatus.RUNNING:
        # Not how: to Temporal, a run that was cancelled or lost jobs has completed.
        raise ConflictError(f"{found.id} has ended: there is nothing to {signal}")
    try:
        with translated_errors(absent=f"{found.id} has just ended: there is nothing to {signal}"):
            await client.get_workflow_handle(found.id, run_id=found.run_id).signal(
                signal, rpc_timeout=PATIENCE
            )
    except NotFoundError as error:
        raise ConflictError(str(error)) from None
    attended = not found.task_queue or await is_polled(client, found.task_queue)
    return Signalled(kind, found.id, signal, unattended=None if attended else found.task_queue)


async def _end_without_workflow(platform: Platform, client: Client, name: str) -> Signalled | None:
    """Close the batch of a run whose workflow this Temporal does not know; None without one.

    The run is named by who wants it ended. Should its workflow live elsewhere, its jobs end all
    the same: pages of a job that the ledger takes for ended are not loaded.
    """
    if not platform.has_warehouse:
        return None
    with translated_errors():
        here = await namespace_of(client)
    return await asyncio.to_thread(_end_open_batch, await platform.warehouse(), here, name)


def _end_open_batch(warehouse: Warehouse, here: Namespace, name: str) -> Signalled | None:
    report = find_batch(warehouse, name)
    batch = open_batch(warehouse, report.batch_id) if report else None
    if batch is None:
        return None
    end_lost(warehouse, batch, f"lost: {here} does not know the workflow {batch.workflow_id}")
    return Signalled("run", batch.workflow_id, "cancel", ended_batch=batch.metadata.batch_id)


async def find_workflow(platform: Platform, name: str) -> WorkflowExecutionDescription | None:
    """The latest workflow of that id, else of the batch or job of that id; None without one."""
    client = await platform.client()
    for workflow_id in (name, names.job_workflow_id(name)):
        if (found := await _describe(client, workflow_id)) is not None:
            return found
    warehouse = await platform.warehouse_if_any()
    if warehouse is None:
        return None
    try:
        batch = await asyncio.to_thread(find_batch, warehouse, name)
    except ETLError:
        return None
    return await _describe(client, batch.workflow_id, batch.run_id) if batch else None


async def _describe(
    client: Client, workflow_id: str, run_id: str | None = None
) -> WorkflowExecutionDescription | None:
    with translated_errors():
        try:
            return await client.get_workflow_handle(workflow_id, run_id=run_id).describe(
                rpc_timeout=PATIENCE
            )
        except RPCError as error:
            # The server calls an id it cannot hold an invalid argument.
            if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                return None
            raise
