"""Run status: the runs that go on, from the ledger and Temporal or from either of them alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from temporaletl.control.operations.attendance import unattended
from temporaletl.control.operations.platform import NoLedgerError, Platform
from temporaletl.control.operations.reports import (
    RunKey,
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
from temporaletl.queuer.reconciliation import describe_workflow, standing_of, unbooked
from temporaletl.temporal import sdk
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.replica import replica_remark
from temporaletl.warehouse.reports import BatchReport, list_batches
from temporaletl.warehouse.runs import RequestedRun, runs_without_batch
from temporaletl.warehouse.state import watermarks_ahead

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecution


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs that go on, then those that ended, the latest first in both.

    `remarks` name the hindrances of sources, which of the two could not be reached, and which
    service does not attend to them.
    """

    runs: list[RunReport]
    remarks: list[str]


async def open_runs(platform: Platform, *, limit: int) -> Runs:
    """The runs that go on, in the ledger or in Temporal, the latest first.

    Behind them, those that ended in Temporal before their books were closed.

    Raises:
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    warehouse, client, remarks = await reachable(platform)
    attended = await attendance(platform, client)
    found: list[RunReport] = []
    if warehouse is not None:
        found += await _in_ledger(warehouse, client, limit)
    if client is not None:
        entered = {run.workflow_id for run in found}
        found += [
            report_of_workflow(execution)
            for execution in await _beside_ledger(platform, warehouse, client)
            if execution.id not in entered
        ]
    found = await completed(warehouse, client, found, queried=attended.queuer is None)
    runs, missing = attended.standing(sorted(found, key=RunKey.of, reverse=True)[:limit])
    remarks += missing
    if warehouse is not None:
        remarks += await asyncio.to_thread(hindrances, warehouse)
    return Runs(runs, remarks)


async def _in_ledger(warehouse: Warehouse, client: Client | None, limit: int) -> list[RunReport]:
    """The runs that go on in the ledger, with the ends that Temporal has of their workflows."""

    def read() -> tuple[list[BatchReport], list[RequestedRun]]:
        return (
            list_batches(warehouse, ended=False, limit=limit),
            runs_without_batch(warehouse, ended=False, limit=limit),
        )

    async def execution_of(run: BatchReport | RequestedRun) -> WorkflowExecution | None:
        if client is None or run.engine == "local":
            return None
        try:
            # The list of workflows lags behind; a description does not.
            if isinstance(run, RequestedRun):
                return await describe_workflow(client, run.workflow_id)
            return (await standing_of(client, run.workflow_id, run.run_id)).execution
        except sdk.RPCError:
            return None

    batches, requests = await asyncio.to_thread(read)
    of_batches = await asyncio.gather(*map(execution_of, batches))
    of_requests = await asyncio.gather(*map(execution_of, requests))
    return [
        *map(report_of_batch, batches, of_batches),
        *map(report_of_request, requests, of_requests),
    ]


async def _beside_ledger(
    platform: Platform, warehouse: Warehouse | None, client: Client
) -> list[WorkflowExecution]:
    """Workflows of runs that are in no ledger; none where Temporal does not say."""
    try:
        return await unbooked(client, warehouse, platform.settings.queuer_queue)
    except sdk.RPCError:
        return []


async def reachable(platform: Platform) -> tuple[Warehouse | None, Client | None, list[str]]:
    """The warehouse and Temporal, either of which may be missing, but not both; and what is.

    Raises:
        ETLError: what is configured does not answer, and the other cannot do without it.
    """
    warehouse, missing = await reachable_warehouse(platform)
    client: Client | None = None
    try:
        # One that was connected before may have gone since.
        client = await platform.answering_client()
    except TemporalDisabledError:
        if warehouse is None:
            await platform.warehouse()  # it says why
    except TemporalUnavailableError as error:
        if warehouse is None:
            raise
        missing.append(f"only what the ledger knows is shown: {error}")
    return warehouse, client, missing


async def reachable_warehouse(platform: Platform) -> tuple[Warehouse | None, list[str]]:
    """The warehouse, None where it is missing; and why it is, or that it may be behind."""
    if not platform.has_warehouse:
        return None, ["no warehouse is configured here: only what Temporal knows is shown"]
    try:
        warehouse = await platform.warehouse()
        remark = await asyncio.to_thread(replica_remark, warehouse)
    except (NoLedgerError, WarehouseUnavailableError) as error:
        return None, [f"only what Temporal knows is shown: {error}"]
    return warehouse, [remark] if remark else []


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
