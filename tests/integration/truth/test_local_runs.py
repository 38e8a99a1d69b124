"""What is said of the local engine's runs while owners come, die and are replaced."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.control.api import app
from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.engine.request import make_request
from temporaletl.queuer.planning import resolve_batch
from temporaletl.settings.platform import TemporalSettings
from temporaletl.warehouse import run_control, runs
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ownership import adopt_run, waits_for_owner
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings
from tests.integration.engine.driving import driven, requested, until_ended, until_pages
from tests.integration.engine.running import LIMITS, select
from tests.integration.flows import numbers
from tests.integration.truth.said import everywhere, said, text_of
from tests.waiting import until

SLOW: dict[str, Any] = {"jobs": 2, "pages": 60, "size": 2, "page_seconds": 0.02}
AN_HOUR = timedelta(hours=1)


async def nobody(_: Platform) -> bool:
    """Nothing waits for an engine of the application's own."""
    return False


@pytest_asyncio.fixture
async def local(postgres_url: str) -> AsyncGenerator[tuple[Served, Warehouse]]:
    """Pages and API over the local engine's runs, with no engine of their own."""
    off = TemporalSettings.model_validate({"enabled": False})
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(app, "_waits_for_engine", nobody)
        async with schema_of(postgres_url) as warehouse:
            platform = Platform(off, warehouse_settings(postgres_url, warehouse.schema))
            async with serving(platform, fronts=(front.install,)) as served:
                yield served, warehouse


async def test_a_run_is_waiting_wherever_nobody_drives_it(
    local: tuple[Served, Warehouse],
) -> None:
    served, warehouse = local
    run = requested(warehouse, **SLOW)
    assert await said(served, run) == everywhere("waiting")
    async with driven(warehouse, lease=AN_HOUR):
        await until_pages(warehouse, 2)
        assert await said(served, run) == everywhere("running")
    # Its owner was killed: nobody has given it up, and the lease runs out.
    assert adopt_run(warehouse, "killed", AN_HOUR, workflow_id=run) is not None
    assert await said(served, run) == everywhere("running")
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_runs SET lease_until = now() - interval '1 minute', "
            "requested_at = requested_at - interval '5 minutes'"
        )
    assert await said(served, run) == everywhere("waiting")
    assert "no process of the local engine drives it" in await text_of(served, f"/runs/{run}")
    listed = (await served("GET", "/api/v1/runs")).json()["items"]
    [tally] = [one["jobs"] for one in listed if one["workflow_id"] == run]
    assert (tally["running"], tally["waiting"]) == (0, 2)
    for path in (f"/api/v1/runs/{run}", f"/api/v1/runs/{run}/jobs"):
        body = (await served("GET", path)).json()
        assert {job["state"] for job in body.get("jobs", body.get("items"))} == {"planned"}
    overview = await text_of(served, "/")
    assert "local engine is down" in overview
    assert "no process drives it" in overview
    async with driven(warehouse, lease=AN_HOUR):
        await until(lambda: adopted(warehouse, run))
        assert await said(served, run) == everywhere("running")
        await until_ended(warehouse, run)
    assert await said(served, run) == everywhere("completed")


def adopted(warehouse: Warehouse, run: str) -> bool:
    found = runs.find_run(warehouse, run)
    return found is not None and found.owned


async def test_a_pause_and_a_cancel_are_said_as_far_as_they_are(
    local: tuple[Served, Warehouse],
) -> None:
    served, warehouse = local
    run = requested(warehouse, **SLOW | {"pages": 10_000})
    before = select(warehouse, "SELECT count(*) FROM etl_pages")[0][0]
    async with driven(warehouse, lease=AN_HOUR):
        await until_pages(warehouse, before + 2)
    # Nobody follows it: it is on its way to its pause until somebody has stopped its jobs.
    assert adopt_run(warehouse, "slow", AN_HOUR, workflow_id=run) is not None
    run_control.want(warehouse, run, "pause", None)
    assert await said(served, run) == everywhere("pausing")
    with warehouse.connection() as connection:
        connection.execute("UPDATE etl_runs SET lease_until = NULL, owner = NULL")
    async with driven(warehouse, lease=AN_HOUR):
        await until(lambda: state_of(warehouse, run) == "paused")
        assert await said(served, run) == everywhere("paused")
        run_control.want(warehouse, run, "run", None)
        await until(lambda: state_of(warehouse, run) == "running")
        assert await said(served, run) == everywhere("running")
    assert adopt_run(warehouse, "slow", AN_HOUR, workflow_id=run) is not None
    run_control.want(warehouse, run, "cancel", None)
    assert await said(served, run) == everywhere("cancelling")
    with warehouse.connection() as connection:
        connection.execute("UPDATE etl_runs SET lease_until = NULL, owner = NULL")
    async with driven(warehouse):
        await until_ended(warehouse, run)
    assert await said(served, run) == everywhere("cancelled")


