"""Identities: the people of a source, and the employees that they resolve to."""

import asyncio
from typing import NamedTuple

from temporaletl.connections import DEFAULT
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import check_known
from temporaletl.warehouse.identities import Filled, KnownPerson, fill_events, list_people


class People(NamedTuple):
    """The first people of a source, the unknown ones before the others, and how many there are."""

    people: list[KnownPerson]
    total: int


async def list_identities(
    platform: Platform, source: str, *, connection: str = DEFAULT, limit: int
) -> People:
    """The people of a connection.

    Raises:
        UnknownSourceError, UnknownConnectionError: there is none, and the warehouse knows none.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    people, total = await asyncio.to_thread(list_people, warehouse, source, connection, limit=limit)
    if not people:
        # What is misspelt has no people either.
        await check_known(platform, source, connection)
    return People(people, total)


async def fill_identities(platform: Platform, source: str, *, connection: str = DEFAULT) -> Filled:
    """Fill employee ids into a connection's events of people who are known now. Safe to repeat.

    Raises:
        UnknownSourceError, UnknownConnectionError: there is none, and the warehouse knows none.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    await check_known(platform, source, connection)
    return await asyncio.to_thread(fill_events, warehouse, source, connection)
