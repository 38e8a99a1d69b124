"""Events by month: how sources are divided, dividing them, and their retention."""

import asyncio
from collections.abc import Callable, Collection, Iterable

from pydantic import JsonValue

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import find_source
from temporaletl.control.operations.tables import declared_rows
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.months import Partitions, Step, divide, partitions_of
from temporaletl.worker.loading.retention import detach


async def list_partitions(platform: Platform) -> list[Partitions]:
    """How the events of each source that was loaded are divided, and what is due.

    Raises:
        ETLError: as `declared_rows` and `Platform.current_warehouse`.
    """
    rows = await asyncio.to_thread(declared_rows, None)
    return await asyncio.to_thread(partitions_of, await platform.current_warehouse(), rows)


async def divide_events(
    platform: Platform,
    named: Collection[str],
    author: Author,
    *,
    notice: Callable[[Step], None] = lambda _: None,
) -> list[Step]:
    """Divide the events of sources that are due, or named, by month; as `months.divide`.

    `notice` gets each step, from a thread, when it is made and entered in the audit.

    Raises:
        UnknownSourceError: there is no source of a name.
        ETLError: as `list_partitions` and `months.divide`.
    """
    for name in named:
        find_source(name)
    rows = await asyncio.to_thread(declared_rows, None)
    warehouse = await platform.current_warehouse()
    steps = divide(warehouse, rows, named=named)
    return await asyncio.to_thread(_entered, warehouse, steps, author, notice)


async def detach_months(
    platform: Platform,
    author: Author,
    *,
    drop: bool = False,
    notice: Callable[[Step], None] = lambda _: None,
) -> list[Step]:
    """Detach the months that retention no longer keeps; `drop` drops what is detached.

    Raises: as `divide_events`.
    """
    rows = await asyncio.to_thread(declared_rows, None)
    warehouse = await platform.current_warehouse()
    steps = detach(warehouse, rows, drop=drop)
    return await asyncio.to_thread(_entered, warehouse, steps, author, notice)


def _entered(
    warehouse: Warehouse, steps: Iterable[Step], author: Author, notice: Callable[[Step], None]
) -> list[Step]:
    made = []
    for step in steps:
        with warehouse.connection() as connection:
            details: dict[str, JsonValue] = {"change": step.words, "rows": step.rows}
            record(connection, author, f"partitions.{step.kind}", step.table, details=details)
        notice(step)
        made.append(step)
    return made
