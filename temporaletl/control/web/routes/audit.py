"""`/audit`: who did what, to what, and what came of it."""

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Query, Response

from temporaletl.control.api.paging import decode_cursor, encode_cursor
from temporaletl.control.operations.audit import list_audit
from temporaletl.control.web.visit import InVisit, pages
from temporaletl.warehouse.audit import AuditPosition

router = pages()

_ENTRIES = 50


@router.get("/audit")
async def get_audit(
    visit: InVisit, after: Annotated[str | None, Query(max_length=500)] = None
) -> Response:
    """List what was done, the latest first."""
    key = decode_cursor(after, tuple[datetime, int])
    before = AuditPosition(*key) if key else None
    observe = partial(list_audit, visit.context.platform, limit=_ENTRIES, before=before)
    sight = await visit.read(f"audit {key}", observe)
    found = sight.value
    following = found.next and encode_cursor(found.next.at.isoformat(), found.next.audit_id)
    return visit.page(
        "audit.html",
        entries=found.entries,
        sight=sight,
        next_path=f"?after={following}" if following else None,
        is_first=after is None,
    )
