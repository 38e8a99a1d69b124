"""Reports of runs: made from the ledger, corrected and completed from Temporal.

The ledger knows jobs and rows. Only Temporal knows a run that no queuer has taken up, one that
failed before it had a batch, and one that was terminated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

from msgspec import Meta

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.operations.following import explain, query_status
from temporaletl.control.operations.local_runs import open_state
from temporaletl.control.operations.platform import PATIENCE
from temporaletl.messages import BatchStatus, JobFailure, Message, RowCounts, Window
from temporaletl.names import parse_label
from temporaletl.queuer.reconciliation import loss_of, namespace_of, standing_of
from temporaletl.temporal import sdk
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.leases import silent_since
from temporaletl.warehouse.open_batches import Namespace, OpenBatch, open_batches
from temporaletl.warehouse.reports import BatchReport
from temporaletl.warehouse.runs import Engine, RequestedRun, runs_without_batch
from temporaletl.warehouse.tally import JobTally

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

#: States that the ledger has of a run that has not ended: its workflow need not be queried.
_KNOWN_STATES = ("pausing", "paused", "cancelling")


@cache
def ends() -> Mapping[WorkflowExecutionStatus, str]:
    """Names of a workflow's ends, as a run's or a job's state."""
    status = sdk.WorkflowExecutionStatus
    return {
        status.COMPLETED: "completed",
        status.FAILED: "failed",
        status.CANCELED: "cancelled",
        status.TERMINATED: "terminated",
        status.TIMED_OUT: "timed out",
    }


def end_of(execution: WorkflowExecution) -> str | None:
    """The name of a workflow's end; None while it is open."""
    return None if execution.status is None else ends().get(execution.status)


class RunReport(Message):
    """A run as far as it is known; what only the ledger could say is None without it."""

    workflow_id: str
    run_id: str
    batch_id: str | None = None
    source: str = ""
    connection: str = DEFAULT
    mode: str = ""
    retries: str | None = None  # the batch whose failed jobs it runs
    retried_by: tuple[str, ...] = ()  # batches that run what failed in it, the first one first
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    windows: dict[str, Window] | None = None
    jobs: JobTally | None = None
    rows: RowCounts | None = None
    deleted: int | None = None  # rows loaded before that the source no longer has
    records: int | None = None
    error: str | None = None
    failures: tuple[JobFailure, ...] = ()
    closed_until: datetime | None = None  # end of its source's cool-down (Retry-After)
    engine: Engine = "temporal"
    pages_removed_at: datetime | None = None  # when they were summarised by stream and removed
    jobs_removed_at: datetime | None = None  # likewise


class RunKey(NamedTuple):
    """A run's place in the list of runs: those that go on are before the others, then by time.

    `name` is its batch, or its workflow where it has none.
    """

    goes_on: bool
    started_at: Annotated[datetime, Meta(tz=True)]
    name: str

    @classmethod
    def of(cls, run: RunReport) -> Self:
        return cls(run.ended_at is None, run.started_at, run.batch_id or run.workflow_id)


def report_of_workflow(execution: WorkflowExecution) -> RunReport:
    """The report of a run that is in no ledger."""
    return RunReport(
        workflow_id=execution.id,
        run_id=execution.run_id,
        state=end_of(execution) or "running",
        started_at=execution.start_time,
        ended_at=execution.close_time,
    )


def report_of_batch(batch: BatchReport, execution: WorkflowExecution | None) -> RunReport:
    """The report of a run from the ledger, with the end that Temporal has of its workflow."""
    state, ended_at, error = batch.state, batch.ended_at, batch.error
    if ended_at is None and execution is not None and (end := end_of(execution)) is not None:
        # It was ended without closing its books.
        state, ended_at = end, execution.close_time
    if batch.engine == "local" and ended_at is None:
        state = open_state(batch)
        if batch.lost_since is not None:
            state, error = "lost", silent_since(batch.lost_since)
        elif batch.abandoned and state in ("planning", "running"):
            state = "waiting"
    known = batch.planned or batch.jobs.planned > 0
    return RunReport(
        workflow_id=batch.workflow_id,
        run_id=batch.run_id,
        batch_id=batch.batch_id,
        source=batch.source,
        connection=batch.connection,
        mode=batch.mode,
        retries=batch.retries,
        retried_by=batch.retried_by,
        state=state,
        started_at=batch.created_at,
        ended_at=ended_at,
        windows=batch.windows,
        jobs=batch.jobs if known else None,
        rows=batch.rows if known else None,
        deleted=batch.deleted if known else None,
        records=batch.records if known else None,
        error=error,
        failures=batch.failures,
        engine=batch.engine,
        pages_removed_at=batch.pages_removed_at,
        jobs_removed_at=batch.jobs_removed_at,
    )


