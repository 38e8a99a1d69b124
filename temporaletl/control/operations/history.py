"""History of runs: those that go on and those that ended, page by page, with their jobs."""

import asyncio
from datetime import datetime
from typing import NamedTuple, Self

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.reports import (
    RunReport,
    report_of_batch,
    report_of_request,
)
from temporaletl.control.operations.status import Runs
from temporaletl.errors import NotFoundError
from temporaletl.messages import Message, Mode
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import (
    BatchReport,
    JobReport,
    PageReport,
    ended_batches,
    find_batch,
    jobs_after,
    pages_after,
)
from temporaletl.warehouse.run_log import RunLogTail, read_log
from temporaletl.warehouse.runs import ended_without_batch, find_run


class RunFilter(Message):
    """Which runs are listed; what is None is not looked at."""

    source: str | None = None
    connection: str | None = None
    mode: Mode | None = None
    state: str | None = None

    def takes(self, run: RunReport) -> bool:
        wanted = self.model_dump(exclude_none=True)
        return all(getattr(run, name) == value for name, value in wanted.items())


class RunKey(NamedTuple):
    """A run's place in the history; `name` is its batch, or its workflow where it has none."""

    started_at: datetime
    name: str

    @classmethod
    def of(cls, run: RunReport) -> Self:
        return cls(run.started_at, run.batch_id or run.workflow_id)


async def list_runs(
    platform: Platform,
    observed: Runs,
    chosen: RunFilter,
    *,
    limit: int,
    after: RunKey | None = None,
) -> list[RunReport]:
    """Runs, at most `limit`: first those that are open, as observed, then those that ended.

    The latest is first in both; behind `after`, only those that ended.

    Raises:
        ETLError: as `Platform.warehouse`.
    """
    going_on = [] if after else observed.runs
    found = [run for run in going_on if chosen.takes(run)][:limit]
    if len(found) < limit:
        warehouse = await platform.warehouse()
        ended = await asyncio.to_thread(_ended, warehouse, chosen, limit=limit, after=after)
        # One may have ended since the open ones were observed; of one without a batch, the workflow
        # may be still to end.
        listed = {run.workflow_id for run in found}
        listed |= {run.workflow_id for run in going_on if run.batch_id is None}
        found += [run for run in ended if run.workflow_id not in listed]
    return found[:limit]


def _ended(
    warehouse: Warehouse, chosen: RunFilter, *, limit: int, after: RunKey | None
) -> list[RunReport]:
    """The latest runs that ended, those that could not be planned among them."""
    source, connection = chosen.source, chosen.connection
    batches = ended_batches(
        warehouse,
        limit=limit,
        after=after,
        source=source,
        connection_name=connection,
        mode=chosen.mode,
        state=chosen.state,
    )
    others = ended_without_batch(
        warehouse,
        limit=limit,
        after=after,
        source=source,
        connection_name=connection,
        mode=chosen.mode,
        state=chosen.state,
    )
    reports = [report_of_batch(batch, None) for batch in batches]
    reports += map(report_of_request, others)
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
    if entered is not None and entered.batch_id is None and entered.ended_at is not None:
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
