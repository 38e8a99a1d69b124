"""How runs stand: the ledger's word, put right and filled in by Temporal's.

The ledger knows jobs and rows. Only Temporal knows a run that no queuer has taken up, one that
failed before it had a batch, and one that was terminated.
"""

import asyncio
from datetime import datetime

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.service import RPCError

from control import batches
from control.batches import BatchReport, JobReport
from control.following import ask, explain, pending_failures
from control.servers import PATIENCE, is_polled
from control.steering import find_workflow
from queuer.reconciliation import loss_of, namespace_of, standing_of
from temporaletl import names
from temporaletl.errors import ConfigurationError
from temporaletl.messages import (
    BatchStatus,
    JobFailure,
    JobProgress,
    Message,
    RowCounts,
    Window,
)
from temporaletl.warehouse.budget import closures
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace, open_batch
from temporaletl.warehouse.tally import JobTally

_LISTED_JOBS = 20
#: Running jobs that are asked what keeps them.
_QUESTIONED_JOBS = 5

_ENDS = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.CANCELED: "cancelled",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
}


class RunReport(Message):
    """A run as far as it is known; what only the ledger could say is None without it."""

    workflow_id: str
    run_id: str
    batch_id: str | None = None
    source: str = ""
    mode: str = ""
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    windows: dict[str, Window] | None = None
    jobs: JobTally | None = None
    rows: RowCounts | None = None
    records: int | None = None
    error: str | None = None
    failures: tuple[JobFailure, ...] = ()
    closed_until: datetime | None = None  # its source asked to be left alone


class Trouble(Message):
    """What keeps a run or a job from going on, as far as one can see from outside."""

    workflow_id: str
    error: str
    activity: str | None = None
    attempt: int | None = None
    next_attempt: datetime | None = None


class Details(Message):
    """A run or a job in full; of a run's jobs, the first that have not completed."""

    run: RunReport | None = None
    jobs: tuple[JobReport, ...] = ()
    job: JobReport | None = None
    troubles: tuple[Trouble, ...] = ()


async def recent_runs(
    warehouse: Warehouse | None, client: Client | None, *, limit: int
) -> list[RunReport]:
    """Runs that go on, then those that ended, the latest first in both."""
    found: dict[str, BatchReport] = {}
    if warehouse is not None:
        listed = await asyncio.to_thread(batches.recent_batches, warehouse, limit=limit)
        found = {batch.run_id: batch for batch in listed}
    executions = await _executions(client, found, limit) if client is not None else {}
    reports = [_report(batch, executions.get(run_id)) for run_id, batch in found.items()]
    reports += [
        _report(None, execution) for run_id, execution in executions.items() if run_id not in found
    ]
    if client is not None:
        reports = await asyncio.gather(*(_look_closer(client, report) for report in reports))
        reports = await _with_losses(warehouse, client, reports)
    if warehouse is not None:
        reports = await asyncio.to_thread(_with_closures, warehouse, reports)
    reports.sort(key=lambda r: (r.ended_at is not None, -r.started_at.timestamp()))
    return reports[:limit]


async def _executions(
    client: Client, known: dict[str, BatchReport], limit: int
) -> dict[str, WorkflowExecution]:
    """The latest QueuerFlows, and those of batches that the ledger takes for running."""
    query = f"WorkflowType = '{names.QUEUER_FLOW}'"
    executions: dict[str, WorkflowExecution] = {}
    try:
        async for execution in client.list_workflows(query, limit=limit):
            executions[execution.run_id] = execution
        for run_id, batch in known.items():
            if batch.ended_at is None:
                # The list lags behind; a description does not.
                standing = await standing_of(client, batch.workflow_id, run_id)
                if standing.execution is not None:
                    executions[run_id] = standing.execution
    except RPCError:
        return executions
    return executions


async def _with_losses(
    warehouse: Warehouse | None, client: Client, reports: list[RunReport]
) -> list[RunReport]:
    """Say at once of runs that the ledger takes for running that their workflows are lost."""
    if warehouse is None or all(r.ended_at or not r.batch_id for r in reports):
        return reports
    try:
        here = await namespace_of(client)
        return [await _with_loss(warehouse, client, here, report) for report in reports]
    except RPCError:
        return reports


