"""A task that is cancelled, and a warehouse that is closed: the books, and what is raised."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from temporaletl.engine import batch
from temporaletl.engine.__main__ import serve
from temporaletl.engine.driver import Driver, DriverOptions
from temporaletl.errors import WarehouseClosedError
from temporaletl.queuer import finishing, planning
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from tests.integration.engine.running import FIRST, Heard, run, select, watermark
from tests.waiting import until

_WITHIN_SECONDS = 180


class _Held:
    """A function that tells when it is called, and goes on once it may."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.called = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.called.set()
        assert self.may_go_on.wait(_WITHIN_SECONDS)
        return self._function(*args, **kwargs)


_WRITES = {
    "migration": (batch, "migrate"),
    "lapsed batches": (finishing, "end_lapsed"),
    "beginning": (planning, "resolve_batch"),
    "planning": (planning, "JobWriter"),
    "end of a job": (ledger, "end_job"),
    "end": (finishing, "finish"),
}


@pytest.mark.parametrize("write", _WRITES)
async def test_a_task_that_is_cancelled_while_a_thread_writes_closes_the_books(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    place, name = _WRITES[write]
    held = _Held(getattr(place, name))
    monkeypatch.setattr(place, name, held)
    task = asyncio.create_task(run(warehouse, poisoned=0))
    await until(held.called.is_set, within_seconds=_WITHIN_SECONDS)
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)  # the cancellation arrives while the thread is at work
    held.may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    open_ones = "SELECT count(*) FROM etl_batches WHERE ended_at IS NULL"
    assert select(warehouse, open_ones) == [(0,)]
    states = select(warehouse, "SELECT state FROM etl_batches")
    expected = {"migration": [], "lapsed batches": [], "end": [("failed",)]}
    assert states == expected.get(write, states)
    assert select(warehouse, "SELECT count(*) FROM etl_jobs WHERE ended_at IS NULL") == [(0,)]
    assert (await run(warehouse, scheduled=FIRST)).state == "completed", "the next run is let in"


async def test_a_completed_run_that_is_cancelled_at_its_end_has_moved_the_watermark(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(finishing.finish)
    monkeypatch.setattr(finishing, "finish", held)
    task = asyncio.create_task(run(warehouse))
    await until(held.called.is_set, within_seconds=_WITHIN_SECONDS)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    held.may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert select(warehouse, "SELECT state FROM etl_batches") == [("completed",)]
    assert watermark(warehouse) == FIRST


async def test_a_run_whose_warehouse_is_closed_ends_at_once(
    warehouse: Warehouse, postgres_url: str
) -> None:
    own = _another(warehouse, postgres_url).open()
    heard = Heard(on_page=lambda _job, _progress: own.close())
    with pytest.raises(WarehouseClosedError, match="this program has closed it"):
        await run(own, pages=100, size=1, listener=heard)
    with pytest.raises(WarehouseClosedError, match="never opened"):
        await run(_another(warehouse, postgres_url))


async def test_an_engine_told_to_end_while_its_warehouse_is_away_tells_of_no_fault_of_its_own(
    warehouse: Warehouse, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("WPE_DB_SCHEMA", warehouse.schema)
    closed, faults = asyncio.Event(), list[dict[str, Any]]()
    close = Warehouse.close

    def close_and_tell(own: Warehouse) -> None:
        close(own)
        closed.set()

    async def look_until_closed(driver: Driver, _stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await closed.wait()
        with driver._warehouse.connection():
            pytest.fail("it is closed")

    monkeypatch.setattr(Warehouse, "close", close_and_tell)
    monkeypatch.setattr(Driver, "run", look_until_closed)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, fault: faults.append(fault))
    async with asyncio.timeout(_WITHIN_SECONDS):
        await serve(DriverOptions(), attached=False)
    gc.collect()  # the loop is told of what nobody retrieved when that goes
    assert faults == []


def test_what_the_programs_own_run_raises_is_what_appears(
    warehouse: Warehouse, postgres_url: str
) -> None:
    loaded = threading.Event()

    async def program() -> None:
        with _another(warehouse, postgres_url) as own:
            began = asyncio.Event()
            slow = Heard(on_page=lambda _job, _progress: began.set())
            other = asyncio.create_task(
                run(own, pages=10_000, size=1, page_seconds=0.01, listener=slow)
            )
            await began.wait()
            loaded.set()
            await asyncio.gather(other, _fail())

    async def _fail() -> None:
        raise KeyError("of the program")

    with pytest.raises(KeyError, match="of the program"):
        asyncio.run(asyncio.wait_for(program(), _WITHIN_SECONDS))
    assert loaded.is_set()


def _another(warehouse: Warehouse, url: str) -> Warehouse:
    """The same warehouse, over a pool of its own that is not open."""
    return Warehouse(
        WarehouseSettings.model_validate({"database_url": url, "schema_name": warehouse.schema})
    )
