"""Schedules of tests: one that may fall due while tests run is found, though it was deleted."""

from datetime import timedelta

import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

from temporaletl.queuer.scheduling import calendar
from tests.far_times import FAR_DAYS, FAR_INTERVAL, assert_far
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until


async def test_a_schedule_that_may_fall_due_during_a_test_is_found(
    shared_temporal: TemporalServer,
) -> None:
    client = (await shared_temporal.with_namespace()).client

    async def make(id_: str, *every: timedelta) -> None:
        spec = ScheduleSpec(
            calendars=[calendar(FAR_DAYS, "*")],
            intervals=[ScheduleIntervalSpec(every=one) for one in every],
        )
        action = ScheduleActionStartWorkflow("nothing", id=id_, task_queue="nobody")
        await (await client.create_schedule(id_, Schedule(action=action, spec=spec))).delete()

    async def is_listed() -> bool:
        query = "TemporalNamespaceDivision = 'TemporalScheduler'"
        found = [one async for one in client.list_workflows(query)]
        return len(found) == made and all(
            "ScheduleInfo" in one.raw_info.memo.fields for one in found
        )

    await make("far", FAR_INTERVAL)
    made = 1
    await until(is_listed)
    await assert_far(client)
    await make("near", timedelta(minutes=15))
    made = 2
    await until(is_listed)
    with pytest.raises(AssertionError, match="near falls due on"):
        await assert_far(client)
