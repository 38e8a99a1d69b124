"""Pause, resume and cancel runs and jobs, and say what comes of it."""

import asyncio
from typing import Literal

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from control import batches
from control.output import say
from control.servers import (
    PATIENCE,
    answered,
    is_polled,
    open_temporal,
    open_warehouse,
    prepare,
    warehouse_is_configured,
)
from queuer.reconciliation import end_lost, namespace_of
from temporaletl import names
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.warehouse.open_batches import Namespace, open_batch

Signal = Literal["pause", "resume", "cancel"]

_OURS = {names.QUEUER_FLOW: "run", names.DISPATCH_FLOW: "part of a run", names.ETL_FLOW: "job"}

_COMES_OF_IT: dict[str, dict[str, str]] = {
    "run": {
        "pause": "pausing {id}: running jobs stop at their next page, no others start; "
        "`etl resume {id}` lets them go on",
        "resume": "resuming {id}: its jobs go on where they stopped",
        "cancel": "cancelling {id}: running jobs stop at their next page, no others start; "
        "what is loaded stays",
    },
    "job": {
        "pause": "pausing {id}: it stops at its next page; `etl resume {id}` lets it go on",
        "resume": "resuming {id}: it goes on where it stopped",
        "cancel": "cancelling {id}: it stops at its next page; what is loaded stays",
    },
}


def command(name: str, signal: Signal) -> None:
    """Signal a run or a job and say what comes of it."""
    prepare()
    say(asyncio.run(steer(name, signal)))


async def steer(name: str, signal: Signal) -> str:
    """Signal a run or a job, named by its workflow, batch or job id; return what comes of it.

    Raises:
        ConfigurationError: there is none of that name, it is not one of ours, or it has ended.
    """
    client, _ = await open_temporal()
    found = await find_workflow(client, name)
    if found is None:
        if signal == "cancel" and (ended := await _end_without_workflow(client, name)):
            return ended
        raise ConfigurationError(
            f"no run or job is called {name!r} (`etl status` lists the latest)"
        )
    kind = _OURS.get(found.workflow_type)
    if kind is None:
        raise ConfigurationError(
            f"workflow {found.id} is a {found.workflow_type}, neither a run nor a job"
        )
    if found.status != WorkflowExecutionStatus.RUNNING:
        # Not how: to Temporal, a run that was cancelled or lost jobs has completed.
        raise ConfigurationError(f"{found.id} has ended: there is nothing to {signal}")
    with answered(absent=f"{found.id} has just ended: there is nothing to {signal}"):
        await client.get_workflow_handle(found.id, run_id=found.run_id).signal(
            signal, rpc_timeout=PATIENCE
        )
    said = _COMES_OF_IT["job" if kind == "job" else "run"][signal].format(id=found.id)
    if found.task_queue and not await is_polled(client, found.task_queue):
        said += f" (no service polls task queue {found.task_queue}: it heeds this when one does)"
    return said


async def _end_without_workflow(client: Client, name: str) -> str | None:
    """Close the books of a run whose workflow this Temporal does not know; None without one.

    The run is named by who wants it ended. Should its workflow live elsewhere, its jobs end all
    the same: pages of a job that the ledger takes for ended are not loaded.
    """
    if not warehouse_is_configured():
        return None
    with answered():
        here = await namespace_of(client)
    return await asyncio.to_thread(_end_open_batch, here, name)


def _end_open_batch(here: Namespace, name: str) -> str | None:
    with open_warehouse() as warehouse:
        report = batches.find_batch(warehouse, name)
        batch = open_batch(warehouse, report.batch_id) if report else None
        if batch is None:
            return None
        end_lost(warehouse, batch, f"lost: {here} does not know the workflow {batch.workflow_id}")
    return (
        f"ended {batch.metadata.batch_id}, whose workflow {batch.workflow_id} is not known to "
        f"{here}: what is loaded stays, and the next run covers its window"
    )


async def find_workflow(client: Client, name: str) -> WorkflowExecutionDescription | None:
    """The latest workflow of that id, else of the batch or job of that id; None without one."""
    for workflow_id in (name, names.job_workflow_id(name)):
        if (found := await _describe(client, workflow_id)) is not None:
            return found
    if not warehouse_is_configured():
        return None
    try:
        batch = await asyncio.to_thread(_batch, name)
    except ETLError:
        return None
    return await _describe(client, batch.workflow_id, batch.run_id) if batch else None


def _batch(name: str) -> batches.BatchReport | None:
    with open_warehouse() as warehouse:
        return batches.find_batch(warehouse, name)


async def _describe(
    client: Client, workflow_id: str, run_id: str | None = None
) -> WorkflowExecutionDescription | None:
    with answered():
        try:
            return await client.get_workflow_handle(workflow_id, run_id=run_id).describe(
                rpc_timeout=PATIENCE
            )
        except RPCError as error:
            # The server calls an id it cannot hold an invalid argument.
            if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                return None
            raise
