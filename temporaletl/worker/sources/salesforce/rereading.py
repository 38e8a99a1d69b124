"""Second attempts at rows that an earlier run could not read, by their Ids."""

import re
from dataclasses import replace
from typing import Any

from temporaletl import PageRequest, Reread, Unread, Window, reread_method
from temporaletl.external.salesforce.narrowing import OF_A_ROW, read_around
from temporaletl.external.salesforce.org import open_org
from temporaletl.external.salesforce.query import Keyset, QueryPage, Selection
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.salesforce.streams import STREAMS
from temporaletl.worker.sources.salesforce.extract import read_rows, selection_of
from temporaletl.worker.sources.salesforce.query import SalesforceQuery

_ID = re.compile(r"[A-Za-z0-9]{15,18}")
#: Of rows that nobody could name, so many behind the last that could be read are read.
_FEW = 20


async def reread_row(unread: Unread, request: PageRequest[SalesforceQuery]) -> Reread | None:
    """Read a row by its Id, or the rows behind the keyset that is known of it.

    None where neither is known.
    """
    found = _selection_of_unread(unread, selection_of(request.query, Window()))
    if found is None:
        return None
    selection, after = found
    org = open_org(SalesforceSettings.load())
    try:
        page: QueryPage = await org.start(read_around, org, selection, after, _FEW)
    except OF_A_ROW as error:
        return Reread(fault=f"it cannot be read yet: {error}")
    records, rejects = await org.start(read_rows, page.rows, selection.object)
    faults = [reject.reason for reject in rejects] + [row.reason for row in page.unreadable]
    return Reread(records, "; ".join(faults) or None)


for _stream in STREAMS:
    reread_method(f"salesforce-{_stream}")(reread_row)


def _selection_of_unread(
    unread: Unread, selection: Selection
) -> tuple[Selection, Keyset | None] | None:
    payload: dict[str, Any] = unread.payload if isinstance(unread.payload, dict) else {}
    for id_ in (payload.get("Id"), unread.key):
        if isinstance(id_, str) and _ID.fullmatch(id_):
            return replace(selection, ids=(id_,)), None
    at, behind = payload.get(f"behind_{selection.stamp}"), payload.get("behind_Id")
    if isinstance(at, str) and isinstance(behind, str):
        return selection, Keyset(at, behind)
    return None
