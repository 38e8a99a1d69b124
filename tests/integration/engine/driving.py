"""Runs of the source of numbers that drivers of the local engine drive."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.engine.driver import Driver, DriverOptions
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ownership import OwnedRun, adopt_run
from temporaletl.warehouse.runs import Engine, RequestedRun, enter_run, find_run
from tests.integration.engine.running import LIMITS, select
from tests.waiting import until

LEASE = timedelta(seconds=1)
OPTIONS = DriverOptions(limits=LIMITS, lease=LEASE)


def requested(warehouse: Warehouse, /, engine: Engine | None = "local", **params: Any) -> str:
    """Enter a full run for an engine, or before one has it; return its workflow id."""
    workflow_id = f"etl-numbers-{uuid.uuid4().hex}"
    entered = enter_run(
        warehouse,
        QueuerInput(source="numbers", mode="full", params=params),
        workflow_id=workflow_id,
        run_id=uuid.uuid4().hex,
        engine=engine,
        only=False,
    )
    assert entered is None
    return workflow_id


@asynccontextmanager
async def driven(
    warehouse: Warehouse,
    *,
    drivers: int = 1,
    ended: list[BatchSummary] | None = None,
    **options: Any,
) -> AsyncGenerator[None]:
    """Drive runs until the block ends; the drivers then leave what they have not ended."""
    stop = asyncio.Event()
    notify = (ended if ended is not None else []).append
    async with AsyncExitStack() as stack:
        for _ in range(drivers):
            driver = Driver(warehouse, notify=notify, options=replace(OPTIONS, **options))
            task = asyncio.create_task(driver.run(stop))
            stack.push_async_callback(asyncio.wait_for, task, 30)
        stack.callback(stop.set)
        yield


def run_of(warehouse: Warehouse, workflow_id: str) -> RequestedRun:
    found = find_run(warehouse, workflow_id)
    assert found is not None
    return found


async def until_ended(warehouse: Warehouse, workflow_id: str) -> RequestedRun:
    await until(lambda: run_of(warehouse, workflow_id).ended_at is not None)
    return run_of(warehouse, workflow_id)


async def until_pages(warehouse: Warehouse, count: int) -> None:
    await until(lambda: pages(warehouse) >= count)


def pages(warehouse: Warehouse) -> int:
    return int(select(warehouse, "SELECT count(*) FROM etl_pages")[0][0])


def batch_state(warehouse: Warehouse) -> tuple[Any, ...]:
    """State and engine of the only batch."""
    (row,) = select(warehouse, "SELECT state, engine FROM etl_batches")
    return tuple(row)


#: Pages that come slowly, to their end within some seconds.
SLOW: dict[str, Any] = {"jobs": 2, "pages": 40, "size": 2, "page_seconds": 0.02}


def owned(warehouse: Warehouse, workflow_id: str, lease: timedelta = LEASE) -> OwnedRun:
    found = adopt_run(warehouse, "somebody", lease, workflow_id=workflow_id)
    assert found is not None
    return found


def lapse(warehouse: Warehouse) -> None:
    """Let all leases run out."""
    with warehouse.connection() as connection:
        connection.execute("UPDATE etl_runs SET lease_until = now() - interval '1 second'")


def rested(warehouse: Warehouse) -> Callable[[], bool]:
    """Whether no page came since the last few looks."""
    seen: list[int] = []

    def rests() -> bool:
        seen.append(pages(warehouse))
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    return rests
