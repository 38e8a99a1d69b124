"""Pause, resume and cancel a run or a job."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporaletl import names
from temporaletl.control.operations.control_answers import Action, Controlled, Kind
from temporaletl.control.operations.local_control import control_local_run
from temporaletl.control.operations.platform import (
    PATIENCE,
    NoLedgerError,
    OldLedgerError,
    Platform,
    is_polled,
    translated_errors,
)
from temporaletl.control_messages import Accepted, ControlUpdate
from temporaletl.errors import ConflictError, ETLError, NotFoundError
from temporaletl.queuer.finishing import end_lost
from temporaletl.queuer.reconciliation import closings, is_unknown_workflow, namespace_of
from temporaletl.temporal import sdk
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace, open_batch
from temporaletl.warehouse.reports import find_batch
from temporaletl.warehouse.runs import end_run, find_run

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecutionDescription

__all__ = ["Action", "Controlled", "Kind", "control_run", "find_workflow"]

_KINDS: dict[str, Kind] = {
    names.QUEUER_FLOW: "run",
    names.DISPATCH_FLOW: "run",
    names.ETL_FLOW: "job",
}
#: What a server answers that has no updates, does not allow them, or has too many of one workflow.
_WITHOUT_UPDATES = ("UNIMPLEMENTED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED")


async def control_run(
    platform: Platform,
    name: str,
    action: Action,
    *,
    request_id: str | None = None,
    by: str | None = None,
) -> Controlled:
    """Pause, resume or cancel a run or a job, named by its workflow, batch or job id.

    Returns once its workflow has accepted that, or the server has stored it. Running jobs stop at
    their next page; what is loaded stays. Safe to repeat; with the same `request_id`, a repeat to
    Temporal is answered as the first request was, also after the end. A request to the local engine
    holds also when none of its processes lives; `by` is who made it.

    Raises:
        NotFoundError: there is none of that name.
        ConflictError: it has ended or is about to, is being cancelled, or is neither a run nor a
            job.
        WarehouseUnavailableError: Temporal has none of that name, and the ledger, which may have
            one of the local engine, does not say.
        TemporalUnavailableError, CredentialsError: as `Platform.client`.
    """
    if (local := await control_local_run(platform, name, action, by)) is not None:
        return local
    client = await platform.client()
    found = await find_workflow(platform, name)
    if found is None:
        if action == "cancel" and (ended := await _end_without_workflow(platform, client, name)):
            return ended
        await _check_ledger(platform, name)
        raise NotFoundError(f"no run or job is called {name!r} (`etl status` lists the latest)")
    kind = _KINDS.get(found.workflow_type)
    if kind is None:
        raise ConflictError(
            f"workflow {found.id} is a {found.workflow_type}, neither a run nor a job"
        )
    if found.status in closings() and request_id is None:
        # Not how: to Temporal, a run that was cancelled or lost jobs has completed.
        raise ConflictError(f"{found.id} has ended: there is nothing to {action}")
    done = Controlled(kind, found.id, action)
    polled = not found.task_queue or await is_polled(client, found.task_queue)
    # Only a signal is kept by the server until a service polls.
    if polled or found.status in closings():
        polled, accepted = await _update(client, found, action, request_id)
        if accepted is not None:
            if kind == "run":
                accepted = await _by_the_ledger(platform, found.id, accepted)
            return replace(
                done,
                state=accepted.state,
                jobs_running=accepted.jobs_running,
                changed=accepted.changed,
            )
    await _signal(client, found, action)
    return done if polled else replace(done, stored=True, queue=found.task_queue)


async def _check_ledger(platform: Platform, name: str) -> None:
    """Check that the ledger can say which runs there are; raises WarehouseUnavailableError."""
    if platform.has_warehouse:
        with contextlib.suppress(NoLedgerError, OldLedgerError):
            await asyncio.to_thread(find_batch, await platform.current_warehouse(), name)


async def _update(
    client: Client, found: WorkflowExecutionDescription, action: Action, request_id: str | None
) -> tuple[bool, Accepted | None]:
    """Send the update; whether a service took it, and its answer, None where it knows none."""
    # To whichever run of it is the latest: a job's workflow may just continue in another one.
    handle = client.get_workflow_handle(found.id, first_execution_run_id=_first_run(found))
    ended = f"{found.id} has ended: there is nothing to {action}"
    try:
        return True, await handle.execute_update(
            action,
            ControlUpdate(heed_until=datetime.now(UTC) + PATIENCE),
            id=request_id,
            result_type=Accepted,
            rpc_timeout=PATIENCE,
        )
    except sdk.RPCError as error:
        if error.status.name in _WITHOUT_UPDATES:
            return True, None
        if is_unknown_workflow(error):
            raise ConflictError(ended) from None
        with translated_errors():
            raise
    except sdk.WorkflowUpdateRPCTimeoutOrCancelledError:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            # It was we who were cancelled.
            raise asyncio.CancelledError from None
        return False, None
    except sdk.WorkflowUpdateFailedError as failure:
        cause = failure.cause
        if isinstance(cause, sdk.ApplicationError) and cause.type == ConflictError.__name__:
            raise ConflictError(f"{found.id}: {cause.message}") from None
        if (
            isinstance(cause, sdk.ApplicationError)
            and cause.type == "AcceptedUpdateCompletedWorkflow"
        ):
            raise ConflictError(ended) from None
        # A service of an older version polls, which does not know the update; or the clock here is
        # behind the server's, so that the update was late from the start.
        return True, None


async def _signal(client: Client, found: WorkflowExecutionDescription, action: Action) -> None:
    """Send the signal to the run that was found, or to the one that it continued in."""
    latest: WorkflowExecutionDescription | None = found
    while (
        latest is not None
        and latest.status not in closings()
        and _first_run(latest) == _first_run(found)
    ):
        handle = client.get_workflow_handle(found.id, run_id=latest.run_id)
        try:
            with translated_errors(absent=""):
                return await handle.signal(action, rpc_timeout=PATIENCE)
        except NotFoundError:
            latest = await _describe(client, found.id)
    raise ConflictError(f"{found.id} has ended: there is nothing to {action}")


def _first_run(found: WorkflowExecutionDescription) -> str | None:
    return found.raw_description.workflow_execution_info.first_run_id or None


async def _by_the_ledger(platform: Platform, workflow_id: str, accepted: Accepted) -> Accepted:
    """The answer with the jobs that run now: a run's workflow only looks from time to time."""
    warehouse = await platform.warehouse_if_any()
    if warehouse is None:
        return accepted
    try:
        batch = await asyncio.to_thread(find_batch, warehouse, workflow_id)
    except ETLError:
        return accepted
    if batch is None or batch.ended_at is not None:
        return accepted
    at_rest = accepted.state == "pausing" and batch.state == "paused"
    state = "paused" if at_rest else accepted.state
    return accepted.model_copy(update={"state": state, "jobs_running": batch.jobs.running})


