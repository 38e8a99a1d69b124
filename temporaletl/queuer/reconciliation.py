"""Reconciliation: ends runs in the ledger whose workflow or process is lost and cannot do it.

A workflow is lost where Temporal has no memory of it, or was closed from outside: terminated or
timed out. Its batch is closed; a run that has no batch yet is ended by its entry, and one that has
no entry either, as a schedule's before a queuer takes it up, is entered. Safe to run in many
queuers at once: the first one that ends a run does it, and a batch that some queuer sees running is
not taken for lost by another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING

from temporaletl import names
from temporaletl.errors import ETLError
from temporaletl.messages import BatchSummary, MetadataRequest, QueuerInput
from temporaletl.queuer.finishing import end_lapsed, end_lost
from temporaletl.settings.addresses import is_loopback
from temporaletl.settings.platform import TemporalSettings
from temporaletl.telemetry import metrics
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.temporal import sdk
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import (
    Namespace,
    OpenBatch,
    open_batch,
    open_batches,
    sight,
)
from temporaletl.warehouse.runs import (
    RequestedRun,
    SupersededRunError,
    end_run,
    entered_runs,
    find_run,
    give_up,
    runs_without_batch,
)
from temporaletl.warehouse.workflow_claims import SkippedRunError, claim_for_temporal

if TYPE_CHECKING:
    from temporalio.client import (
        Client,
        WorkflowExecution,
        WorkflowExecutionDescription,
        WorkflowExecutionStatus,
    )
    from temporalio.service import RPCError

log = get_logger("temporaletl.queuer.reconciliation")

_PATIENCE = timedelta(seconds=5)
#: A workflow must be unknown for so many looks: another queuer may see it where we do not.
_LOOKS = 3


@cache
def closings() -> Mapping[WorkflowExecutionStatus, str]:
    """What became of a workflow that is closed, in words.

    Whatever else a server says of a workflow, such as a newer one's PAUSED, it is open.
    """
    status = sdk.WorkflowExecutionStatus
    return {
        status.COMPLETED: "ended",
        status.FAILED: "failed",
        status.CANCELED: "was cancelled",
        status.TERMINATED: "was terminated",
        status.TIMED_OUT: "timed out",
        status.CONTINUED_AS_NEW: "ended",
    }


#: A run that no engine has by then: whoever entered it has died.
_STARTED_WITHIN = timedelta(seconds=30)
#: Runs that are looked at once: the latest.
_MOST_RUNS = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """Status of a batch's workflow in one Temporal."""

    execution: WorkflowExecutionDescription | None  # None: it knows no such workflow

    @property
    def is_running(self) -> bool:
        return self.execution is not None and self.execution.status not in closings()


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
            sdk.DescribeNamespaceRequest(namespace=name),
            metadata={"temporal-namespace": name},
            timeout=_PATIENCE,
        )
    except sdk.RPCError as error:
        if error.status != sdk.RPCStatusCode.PERMISSION_DENIED:
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
    except sdk.RPCError as error:
        if is_unknown_workflow(error):
            return None
        raise


def is_unknown_workflow(error: RPCError) -> bool:
    """Whether a server says that it has no such workflow.

    An absent namespace is "not found" too, and says nothing of the workflow.
    """
    return error.status == sdk.RPCStatusCode.NOT_FOUND and (
        b"NamespaceNotFound" not in error.raw_grpc_status
    )


def runs_of_queue(queue: str) -> str:
    """The list filter for the runs of one platform: those of others are on other task queues."""
    return f"WorkflowType = '{names.QUEUER_FLOW}' AND TaskQueue = '{queue}'"


async def unbooked(
    client: Client, warehouse: Warehouse | None, queue: str
) -> list[WorkflowExecution]:
    """QueuerFlows of a task queue, the latest first, that are open or failed and in no ledger.

    Of so many that Temporal has; also one that was reset after its run had ended.

    Raises:
        RPCError: the server does not answer.
        ETLError: the warehouse does not answer.
    """
    query = f"{runs_of_queue(queue)} AND ExecutionStatus NOT IN ('Completed', 'ContinuedAsNew')"
    found = [one async for one in client.list_workflows(query, limit=_MOST_RUNS)]
    if warehouse is None or not found:
        return found
    entered = await asyncio.to_thread(entered_runs, warehouse, [one.id for one in found])
    return [one for one in found if entered.get(one.id, "") not in (None, one.run_id)]


async def loss_of(
    client: Client, here: Namespace, run: OpenBatch | RequestedRun, standing: Standing
) -> str | None:
    """Why an open run can never end by itself; None where it may, or where that is not known.

    Raises:
        RPCError: the server does not answer.
    """
    if standing.is_running:
        return None
    if standing.execution is None:
        # Where an entry's workflow is was not recorded by earlier versions.
        unplaced = isinstance(run, RequestedRun) and run.namespace is None
        if not unplaced and not here.is_place_of(run.namespace):
            return None
        return f"lost: {here} no longer knows the workflow {run.workflow_id}"
    status = standing.execution.status
    closed = closings().get(status, "was closed") if status else "was closed"
    loss = f"lost: the workflow {run.workflow_id} {closed} before it could close its books"
    reason = await _reason(client, standing.execution)
    return f"{loss}: {reason}" if reason else loss


async def _reason(client: Client, closed: WorkflowExecutionDescription) -> str | None:
    handle = client.get_workflow_handle(closed.id, run_id=closed.run_id)
    try:
        await handle.result(follow_runs=False, rpc_timeout=_PATIENCE)
    except sdk.WorkflowFailureError as failure:
        # It takes time to import, and most runs are not lost.
        from temporaletl.temporal.failures import first_message

        return first_message(failure.cause)
    except sdk.RPCError as error:
        # Its history went between the two questions.
        if error.status != sdk.RPCStatusCode.NOT_FOUND:
            raise
    return None


