"""Details of a run or a job: its report, its jobs, and their hindrances."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import Field

from temporaletl import names
from temporaletl.control.operations.attendance import (
    UNATTENDED_LOCAL,
    unattended_queuer,
    unattended_worker,
)
from temporaletl.control.operations.control import find_workflow
from temporaletl.control.operations.following import pending_failures, query_status
from temporaletl.control.operations.platform import OPEN_WORKFLOWS, PATIENCE, Platform
from temporaletl.control.operations.reports import (
    RunReport,
    completed,
    end_of,
    report_of_batch,
    report_of_request,
    report_of_workflow,
    with_cool_downs,
)
from temporaletl.control.operations.sources import known_planners
from temporaletl.control.operations.status import attendance, hindrances, reachable
from temporaletl.errors import ConflictError, ETLError, NotFoundError
from temporaletl.messages import JobProgress, Message
from temporaletl.queuer.reconciliation import standing_of
from temporaletl.temporal import sdk
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import (
    BatchReport,
    JobReport,
    find_batch,
    find_job,
    jobs_of_interest,
)
from temporaletl.warehouse.retention import StreamSummary, stream_summaries
from temporaletl.warehouse.runs import RequestedRun, find_run

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecution

_LISTED_JOBS = 20
#: Running jobs whose workflows are searched for failures.
_SEARCHED_JOBS = 5
_GOING_ON = ("running", "planned")


class Trouble(Message):
    """A hindrance of a run or a job, as far as one can see from outside."""

    workflow_id: str
    error: str
    activity: str | None = None
    attempt: int | None = None
    next_attempt: datetime | None = None


class Details(Message):
    """Details of a run or a job; of a run's jobs, the first that have not completed.

    `streams` are in their place once its jobs are removed.
    """

    run: RunReport | None = None
    jobs: tuple[JobReport, ...] = ()
    streams: tuple[StreamSummary, ...] = ()
    job: JobReport | None = None
    troubles: tuple[Trouble, ...] = ()
    #: Hindrances of its source, and which of ledger and Temporal could not be reached.
    remarks: tuple[str, ...] = Field(default=(), exclude=True)


def run_of(details: Details, name: str) -> RunReport:
    """The run that details are about.

    Raises:
        ConflictError: they are about a job; names its run.
    """
    if details.run is not None:
        return details.run
    whose = details.job and details.job.batch_id
    raise ConflictError(f"{name} is a job" + (f"; its run is {whose}" if whose else ""))


async def run_details(platform: Platform, name: str) -> Details:
    """A run or a job, named by its workflow, batch or job id.

    Raises:
        NotFoundError: nothing has that name.
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    warehouse, client, remarks = await reachable(platform)
    found = None
    if warehouse is not None:
        found = await asyncio.to_thread(_local_details, warehouse, name)
    if found is None:
        found = await _details(platform, warehouse, client, name)
    one = found.run or found.job
    if warehouse is not None and found.run is not None and found.run.jobs_removed_at is not None:
        streams = await asyncio.to_thread(stream_summaries, warehouse, found.run.batch_id or "")
        found = found.model_copy(update={"streams": tuple(streams)})
    if warehouse is not None and one is not None and one.ended_at is None and one.source:
        remarks += await asyncio.to_thread(hindrances, warehouse, one.source, one.connection)
    return found.model_copy(update={"remarks": tuple(remarks)})


async def _details(
    platform: Platform, warehouse: Warehouse | None, client: Client | None, name: str
) -> Details:
    batch = job = None
    if warehouse is not None:
        batch = await asyncio.to_thread(find_batch, warehouse, name)
        job = await asyncio.to_thread(find_job, warehouse, name) if batch is None else None
    execution: WorkflowExecution | None = None
    if client is not None:
        workflow_id = batch.workflow_id if batch else job.workflow_id if job else None
        execution = await find_workflow(platform, workflow_id or name)
    if job is not None:
        troubles = await _troubles_of_jobs(client, [job])
        if not troubles and client is not None and job.state in _GOING_ON:
            own = f"WorkflowId = '{names.job_workflow_id(job.job_id)}'"
            troubles = await _unattended(client, own, job.source or "")
        return Details(job=job, troubles=troubles)
    if execution is not None and execution.workflow_type == names.ETL_FLOW and client is not None:
        job = await _job_without_ledger(client, execution)
        return Details(job=job, troubles=await _troubles_of_jobs(client, [job]))
    if batch is not None:
        if client is not None:
            execution = await _execution_of(client, batch)
        report = report_of_batch(batch, execution)
    else:
        report = await _without_batch(warehouse, execution, name)
    attended = await attendance(platform, client)
    found = await completed(warehouse, client, [report], queried=attended.queuer is None)
    [report] = attended.standing(found)[0]
    details = await _details_of_run(warehouse, client, report, execution)
    if details.troubles or client is None or report.ended_at is not None:
        return details
    own = f"RootWorkflowId = '{report.workflow_id}'"
    troubles = await _unattended(client, own, report.source)
    return details.model_copy(update={"troubles": troubles})