async def _with_loss(
    warehouse: Warehouse, client: Client, here: Namespace, report: RunReport
) -> RunReport:
    if report.batch_id is None or report.error is not None:
        return report
    batch = await asyncio.to_thread(open_batch, warehouse, report.batch_id)
    if batch is None:
        return report
    standing = await standing_of(client, batch.workflow_id, batch.run_id)
    loss = await loss_of(client, here, batch, standing)
    if loss is not None:
        state = report.state if report.ended_at else "lost"
        return report.model_copy(update={"error": loss, "state": state})
    if standing.execution is None:
        where = batch.namespace or "a Temporal that was not recorded"
        elsewhere = f"runs, if it does, in {where}: {here} does not know it; `etl cancel` ends it"
        return report.model_copy(update={"error": elsewhere})
    return report


def _with_closures(warehouse: Warehouse, reports: list[RunReport]) -> list[RunReport]:
    closed = {closure.source: closure.until for closure in closures(warehouse)}
    return [
        report.model_copy(update={"closed_until": closed[report.source]})
        if report.ended_at is None and report.source in closed
        else report
        for report in reports
    ]


def _report(batch: BatchReport | None, execution: WorkflowExecution | None) -> RunReport:
    if batch is None:
        assert execution is not None  # noqa: S101 - one of the two is there
        return RunReport(
            workflow_id=execution.id,
            run_id=execution.run_id,
            state=_ENDS.get(execution.status, "running") if execution.status else "running",
            started_at=execution.start_time,
            ended_at=execution.close_time,
        )
    state, ended_at = batch.state, batch.ended_at
    if ended_at is None and execution is not None and execution.status in _ENDS:
        # It was ended without closing its books.
        state, ended_at = _ENDS[execution.status], execution.close_time
    known = batch.planned or batch.jobs.planned > 0
    return RunReport(
        workflow_id=batch.workflow_id,
        run_id=batch.run_id,
        batch_id=batch.batch_id,
        source=batch.source,
        mode=batch.mode,
        state=state,
        started_at=batch.created_at,
        ended_at=ended_at,
        windows=batch.windows,
        jobs=batch.jobs if known else None,
        rows=batch.rows if known else None,
        records=batch.records if known else None,
        error=batch.error,
        failures=batch.failures,
    )


async def _look_closer(client: Client, report: RunReport) -> RunReport:
    """Add what only the workflow itself can say."""
    handle = client.get_workflow_handle(report.workflow_id, run_id=report.run_id)
    known: dict[str, object] = {}
    try:
        if not report.source:
            summary = await (await handle.describe(rpc_timeout=PATIENCE)).static_summary()
            source, _, mode = (summary or "").partition(" ")
            known |= {"source": source, "mode": mode}
        if report.ended_at is None:
            known["state"] = await _state(client, report)
        elif report.batch_id is None and report.state != "completed":
            known["error"] = await _failure(client, report)
    except RPCError:
        pass
    return report.model_copy(update=known)


async def _state(client: Client, report: RunReport) -> str:
    handle = client.get_workflow_handle(report.workflow_id, run_id=report.run_id)
    status = await ask(handle, BatchStatus)
    if status is None:
        return "waiting" if report.batch_id is None else "running"
    return status.state


async def _failure(client: Client, report: RunReport) -> str | None:
    handle = client.get_workflow_handle(report.workflow_id, run_id=report.run_id)
    try:
        await handle.result(rpc_timeout=PATIENCE)
    except WorkflowFailureError as failure:
        return explain(failure.cause)[0]
    return None


