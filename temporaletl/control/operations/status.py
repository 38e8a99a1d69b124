"""Run status: the latest runs, from the ledger and Temporal or from either of them alone."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from temporaletl import names
from temporaletl.control.operations.attendance import unattended
from temporaletl.control.operations.platform import OPEN_WORKFLOWS, NoLedgerError, Platform
from temporaletl.control.operations.reports import (
    RunReport,
    completed,
    report_of_batch,
    report_of_request,
    report_of_workflow,
)
from temporaletl.control.operations.state import ahead_of_clock
from temporaletl.errors import (
    TemporalDisabledError,
    TemporalUnavailableError,
    WarehouseUnavailableError,
)
from temporaletl.queuer.reconciliation import standing_of
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import BatchReport, find_batch, recent_batches
from temporaletl.warehouse.runs import RequestedRun, local_runs_without_batch
from temporaletl.warehouse.state import watermarks_ahead


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs that go on, then those that ended, the latest first in both.

    `remarks` name the hindrances of sources, which of the two could not be reached, and which
    service does not attend to them.
    """

    runs: list[RunReport]
    remarks: list[str]


async def recent_runs(platform: Platform, *, limit: int) -> Runs:
    """The latest runs.

    Raises:
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    warehouse, client, remarks = await reachable(platform)
    attended = await attendance(platform, client)
    found = await _recent_runs(warehouse, client, limit, attended)
    runs, missing = attended.standing(found)
    remarks += missing
    if warehouse is not None:
        remarks += await asyncio.to_thread(hindrances, warehouse)
    return Runs(runs, remarks)


async def open_runs(platform: Platform, *, limit: int) -> Runs:
    """The runs that have not ended, in the ledger or in Temporal, the latest first.

    Raises:
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    warehouse, client, remarks = await reachable(platform)
    attended = await attendance(platform, client)
    found = await _open_runs(warehouse, client, limit, attended)
    runs, missing = attended.standing(found)
    remarks += missing
    if warehouse is not None:
        remarks += await asyncio.to_thread(hindrances, warehouse)
    return Runs(runs, remarks)


async def reachable(platform: Platform) -> tuple[Warehouse | None, Client | None, list[str]]:
    """The warehouse and Temporal, either of which may be missing, but not both; and what is.

    Raises:
        ETLError: what is configured does not answer, and the other cannot do without it.
    """
    warehouse: Warehouse | None = None
    missing: list[str] = []
    if platform.has_warehouse:
        try:
            warehouse = await platform.warehouse()
        except NoLedgerError:
            pass
        except WarehouseUnavailableError as error:
            missing.append(f"only what Temporal knows is shown: {error}")
    else:
        missing.append("no warehouse is configured here: only what Temporal knows is shown")
    client: Client | None = None
    try:
        # One that was connected before may have gone since.
        client = await platform.answering_client()
    except TemporalDisabledError:
        pass  # there is nothing more to be known
    except TemporalUnavailableError as error:
        if warehouse is None:
            raise
        missing.append(f"only what the ledger knows is shown: {error}")
    return warehouse, client, missing


class Attendance(NamedTuple):
    """Which service polls no task queue, and what to do; None of one that is there."""

    queuer: str | None = None
    worker: str | None = None

    def standing(self, reports: list[RunReport]) -> tuple[list[RunReport], list[str]]:
        """Runs as services attend to them, and which is missing where runs need it.

        A run that Temporal has and no service takes on waits, whatever it did before.
        """
        standing: list[RunReport] = []
        needed = False
        for run in reports:
            in_temporal = run.ended_at is None and run.engine == "temporal"
            needed = needed or in_temporal
            missing = self.queuer if run.jobs is None else self.worker
            waits = in_temporal and missing and run.state in ("planning", "running")
            standing.append(run.model_copy(update={"state": "waiting"}) if waits else run)
        missing_services = [one for one in self if one]
        return standing, missing_services if needed else []


async def attendance(platform: Platform, client: Client | None) -> Attendance:
    """Which services poll their task queues; both, where that cannot be known."""
    if client is None:
        return Attendance()
    settings = platform.settings
    queuer, worker = await asyncio.gather(
        unattended(client, "queuer", settings.queuer_queue),
        unattended(client, "worker", settings.worker_queue),
    )
    return Attendance(queuer, worker)


