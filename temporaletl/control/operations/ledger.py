"""The ledger's size, and its retention: what is due to be summarised, and doing it now."""

import asyncio
from functools import partial
from typing import NamedTuple

from temporaletl.control.operations.platform import Platform
from temporaletl.settings.platform import LedgerSettings
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.retention import (
    Kind,
    Removed,
    TableSize,
    count_due,
    prune,
    table_sizes,
)


class LedgerReport(NamedTuple):
    """The platform's own tables, the largest first; and what is due: pages, then jobs."""

    tables: list[TableSize]
    due: dict[Kind, Removed]
    settings: LedgerSettings


async def ledger_report(platform: Platform) -> LedgerReport:
    """The ledger's size, and what retention would remove now; nothing is removed.

    Raises:
        ConfigurationError: a setting of the ledger is wrong; names it.
        ETLError: as `Platform.current_warehouse`.
    """
    settings = LedgerSettings.load()
    return await asyncio.to_thread(_report, await platform.current_warehouse(), settings)


def _report(warehouse: Warehouse, settings: LedgerSettings) -> LedgerReport:
    return LedgerReport(table_sizes(warehouse), count_due(warehouse, settings), settings)


async def prune_ledger(platform: Platform, author: Author) -> Removed:
    """Summarise and remove all that is due, as the services do hour by hour. Safe to repeat.

    The first transaction that removes anything enters it in the audit.

    Raises: as `ledger_report`; what was removed before stays so.
    """
    settings = LedgerSettings.load()
    days = settings.model_dump()

    def enter(connection: Connection) -> None:
        record(connection, author, "ledger.prune", "ledger", details=days)

    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(partial(prune, warehouse, settings, effect=enter))
