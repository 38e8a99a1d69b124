"""Schedules of stored pipelines: each of their times is one execution."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError

from temporaletl import names
from temporaletl.names import PIPELINE, ScheduleKey
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionSummary
from tests.far_times import FAR_DAY, FAR_DAY_NAME, FAR_INTERVAL
from tests.integration.api.in_process import Served
from tests.waiting import until

SCHEDULES = "/api/v1/temporal/schedules"
OF_ORDERS = f"{SCHEDULES}/pipeline?connection=orders"
OFTEN = f"*/15 * * * {FAR_DAY}"
RARELY = FAR_INTERVAL / timedelta(minutes=1)
TWICE = {
    "nodes": [
        {
            "id": "twice",
            "type": "transform",
            "data": {"transform_type": "mapping", "mapping": {"n": "trigger.n * 2"}},
        }
    ]
}


@pytest_asyncio.fixture
async def orders(served: Served) -> AsyncIterator[Served]:
    """A stored pipeline, `orders`, which goes with its schedules."""
    await served("PUT", "/api/v1/pipelines/orders", json={"definition": TWICE})
    yield served
    for one in (await served("GET", SCHEDULES)).json()["items"]:
        await served(
            "DELETE", f"{SCHEDULES}/pipeline?connection={one['connection']}&name={one['name']}"
        )
    await served("DELETE", "/api/v1/pipelines/orders?force=true")


async def made(served: Served, **definition: Any) -> dict[str, Any]:
    wanted = {"source": PIPELINE, "connection": "orders", "input": {"n": 4}, **definition}
    answer = await served("POST", SCHEDULES, json=wanted)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def executions(served: Served) -> list[dict[str, Any]]:
    path = "/api/v1/workflow/executions?pipeline=orders"
    items: list[dict[str, Any]] = (await served("GET", path)).json()["items"]
    return items


async def fired(served: Served, at: str, **request: Any) -> ExecutionSummary:
    """What a schedule starts when it is due at a time, as Temporal does it."""
    key = ScheduleKey(PIPELINE, "orders", "often")
    wanted = ExecutionInput(pipeline="orders", schedule=key.name, input={"n": 4}, **request)
    summary: ExecutionSummary = await served.both.client.execute_workflow(
        names.PIPELINE_FLOW,
        wanted,
        id=f"{key.workflow_id}-{at}",
        task_queue=f"{served.both.queue}-etl",
        result_type=ExecutionSummary,
    )
    return summary


async def test_a_pipeline_is_scheduled_as_a_source_is_and_executed_with_its_input(
    orders: Served,
) -> None:
    often = await made(orders, name="often", cron=OFTEN, jitter_minutes=1)
    pinned = await made(orders, name="pinned", every_minutes=RARELY, pipeline_version="1")

    assert often["schedule_id"] == "etl-schedule-pipeline@orders:often"
    assert (often["times"], often["pipeline_version"], often["input"], often["mode"]) == (
        f"cron {OFTEN}, up to 1m later",
        None,
        {"n": 4},
        "",
    )
    assert (pinned["pipeline_version"], pinned["every_minutes"]) == ("1", RARELY)
    await orders("POST", f"{SCHEDULES}/pipeline/pause?connection=orders&name=often")
    new = {"days": FAR_DAY, "hours": "3", "input": {"n": 5}}
    replaced = (await orders("PUT", f"{OF_ORDERS}&name=often", json=new)).json()
    assert (replaced["paused"], replaced["days"], replaced["input"]) == (
        True,
        FAR_DAY_NAME,
        {"n": 5},
    )
    items = (await orders("GET", SCHEDULES)).json()["items"]
    assert {one["name"] for one in items} == {"often", "pinned"}
    health = (await orders("GET", "/health")).json()
    assert "2 schedules, 1 of them paused" in str(health)

    trigger = f"{SCHEDULES}/pipeline/trigger?connection=orders&name=pinned"
    assert (await orders("POST", trigger, json={})).status_code == 202

    async def by_the_schedule() -> list[dict[str, Any]]:
        found = await executions(orders)
        return [one for one in found if one["started_by"] == "pipeline@orders:pinned"]

    async def completed() -> bool:
        return [one["state"] for one in await by_the_schedule()] == ["completed"]

    await until(completed)
    [execution] = await by_the_schedule()
    assert execution["started_how"] == "schedule"
    path = f"/api/v1/workflow/executions/{execution['execution_id']}/nodes/twice/result"
    assert (await orders("GET", path)).json() == {"value": {"n": 8}}


async def test_a_time_is_executed_once_however_often_it_is_started(orders: Served) -> None:
    first = await fired(orders, "2026-11-28T03:00:00Z")
    again = await fired(orders, "2026-11-28T03:00:00Z")
    next_time = await fired(orders, "2026-11-28T03:15:00Z")

    assert (first.state, again.execution_id) == ("completed", first.execution_id)
    assert next_time.execution_id != first.execution_id
    listed = [one["execution_id"] for one in await executions(orders)]
    assert {first.execution_id, next_time.execution_id} <= {*listed}


async def test_one_that_cannot_begin_is_seen_as_failed_once(orders: Served) -> None:
    elsewhere = {"connection": "elsewhere", "operation": "query", "query": "SELECT 1"}
    node = {"id": "read", "type": "database", "data": elsewhere}
    await orders("PUT", "/api/v1/pipelines/orders", json={"definition": {"nodes": [node]}})

    with pytest.raises(WorkflowFailureError):
        await fired(orders, "2026-11-28T04:00:00Z")
    assert (await fired(orders, "2026-11-28T04:00:00Z")).state == "failed"
    failed = [one for one in await executions(orders) if one["state"] == "failed"]
    assert len(failed) == 1
    assert "no database is called elsewhere" in failed[0]["error"]


async def test_a_scheduled_pipeline_is_not_deleted_unless_forced(orders: Served) -> None:
    await made(orders, name="often", cron=OFTEN)
    path = "/api/v1/pipelines/orders"

    refused = await orders("DELETE", path)
    assert refused.status_code == 409
    assert "`etl pipeline schedule-delete orders often`" in refused.json()["detail"]
    known = len(await executions(orders))
    assert (await orders("DELETE", f"{path}?force=true")).status_code == 204
    with pytest.raises(WorkflowFailureError) as caught:
        await fired(orders, "2026-11-28T05:00:00Z")
    assert "there is no pipeline 'orders'" in str(caught.value.cause)
    assert len(await executions(orders)) == known
    assert (await orders("DELETE", f"{OF_ORDERS}&name=often")).status_code == 204


async def test_of_two_who_make_the_same_schedule_one_does(orders: Served) -> None:
    wanted = {"source": PIPELINE, "connection": "orders", "name": "often", "cron": OFTEN}
    both = await asyncio.gather(*(orders("POST", SCHEDULES, json=wanted) for _ in range(2)))
    assert sorted(one.status_code for one in both) == [201, 409]


async def test_what_a_schedule_cannot_have_is_refused(orders: Served) -> None:
    for wanted, status, said in (
        ({"connection": "never"}, 404, "there is no pipeline 'never'"),
        ({"pipeline_version": "9"}, 404, "no version '9'"),
        ({"mode": "full"}, 422, "mode: only a source's schedule has that"),
        ({"source": "numbers", "connection": "default"}, 422, "input: only a pipeline's schedule"),
        ({"input": "x" * 70_000}, 422, "65,536 at most"),
        ({"name": "Often"}, 422, "is no name of a schedule"),
    ):
        body = {"source": PIPELINE, "connection": "orders", "input": {"n": 4}, "days": FAR_DAY}
        answer = await orders("POST", SCHEDULES, json={**body, **wanted})
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
