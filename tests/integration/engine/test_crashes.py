"""Owners that are killed or frozen, at every page: nothing lost, nothing doubled."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from temporaletl.messages import BatchSummary
from temporaletl.warehouse.connection import Warehouse
from tests.integration.engine.driving import (
    batch_state,
    driven,
    pages,
    requested,
    run_of,
    until_ended,
    until_pages,
)
from tests.integration.engine.running import keys, select
from tests.waiting import until

_PROJECT = Path(__file__).parents[3]
#: Drives runs, and kills itself before or behind the commit of a page of so many.
_OWNER = """
import asyncio, itertools, os, signal, sys
from temporaletl.engine.driver import Driver
from temporaletl.settings import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import Loader
from tests.integration.engine.driving import OPTIONS

url, schema, page, when = sys.argv[1:]
numbers, load = itertools.count(1), Loader.load

def counted(self, loaded):
    fatal = next(numbers) == int(page)
    if fatal and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    progress = load(self, loaded)
    if fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return progress

Loader.load = counted
settings = WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
with Warehouse(settings) as warehouse:
    asyncio.run(Driver(warehouse, options=OPTIONS).run(asyncio.Event()))
"""
_PAGES = 6
_ROWS = 2 * _PAGES * 3


@contextmanager
def _owner(
    url: str, warehouse: Warehouse, page: int = 0, when: str = "never"
) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = [url, warehouse.schema, str(page), when]
    process = subprocess.Popen([sys.executable, "-c", _OWNER, *arguments], cwd=_PROJECT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _requested(warehouse: Warehouse) -> str:
    return requested(warehouse, jobs=2, pages=_PAGES, size=3, page_seconds=0.01)


def _check_whole(warehouse: Warehouse) -> None:
    """Check that every row and every page is there once."""
    assert batch_state(warehouse) == ("completed", "local")
    assert len(keys(warehouse)) == _ROWS
    totals = select(
        warehouse, "SELECT sum(inserted), sum(updated), sum(unchanged), sum(pages) FROM etl_jobs"
    )
    assert totals == [(_ROWS, 0, 0, 2 * _PAGES)]
    assert pages(warehouse) == 2 * _PAGES


async def _killed_at(warehouse: Warehouse, url: str, page: int, when: str) -> None:
    ended: list[BatchSummary] = []
    run = _requested(warehouse)
    with _owner(url, warehouse, page, when) as process:
        status = await asyncio.to_thread(process.wait, 60)
    assert status == -signal.SIGKILL
    async with driven(warehouse, drivers=2, ended=ended):
        await until_ended(warehouse, run)
    assert [one.rows.inserted for one in ended] == [_ROWS]
    _check_whole(warehouse)


async def test_a_killed_owners_run_is_adopted_and_finished(
    warehouse: Warehouse, postgres_url: str
) -> None:
    await _killed_at(warehouse, postgres_url, 4, "behind")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("page", range(1, 2 * _PAGES + 1))
async def test_an_owner_may_be_killed_at_every_page(
    warehouse: Warehouse, postgres_url: str, page: int, when: str
) -> None:
    await _killed_at(warehouse, postgres_url, page, when)


async def test_an_owner_that_was_frozen_past_its_lease_wakes_as_a_stranger(
    warehouse: Warehouse, postgres_url: str
) -> None:
    ended: list[BatchSummary] = []
    run = requested(warehouse, jobs=2, pages=200, size=1, page_seconds=0.02)
    with _owner(postgres_url, warehouse) as process:
        await until_pages(warehouse, 5)
        process.send_signal(signal.SIGSTOP)
        async with driven(warehouse, ended=ended):
            await until(lambda: _owners(warehouse, run) == 2)
            await until_pages(warehouse, pages(warehouse) + 2)
            process.send_signal(signal.SIGCONT)
            await until_ended(warehouse, run)
    assert [one.rows.inserted for one in ended] == [400]
    assert batch_state(warehouse) == ("completed", "local")
    totals = select(warehouse, "SELECT sum(inserted), sum(unchanged), sum(pages) FROM etl_jobs")
    assert totals == [(400, 0, 400)]
    assert run_of(warehouse, run).error is None


def _owners(warehouse: Warehouse, run: str) -> int:
    return int(select(warehouse, "SELECT epoch FROM etl_runs WHERE workflow_id = %s", run)[0][0])
