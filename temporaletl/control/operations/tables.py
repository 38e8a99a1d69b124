"""Tables of the warehouse: migrations, and what is still to be changed."""

import asyncio
from collections.abc import Callable

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import registered
from temporaletl.rows import Row
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.evolution import Change, migrate_tables, rows_of


def declared_rows() -> dict[str, tuple[type[Row], ...]]:
    """The row classes of all registered sources; raises as `registered`."""
    return {source.name: rows_of(source.name) for source in registered()}


async def migrate_warehouse(
    platform: Platform, *, notice: Callable[[Change], None] = lambda _: None
) -> list[Change]:
    """Bring the platform's tables, and those of sources, to what this version declares.

    `notice` gets each change of a source's table, from a thread, before it is made; those of large
    tables take minutes, and do not keep anybody from reading or writing. Safe to repeat.

    Raises:
        ConflictError: another process does the same.
        ETLError: as `Platform.prepared_warehouse`.
    """
    warehouse = await platform.prepared_warehouse()
    return await asyncio.to_thread(_migrate, warehouse, notice)


def _migrate(warehouse: Warehouse, notice: Callable[[Change], None]) -> list[Change]:
    made = []
    for change in migrate_tables(warehouse, declared_rows()):
        notice(change)
        made.append(change)
    return made
