"""Workflows and schedules over HTTP, as Temporal has them."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.schedule_definitions import define, put_schedule
from temporaletl.control.operations.schedules import (
    delete_schedule,
    pause_schedule,
    resume_schedule,
)
from temporaletl.names import ScheduleKey
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from tests.far_times import FAR_DAY, FAR_DAYS
from tests.integration.api.in_process import Served, serving
from tests.waiting import until

WORKFLOWS = "/api/v1/temporal/workflows"
SCHEDULES = "/api/v1/temporal/schedules"


async def started(served: Served, **params: Any) -> str:
    body = {"source": "numbers", "params": params, "force": True}
    answer = await served("POST", "/api/v1/sync/full", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["workflowId"])


async def listed(served: Served, query: str = "") -> list[dict[str, Any]]:
    answer = await served("GET", f"{WORKFLOWS}?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


@pytest_asyncio.fixture(autouse=True)
async def _no_run_is_left(served: Served) -> AsyncIterator[None]:
    yield

    async def none_runs() -> bool:
        running = await listed(served, "state=running&limit=200")
        for one in running:
            if one["kind"] == "run":
                await served("POST", f"{WORKFLOWS}/{one['workflow_id']}/cancel")
        return not running

    await until(none_runs)


async def test_workflows_are_listed_page_by_page_by_state_source_and_start(served: Served) -> None:
    runs = [await started(served, size=1) for _ in range(2)]

    async def ended() -> bool:
        found = await listed(served, "state=completed&limit=200")
        return {one["workflow_id"] for one in found if one["kind"] == "run"} >= set(runs)

    await until(ended)
    every = await listed(served, "limit=200")
    assert {one["kind"] for one in every} >= {"run", "job"}
    assert {one["state"] for one in every} == {"completed"}
    paged: list[str] = []
    path: str | None = f"{WORKFLOWS}?limit=2"
    while path is not None:
        answer = await served("GET", path)
        if answer.links:
            other = await served("GET", f"{answer.links['next']['url']}&source=numbers")
            assert other.status_code == 422
        paged += [one["run_id"] for one in answer.json()["items"]]
        path = answer.links["next"]["url"] if answer.links else None
    assert sorted(paged) == sorted(one["run_id"] for one in every)
    assert len(await listed(served, "source=numbers&limit=200")) == len(every)
    assert await listed(served, "source=number") == []
    assert await listed(served, "since=2100-01-01T00:00:00Z") == []
    assert await listed(served, "state=running") == []
    for query in ("source=x' OR 1=1", "after=nonsense", "after=WyJBQUFBIl0"):
        refused = await served("GET", f"{WORKFLOWS}?{query}")
        assert refused.status_code == 422, refused.text


async def test_a_workflow_shows_its_pending_activity_its_children_and_its_page(
    served: Served,
) -> None:
    run = await started(served, pages=200, page_seconds=0.2, outage="of-the-api", jobs=2)

    async def pending() -> dict[str, Any] | None:
        jobs = await listed(served, "state=running")
        for job in (one for one in jobs if one["kind"] == "job"):
            answer = await served("GET", f"{WORKFLOWS}/{job['workflow_id']}")
            assert answer.status_code == 200, answer.text
            if answer.json()["activities"]:
                found: dict[str, Any] = answer.json()
                return found
        return None

    await until(lambda: _holds(pending))
    found = await pending()
    assert found is not None
    assert found["activities"][0]["activity"] == "run_segment"
    assert found["workflow"]["parent_workflow_id"]
    assert found["as_of"]
    parent = (await served("GET", f"{WORKFLOWS}/{run}")).json()
    assert parent["children"] >= parent["children_open"] >= 1
    assert parent["workflow"]["ui_url"] is None
    cancelled = await served("POST", f"{WORKFLOWS}/{run}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelling"
    await until(lambda: _ended(served, run))
    again = await served("POST", f"{WORKFLOWS}/{run}/cancel")
    assert again.status_code == 409
    entries = (await served("GET", "/api/v1/audit")).json()["items"]
    assert ("sync.cancel", run) in {(one["action"], one["target"]) for one in entries}


async def _holds(found: Any) -> bool:
    return await found() is not None


async def _ended(served: Served, run: str) -> bool:
    answer = await served("GET", f"{WORKFLOWS}/{run}")
    return bool(answer.json()["workflow"]["state"] != "running")


async def test_what_is_no_workflow_of_the_platform_is_not_found(served: Served) -> None:
    for method, path in (("GET", "/none"), ("GET", "/job/none"), ("POST", "/job/none/cancel")):
        answer = await served(method, f"{WORKFLOWS}{path}")
        assert answer.status_code == 404, path
        assert "none" in answer.json()["detail"]
    wrong = await served("DELETE", f"{WORKFLOWS}/job/none/cancel")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    moved = await served("GET", "/api/temporal/workflows?limit=1", allow_redirects=False)
    assert moved.status_code == 308
    assert moved.headers["location"] == f"{WORKFLOWS}?limit=1"


@pytest_asyncio.fixture
async def unscheduled(served: Served) -> AsyncIterator[Served]:
    yield served
    await served("DELETE", f"{SCHEDULES}/numbers")


async def test_a_schedule_is_created_replaced_paused_triggered_and_deleted(
    unscheduled: Served,
) -> None:
    operator = await unscheduled.token_of("operate", "night-shift")
    wanted = {"source": "numbers", "days": FAR_DAYS, "hours": "3", "timezone": "Europe/London"}
    made = await operator("POST", SCHEDULES, json={**wanted, "reason": "for the morning"})
    assert made.status_code == 201, made.text
    assert made.json()["note"] == "made by token:night-shift: for the morning"
    assert len(made.json()["next_runs"]) == 10
    assert (await operator("POST", SCHEDULES, json=wanted)).status_code == 409

    one = f"{SCHEDULES}/numbers"
    assert (await operator("GET", one)).headers["etag"] == made.headers["etag"]
    assert (await operator("POST", f"{one}/pause", json={"reason": "it moves"})).status_code == 204
    paused = await operator("GET", one)
    assert paused.json()["note"] == "paused by token:night-shift: it moves"
    assert (paused.json()["paused"], paused.json()["next_runs"]) == (True, [])
    new = {"days": FAR_DAY, "hours": "4,5", "overlap": "buffer-one", "mode": "full"}
    stale = await operator("PUT", one, json=new, headers={"If-Match": made.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "version-conflict")
    etag = {"If-Match": paused.headers["etag"]}
    replaced = await operator("PUT", one, json=new, headers=etag)
    assert replaced.status_code == 200, replaced.text
    found = (await operator("GET", SCHEDULES)).json()["items"]
    assert found == [replaced.json()]
    assert (found[0]["hours"], found[0]["overlap"], found[0]["paused"]) == (
        "4,5",
        "buffer-one",
        True,
    )
    assert found[0]["num_actions_missed_catchup_window"] == 0
    assert found[0]["num_actions_skipped_overlap"] == 0

    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        assert (await operator("POST", f"{one}/trigger", headers=key)).status_code == 202
    other = await operator("POST", f"{one}/trigger?connection=x", headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    await until(lambda: _triggered(operator))
    resumed = await operator("POST", f"{one}/resume")
    assert resumed.json()["next_run"]
    assert (await operator("DELETE", one)).status_code == 204
    for method, path in (("GET", one), ("PUT", one), ("POST", f"{one}/trigger"), ("DELETE", one)):
        gone = await operator(method, path, json=new if method == "PUT" else None)
        assert gone.status_code == 404, path
        assert "etl schedule numbers" in gone.json()["detail"]
    entries = (await operator("GET", "/api/v1/audit")).json()["items"]
    done = {one["action"]: one["reason"] for one in entries if one["target"] == "numbers"}
    assert done["schedule.pause"] == "it moves"
    assert {"schedule.create", "schedule.replace", "schedule.trigger"} < done.keys()


async def _triggered(served: Served) -> bool:
    runs = await listed(served, "source=numbers&limit=200")
    scheduled = [one for one in runs if one["workflow_id"].startswith("etl-numbers-workflow-")]
    scheduled = scheduled or [
        one for one in runs if one["kind"] == "run" and "-full-" not in one["workflow_id"]
    ]
    assert len(scheduled) < 2
    return len(scheduled) == 1


async def test_what_a_command_does_to_a_schedule_is_entered_in_its_users_name(
    unscheduled: Served,
) -> None:
    platform, key = unscheduled.platform, ScheduleKey("numbers", name="by-command")
    for days in (FAR_DAY, FAR_DAYS):
        await put_schedule(platform, key, define(days=days, hours="3"))
    await pause_schedule(platform, key)
    await resume_schedule(platform, key)
    await delete_schedule(platform, key)
    entries = (await unscheduled("GET", "/api/v1/audit?limit=5")).json()["items"]
    assert [one["action"] for one in reversed(entries)] == [
        f"schedule.{verb}" for verb in ("create", "replace", "pause", "resume", "delete")
    ]
    assert {(one["actor"][:4], one["target"]) for one in entries} == {("cli:", key.label)}


async def test_of_two_replacements_at_once_none_is_lost_in_silence(unscheduled: Served) -> None:
    await unscheduled("POST", SCHEDULES, json={"source": "numbers", "days": FAR_DAY})
    one = f"{SCHEDULES}/numbers"
    wanted = [{"days": FAR_DAY, "hours": str(hour), "reason": f"{hour}"} for hour in range(6)]
    answers = await asyncio.gather(*(unscheduled("PUT", one, json=body) for body in wanted))
    # Under load the server may also say that it is busy.
    assert {answer.status_code for answer in answers} <= {200, 409, 503}
    stands = (await unscheduled("GET", one)).json()
    accepted = [answer.json()["hours"] for answer in answers if answer.status_code == 200]
    assert stands["hours"] in accepted


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"days": "8"}, "day of week"),
        ({"hours": "24"}, "hour"),
        ({"timezone": "Mars/Olympus"}, "time zone"),
        ({"overlap": "both"}, "overlap"),
        ({"mode": "backfill"}, "mode"),
        ({"connection": "nowhere"}, "nowhere"),
        ({"catchup_window_minutes": 0.01}, "catch-up"),
        ({"colour": 1}, "colour"),
    ],
)
async def test_a_wrong_schedule_is_refused_by_what_is_wrong(
    served: Served, body: dict[str, Any], named: str
) -> None:
    answer = await served("POST", SCHEDULES, json={"source": "numbers", **body})
    assert answer.status_code in (404, 422), answer.text
    assert named in answer.json()["detail"]


async def test_without_temporal_it_is_said_what_to_do_and_in_time(postgres_url: str) -> None:
    nowhere = TemporalSettings.model_validate({"address": "127.0.0.1:9"})
    warehouse = WarehouseSettings.model_validate({"database_url": postgres_url})
    async with serving(Platform(nowhere, warehouse)) as alone:
        alone.app.state.context.tokens.latest = _nobody
        for path in (WORKFLOWS, f"{WORKFLOWS}/one", SCHEDULES, f"{SCHEDULES}/jira"):
            began = monotonic()
            answer = await alone("GET", path)
            assert answer.status_code == 503, answer.text
            assert "`etl up`" in answer.json()["detail"]
            assert answer.headers["retry-after"]
            assert monotonic() - began < 12


async def _nobody(*_: object) -> Any:
    """No token is there."""

    class Observed:
        value = False

    return Observed