def report_of_request(run: RequestedRun, execution: WorkflowExecution | None = None) -> RunReport:
    """The report of a run that has no batch: it waits, or ended before it was planned."""
    state, ended_at = "waiting", run.ended_at
    if ended_at is not None:
        state = "skipped" if run.skipped else run.summary.state
    elif execution is not None and (end := end_of(execution)) is not None:
        state, ended_at = end, execution.close_time
    return RunReport(
        workflow_id=run.workflow_id,
        run_id=run.run_id if execution is None else execution.run_id,
        source=run.source,
        connection=run.connection,
        mode=run.mode,
        state=state,
        started_at=run.requested_at,
        ended_at=ended_at,
        error=run.error,
        engine=run.engine or "temporal",
    )


async def completed(
    warehouse: Warehouse | None,
    client: Client | None,
    reports: list[RunReport],
    *,
    queried: bool = True,
) -> list[RunReport]:
    """Complete reports: status from the workflows, lost runs, and cool-downs of their sources.

    Where no queuer answers queries, they need not be `queried`.
    """
    if client is not None:
        reports = await asyncio.gather(
            *(_with_status(client, report, queried=queried) for report in reports)
        )
        reports = await _with_losses(warehouse, client, reports)
    if warehouse is not None:
        reports = await asyncio.to_thread(with_cool_downs, warehouse, reports)
    return reports


async def _with_status(client: Client, report: RunReport, *, queried: bool) -> RunReport:
    """Complete a report from the run's workflow; one of the local engine has none."""
    if report.engine == "local":
        return report
    handle = client.get_workflow_handle(report.workflow_id, run_id=report.run_id)
    known: dict[str, object] = {}
    try:
        if not report.source:
            summary = await (await handle.describe(rpc_timeout=PATIENCE)).static_summary()
            label, _, mode = (summary or "").partition(" ")
            source, connection = parse_label(label)
            known |= {"source": source, "connection": connection, "mode": mode}
        if report.ended_at is None and report.state not in _KNOWN_STATES:
            known["state"] = await _state(client, report, queried=queried)
        elif (
            report.ended_at is not None
            and report.batch_id is None
            and report.error is None
            and report.state != "completed"
        ):
            known["error"] = await _failure(client, report)
    except sdk.RPCError:
        pass
    return report.model_copy(update=known)


async def _state(client: Client, report: RunReport, *, queried: bool) -> str:
    handle = client.get_workflow_handle(report.workflow_id, run_id=report.run_id)
    status = await query_status(handle, BatchStatus) if queried else None
    if status is None:
        return "waiting" if report.batch_id is None else "running"
    return status.state


async def _failure(client: Client, report: RunReport) -> str | None:
    handle = client.get_workflow_handle(report.workflow_id, run_id=report.run_id)
    try:
        await handle.result(rpc_timeout=PATIENCE)
    except sdk.WorkflowFailureError as failure:
        return explain(failure.cause)[0]
    return None


async def _with_losses(
    warehouse: Warehouse | None, client: Client, reports: list[RunReport]
) -> list[RunReport]:
    """Mark runs that go on in the ledger, but whose workflows are lost."""
    if warehouse is None or all(run.engine == "local" or run.error for run in reports):
        return reports
    try:
        here = await namespace_of(client)
        found = await asyncio.to_thread(open_batches, warehouse)
        waiting = await asyncio.to_thread(
            runs_without_batch, warehouse, ended=False, limit=len(reports)
        )
        known: dict[str, OpenBatch | RequestedRun] = {
            **{batch.metadata.batch_id: batch for batch in found},
            **{run.workflow_id: run for run in waiting if run.engine == "temporal"},
        }
        return [await _with_loss(known, client, here, report) for report in reports]
    except sdk.RPCError:
        return reports


async def _with_loss(
    known: Mapping[str, OpenBatch | RequestedRun],
    client: Client,
    here: Namespace,
    report: RunReport,
) -> RunReport:
    run = known.get(report.batch_id or report.workflow_id)
    if run is None or report.error is not None or report.engine == "local":
        return report
    standing = await standing_of(client, report.workflow_id, report.run_id)
    loss = await loss_of(client, here, run, standing)
    if loss is not None:
        state = report.state if report.ended_at else "lost"
        return report.model_copy(update={"error": loss, "state": state})
    if standing.execution is None:
        where = run.namespace or "a Temporal that was not recorded"
        elsewhere = f"runs, if it does, in {where}: {here} does not know it; `etl cancel` ends it"
        return report.model_copy(update={"error": elsewhere})
    return report


def with_cool_downs(warehouse: Warehouse, reports: list[RunReport]) -> list[RunReport]:
    """Add to running runs the end of their source's cool-down."""
    until = {
        (blocked.source, blocked.connection): blocked.blocked_until
        for blocked in blocked_sources(warehouse)
    }
    return [
        report.model_copy(update={"closed_until": until[report.source, report.connection]})
        if report.ended_at is None and (report.source, report.connection) in until
        else report
        for report in reports
    ]
