"""Identities: the people of a source, and the employees that they resolve to."""

import asyncio

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import check_known
from temporaletl.warehouse.identities import (
    Filled,
    PeoplePage,
    PersonPosition,
    fill_events,
    list_people,
)


async def list_identities(
    platform: Platform,
    source: str,
    *,
    connection: str = DEFAULT,
    limit: int,
    after: PersonPosition | None = None,
) -> PeoplePage:
    """The people of a connection, at most `limit`, the unknown ones first; behind one of them.

    Raises:
        UnknownSourceError, UnknownConnectionError: there is none, and the warehouse knows none.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    found = await asyncio.to_thread(
        list_people, warehouse, source, connection, limit=limit, after=after
    )
    if not found.total:
        # What is misspelt has no people either.
        await check_known(platform, source, connection)
    return found


async def fill_identities(platform: Platform, source: str, *, connection: str = DEFAULT) -> Filled:
    """Fill employee ids into a connection's events of people who are known now. Safe to repeat.

    Raises:
        UnknownSourceError, UnknownConnectionError: there is none, and the warehouse knows none.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    await check_known(platform, source, connection)
    return await asyncio.to_thread(fill_events, warehouse, source, connection)
