"""What is said of schedules whose runs were missed, left out or are overdue."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest_asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.settings.platform import TemporalSettings
from temporaletl.warehouse.connection import Warehouse
from tests.integration.api.in_process import Served, serving, warehouse_settings
from tests.integration.truth.said import text_of
from tests.integration.warehouse.test_freshness import HOUR, load, schedule
from tests.waiting import until


@pytest_asyncio.fixture
async def served(postgres_url: str, warehouse: Warehouse) -> AsyncGenerator[Served]:
    # Nothing listens on port 1: the schedules are those that were listed last.
    temporal = TemporalSettings.model_validate({"address": "127.0.0.1:1"})
    platform = Platform(temporal, warehouse_settings(postgres_url, warehouse.schema))
    async with serving(platform, fronts=(front.install,)) as one:
        yield one


async def test_what_a_schedule_missed_left_out_and_owes_is_said(
    served: Served, warehouse: Warehouse
) -> None:
    load(warehouse, 5 * HOUR)
    schedule(warehouse, missed=3, skipped=1)
    overdue = datetime.now(UTC) - timedelta(minutes=30)
    schedule(warehouse, missed=5, skipped=2, next_run=overdue)

    async def overview_says_so() -> bool:
        text = await text_of(served, "/")
        return all(
            part in text
            for part in (
                "schedules is degraded",
                "in all 5 were not started in time, and 2 left out",
                "Temporal has not started the run of numbers that is due",
                "numbers all is late",
            )
        )

    await until(overview_says_so)
    parts = (await served("GET", "/health")).json()["parts"]
    [found] = [part for part in parts if part["name"] == "schedules"]
    assert found["verdict"] == "degraded"
    assert datetime.fromisoformat(found["since"]) <= datetime.now(UTC)
    body = (await served("GET", "/api/v1/freshness")).json()
    [entry] = body["entries"]
    assert (entry["state"], entry["late"]) == ("late", True)
    assert body["faults"], "that the schedules are not those of now"
    assert body["as_of"]
