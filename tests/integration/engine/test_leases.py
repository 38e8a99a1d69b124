"""One run of a source at a time, and what becomes of a run whose process dies."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from temporaletl.errors import ConflictError
from temporaletl.messages import BatchSummary, ETLInput, JobProgress
from temporaletl.queuer.finishing import end_lapsed, end_lost
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import open_batch, open_batches
from tests.integration.engine.driving import driven, requested, until_ended
from tests.integration.engine.running import FIRST, HEARTBEAT, Heard, keys, run, select
from tests.integration.pooler import pooler
from tests.waiting import until

_PROJECT = Path(__file__).parents[3]
#: Its pages are slow, and its end is far away.
_RUN = """
import asyncio, sys
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from tests.integration.engine.running import run
from tests.integration.flows import numbers

settings = WarehouseSettings.model_validate(
    {"database_url": sys.argv[1], "schema_name": sys.argv[2]}
)
with Warehouse(settings) as warehouse:
    asyncio.run(run(warehouse, jobs=2, pages=400, size=2, page_seconds=0.02))
"""


@contextmanager
def _running(url: str, warehouse: Warehouse) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs a batch for as long as it may."""
    process = subprocess.Popen([sys.executable, "-c", _RUN, url, warehouse.schema], cwd=_PROJECT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _until_pages(warehouse: Warehouse, count: int) -> None:
    await until(
        lambda: select(warehouse, "SELECT count(*) FROM etl_pages")[0][0] >= count,
    )


async def _once_let_in(warehouse: Warehouse, **asked: Any) -> BatchSummary:
    """Run as soon as the run before it counts as dead."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await run(warehouse, **asked)
            except ConflictError:
                await asyncio.sleep(HEARTBEAT.total_seconds() / 4)


async def test_a_killed_run_is_closed_by_the_next_which_loads_the_rest(
    warehouse: Warehouse, postgres_url: str
) -> None:
    with _running(postgres_url, warehouse) as process:
        await _until_pages(warehouse, 5)
        with pytest.raises(ConflictError, match="another run without Temporal"):
            await run(warehouse, size=1)
        process.kill()
        process.wait()
    loaded = keys(warehouse)
    summary = await _once_let_in(warehouse, jobs=2, pages=20, size=2)
    assert summary.state == "completed"
    assert summary.rows.inserted + summary.rows.unchanged == 80
    assert summary.rows.unchanged > 0, "what was loaded before came anew"
    assert loaded <= keys(warehouse)
    dead, alive = select(
        warehouse, "SELECT state, summary->>'error' FROM etl_batches ORDER BY created_at"
    )
    assert dead[0] == "failed"
    assert dead[1].startswith("lost: the process that ran it has given no sign of life since 20")
    assert alive == ("completed", None)
    assert select(warehouse, "SELECT seq FROM etl_jobs WHERE ended_at IS NULL") == []


async def test_a_killed_run_is_closed_and_announced_by_the_local_engine_too(
    warehouse: Warehouse, postgres_url: str
) -> None:
    with _running(postgres_url, warehouse) as process:
        await _until_pages(warehouse, 1)
    assert process.poll() is not None
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_batches SET lease_until = now() - interval '1 second', "
            "metadata = metadata - 'worker_queue'"  # as another version might have left it
        )
    ended: list[BatchSummary] = []
    run_id = requested(warehouse, size=1)
    async with driven(warehouse, ended=ended):
        await until_ended(warehouse, run_id)
    assert [one.state for one in ended] == ["failed", "completed"]
    assert str(ended[0].error).startswith("lost: the process that ran it")


async def test_a_run_that_was_frozen_loads_nothing_once_another_was_let_in(
    warehouse: Warehouse, postgres_url: str
) -> None:
    with _running(postgres_url, warehouse) as process:
        await _until_pages(warehouse, 5)
        process.send_signal(signal.SIGSTOP)
        summary = await _once_let_in(warehouse, size=1)
        assert summary.state == "completed"
        pages = select(warehouse, "SELECT count(*) FROM etl_pages")
        process.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(process.wait, 30) == 0
        assert select(warehouse, "SELECT count(*) FROM etl_pages") == pages
    states = select(warehouse, "SELECT state FROM etl_batches ORDER BY created_at")
    assert states == [("failed",), ("completed",)]


async def test_a_long_run_stays_alive_beside_a_loop_that_is_held_up(warehouse: Warehouse) -> None:
    def hold_up(_job: ETLInput, _progress: JobProgress) -> None:
        sleep(3 * HEARTBEAT.total_seconds())
        ended.extend(end_lapsed(warehouse))

    ended: list[BatchSummary] = []
    summary = await run(warehouse, listener=Heard(on_page=hold_up))
    assert summary.state == "completed"
    assert ended == []


async def test_two_runs_at_once_exclude_each_other(warehouse: Warehouse) -> None:
    began, cancel = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(
        run(
            warehouse,
            pages=1000,
            page_seconds=0.01,
            cancel=cancel,
            listener=Heard(on_page=lambda _job, _progress: began.set()),
        )
    )
    await began.wait()
    with pytest.raises(ConflictError, match="numbers over connection 'default'"):
        await run(warehouse, scheduled=FIRST + timedelta(hours=1))
    cancel.set()
    assert (await first).state == "cancelled"
    assert (await run(warehouse)).state == "completed"
    assert select(warehouse, "SELECT count(*) FROM etl_batches") == [(2,)]


async def test_of_many_that_begin_at_once_behind_a_pooler_one_is_let_in(
    warehouse: Warehouse, postgres_url: str
) -> None:
    with pooler(postgres_url, size=3) as url:
        settings = WarehouseSettings.model_validate(
            {"database_url": url, "schema_name": warehouse.schema}
        )
        with Warehouse(settings, max_connections=16) as pooled:
            ends = await asyncio.gather(
                *(run(pooled, pages=50, page_seconds=0.02) for _ in range(5)),
                return_exceptions=True,
            )
    summaries = [end for end in ends if isinstance(end, BatchSummary)]
    assert [summary.state for summary in summaries] == ["completed"]
    assert sum(isinstance(end, ConflictError) for end in ends) == 4


async def test_a_run_that_somebody_else_closes_ends(warehouse: Warehouse) -> None:
    def close(_job: ETLInput, progress: JobProgress) -> None:
        if progress.pages != 3:
            return
        (row,) = select(warehouse, "SELECT batch_id FROM etl_batches")
        batch = open_batch(warehouse, row[0])
        assert batch is not None
        end_lost(warehouse, batch, "ended by hand")

    heard = Heard(on_page=close)
    summary = await run(warehouse, pages=10_000, page_seconds=0.02, size=1, listener=heard)
    assert (summary.state, summary.error) == ("failed", "ended by hand")
    assert heard.pages == 3
    assert summary.rows.inserted == len(keys(warehouse)) == 3


def test_queuers_leave_batches_with_a_lease_alone(warehouse: Warehouse) -> None:
    seen: list[int] = []

    def look(_job: ETLInput, _progress: JobProgress) -> None:
        seen.append(len(open_batches(warehouse)))

    asyncio.run(run(warehouse, listener=Heard(on_page=look)))
    assert seen == [0]
