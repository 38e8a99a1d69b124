"""Notifications: listed, and sent for a test by this process."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from pydantic import JsonValue

from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import Platform
from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.messages import Message
from temporaletl.notifications.delivery import Notifier
from temporaletl.notifications.destinations import Destination, destinations_of
from temporaletl.notifications.events import Event
from temporaletl.notifications.posting import DeliveryError, DeliveryRefusedError
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.notifications import (
    DeliveryState,
    FailingDestination,
    NotificationPage,
    NotificationPosition,
    failing_destinations,
    known_destinations,
    read_notifications,
)


class TestResult(Message):
    """Whether a destination took a notification for a test; `error` says why not."""

    __test__ = False  # none of pytest's

    destination: str
    sent: bool
    error: str | None = None


class DestinationReport(Message):
    """A destination that some process of the platform has; `error` is of what it did not take."""

    name: str
    failures: int = 0  # within a day, where the latest was none that it took
    failing_since: datetime | None = None
    error: str | None = None


async def list_notifications(
    platform: Platform,
    *,
    limit: int,
    before: NotificationPosition | None = None,
    state: DeliveryState | None = None,
) -> NotificationPage:
    """A page of the notifications, the latest first; see `read_notifications`.

    Raises:
        ConfigurationError: the limit is not positive.
        ETLError: as `Platform.current_warehouse`.
    """
    if limit < 1:
        raise ConfigurationError(f"limit {limit}: at least one notification must be wanted")
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(
        read_notifications, warehouse, limit=limit, before=before, state=state
    )


async def list_destinations(platform: Platform) -> list[DestinationReport]:
    """The destinations that processes of the platform have now, and which of them fail.

    Raises:
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    names = await asyncio.to_thread(known_destinations, warehouse)
    failing = {
        one.destination: one for one in await asyncio.to_thread(failing_destinations, warehouse)
    }
    return [_report(name, failing.get(name)) for name in names]


def _report(name: str, failing: FailingDestination | None) -> DestinationReport:
    if failing is None:
        return DestinationReport(name=name)
    return DestinationReport(
        name=name,
        failures=failing.failures,
        failing_since=failing.since,
        error=failing.error,
    )


async def send_test(
    platform: Platform,
    settings: NotificationSettings,
    destination: str | None = None,
    *,
    author: Author | None = None,
) -> list[TestResult]:
    """Send a notification to each destination of this process, or to one of them; once.

    It takes the way of all others: it is entered, claimed, sent and marked. `destination` is a
    name, or a position among all, from 1. It has an audit row; without an `author`, the user of
    this process is the one.

    Raises:
        NotFoundError: there is no such destination here.
        ConfigurationError: there is none at all.
        ETLError: as `Platform.current_warehouse`.
    """
    chosen = _chosen(destinations_of(settings), destination)
    warehouse = await platform.current_warehouse()
    by = author or local_author()
    notifier = Notifier(warehouse, settings)
    event = Event(
        key=f"test:{uuid.uuid4().hex}",
        kind="test",
        source="",
        at=datetime.now(UTC),
        text=f"a test by {by.name}: notifications of TemporalETL arrive here",
    )

    def write() -> None:
        with warehouse.connection() as connection:
            details: dict[str, JsonValue] = {"destinations": [one.name for one in chosen]}
            record(connection, by, "notification.test", event.key, details=details)

    await asyncio.to_thread(write)
    sending = [asyncio.to_thread(partial(_send, notifier, one, event)) for one in chosen]
    return list(await asyncio.gather(*sending))


def _send(notifier: Notifier, destination: Destination, event: Event) -> TestResult:
    try:
        notifier.send_now(destination, event)
    except (DeliveryError, DeliveryRefusedError) as error:
        return TestResult(destination=destination.name, sent=False, error=str(error))
    return TestResult(destination=destination.name, sent=True)


def _chosen(known: Sequence[Destination], wanted: str | None) -> Sequence[Destination]:
    if not known:
        raise ConfigurationError(
            "this process has no destination: set SLACK_WEBHOOK_URL or NOTIFY_URLS where it starts"
        )
    if wanted is None:
        return known
    numbered = {str(number): one for number, one in enumerate(known, 1)}
    found = {one.name: one for one in known} | numbered
    if wanted not in found:
        names = ", ".join(one.name for one in known)
        raise NotFoundError(f"there is no destination {wanted!r} here; there are {names}")
    return [found[wanted]]
