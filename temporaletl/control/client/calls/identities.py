"""The people of a source, over the API."""

from pydantic import BaseModel

from temporaletl.connections import DEFAULT
from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.identities import People, fill_identities, list_identities
from temporaletl.warehouse.identities import Filled, KnownPerson


class _People(BaseModel):
    items: list[KnownPerson]
    total: int


@over_api(list_identities)
async def _list_identities(
    api: Api, source: str, *, connection: str = DEFAULT, limit: int
) -> People:
    wanted = {"source": source, "connection": connection, "limit": limit}
    found = await api.get(_People, "identities", params=wanted)
    return People(found.items, found.total)


@over_api(fill_identities)
async def _fill_identities(api: Api, source: str, *, connection: str = DEFAULT) -> Filled:
    wanted = {"source": source, "connection": connection}
    return await api.send("POST", Filled, "identities", "fill", params=wanted)
