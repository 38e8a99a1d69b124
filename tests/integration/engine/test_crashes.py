"""Owners that are killed or frozen, at every page: nothing lost, nothing doubled."""

import asyncio
import contextlib
import os
import shutil
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
#: Drives runs, and kills itself before or behind the n-th call of a function.
_OWNER = """
import asyncio, itertools, os, pkgutil, signal, sys
from temporaletl.engine.driver import Driver
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from tests.integration.engine.driving import OPTIONS

url, schema, place, number, when = sys.argv[1:]
where, _, name = place.rpartition(".")
owner = pkgutil.resolve_name(where)
numbers, called = itertools.count(1), getattr(owner, name)

def counted(*given, **named):
    fatal = next(numbers) == int(number)
    if fatal and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = called(*given, **named)
    if fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, counted)
settings = WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
with Warehouse(settings) as warehouse:
    asyncio.run(Driver(warehouse, options=OPTIONS).run(asyncio.Event()))
"""
_COMMIT = "temporaletl.worker.loading.Loader.load"
#: What an owner does beside: it adopts, enters the batch, plans, ends jobs, closes, moves
#: watermarks, and ends the run.
_STEPS = (
    "temporaletl.engine.driver.adopt_run",
    "temporaletl.queuer.planning.begin_batch",
    "temporaletl.warehouse.ownership.show_control",
    "temporaletl.queuer.planning.JobWriter.write",
    "temporaletl.worker.segment.end_job",
    "temporaletl.warehouse.closing.finish_batch",
    "temporaletl.warehouse.state.advance",
    "temporaletl.warehouse.runs.end_run",
)
_PAGES = 6
_ROWS = 2 * _PAGES * 3


@contextmanager
def _owner(
    url: str,
    warehouse: Warehouse,
    place: str = _COMMIT,
    number: int = 0,
    when: str = "never",
    clock: tuple[str, ...] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = [url, warehouse.schema, place, str(number), when]
    process = subprocess.Popen(
        [*clock, sys.executable, "-c", _OWNER, *arguments], cwd=_PROJECT, start_new_session=True
    )
    try:
        yield process
    finally:
        _kill(process)
        process.wait()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the owner also where its clock's program stands between."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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


async def _killed_at(
    warehouse: Warehouse, url: str, number: int, when: str, place: str = _COMMIT
) -> None:
    ended: list[BatchSummary] = []
    run = _requested(warehouse)
    with _owner(url, warehouse, place, number, when) as process:
        status = await asyncio.to_thread(process.wait, 60)
    assert status == -signal.SIGKILL
    async with driven(warehouse, drivers=2, ended=ended):
        assert (await until_ended(warehouse, run)).error is None
    if (place, when) != (_STEPS[-1], "behind"):  # then it had ended, and was announced
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


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("place", _STEPS)
async def test_an_owner_may_be_killed_at_every_step(
    warehouse: Warehouse, postgres_url: str, place: str, when: str
) -> None:
    await _killed_at(warehouse, postgres_url, 1, when, place)


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


@pytest.mark.slow
@pytest.mark.parametrize("offset", ["-10m", "+10m"])
async def test_a_clock_that_is_wrong_costs_no_row_and_no_run(
    warehouse: Warehouse, postgres_url: str, offset: str
) -> None:
    if (faketime := shutil.which("faketime")) is None:
        pytest.skip("no `faketime` command on PATH")
    ended: list[BatchSummary] = []
    run = requested(warehouse, jobs=2, pages=100, size=1, page_seconds=0.02)
    with _owner(postgres_url, warehouse, clock=(faketime, "-f", offset)) as process:
        await until_pages(warehouse, 5)
        async with driven(warehouse, ended=ended):
            await until_pages(warehouse, 60)
            _kill(process)
            await until_ended(warehouse, run)
    assert _owners(warehouse, run) >= 2
    assert [one.rows.inserted for one in ended] == [200]
    totals = select(warehouse, "SELECT sum(inserted), sum(unchanged), sum(pages) FROM etl_jobs")
    assert totals == [(200, 0, 200)]


def _owners(warehouse: Warehouse, run: str) -> int:
    return int(select(warehouse, "SELECT epoch FROM etl_runs WHERE workflow_id = %s", run)[0][0])
