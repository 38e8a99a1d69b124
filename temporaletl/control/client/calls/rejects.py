"""Rejects, over the API."""

from collections.abc import Sequence

from pydantic import BaseModel

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.rejects import list_rejects
from temporaletl.warehouse.rejects import Rejects, StoredReject


class _Rejects(BaseModel):
    items: list[StoredReject]
    total: int


@over_api(list_rejects)
async def _list_rejects(
    api: Api,
    source: str,
    streams: Sequence[str] = (),
    *,
    connection: str = DEFAULT,
    limit: int,
) -> Rejects:
    wanted = {
        "source": source,
        "connection": connection,
        "stream": list(streams),
        "limit": limit,
    }
    found = await api.get(_Rejects, "rejects", params=wanted)
    return Rejects(found.items, found.total)