def state_of(warehouse: Warehouse, run: str) -> str:
    [(state,)] = select(
        warehouse,
        "SELECT CASE WHEN EXISTS (SELECT FROM etl_jobs j WHERE j.batch_id = b.batch_id "
        "AND j.state = 'running') THEN 'running' ELSE state END "
        "FROM etl_batches b WHERE workflow_id = %s",
        run,
    )
    return str(state)


async def test_a_retry_and_a_refresh_are_the_local_engines_as_well(
    local: tuple[Served, Warehouse],
) -> None:
    served, warehouse = local

    async def started(path: str, **body: Any) -> dict[str, Any]:
        answer = await served("POST", f"/api/v1/{path}", json=body)
        assert answer.status_code in (201, 202), answer.text
        return dict(answer.json())

    numbers.broken.add(1)
    wanted = {"source": "numbers", "params": {"jobs": 3}}
    first = (await started("sync/full", **wanted))["workflowId"]
    async with driven(warehouse):
        assert (await served.run(first))["jobs"]["failed"] == 1
        numbers.broken.clear()
        again = await started(f"runs/{first}/retry")
        assert again["engine"] == "local"
        retried = await served.run(again["workflowId"])
    assert (retried["state"], retried["jobs"]["planned"]) == ("completed", 1)
    await started("collections", name="local", members=[{"source": "numbers"}])
    waiting = (await started("sync/full", **wanted))["workflowId"]
    [member] = (await started("collections/local/refresh_all"))["members"]
    assert (member["outcome"], member["workflowId"]) == ("running", waiting)
    assert (await served("POST", f"/api/v1/sync/{waiting}/cancel")).status_code == 200
    [member] = (await started("collections/local/refresh_all", mode="full"))["members"]
    assert member["outcome"] == "started"
    async with driven(warehouse):
        assert (await served.run(member["workflowId"]))["state"] == "completed"


async def test_a_programs_run_is_lost_once_its_process_gives_no_sign_of_life(
    local: tuple[Served, Warehouse],
) -> None:
    served, warehouse = local
    request = make_request("numbers", mode="full", streams=(), params={}, scheduled=None)
    run = request.workflow_id
    resolve_batch(
        warehouse,
        request,
        policy=LIMITS.policy,
        worker_queue="in process",
        lease=AN_HOUR,
        engine="local",
    )
    assert await said(served, run) == everywhere("planning")
    assert not waits_for_owner(warehouse)
    with warehouse.connection() as connection:
        connection.execute("UPDATE etl_batches SET lease_until = now() - interval '1 minute'")
    assert await said(served, run) == everywhere("lost")
    for path in (f"/runs/{run}", f"/api/v1/runs/{run}", "/"):
        assert "has given no sign of life since 20" in await text_of(served, path), path
    # Nobody need start another run: the engine is there for it as well.
    assert waits_for_owner(warehouse)
    async with driven(warehouse):
        await until(lambda: not waits_for_owner(warehouse))
    assert await said(served, run) == everywhere("failed")


async def test_a_run_that_could_not_begin_is_said_to_have_failed(
    local: tuple[Served, Warehouse],
) -> None:
    served, warehouse = local
    never = requested(warehouse)
    run_control.want(warehouse, never, "cancel", None)
    failing = requested(warehouse, jobs=-1)
    async with driven(warehouse):
        await until_ended(warehouse, never)
        await until_ended(warehouse, failing)
    assert await said(served, failing) == everywhere("failed")
    assert await said(served, never) == everywhere("cancelled")
