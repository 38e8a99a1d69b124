"""Freshness, health and notifications, over the API."""

from pydantic import BaseModel

from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.freshness import FreshnessReport, freshness
from temporaletl.control.operations.health import Health, check_health
from temporaletl.control.operations.notifications import (
    TestResult,
    list_notifications,
    send_test,
)
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.notifications import (
    DeliveryState,
    Notification,
    NotificationPage,
    NotificationPosition,
)


class _Results(BaseModel):
    results: list[TestResult]


@over_api(freshness)
async def _freshness(api: Api) -> FreshnessReport:
    return await api.get(FreshnessReport, "freshness")


@over_api(check_health)
async def _check_health(api: Api) -> Health:
    return await api.health(Health)


@over_api(list_notifications)
async def _list_notifications(
    api: Api,
    *,
    limit: int,
    before: NotificationPosition | None = None,
    state: DeliveryState | None = None,
) -> NotificationPage:
    del before  # nobody pages over the API but `pages`
    found, page = await api.pages(
        Notification, "notifications", limit=limit, params={"state": state}
    )
    following: NotificationPosition | None = None
    if found and page["next"] is not None:
        last = found[-1]
        following = NotificationPosition(last.created_at, last.event_key, last.destination)
    return NotificationPage(found, following)


@over_api(send_test)
async def _send_test(
    api: Api,
    settings: NotificationSettings,
    destination: str | None = None,
    *,
    author: Author | None = None,
) -> list[TestResult]:
    del settings, author  # it is the API's destinations that are tried
    wanted = {"destination": destination}
    return (await api.send("POST", _Results, "notifications", "test", json=wanted)).results
