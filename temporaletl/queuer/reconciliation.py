"""Reconciliation: closes batches whose workflow or process is lost and cannot close them.

A workflow is lost where Temporal has no memory of it, or was closed from outside: terminated or
timed out. Safe to run in many queuers at once: the first one that closes a batch does
it, and a batch that some queuer sees running is not taken for lost by another.
"""

import asyncio
import socket
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.errors import ETLError
from temporaletl.failures import first_message
from temporaletl.logs import get_logger, unexpected
from temporaletl.messages import BatchSummary
from temporaletl.queuer.finishing import end_lapsed, end_lost
from temporaletl.settings import TemporalSettings, is_loopback
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace, OpenBatch, open_batches, sight

log = get_logger("temporaletl.queuer.reconciliation")

_PATIENCE = timedelta(seconds=5)
#: A workflow must be unknown for so many looks: another queuer may see it where we do not.
_LOOKS = 3

#: Whatever else a server says of a workflow, such as a newer one's PAUSED, it is open.
CLOSED = {
    WorkflowExecutionStatus.COMPLETED: "ended",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "was cancelled",
    WorkflowExecutionStatus.TERMINATED: "was terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
    WorkflowExecutionStatus.CONTINUED_AS_NEW: "ended",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Status of a batch's workflow in one Temporal."""

    execution: WorkflowExecutionDescription | None  # None: it knows no such workflow

    @property
    def is_running(self) -> bool:
        return self.execution is not None and self.execution.status not in CLOSED


async def namespace_of(client: Client) -> Namespace:
    """The namespace that a client reaches.

    Raises:
        RPCError: the server does not answer, or does not have the namespace.
    """
    address, name = client.service_client.config.target_host, client.namespace
    if is_loopback(address.rpartition(":")[0].strip("[]").lower()):
        # Every machine has one.
        address = f"{address} on {socket.gethostname()}"
    try:
        described = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=name),
            metadata={"temporal-namespace": name},
            timeout=_PATIENCE,
        )
    except RPCError as error:
        if error.status != RPCStatusCode.PERMISSION_DENIED:
            raise
        return Namespace(address, name)
    return Namespace(address, name, described.namespace_info.id or None)


async def standing_of(client: Client, workflow_id: str, run_id: str) -> Standing:
    """Read the status of a workflow by its first run's id: also one continued as new, or reset.

    Asks for descriptions, not for lists: those lag behind.

    Raises:
        RPCError: the server does not answer, or does not have the namespace.
    """
    latest = await describe_workflow(client, workflow_id)
    if latest is None:
        return Standing(None)
    first = latest.raw_description.workflow_execution_info.first_run_id
    if run_id in (first, latest.run_id):
        return Standing(latest)
    return Standing(await describe_workflow(client, workflow_id, run_id))


async def describe_workflow(
    client: Client, workflow_id: str, run_id: str | None = None
) -> WorkflowExecutionDescription | None:
    """Describe a workflow's latest run, or one of them; None where the server knows none.

    Raises:
        RPCError: the server does not answer, or does not have the namespace.
    """
    try:
        return await client.get_workflow_handle(workflow_id, run_id=run_id).describe(
            rpc_timeout=_PATIENCE
        )
    except RPCError as error:
        if is_unknown_workflow(error):
            return None
        raise


def is_unknown_workflow(error: RPCError) -> bool:
    """Whether a server says that it has no such workflow.

    An absent namespace is "not found" too, and says nothing of the workflow.
    """
    return error.status == RPCStatusCode.NOT_FOUND and (
        b"NamespaceNotFound" not in error.raw_grpc_status
    )


async def loss_of(
    client: Client, here: Namespace, batch: OpenBatch, standing: Standing
) -> str | None:
    """Why an open batch can never end by itself; None where it may, or where that is not known.

    Raises:
        RPCError: the server does not answer.
    """
    if standing.is_running:
        return None
    if standing.execution is None:
        if not here.is_place_of(batch.namespace):
            return None
        return f"lost: {here} no longer knows the workflow {batch.workflow_id}"
    status = standing.execution.status
    closed = CLOSED.get(status, "was closed") if status else "was closed"
    loss = f"lost: the workflow {batch.workflow_id} {closed} before it could close its books"
    reason = await _reason(client, standing.execution)
    return f"{loss}: {reason}" if reason else loss


async def _reason(client: Client, closed: WorkflowExecutionDescription) -> str | None:
    handle = client.get_workflow_handle(closed.id, run_id=closed.run_id)
    try:
        await handle.result(follow_runs=False, rpc_timeout=_PATIENCE)
    except WorkflowFailureError as failure:
        return first_message(failure.cause)
    except RPCError as error:
        # Its history went between the two questions.
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
    return None


async def reconcile(
    client: Client, warehouse: Warehouse, *, grace: timedelta
) -> list[BatchSummary]:
    """Check every open batch once; return the summaries of those that were closed.

    A workflow that the server does not know counts as lost when no queuer has found it running
    for `grace`.

    Raises:
        RPCError: the server does not answer, or does not have the namespace.
        ETLError: the warehouse does not answer.
    """
    ended = await asyncio.to_thread(end_lapsed, warehouse)
    batches = await asyncio.to_thread(open_batches, warehouse)
    if not batches:
        return ended
    here = await namespace_of(client)
    for batch in batches:
        try:
            summary = await _look_after(client, warehouse, here, batch, grace)
        except (ETLError, RPCError) as error:
            # Such as a lock on one of its jobs: the others need not wait for it.
            log.warning("batch_not_reconciled", batch_id=batch.metadata.batch_id, reason=str(error))
            continue
        if summary is not None:
            log.warning("batch_lost", batch_id=summary.batch_id, reason=summary.error)
            ended.append(summary)
    return ended


async def _look_after(
    client: Client, warehouse: Warehouse, here: Namespace, batch: OpenBatch, grace: timedelta
) -> BatchSummary | None:
    """Record that a batch's workflow runs, or close the batch and return its summary."""
    standing = await standing_of(client, batch.workflow_id, batch.run_id)
    if standing.is_running:
        await asyncio.to_thread(sight, warehouse, batch.metadata.batch_id, here)
        return None
    if standing.execution is None and batch.unsighted < grace:
        return None
    loss = await loss_of(client, here, batch, standing)
    return None if loss is None else await asyncio.to_thread(end_lost, warehouse, batch, loss)


async def keep_reconciling(
    client: Client, warehouse: Warehouse, temporal: TemporalSettings
) -> None:
    """Reconcile from time to time, until cancelled; what fails is logged and tried again.

    The ends of batches that it closes are announced as all others: see `Notifier.deliver`.
    """
    every = timedelta(seconds=temporal.reconcile_seconds)
    while True:
        try:
            await reconcile(client, warehouse, grace=_LOOKS * every)
        except (ETLError, RPCError) as error:
            log.warning("reconciliation_failed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the next time may be better
            log.warning("reconciliation_failed", reason=str(error), exception=unexpected(error))
        await asyncio.sleep(every.total_seconds())