async def _end_without_workflow(platform: Platform, client: Client, name: str) -> Controlled | None:
    """End an open run whose workflow this Temporal does not know, and its batch; None without one.

    The run is named by who wants it ended. Should its workflow live elsewhere, its jobs end all
    the same: pages of a job that the ledger takes for ended are not loaded.
    """
    if not platform.has_warehouse:
        return None
    with translated_errors():
        here = await namespace_of(client)
    return await asyncio.to_thread(_end_open_run, await platform.warehouse(), here, name)


def _end_open_run(warehouse: Warehouse, here: Namespace, name: str) -> Controlled | None:
    report = find_batch(warehouse, name)
    batch = open_batch(warehouse, report.batch_id) if report else None
    if batch is not None:
        end_lost(warehouse, batch, f"lost: {here} does not know the workflow {batch.workflow_id}")
        return Controlled("run", batch.workflow_id, "cancel", ended_batch=batch.metadata.batch_id)
    run = find_run(warehouse, name)
    if run is None or run.batch_id is not None or run.engine != "temporal":
        return None
    error = f"lost: {here} does not know the workflow {run.workflow_id}"
    if not end_run(warehouse, run.workflow_id, error=error, cancelled=True):
        return None
    return Controlled("run", run.workflow_id, "cancel", ended_batch=run.workflow_id)


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
        except sdk.RPCError as error:
            # The server calls an id it cannot hold an invalid argument.
            if error.status in (sdk.RPCStatusCode.NOT_FOUND, sdk.RPCStatusCode.INVALID_ARGUMENT):
                return None
            raise