async def details(warehouse: Warehouse | None, client: Client | None, name: str) -> Details:
    """A run or a job, named by its workflow, batch or job id.

    Raises:
        ConfigurationError: nothing has that name.
    """
    batch = job = None
    if warehouse is not None:
        batch = await asyncio.to_thread(batches.find_batch, warehouse, name)
        job = await asyncio.to_thread(batches.find_job, warehouse, name) if batch is None else None
    execution: WorkflowExecution | None = None
    if client is not None:
        workflow_id = batch.workflow_id if batch else job.workflow_id if job else None
        execution = await find_workflow(client, workflow_id or name)
    if job is not None:
        return Details(job=job, troubles=await _troubles_of_jobs(client, [job]))
    if execution is not None and execution.workflow_type == names.ETL_FLOW and client is not None:
        job = await _job_without_ledger(client, execution)
        return Details(job=job, troubles=await _troubles_of_jobs(client, [job]))
    ours = execution is not None and execution.workflow_type == names.QUEUER_FLOW
    if batch is None and not ours:
        raise ConfigurationError(
            f"no run, batch or job is called {name!r} (`etl status` lists the latest runs)"
        )
    return await _details_of_run(warehouse, client, batch, execution)


async def _details_of_run(
    warehouse: Warehouse | None,
    client: Client | None,
    batch: BatchReport | None,
    execution: WorkflowExecution | None,
) -> Details:
    if batch is not None and client is not None:
        try:
            execution = (await standing_of(client, batch.workflow_id, batch.run_id)).execution
        except RPCError:
            execution = None
    report = _report(batch, execution)
    if client is not None:
        report = await _look_closer(client, report)
        [report] = await _with_losses(warehouse, client, [report])
    if warehouse is not None:
        [report] = await asyncio.to_thread(_with_closures, warehouse, [report])
    jobs: list[JobReport] = []
    if warehouse is not None and batch is not None:
        jobs = await asyncio.to_thread(
            batches.jobs_of_interest, warehouse, batch.batch_id, limit=_LISTED_JOBS
        )
    troubles: tuple[Trouble, ...] = ()
    if client is not None and report.ended_at is None:
        troubles = await _troubles(client, report.workflow_id)
        if (
            not troubles
            and execution is not None
            and not await is_polled(client, execution.task_queue)
        ):
            error = f"no queuer polls task queue {execution.task_queue}"
            troubles = (Trouble(workflow_id=report.workflow_id, error=error),)
        troubles += (
            await _troubles_of_jobs(client, jobs)
            if warehouse is not None
            else await _troubles_without_ledger(client, report.workflow_id)
        )
    return Details(run=report, jobs=tuple(jobs), troubles=troubles)


async def _troubles_of_jobs(client: Client | None, jobs: list[JobReport]) -> tuple[Trouble, ...]:
    if client is None:
        return ()
    running = [job for job in jobs if job.state in ("running", "planned")]
    found = await asyncio.gather(
        *(
            _troubles(client, names.job_workflow_id(job.job_id))
            for job in running[:_QUESTIONED_JOBS]
        )
    )
    return tuple(trouble for each in found for trouble in each)


async def _troubles_without_ledger(client: Client, workflow_id: str) -> tuple[Trouble, ...]:
    query = (
        f"RootWorkflowId = '{workflow_id}' AND ExecutionStatus = 'Running' "
        f"AND WorkflowType = '{names.ETL_FLOW}'"
    )
    try:
        running = [job.id async for job in client.list_workflows(query, limit=_QUESTIONED_JOBS)]
    except RPCError:
        return ()
    found = await asyncio.gather(*(_troubles(client, job) for job in running))
    return tuple(trouble for each in found for trouble in each)


async def _troubles(client: Client, workflow_id: str) -> tuple[Trouble, ...]:
    return tuple(
        Trouble(
            workflow_id=workflow_id,
            error=failure.error,
            activity=failure.activity,
            attempt=failure.attempt,
            next_attempt=failure.next_attempt,
        )
        for failure in await pending_failures(client, workflow_id)
    )


async def _job_without_ledger(client: Client, execution: WorkflowExecution) -> JobReport:
    """What the job's workflow itself says."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    ended = _ENDS.get(execution.status) if execution.status else None
    progress = await ask(handle, JobProgress) or JobProgress(state="planned", stream="")
    return JobReport(
        job_id=execution.id.removeprefix(names.job_workflow_id("")),
        stream=progress.stream,
        state=ended or progress.state,
        pages=progress.pages,
        records=progress.records,
        rows=progress.rows,
        cursor=progress.cursor,
        error=progress.error,
        workflow_id=execution.id,
        run_id=execution.run_id,
        started_at=execution.start_time,
        ended_at=execution.close_time,
    )
