"""Progress of a run while it goes on: jobs, rows, and what keeps it from going on."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from temporaletl import names
from temporaletl.control.operations.attendance import UNATTENDED_LOCAL, unattended_worker
from temporaletl.control.operations.following import Run, TemporalRun, pending_failures
from temporaletl.control.operations.platform import OPEN_WORKFLOWS, Platform
from temporaletl.errors import ETLError
from temporaletl.messages import BatchStatus, RowCounts
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import tally
from temporaletl.warehouse.tally import JobTally

_LOOK_EVERY = timedelta(seconds=1)
_TROUBLE_AFTER = timedelta(seconds=3)
_TROUBLE_EVERY = timedelta(seconds=5)
_JOBS_LOOKED_AT = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Snapshot of a batch's progress; what is not known is None.

    `trouble` is its hindrance, as far as one can see from outside.
    """

    state: str
    planned: int | None = None
    done: int = 0
    failed: int = 0
    rows: RowCounts | None = None
    trouble: str | None = None

    @property
    def loaded(self) -> int:
        """Rows that went through the loader."""
        rows = self.rows
        return 0 if rows is None else rows.inserted + rows.updated + rows.unchanged


async def follow(platform: Platform, run: Run) -> AsyncIterator[Snapshot]:
    """Yield a run's progress about every second until it has ended; its result is `run.ending`'s.

    Jobs and rows are counted in the ledger; where this process cannot see the warehouse, jobs by
    their workflows.
    """
    warehouse = await platform.warehouse_if_any()
    trouble, look_for_trouble = None, time.monotonic() + _TROUBLE_AFTER.total_seconds()
    while not run.ending.done():
        await run.refresh()
        snapshot = await _count(run, warehouse)
        if time.monotonic() >= look_for_trouble:
            if isinstance(run, TemporalRun):
                trouble = await _find_trouble(run, warehouse, snapshot)
            else:
                trouble = await _find_local_trouble(run, warehouse)
            look_for_trouble = time.monotonic() + _TROUBLE_EVERY.total_seconds()
        yield Snapshot(
            snapshot.state,
            snapshot.planned,
            snapshot.done,
            snapshot.failed,
            snapshot.rows,
            run.silent or trouble,
        )
        await asyncio.wait({run.ending}, timeout=_LOOK_EVERY.total_seconds())


async def _count(run: Run, warehouse: Warehouse | None) -> Snapshot:
    status = run.status or BatchStatus(state="planning")
    if warehouse is not None:
        with contextlib.suppress(ETLError):
            counted = await asyncio.to_thread(tally, warehouse, status.batch_id or "")
            jobs = counted.jobs
            # Else it is still planned, or entered in another warehouse than the one known here.
            if jobs.planned == status.jobs:
                return Snapshot(status.state, status.jobs, _done(jobs), jobs.failed, counted.rows)
    if isinstance(run, TemporalRun):
        return await count_workflows(run.client, run.workflow_id, status)
    return Snapshot(status.state, status.jobs)


def _done(jobs: JobTally) -> int:
    return jobs.planned - jobs.running - jobs.paused - jobs.waiting


async def count_workflows(client: Client, workflow_id: str, status: BatchStatus) -> Snapshot:
    """Count jobs by their workflows, which know nothing of rows."""
    query = (
        f"WorkflowType = '{names.ETL_FLOW}' AND RootWorkflowId = '{workflow_id}' "
        f"GROUP BY ExecutionStatus"
    )
    done = failed = 0
    if status.jobs:
        try:
            for group in (await client.count_workflows(query)).groups:
                kind = str(group.group_values[0])
                if kind not in ("Running", "Paused", "ContinuedAsNew"):
                    done += group.count
                    failed += group.count if kind in ("Failed", "TimedOut") else 0
        except RPCError:
            done = failed = 0
    return Snapshot(status.state, status.jobs, min(done, status.jobs or 0), failed)


async def _find_trouble(
    run: TemporalRun, warehouse: Warehouse | None, snapshot: Snapshot
) -> str | None:
    """The hindrance of a run; None where there seems to be none."""
    if run.status is None and not await run.is_attended():
        return f"no queuer polls task queue {run.queue}"
    if failures := await pending_failures(run.client, run.workflow_id):
        return str(failures[0])
    if snapshot.planned is None or snapshot.done >= snapshot.planned:
        return None
    if unattended := await unattended_worker(run.client, run.worker_queue, run.request.source):
        return unattended
    query = (
        f"RootWorkflowId = '{run.workflow_id}' AND WorkflowType = '{names.ETL_FLOW}' "
        f"AND {OPEN_WORKFLOWS}"
    )
    with contextlib.suppress(RPCError):
        async for job in run.client.list_workflows(query, limit=_JOBS_LOOKED_AT):
            if failures := await pending_failures(run.client, job.id):
                return f"{job.id}: {failures[0]}"
    return None if warehouse is None else await _cool_down(warehouse, run.request.source)


async def _find_local_trouble(run: Run, warehouse: Warehouse | None) -> str | None:
    if not await run.is_attended():
        return UNATTENDED_LOCAL
    return None if warehouse is None else await _cool_down(warehouse, run.request.source)


async def _cool_down(warehouse: Warehouse, source: str) -> str | None:
    """The source's cool-down, in a sentence: its jobs wait in timers, which fail nothing."""
    with contextlib.suppress(ETLError):
        for blocked in await asyncio.to_thread(blocked_sources, warehouse, source):
            return str(blocked)
    return None
