"""Tables of the warehouse: as they are declared, migrations, and what is still to be changed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import find_source, registered
from temporaletl.rows import Row
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import missing_migrations
from temporaletl.worker.loading.catalog import target_name
from temporaletl.worker.loading.columns import Column, layout_of
from temporaletl.worker.loading.evolution import (
    Change,
    migrate_tables,
    pending_changes,
    rows_of,
)
from temporaletl.worker.loading.indexes import wanted_indexes


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A source's table as this version declares it."""

    source: str
    table: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    required: tuple[str, ...]  # columns that are never null
    indexes: dict[str, tuple[str, ...]]  # columns, by the names that switch them off


def declared_rows(source: str | None) -> dict[str, tuple[type[Row], ...]]:
    """The row classes of a source, or of all; raises as `find_source` and `registered`."""
    if source is not None:
        find_source(source)
    names = [known.name for known in registered()]
    return {name: rows_of(name) for name in names if source in (None, name)}


async def describe_tables(platform: Platform, source: str | None = None) -> list[TableSchema]:
    """The tables of a source, or of all sources, as its runs make them; needs no warehouse.

    Raises:
        UnknownSourceError, StrategyImportError: as `find_source` and `registered`.
    """
    omitted = platform.warehouse_settings.omitted_indexes
    rows = await asyncio.to_thread(declared_rows, source)
    return [
        TableSchema(
            source=name,
            table=target_name(layout, name),
            comment=layout.row.comment,
            columns=layout.columns,
            key=layout.key,
            required=layout.required,
            indexes={one.name: one.columns for one in wanted_indexes(layout, omitted)},
        )
        for name, classes in rows.items()
        for layout in map(layout_of, classes)
    ]


async def list_changes(platform: Platform, source: str | None = None) -> list[Change]:
    """What the next run, or `etl migrate`, would change of a source's tables, or of all.

    Raises:
        SchemaConflictError: a table cannot hold what its row class declares.
        ETLError: as `describe_tables` and `Platform.warehouse`.
    """
    rows = await asyncio.to_thread(declared_rows, source)
    warehouse = await platform.warehouse()
    return await asyncio.to_thread(_changes, warehouse, rows)


def _changes(warehouse: Warehouse, sources: dict[str, tuple[type[Row], ...]]) -> list[Change]:
    migrations = [
        Change("the platform's own", f"apply migration {name}", "migrate")
        for name in missing_migrations(warehouse)
    ]
    found = [
        change
        for source, rows in sources.items()
        for change in pending_changes(warehouse, source, rows)
    ]
    # Sources share the table of events.
    return migrations + list({(one.table, one.words): one for one in found}.values())


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
    rows = await asyncio.to_thread(declared_rows, None)
    warehouse = await platform.prepared_warehouse()
    return await asyncio.to_thread(_migrate, warehouse, rows, notice)


def _migrate(
    warehouse: Warehouse,
    sources: dict[str, tuple[type[Row], ...]],
    notice: Callable[[Change], None],
) -> list[Change]:
    made = []
    for change in migrate_tables(warehouse, sources):
        notice(change)
        made.append(change)
    return made
