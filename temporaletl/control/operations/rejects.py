"""Rejects: the records that could not become rows."""

import asyncio
from collections.abc import Sequence

from temporaletl.connections import DEFAULT
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import check_known
from temporaletl.warehouse.rejects import Rejects, read_rejects


async def list_rejects(
    platform: Platform,
    source: str,
    streams: Sequence[str] = (),
    *,
    connection: str = DEFAULT,
    limit: int,
) -> Rejects:
    """The latest rejects of a connection, of all its streams where none is named.

    Raises:
        UnknownSourceError, UnknownConnectionError: there is none, and the warehouse knows none.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    found = await asyncio.to_thread(
        read_rejects, warehouse, source, connection, streams, limit=limit
    )
    if not found.rejects:
        # What is misspelt has no rejects either.
        await check_known(platform, source, connection)
    return found
