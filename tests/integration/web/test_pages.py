"""Every page in light and dark: no findings of axe, and nothing sideways.

Where ETL_SCREENSHOTS names a folder, they are looked at in both widths, and drawn there.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page
from pydantic import JsonValue

from temporaletl.control.operations.collections import create_collection, delete_collection
from temporaletl.control.operations.execution_details import (
    execution_details,
)
from temporaletl.control.operations.executions import (
    start_execution,
)
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.schedule_definitions import ScheduleDefinition, create_schedule
from temporaletl.control.operations.schedules import delete_schedule
from temporaletl.control.operations.stored_pipelines import store_pipeline
from temporaletl.control.web.rendering import POLICY
from temporaletl.names import ScheduleKey
from temporaletl.rows import Identity
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.collections import Member
from temporaletl.warehouse.identities import record_people
from temporaletl.worker.pipelines.messages import ExecutionInput
from tests.far_times import FAR_DAY
from tests.integration.web.screenshots import Views, shoot, wanted_views
from tests.integration.web.stack import Stack
from tests.waiting import until

PAGES = {
    "overview": "/",
    "runs": "/runs",
    "runs-none": "/runs?source=nothing",
    "run": "{run}",
    "run-failed": "{failed}",
    "job": "{job}",
    "connections": "/connections",
    "connection": "/connections/numbers/default",
    "connection-new": "/connections/new",
    "connection-new-jira": "/connections/new?source=jira",
    "collections": "/collections",
    "collection": "{collection}",
    "collection-new": "/collections/new",
    "collection-edit": "{collection}/edit",
    "rejects": "/rejects?source=numbers",
    "reject": "{reject}",
    "schedules": "/schedules",
    "pipelines": "/pipelines",
    "pipeline": "/pipelines/orders",
    "execution": "{execution}",
    "people": "/people?source=numbers",
    "notifications": "/notifications",
    "audit": "/audit",
    "tokens": "/tokens",
    "log-in": "/log-in",
    "not-found": "/nothing",
    "events": "/events",
}


@dataclass(frozen=True)
class Look:
    page: Page
    stack: Stack
    paths: dict[str, str]
    folder: Path

    @property
    def views(self) -> Views:
        """The widths to look at by theme; the last of each is checked as well."""
        return wanted_views()


ORDERS: dict[str, JsonValue] = {
    "description": "Orders above ten are told.",
    "nodes": [
        {"id": "big", "type": "condition", "data": {"condition": "trigger.amount > 10"}},
        {
            "id": "told",
            "type": "transform",
            "data": {
                "label": "Tell of it",
                "transform_type": "mapping",
                "mapping": {"n": "1 // 0"},
            },
        },
        {"id": "rest", "type": "delay", "data": {"seconds": 1}},
        {"id": "after", "type": "delay", "data": {"seconds": 1}},
    ],
    "edges": [
        {"source": "big", "target": "told", "sourceHandle": "true"},
        {"source": "big", "target": "rest", "sourceHandle": "false"},
        {"source": "told", "target": "after", "sourceHandle": "error"},
        {"source": "rest", "target": "after"},
    ],
}


async def executed(platform: Platform) -> str:
    """The page of an execution that has ended, in which a node failed and one was skipped."""
    await store_pipeline(platform, ORDERS, name="orders")
    request = ExecutionInput(pipeline="orders", input={"amount": 11})
    started = await start_execution(platform, request, how="command")

    async def has_ended() -> bool:
        found = await execution_details(platform, started.execution_id)
        return found.execution.ended_at is not None

    await until(has_ended)
    return f"/executions/{started.execution_id}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def look(dashboard: Stack, screenshots: Path) -> AsyncIterator[Look]:
    services = dashboard.services
    run = await services.run(jobs=3, pages=4, size=5, bad_every=7)
    failed = await services.run(jobs=2, poisoned=1)
    [(job,)] = services.rows(
        "SELECT job_id FROM etl_jobs WHERE batch_id = %s AND seq = 0", run.batch_id
    )
    [(reject,)] = services.rows("SELECT max(reject_id) FROM etl_rejects")
    services.rows_changed(
        "UPDATE events SET event_time_utc = now() - make_interval(days => (random() * 12)::int), "
        "event_type = (ARRAY['status_changed', 'issue_created', 'comment_created'])"
        "[1 + (random() * 2)::int]"
    )
    dashboard.served.app.state.dashboard.figures.forget()
    members = [Member(source=source) for source in ("jira", "numbers", "trino")]
    collection = await create_collection(dashboard.platform, "nightly", members)
    people = [
        Identity(source_kind_id="numbers", person=f"p{n}", email=f"p{n}@example.com", name=f"P {n}")
        for n in range(60)
    ]
    record_people(services.warehouse, "default", people)
    paths = {
        "execution": await executed(dashboard.platform),
        "run": f"/runs/{quote(run.batch_id)}",
        "failed": f"/runs/{quote(failed.batch_id)}",
        "job": f"/runs/{quote(job)}",
        "reject": f"/rejects/{reject}",
        "collection": f"/collections/{collection.collection_id}",
    }
    scheduled = (ScheduleKey("numbers"), ScheduleKey("pipeline", "orders", "nightly"))
    for key in scheduled:
        definition = ScheduleDefinition(days=FAR_DAY, hours="3")
        await create_schedule(dashboard.platform, key, definition, author=Author(name="x"))
    try:
        async with dashboard.page() as page:
            yield Look(page, dashboard, paths, screenshots)
    finally:
        for key in scheduled:
            await delete_schedule(dashboard.platform, key)
        await delete_collection(dashboard.platform, collection.collection_id)


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_whole(look: Look, name: str) -> None:
    page = look.page
    answer = await page.goto(PAGES[name].format(**look.paths))
    assert answer is not None
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    if name == "overview":
        await page.wait_for_selector("#drawn svg")
    for theme, widths in look.views.items():
        await shoot(page, look.folder, name, {theme: widths})
        found = (await Axe().run(page)).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert look.stack.complaints == []