def hindrances(
    warehouse: Warehouse, source: str | None = None, connection: str | None = None
) -> list[str]:
    """Hindrances of sources: cool-downs, and watermarks ahead of the clock.

    Of one source or connection, where it is named.
    """
    blocked = blocked_sources(warehouse, source)
    ahead = watermarks_ahead(warehouse, source)
    return [
        *(str(one) for one in blocked if connection in (None, one.connection)),
        *(ahead_of_clock(state) for state in ahead if connection in (None, state.connection)),
    ]


async def _recent_runs(
    warehouse: Warehouse | None, client: Client | None, limit: int, attended: Attendance
) -> list[RunReport]:
    found: dict[str, BatchReport] = {}
    if warehouse is not None:
        listed = await asyncio.to_thread(recent_batches, warehouse, limit=limit)
        found = {batch.run_id: batch for batch in listed}
    waiting = []
    if warehouse is not None:
        waiting = await asyncio.to_thread(local_runs_without_batch, warehouse, limit=limit)
    executions = await _executions(client, found, limit) if client is not None else {}
    # The workflow of a run that the local engine executes was superseded.
    local = {batch.workflow_id for batch in found.values() if batch.engine == "local"}
    local |= {run.workflow_id for run in waiting}
    reports = [report_of_batch(batch, executions.get(run_id)) for run_id, batch in found.items()]
    reports += [
        report_of_workflow(execution)
        for run_id, execution in executions.items()
        if run_id not in found and execution.id not in local
    ]
    reports += [report_of_request(run) for run in waiting]
    reports = await completed(warehouse, client, reports, queried=attended.queuer is None)
    reports.sort(key=lambda r: (r.ended_at is not None, -r.started_at.timestamp()))
    return reports[:limit]


async def _open_runs(
    warehouse: Warehouse | None, client: Client | None, limit: int, attended: Attendance
) -> list[RunReport]:
    found: dict[str, BatchReport] = {}
    waiting: list[RequestedRun] = []
    if warehouse is not None:
        listed = await asyncio.to_thread(recent_batches, warehouse, limit=limit, only_open=True)
        found = {batch.run_id: batch for batch in listed}
        waiting = await asyncio.to_thread(
            local_runs_without_batch, warehouse, limit=limit, only_open=True
        )
    executions = (
        await _executions(client, found, limit, only=f"AND {OPEN_WORKFLOWS}")
        if client is not None
        else {}
    )
    reports = [report_of_batch(batch, executions.get(run_id)) for run_id, batch in found.items()]
    for run_id, execution in executions.items():
        if run_id in found:
            continue
        batch: BatchReport | None = None
        if warehouse is not None:
            batch = await asyncio.to_thread(find_batch, warehouse, execution.id)
        # One whose books are closed already is among those that ended.
        if batch is None or batch.run_id != run_id:
            reports.append(report_of_workflow(execution))
    local = {run.workflow_id for run in waiting}
    # The workflow of a run that the local engine executes is superseded.
    reports = [report for report in reports if report.workflow_id not in local]
    reports += [report_of_request(run) for run in waiting]
    reports = await completed(warehouse, client, reports, queried=attended.queuer is None)
    reports.sort(key=lambda r: -r.started_at.timestamp())
    return reports[:limit]


async def _executions(
    client: Client, known: dict[str, BatchReport], limit: int, *, only: str = ""
) -> dict[str, WorkflowExecution]:
    """The latest QueuerFlows, and those of batches that the ledger takes for running."""
    query = f"WorkflowType = '{names.QUEUER_FLOW}' {only}"
    executions: dict[str, WorkflowExecution] = {}
    try:
        async for execution in client.list_workflows(query, limit=limit):
            executions[execution.run_id] = execution
        for run_id, batch in known.items():
            if batch.ended_at is None and batch.engine == "temporal":
                # The list lags behind; a description does not.
                standing = await standing_of(client, batch.workflow_id, run_id)
                if standing.execution is not None:
                    executions[run_id] = standing.execution
    except RPCError:
        return executions
    return executions
