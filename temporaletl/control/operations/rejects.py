"""Rejects: the records that could not become rows."""

import asyncio
from collections.abc import Sequence

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.runs import run_request
from temporaletl.control.operations.sources import check_known
from temporaletl.messages import QueuerInput
from temporaletl.warehouse.rejects import (
    RejectDetails,
    Rejects,
    StoredReject,
    find_reject,
    read_rejects,
    rejects_after,
)


async def get_reject(platform: Platform, reject_id: int) -> RejectDetails:
    """One reject, with its record, its reason and the page that wrote it.

    Raises:
        NotFoundError: there is none.
        ETLError: as `Platform.warehouse`.
    """
    return await asyncio.to_thread(find_reject, await platform.warehouse(), reject_id)


async def replay_request(platform: Platform, reject_id: int, *, notify: bool = True) -> QueuerInput:
    """The request for a run that reprocesses one reject, and no other.

    Raises: as `get_reject`.
    """
    found = await get_reject(platform, reject_id)
    return run_request(
        found.source,
        connection=found.connection,
        mode="replay",
        streams=(found.stream,),
        rejects=(reject_id,),
        notify=notify,
    )


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


async def list_newest_rejects(
    platform: Platform,
    *,
    limit: int,
    after: int | None = None,
    source: str | None = None,
    connection: str | None = None,
    stream: str | None = None,
) -> list[StoredReject]:
    """Rejects of all sources, or of one, connection and stream; the newest first, behind `after`.

    Raises:
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    return await asyncio.to_thread(
        rejects_after,
        warehouse,
        limit=limit,
        after=after,
        source=source,
        connection_name=connection,
        stream=stream,
    )
