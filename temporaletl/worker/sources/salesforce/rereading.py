"""Rows that an earlier run could not read, asked for by their Ids."""

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
    """Read a row by its Id, or the rows behind the place that is known of it.

    None where neither is known.
    """
    asked = _asked(unread, selection_of(request.query, Window()))
    if asked is None:
        return None
    selection, after = asked
    org = open_org(SalesforceSettings.load())
    try:
        page: QueryPage = await org.start(read_around, org, selection, after, _FEW)
    except OF_A_ROW as error:
        return Reread(fault=f"it cannot be read yet: {error}")
    records, rejects = await org.start(read_rows, page.rows, selection.object)
    faults = [reject.reason for reject in rejects] + [each.reason for each in page.unreadable]
    return Reread(records, "; ".join(faults) or None)


for _stream in STREAMS:
    reread_method(f"salesforce-{_stream}")(reread_row)


def _asked(unread: Unread, selection: Selection) -> tuple[Selection, Keyset | None] | None:
    payload: dict[str, Any] = unread.payload if isinstance(unread.payload, dict) else {}
    for found in (payload.get("Id"), unread.key):
        if isinstance(found, str) and _ID.fullmatch(found):
            return replace(selection, ids=(found,)), None
    at, behind = payload.get(f"behind_{selection.stamp}"), payload.get("behind_Id")
    if isinstance(at, str) and isinstance(behind, str):
        return selection, Keyset(at, behind)
    return None
