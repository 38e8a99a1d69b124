"""History of runs: those that go on and those that ended, page by page, with their jobs."""

import asyncio
from typing import Any

from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.control.operations.reports import (
    RunKey,
    RunReport,
    completed,
    report_of_batch,
    report_of_request,
    report_of_workflow,
)
from temporaletl.control.operations.status import Runs, open_runs, reachable_warehouse
from temporaletl.errors import NotFoundError
from temporaletl.messages import Message, Mode
from temporaletl.queuer.reconciliation import runs_of_queue
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import (
    BatchReport,
    JobReport,
    PageReport,
    find_batch,
    jobs_after,
    list_batches,
    pages_after,
)
from temporaletl.warehouse.run_log import RunLogTail, read_log
from temporaletl.warehouse.runs import find_run, runs_without_batch

#: Workflows that are looked through where there is no ledger.
_MOST_CLOSED = 1_000
_MOST_OPEN = 200


class RunFilter(Message):
    """Which runs are listed; what is None is not looked at."""

    source: str | None = None
    connection: str | None = None
    mode: Mode | None = None
    state: str | None = None

    def takes(self, run: RunReport) -> bool:
        wanted = self.model_dump(exclude_none=True)
        return all(getattr(run, name) == value for name, value in wanted.items())


async def recent_runs(platform: Platform, *, limit: int, chosen: RunFilter | None = None) -> Runs:
    """The runs that go on, then those that ended, the latest first in both; at most `limit`.

    Raises:
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    observed = await open_runs(platform, limit=max(limit, _MOST_OPEN))
    found = await list_runs(platform, observed, chosen or RunFilter(), limit=limit)
    return Runs(found, observed.remarks)


async def list_runs(
    platform: Platform,
    observed: Runs,
    chosen: RunFilter,
    *,
    limit: int,
    after: RunKey | None = None,
) -> list[RunReport]:
    """Runs, at most `limit`: those that go on, as observed, then those that ended.

    The latest is first in both. `after` is the key of the last one on the page before.

    Raises:
        ETLError: neither the warehouse nor Temporal can be reached.
    """
    taken = [run for run in observed.runs if chosen.takes(run)]
    found = [run for run in taken if after is None or RunKey.of(run) < after]
    if sum(run.ended_at is None for run in found) < limit:
        behind = after if after is not None and not after.goes_on else None
        # One may have ended since the open ones were observed.
        listed = {run.workflow_id for run in taken}
        ended = await _ended(platform, chosen, limit=limit + len(listed), after=behind)
        found += [run for run in ended if run.workflow_id not in listed]
    return sorted(found, key=RunKey.of, reverse=True)[:limit]


async def _ended(
    platform: Platform, chosen: RunFilter, *, limit: int, after: RunKey | None
) -> list[RunReport]:
    """The latest runs that ended, those that could not be planned among them."""
    warehouse, _ = await reachable_warehouse(platform)
    if warehouse is None:
        return await _ended_in_temporal(platform, chosen, limit=limit, after=after)
    return await asyncio.to_thread(_ended_in_ledger, warehouse, chosen, limit=limit, after=after)


async def _ended_in_temporal(
    platform: Platform, chosen: RunFilter, *, limit: int, after: RunKey | None
) -> list[RunReport]:
    client = await platform.client()
    before = "" if after is None else f" AND StartTime <= '{after.started_at.isoformat()}'"
    query = f"{runs_of_queue(platform.settings.queuer_queue)} AND ExecutionStatus = 'Completed'"
    with translated_errors():
        listed = client.list_workflows(query + before, limit=_MOST_CLOSED, rpc_timeout=PATIENCE)
        found = [report_of_workflow(one) async for one in listed]
    found = sorted(found, key=RunKey.of, reverse=True)
    found = [run for run in found if after is None or RunKey.of(run) < after]
    named = await completed(None, client, found[:limit])
    return [run for run in named if chosen.takes(run)]


def _ended_in_ledger(
    warehouse: Warehouse, chosen: RunFilter, *, limit: int, after: RunKey | None
) -> list[RunReport]:
    wanted: dict[str, Any] = {
        "ended": True,
        "limit": limit,
        "after": after and (after.started_at, after.name),
        "source": chosen.source,
        "connection_name": chosen.connection,
        "mode": chosen.mode,
        "state": chosen.state,
    }
    reports = [report_of_batch(batch, None) for batch in list_batches(warehouse, **wanted)]
    reports += [report_of_request(run) for run in runs_without_batch(warehouse, **wanted)]
    return sorted(reports, key=RunKey.of, reverse=True)[:limit]


async def list_jobs(
    platform: Platform,
    run: str,
    *,
    limit: int,
    after: int | None = None,
    state: str | None = None,
) -> list[JobReport]:
    """A run's jobs by their number, at most `limit`, behind the one numbered `after`.

    Raises:
        NotFoundError: the ledger has no run of that name.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    batch_id = await asyncio.to_thread(_batch_id, warehouse, run)
    return await asyncio.to_thread(
        jobs_after, warehouse, batch_id, limit=limit, after=after, state=state
    )


async def list_pages(
    platform: Platform, run: str, *, limit: int, after: tuple[int, int] | None = None
) -> list[PageReport]:
    """A run's pages by job and number, at most `limit`; behind one, given by these two.

    Raises: as `list_jobs`.
    """
    warehouse = await platform.warehouse()
    batch_id = await asyncio.to_thread(_batch_id, warehouse, run)
    return await asyncio.to_thread(pages_after, warehouse, batch_id, limit=limit, after=after)


async def read_run_log(platform: Platform, run: str, *, limit: int) -> RunLogTail:
    """The last lines of a run's log, at most `limit`, the oldest of them first.

    Raises:
        NotFoundError: the ledger has no run of that name.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    batch_id = await asyncio.to_thread(_batch_id, warehouse, run)
    return await asyncio.to_thread(read_log, warehouse, batch_id, limit=limit)


async def run_report(platform: Platform, run: str) -> RunReport:
    """A run by its workflow or batch id, as the ledger has it. Raises: as `list_jobs`."""
    warehouse = await platform.warehouse()
    entered = await asyncio.to_thread(find_run, warehouse, run)
    if entered is not None and entered.batch_id is None:
        return report_of_request(entered)
    return report_of_batch(await asyncio.to_thread(_batch, warehouse, run), None)


def _batch_id(warehouse: Warehouse, run: str) -> str:
    return _batch(warehouse, run).batch_id


def _batch(warehouse: Warehouse, run: str) -> BatchReport:
    batch = find_batch(warehouse, run)
    if batch is None:
        raise NotFoundError(
            f"the ledger has no run {run!r} (`etl status` lists the latest; one whose jobs are not "
            "planned yet has none)"
        )
    return batch
