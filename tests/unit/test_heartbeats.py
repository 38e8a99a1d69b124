"""Heartbeats of what writes to the ledger: cancellations come with them, and cut nothing off."""

import asyncio

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.testing import ActivityEnvironment

from temporaletl.temporal.heartbeats import to_its_end


@pytest.mark.parametrize(
    ("details", "ends"),
    [
        (ActivityCancellationDetails(cancel_requested=True), True),
        (ActivityCancellationDetails(not_found=True), True),
        (ActivityCancellationDetails(worker_shutdown=True), False),
    ],
    ids=["cancelled", "terminated", "shut-down"],
)
async def test_work_is_done_although_it_is_cancelled_unless_its_worker_ends(
    details: ActivityCancellationDetails, ends: bool
) -> None:
    environment, begun, may_end = ActivityEnvironment(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        begun.set()
        await may_end.wait()
        return "done"

    async def write() -> str:
        return await to_its_end(work())

    attempt = asyncio.create_task(environment.run(write))
    await begun.wait()
    environment.cancel(details)
    may_end.set()
    if ends:
        assert await attempt == "done"
    else:
        with pytest.raises(asyncio.CancelledError):
            await attempt
