"""A run that goes on is followed again, from here and over the API."""

import asyncio

import pytest

from temporaletl.control.cli.session import Session
from temporaletl.control.client.api import Api
from temporaletl.control.client.settings import ClientSettings
from temporaletl.control.operations.following import Ended
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.progress import follow_run
from temporaletl.errors import ConflictError, NotFoundError
from tests.integration.api.in_process import Served
from tests.integration.flows.numbers import outages
from tests.waiting import until

OUTAGE = "followed"


async def followed(session: Session, run: str) -> tuple[str, Ended | None]:
    """Follow a run to its end, which begins once it is seen running; return both."""
    found = await session.call(follow_run, run)
    try:
        async for snapshot in found.snapshots():
            if snapshot.planned is not None:
                outages.discard(OUTAGE)
        return found.workflow_id, await found.result()
    finally:
        await found.close()


async def test_a_run_that_goes_on_or_has_ended_is_followed(served: Served) -> None:
    outages.add(OUTAGE)
    body = {"source": "numbers", "params": {"size": 3, "outage": OUTAGE}, "force": True}
    started = await served("POST", "/api/v1/sync/full", json=body)
    workflow_id = str(started.json()["workflowId"])
    token = served.headers["Authorization"].removeprefix("Bearer ") if served.headers else None
    settings = ClientSettings.model_validate({"url": served.address, "token": token})

    async with Api(settings) as api:
        reached: list[Api | Platform] = [api, served.platform]
        for attempt in range(2):  # while it goes on, and once it has ended
            async with asyncio.timeout(120):
                ends = await asyncio.gather(
                    *(followed(Session(one), workflow_id) for one in reached)
                )
            for found, ended in ends:
                assert found == workflow_id, attempt
                assert ended is not None
                summary = ended.summary
                assert (summary.state, summary.rows.inserted) == ("completed", 3)

        details = (await served("GET", f"/api/v1/runs/{workflow_id}/jobs")).json()["items"]
        for one in reached:
            with pytest.raises(NotFoundError):
                await Session(one).call(follow_run, "none-such")
            with pytest.raises(ConflictError, match=rf"is a job; its run is {summary.batch_id}"):
                await Session(one).call(follow_run, f"job/{details[0]['job_id']}")

    lines: list[dict[str, object]] = []

    async def logged() -> bool:
        answer = await served("GET", f"/api/v1/runs/{workflow_id}/log")
        lines[:] = answer.json()["lines"]
        return bool(lines)

    await until(logged)
    assert all("source" not in line["fields"] for line in lines)  # type: ignore[operator]