async def _without_batch(
    warehouse: Warehouse | None, execution: WorkflowExecution | None, name: str
) -> RunReport:
    """The report of a run without a batch; raises NotFoundError."""
    if warehouse is not None:
        entered = await asyncio.to_thread(find_run, warehouse, name)
        if entered is not None:
            return report_of_request(entered, execution)
    if execution is not None and execution.workflow_type == names.QUEUER_FLOW:
        return report_of_workflow(execution)
    raise NotFoundError(
        f"no run, batch or job is called {name!r} (`etl status` lists the latest runs; the jobs of "
        "those that ended long ago are summarised)"
    )


def _local_details(warehouse: Warehouse, name: str) -> Details | None:
    """Details of a run or a job of the local engine, from the ledger alone; None of another."""
    batch = find_batch(warehouse, name)
    job = find_job(warehouse, name) if batch is None else None
    of_job = find_batch(warehouse, job.batch_id) if job and job.batch_id else None
    if of_job is not None and of_job.engine == "local":
        return Details(job=job, troubles=_local_troubles(warehouse, of_job))
    if batch is not None and batch.engine == "local":
        jobs = jobs_of_interest(warehouse, batch.batch_id, limit=_LISTED_JOBS)
        [report] = with_cool_downs(warehouse, [report_of_batch(batch, None)])
        return Details(
            run=report,
            jobs=tuple(jobs),
            troubles=_local_troubles(warehouse, batch),
        )
    run = find_run(warehouse, name) if batch is None and job is None else None
    if run is None or run.engine != "local":
        return None
    return Details(run=report_of_request(run), troubles=_unattended_run(run))


def _local_troubles(warehouse: Warehouse, batch: BatchReport) -> tuple[Trouble, ...]:
    run = find_run(warehouse, batch.batch_id) if batch.ended_at is None else None
    return () if run is None else _unattended_run(run)


def _unattended_run(run: RequestedRun) -> tuple[Trouble, ...]:
    if run.owned or run.ended_at is not None:
        return ()
    return (Trouble(workflow_id=run.workflow_id, error=UNATTENDED_LOCAL),)


async def _unattended(client: Client, own: str, source: str) -> tuple[Trouble, ...]:
    """The trouble that no worker takes a running job of those that the query names."""
    with contextlib.suppress(ETLError):
        known_planners()  # they say which sources have a queue of their own
    query = f"{own} AND ExecutionStatus = 'Running' AND WorkflowType = '{names.ETL_FLOW}'"
    with contextlib.suppress(sdk.RPCError):
        async for job in client.list_workflows(query, limit=1, rpc_timeout=PATIENCE):
            if error := await unattended_worker(client, job.task_queue, source):
                return (Trouble(workflow_id=job.id, error=error),)
    return ()


async def _execution_of(client: Client, batch: BatchReport) -> WorkflowExecution | None:
    try:
        return (await standing_of(client, batch.workflow_id, batch.run_id)).execution
    except sdk.RPCError:
        return None


async def _details_of_run(
    warehouse: Warehouse | None,
    client: Client | None,
    report: RunReport,
    execution: WorkflowExecution | None,
) -> Details:
    jobs: list[JobReport] = []
    if warehouse is not None and report.batch_id is not None:
        jobs = await asyncio.to_thread(
            jobs_of_interest, warehouse, report.batch_id, limit=_LISTED_JOBS
        )
    troubles: tuple[Trouble, ...] = ()
    if client is not None and report.ended_at is None:
        troubles = await _troubles(client, report.workflow_id)
        if (
            not troubles
            and execution is not None
            and (error := await unattended_queuer(client, execution.task_queue)) is not None
        ):
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
    running = [job for job in jobs if job.state in _GOING_ON]
    found = await asyncio.gather(
        *(_troubles(client, names.job_workflow_id(job.job_id)) for job in running[:_SEARCHED_JOBS])
    )
    return tuple(trouble for troubles in found for trouble in troubles)


async def _troubles_without_ledger(client: Client, workflow_id: str) -> tuple[Trouble, ...]:
    query = (
        f"RootWorkflowId = '{workflow_id}' AND WorkflowType = '{names.ETL_FLOW}' "
        f"AND {OPEN_WORKFLOWS}"
    )
    try:
        listed = client.list_workflows(query, limit=_SEARCHED_JOBS, rpc_timeout=PATIENCE)
        running = [job.id async for job in listed]
    except sdk.RPCError:
        return ()
    found = await asyncio.gather(*(_troubles(client, job) for job in running))
    return tuple(trouble for troubles in found for trouble in troubles)


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
    """The report of a job from its workflow alone."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    ended = end_of(execution)
    progress = await query_status(handle, JobProgress) or JobProgress(state="planned", stream="")
    return JobReport(
        job_id=execution.id.removeprefix(names.job_workflow_id("")),
        stream=progress.stream,
        state=ended or progress.state,
        pages=progress.pages,
        records=progress.records,
        rows=progress.rows,
        deleted=progress.deleted,
        cursor=progress.cursor,
        error=progress.error,
        workflow_id=execution.id,
        run_id=execution.run_id,
        started_at=execution.start_time,
        ended_at=execution.close_time,
    )
