"""`/notifications`: destinations by their names, what was sent to them, and a test."""

from functools import partial

from fastapi import Response

from temporaletl.control.operations.notifications import (
    DestinationReport,
    list_destinations,
    list_notifications,
    send_test,
)
from temporaletl.control.operations.platform import Platform
from temporaletl.control.web.visit import InVisit, pages
from temporaletl.warehouse.notifications import Notification

router = pages()

_SHOWN = 50


@router.get("/notifications")
async def get_notifications(visit: InVisit) -> Response:
    """List the destinations, and what was sent last."""
    sight = await visit.read("notifications", partial(_observe, visit.context.platform))
    destinations, sent = sight.value
    return visit.page("notifications.html", destinations=destinations, sent=sent, sight=sight)


async def _observe(platform: Platform) -> tuple[list[DestinationReport], list[Notification]]:
    sent = await list_notifications(platform, limit=_SHOWN)
    return await list_destinations(platform), sent.notifications


@router.post("/notifications/test")
async def post_test(visit: InVisit) -> Response:
    """Send a test to every destination of this process, or to one."""
    caller, form = visit.operator(), await visit.form()
    results = await send_test(
        visit.context.platform,
        visit.context.notification,
        form.text("destination") or None,
        author=caller.author(),
    )
    said = "; ".join(
        f"{one.destination}: {'sent' if one.sent else one.error or 'not sent'}" for one in results
    )
    return visit.done("/notifications", said)