async def reconcile(
    client: Client, warehouse: Warehouse, *, grace: timedelta, queue: str
) -> list[BatchSummary]:
    """Check every run that goes on once; return the summaries of those that were ended.

    A workflow that the server does not know counts as lost when no queuer has found it running
    for `grace`. `queue` is the task queue of this platform's queuers.

    Raises:
        RPCError: the server does not answer, or does not have the namespace.
        ETLError: the warehouse does not answer.
    """
    ended = await asyncio.to_thread(end_lapsed, warehouse)
    here = await namespace_of(client)
    try:
        for execution in await unbooked(client, warehouse, queue):
            await _enter(client, warehouse, here, execution)
    except sdk.RPCError as error:
        # Lists have a rate limit of their own; those that are entered need none.
        log.warning("runs_not_listed", reason=str(error))
    waiting = await asyncio.to_thread(runs_without_batch, warehouse, ended=False, limit=_MOST_RUNS)
    for run in waiting:
        try:
            if run.engine == "local" or not await end_if_lost(
                client, warehouse, here, run, grace=grace
            ):
                continue
            found = await asyncio.to_thread(find_run, warehouse, run.workflow_id)
        except (ETLError, sdk.RPCError) as error:
            log.warning("run_not_reconciled", workflow_id=run.workflow_id, reason=str(error))
            continue
        if found is not None:
            log.warning("run_lost", workflow_id=run.workflow_id, reason=found.error)
            metrics.lost_runs.add(1, source=run.source, connection=run.connection)
            ended.append(found.summary)
    for batch in await asyncio.to_thread(open_batches, warehouse):
        try:
            summary = await _look_after(client, warehouse, here, batch, grace)
        except (ETLError, sdk.RPCError) as error:
            # Such as a lock on one of its jobs: the others need not wait for it.
            log.warning("batch_not_reconciled", batch_id=batch.metadata.batch_id, reason=str(error))
            continue
        if summary is not None:
            log.warning("batch_lost", batch_id=summary.batch_id, reason=summary.error)
            metrics.lost_runs.add(1, source=summary.source, connection=summary.connection)
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


async def _enter(
    client: Client, warehouse: Warehouse, here: Namespace, execution: WorkflowExecution
) -> None:
    """Enter a run that only Temporal knows, as its queuer would."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    try:
        async for event in handle.fetch_history_events(page_size=1, rpc_timeout=_PATIENCE):
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            [request] = await client.data_converter.decode(payloads, [QueuerInput])
            requested = MetadataRequest(
                input=request,
                nominal=execution.start_time,
                workflow_id=execution.id,
                run_id=execution.run_id,
            )
            claim = partial(claim_for_temporal, since=execution.start_time)
            await asyncio.to_thread(claim, warehouse, requested, here)
            return
    except (SupersededRunError, SkippedRunError):
        pass  # it was reset after it had ended
    except (ETLError, sdk.RPCError, ValueError, RuntimeError) as error:
        # Such as an input that is none of a run: the others need not wait for it.
        log.warning("run_not_entered", workflow_id=execution.id, reason=unexpected(error))


async def end_if_lost(
    client: Client,
    warehouse: Warehouse,
    here: Namespace,
    run: RequestedRun,
    *,
    grace: timedelta = _STARTED_WITHIN,
) -> bool:
    """End an open run of Temporal's whose workflow is lost; return whether this call did.

    One that no engine has, and Temporal does not know, was never started.

    Raises:
        RPCError: the server does not answer.
        ETLError: the warehouse does not answer.
    """
    batch = await asyncio.to_thread(open_batch, warehouse, run.batch_id or "")
    if batch is not None:
        return await _look_after(client, warehouse, here, batch, grace) is not None
    found = await describe_workflow(client, run.workflow_id)
    if found is None and run.engine is None:
        return await end_if_never_started(warehouse, run)
    if found is None and run.age < grace:
        return False
    loss = await loss_of(client, here, run, Standing(found))
    if loss is None:
        return False
    cancelled = found is not None and found.status is sdk.WorkflowExecutionStatus.CANCELED
    at = None if found is None else found.close_time
    end = partial(end_run, error=loss, cancelled=cancelled, at=at)
    return await asyncio.to_thread(end, warehouse, run.workflow_id)


async def end_if_never_started(warehouse: Warehouse, run: RequestedRun) -> bool:
    """Give up a run that no engine has claimed in time; return whether this call did."""
    if run.engine is not None or run.age < _STARTED_WITHIN:
        return False
    error = "never started: whoever requested it ended before an engine had it"
    return await asyncio.to_thread(give_up, warehouse, run.workflow_id, error)


async def keep_reconciling(
    client: Client, warehouse: Warehouse, temporal: TemporalSettings
) -> None:
    """Reconcile from time to time, until cancelled; what fails is logged and tried again.

    The ends of runs that it records are announced as all others: see `Notifier.deliver`.
    """
    every = timedelta(seconds=temporal.reconcile_seconds)
    while True:
        try:
            await reconcile(client, warehouse, grace=_LOOKS * every, queue=temporal.queuer_queue)
        except (ETLError, sdk.RPCError) as error:
            log.warning("reconciliation_failed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - the next time may be better
            log.warning("reconciliation_failed", reason=str(error), exception=unexpected(error))
        await asyncio.sleep(every.total_seconds())
