"""Collections: named sets of connections, that are loaded together."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from pydantic import JsonValue

from temporaletl.connections.providers import find_connection, provided
from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import find_source
from temporaletl.credentials import check_title
from temporaletl.warehouse import collections as stored
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.collections import Collection, Member
from temporaletl.warehouse.source_connections import VersionConflictError


async def list_collections(platform: Platform) -> list[Collection]:
    """All collections, by name. Raises: as `Platform.current_warehouse`."""
    return await asyncio.to_thread(stored.list_collections, await platform.current_warehouse())


async def get_collection(platform: Platform, key: str | UUID) -> Collection:
    """The collection of that name or id.

    Raises:
        NotFoundError: there is none.
        ETLError: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(stored.find_collection, await platform.current_warehouse(), key)


async def create_collection(
    platform: Platform, name: str, members: Sequence[Member], *, author: Author | None = None
) -> Collection:
    """Create a collection, with an audit row in the same transaction.

    Members are connections that there are, of any origin; one that is named twice counts once.

    Raises:
        ConflictError: there is one of that name.
        ConfigurationError: the name does not fit, or there is no such connection.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()
    await _check(platform, name, members)

    def create() -> Collection:
        with warehouse.connection() as connection:
            made = stored.create_collection(connection, name, members)
            record(connection, by, "collection.create", name, details=_facts(made))
        return made

    return await asyncio.to_thread(create)


async def replace_collection(
    platform: Platform,
    key: str | UUID,
    name: str,
    members: Sequence[Member],
    *,
    expected_version: int | None = None,
    author: Author | None = None,
) -> Collection:
    """Replace a collection's name and members; `expected_version` is the one that was seen.

    Members that it has already may be connections that are no longer there.

    Raises:
        NotFoundError: there is none.
        VersionConflictError: somebody else replaced it before.
        ConflictError, ConfigurationError, ETLError: as `create_collection`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()
    known = (await asyncio.to_thread(stored.find_collection, warehouse, key)).members
    await _check(platform, name, [one for one in members if one not in known])

    def replace() -> Collection:
        with warehouse.connection() as connection:
            present = stored.lock_collection(connection, key)
            _check_version(present, expected_version)
            made = stored.replace_collection(connection, present, name, members)
            record(connection, by, "collection.replace", name, details=_facts(made))
        return made

    return await asyncio.to_thread(replace)


async def delete_collection(
    platform: Platform,
    key: str | UUID,
    *,
    expected_version: int | None = None,
    author: Author | None = None,
) -> Collection:
    """Delete a collection; its connections stay. Return what it was.

    Raises:
        NotFoundError, VersionConflictError: as `replace_collection`.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()

    def delete() -> Collection:
        with warehouse.connection() as connection:
            present = stored.lock_collection(connection, key)
            _check_version(present, expected_version)
            stored.delete_collection(connection, present)
            record(connection, by, "collection.delete", present.name, details=_facts(present))
        return present

    return await asyncio.to_thread(delete)


def _check_version(present: Collection, expected: int | None) -> None:
    if expected is not None and present.version != expected:
        raise VersionConflictError(
            f"collection {present.name!r} has version {present.version}, not {expected}: somebody "
            "replaced it meanwhile"
        )


async def _check(platform: Platform, name: str, members: Sequence[Member]) -> None:
    check_title("collection", name)
    with provided(await platform.stored_connections()):
        for member in members:
            find_source(member.source)
            find_connection(member.source, member.connection)


def _facts(collection: Collection) -> dict[str, JsonValue]:
    return {
        "collection_id": str(collection.collection_id),
        "version": collection.version,
        "members": [str(member) for member in collection.members],
    }
