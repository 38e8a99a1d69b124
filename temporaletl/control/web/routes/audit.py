"""`/audit`: who did what, to what, and what came of it."""

from datetime import datetime
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
    found = await list_audit(
        visit.context.platform, limit=_ENTRIES, before=AuditPosition(*key) if key else None
    )
    following = found.next and encode_cursor(found.next.at.isoformat(), found.next.audit_id)
    return visit.page(
        "audit.html",
        entries=found.entries,
        next_path=f"?after={following}" if following else None,
        is_first=after is None,
    )
