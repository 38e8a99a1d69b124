"""`/audit`: who did what, to what, and what came of it."""

from datetime import datetime

from fastapi import APIRouter, Request, Response

from temporaletl.control.api.access import Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.paging import After, Limit, PageOf, decode_cursor, encode_cursor, link
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.audit import list_audit
from temporaletl.warehouse.audit import AuditEntry, AuditPosition

router = APIRouter(prefix="/audit", tags=["audit"], responses=RESPONSES)


@router.get("", summary="List the audit", operation_id="list_audit")
async def get_audit(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    limit: Limit = 50,
    after: After = None,
) -> PageOf[AuditEntry]:
    """List who did what, the latest first."""
    key = decode_cursor(after, tuple[datetime, int])
    found = await list_audit(
        context.platform, limit=limit, before=AuditPosition(*key) if key else None
    )
    following = found.next and encode_cursor(found.next.at.isoformat(), found.next.audit_id)
    link(request, response, following)
    return PageOf[AuditEntry](items=list(found.entries), next=following)
