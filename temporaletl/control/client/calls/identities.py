"""The people of a source, over the API."""

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.identities import fill_identities, list_identities
from temporaletl.warehouse.identities import Filled, KnownPerson, PeoplePage, PersonPosition


@over_api(list_identities)
async def _list_identities(
    api: Api,
    source: str,
    *,
    connection: str = DEFAULT,
    limit: int,
    after: PersonPosition | None = None,
) -> PeoplePage:
    del after  # nobody pages over the API but `pages`
    wanted = {"source": source, "connection": connection}
    found, page = await api.pages(KnownPerson, "identities", limit=limit, params=wanted)
    return PeoplePage(found, page["total"], page["unknown"])


@over_api(fill_identities)
async def _fill_identities(api: Api, source: str, *, connection: str = DEFAULT) -> Filled:
    wanted = {"source": source, "connection": connection}
    return await api.send("POST", Filled, "identities", "fill", params=wanted)
