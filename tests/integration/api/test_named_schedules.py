"""Several schedules of one source, and what becomes of their runs that are due at once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest_asyncio

from tests.far_times import FAR_DAY, FAR_DAYS, FAR_DAYS_NAME, FAR_INTERVAL, FARTHER_DAY
from tests.integration.api.in_process import Served
from tests.integration.flows.numbers import outages
from tests.waiting import until

SCHEDULES = "/api/v1/temporal/schedules"
OUTAGE = "held"
OFTEN = f"*/15 * * * {FAR_DAY}"
RARELY = FAR_INTERVAL / timedelta(minutes=1)


@pytest_asyncio.fixture
async def unscheduled(served: Served) -> AsyncIterator[Served]:
    yield served
    outages.discard(OUTAGE)
    for one in (await served("GET", SCHEDULES)).json()["items"]:
        await served("DELETE", path_of(one["source"], one["name"]))


def path_of(source: str, name: str, action: str = "") -> str:
    return f"{SCHEDULES}/{source}{action}?name={name}"


async def made(served: Served, name: str, **definition: Any) -> dict[str, Any]:
    body = {"source": "numbers", "name": name, "params": {"size": 1}, **definition}
    answer = await served("POST", SCHEDULES, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def listed(served: Served) -> dict[str, dict[str, Any]]:
    items = (await served("GET", SCHEDULES)).json()["items"]
    return {one["name"]: one for one in items}


async def test_a_source_has_several_schedules_and_each_is_changed_by_itself(
    unscheduled: Served,
) -> None:
    default = await made(unscheduled, "default", days=FAR_DAYS, hours="3", params={})
    assert default["schedule_id"] == "etl-schedule-numbers"
    often = await made(unscheduled, "often", cron=OFTEN, jitter_minutes=2)
    assert often["schedule_id"] == "etl-schedule-numbers:often"
    weekly = await made(
        unscheduled, "full-load", every_minutes=RARELY, mode="full", streams=["all"]
    )
    twice = await unscheduled(
        "POST", SCHEDULES, json={"source": "numbers", "name": "often", "days": FAR_DAY}
    )
    assert twice.status_code == 409
    assert "numbers:often has a schedule" in twice.json()["detail"]

    assert {name: one["times"] for name, one in (await listed(unscheduled)).items()} == {
        "default": f"{FAR_DAYS_NAME} at 03:00",
        "often": f"cron {OFTEN}, up to 2m later",
        "full-load": f"every {FAR_INTERVAL.days}d",
    }
    assert (often["cron"], often["jitter_minutes"], often["params"]) == (
        OFTEN,
        2,
        {"size": 1},
    )
    assert (weekly["every_minutes"], weekly["mode"], weekly["streams"]) == (RARELY, "full", ["all"])

    new = {"cron": f"0 6 * * {FAR_DAY}", "mode": "full"}
    replaced = await unscheduled("PUT", path_of("numbers", "full-load"), json=new)
    assert (replaced.status_code, replaced.json()["cron"]) == (200, new["cron"])
    assert (await unscheduled("POST", path_of("numbers", "often", "/pause"))).status_code == 204
    found = await listed(unscheduled)
    assert {name: one["paused"] for name, one in found.items()} == {
        "default": False,
        "often": True,
        "full-load": False,
    }
    assert found["default"] == default
    gone = await unscheduled("DELETE", path_of("numbers", "full-load"))
    assert gone.status_code == 204
    assert (await listed(unscheduled)).keys() == {"default", "often"}
    absent = await unscheduled("DELETE", path_of("numbers", "full-load"))
    assert absent.status_code == 404
    assert "has no schedule named 'full-load'" in absent.json()["detail"]


async def test_streams_are_judged_by_the_schedule_that_is_due_first(unscheduled: Served) -> None:
    await made(unscheduled, "default", days=FARTHER_DAY, hours="3", params={})
    await made(unscheduled, "often", cron=OFTEN)
    unscheduled.app.state.context.forget()

    async def both_are_known() -> bool:
        report = (await unscheduled("GET", "/api/v1/freshness")).json()
        own = [one for one in report["entries"] if one["source"] == "numbers"]
        return bool(own) and own[0]["origin"] == "schedule often, and an allowance of 60 min"

    await until(both_are_known)


async def test_a_run_is_skipped_while_another_one_loads_the_same_and_counted(
    unscheduled: Served,
) -> None:
    outages.add(OUTAGE)
    held = {"size": 1, "outage": OUTAGE}
    body = {"source": "numbers", "params": held}
    started = await unscheduled("POST", "/api/v1/sync/incremental", json=body)
    first = started.json()["workflowId"]
    weekly = {"days": FAR_DAY, "hours": "3"}
    await made(unscheduled, "same", params=held, **weekly)
    await made(unscheduled, "beside", params=held, overlap="allow-all", **weekly)
    await made(unscheduled, "full", params=held, mode="full", **weekly)

    async def claimed() -> bool:
        run = (await unscheduled("GET", f"/api/v1/runs/{first}")).json().get("run") or {}
        return run.get("jobs") is not None

    await until(claimed)
    for name in ("same", "beside", "full"):
        answer = await unscheduled("POST", path_of("numbers", name, "/trigger"))
        assert answer.status_code == 202, answer.text

    async def runs_of(name: str, state: str) -> list[dict[str, Any]]:
        items = (await unscheduled("GET", f"/api/v1/runs?state={state}&limit=200")).json()["items"]
        return [one for one in items if one["workflow_id"].startswith(f"etl-numbers:{name}-")]

    async def skipped() -> bool:
        return bool(await runs_of("same", "skipped"))

    await until(skipped)
    [run] = await runs_of("same", "skipped")
    assert run["error"].startswith(f"skipped: {first} loads the same of numbers already, since 2")
    assert (await listed(unscheduled))["same"]["num_skipped_for_others"] == 1

    outages.discard(OUTAGE)
    assert (await unscheduled.run(first))["state"] == "completed"

    async def others_are_loaded() -> bool:
        found = [await runs_of(name, "completed") for name in ("beside", "full")]
        return all(found)

    await until(others_are_loaded)
    found = await listed(unscheduled)
    assert [found[name]["num_skipped_for_others"] for name in ("beside", "full")] == [0, 0]

    # With nothing to be skipped for, it loads.
    await unscheduled("POST", path_of("numbers", "same", "/trigger"))

    async def loaded() -> bool:
        return bool(await runs_of("same", "completed"))

    await until(loaded)
