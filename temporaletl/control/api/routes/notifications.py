"""`/notifications`: what was sent to which destination, and a test."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.paging import After, Limit, PageOf, decode_cursor, encode_cursor, link
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.notifications import (
    DestinationReport,
    TestResult,
    list_destinations,
    list_notifications,
    send_test,
)
from temporaletl.warehouse.notifications import (
    DeliveryState,
    Notification,
    NotificationPosition,
)

router = APIRouter(prefix="/notifications", tags=["notifications"], responses=RESPONSES)


class TestRequest(BaseModel):
    """Where a test is sent; all destinations of this process where none is named."""

    __test__ = False  # none of pytest's
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"destination": "NOTIFY_URLS.1"}]}
    )

    destination: str | None = Field(None, max_length=100)


class TestResults(BaseModel):
    """Which destinations took the test, and why others did not."""

    __test__ = False

    results: list[TestResult]


class Destinations(BaseModel):
    """The destinations that processes of the platform have, by setting and position."""

    items: list[DestinationReport]


@router.get("", summary="List notifications", operation_id="list_notifications")
async def get_notifications(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    limit: Limit = 50,
    after: After = None,
    state: DeliveryState | None = None,
) -> PageOf[Notification]:
    """List what was sent, or is to be sent, to each destination; the latest first."""
    key = decode_cursor(after, tuple[datetime, str, str])
    found = await list_notifications(
        context.platform,
        limit=limit,
        before=NotificationPosition(*key) if key else None,
        state=state,
    )
    following = found.next and encode_cursor(
        found.next.created_at.isoformat(), found.next.event_key, found.next.destination
    )
    link(request, response, following)
    return PageOf[Notification](items=list(found.notifications), next=following)


@router.get("/destinations", summary="List destinations", operation_id="list_destinations")
async def get_destinations(context: InContext, _: Reader) -> Destinations:
    """List the destinations by name, and which of them fail."""
    return Destinations(items=await list_destinations(context.platform))


@router.post("/test", summary="Send a test", operation_id="test_notifications")
async def post_test(context: InContext, caller: Operator, wanted: TestRequest) -> TestResults:
    """Send a test to the destinations of this process, once, and say what came of it."""
    results = await send_test(
        context.platform, context.notification, wanted.destination, author=caller.author()
    )
    return TestResults(results=results)
