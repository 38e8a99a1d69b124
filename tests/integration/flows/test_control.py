"""Pause, resume and cancel as updates: what they answer, and what ledger and status then say."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from temporaletl import names
from temporaletl.control_messages import Accepted, ControlUpdate
from temporaletl.messages import (
    BatchStatus,
    BatchSummary,
    QueuerInput,
)
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import find_batch
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import Services, planning, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

type Handle = WorkflowHandle[Any, Any]

_LONG: dict[str, Any] = {"pages": 10_000, "page_seconds": 0.05, "size": 1}


SERVICES = {"attempts": 1_000, "segment_seconds": 1, "rows_per_page": 50}


async def start(
    services: Services, *, max_in_flight: int = 50, **params: Any
) -> WorkflowHandle[Any, BatchSummary]:
    request = QueuerInput(source="numbers", mode="full", params=params, max_in_flight=max_in_flight)
    return await services.start(request)


async def update(workflow: Handle, name: str, **options: Any) -> Accepted:
    accepted: Accepted = await workflow.execute_update(name, result_type=Accepted, **options)
    return accepted


async def status(batch: Handle) -> BatchStatus:
    answer: BatchStatus = await batch.query(names.STATUS, result_type=BatchStatus)
    return answer


async def refused(workflow: Handle, name: str, *arguments: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await workflow.execute_update(name, *arguments)
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


def stored(services: Services) -> str:
    """The state of the only batch as its row has it."""
    [(state,)] = services.rows("SELECT state FROM etl_batches")
    return str(state)


def shown(services: Services, batch: Handle) -> str | None:
    """The state of a batch as reports have it."""
    report = find_batch(services.warehouse, batch.id)
    return report.state if report else None


def job_states(services: Services) -> list[str]:
    return [state for (state,) in services.rows("SELECT state FROM etl_jobs ORDER BY seq")]


def pages(services: Services) -> int:
    [(count,)] = services.rows("SELECT coalesce(sum(pages), 0)::int FROM etl_jobs")
    return int(count)


def job_of(services: Services) -> Handle:
    [(job_id,)] = services.rows("SELECT job_id FROM etl_jobs")
    return services.client.get_workflow_handle(names.job_workflow_id(str(job_id)))


async def rests(services: Services, batch: Handle) -> bool:
    """Whether workflow and ledger both say that the batch is paused."""
    said = {(await status(batch)).state, stored(services), shown(services, batch)}
    return said == {"paused"}


async def test_a_pause_is_pausing_until_no_job_runs_and_the_ledger_says_both(
    services: Services,
) -> None:
    batch = await start(services, jobs=3, pages=1_000, page_seconds=1.0, size=1)
    await until(lambda: job_states(services) == ["running"] * 3)
    accepted = await update(batch, names.PAUSE)
    assert accepted.state == "pausing"
    await until(lambda: stored(services) == "pausing")

    async def counted() -> bool:
        return (await status(batch)).jobs_running is not None

    await until(counted)
    await until(lambda: rests(services, batch))
    assert (await status(batch)).jobs_running == 0
    assert job_states(services) == ["paused"] * 3
    report = find_batch(services.warehouse, batch.id)
    assert report is not None
    assert (report.jobs.paused, report.jobs.running) == (3, 0)

    before = pages(services)
    assert (await update(batch, names.PAUSE)).state == "paused"
    assert (await update(batch, names.RESUME)).state == "running"
    await until(lambda: pages(services) > before)
    await until(lambda: stored(services) == "running")
    assert "paused" not in (await status(batch)).state
    assert (await update(batch, names.CANCEL)).state == "cancelling"
    assert (await batch.result()).state == "cancelled"
    assert stored(services) == "cancelled"


async def test_resume_right_after_pause_goes_on_and_leaves_no_trace_of_the_pause(
    services: Services,
) -> None:
    batch = await start(services, **_LONG)
    await until(lambda: pages(services) > 0)
    for _ in range(5):
        assert (await update(batch, names.PAUSE)).state == "pausing"
        assert (await update(batch, names.RESUME)).state == "running"
    before = pages(services)
    await until(lambda: pages(services) > before)
    await until(lambda: stored(services) == "running")
    await until(lambda: job_states(services) == ["running"])
    await update(batch, names.CANCEL)
    assert (await batch.result()).state == "cancelled"


async def test_resume_of_what_is_not_paused_changes_nothing(services: Services) -> None:
    batch = await start(services, **_LONG)
    await until(lambda: pages(services) > 0)
    assert (await update(batch, names.RESUME)).state == "running"
    assert services.rows("SELECT state, control_changes FROM etl_batches") == [("running", 0)]
    await update(batch, names.CANCEL)
    await batch.result()


async def test_a_pause_while_planning_is_paused_once_that_has_ended(
    services: Services, outage: str
) -> None:
    batch = await start(services, jobs=20, stalled=outage)
    await until(lambda: planning(batch))
    assert await update(batch, names.PAUSE) == Accepted(state="pausing", jobs_running=0)
    outages.discard(outage)
    await until(lambda: rests(services, batch))
    assert job_states(services) == ["planned"] * 20
    assert (await update(batch, names.RESUME)).state == "running"
    assert (await batch.result()).jobs.completed == 20
    assert stored(services) == "completed"


async def test_a_pause_between_dispatch_and_begin_of_jobs_rests_all_of_them(
    services: Services,
) -> None:
    batch = await start(services, jobs=30, max_in_flight=5, **_LONG)
    # As soon as the first of them has begun, others are still on their way.
    await until(lambda: "running" in job_states(services))
    await update(batch, names.PAUSE)
    await until(lambda: rests(services, batch))
    assert set(job_states(services)) <= {"paused", "planned"}
    await update(batch, names.CANCEL)
    summary = await batch.result()
    assert (summary.state, summary.jobs.cancelled) == ("cancelled", 30)
    assert (stored(services), set(job_states(services))) == ("cancelled", {"cancelled"})


async def test_a_pause_during_an_outage_of_the_source_rests_at_once(
    services: Services, outage: str
) -> None:
    batch = await start(services, outage=outage)
    await until(lambda: job_states(services) == ["running"])
    await update(batch, names.PAUSE)
    await until(lambda: rests(services, batch))
    assert job_states(services) == ["paused"]
    outages.discard(outage)
    await update(batch, names.RESUME)
    assert (await batch.result()).state == "completed"


async def test_a_pause_outlives_the_services_and_is_resumed_under_others(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    queue = f"test-{uuid.uuid4().hex}"
    options: dict[str, Any] = {"queue": queue, "segment_seconds": 1, "rows_per_page": 50}
    async with running(temporal_server.client, warehouse, **options) as first:
        batch = await start(first, jobs=2, pages=100, page_seconds=0.05, size=1)
        await until(lambda: pages(first) > 0)
        await update(batch, names.PAUSE)
    # Stopped in the midst of it: whoever comes next finds the rest.
    async with running(temporal_server.client, warehouse, **options) as second:
        await until(lambda: rests(second, batch))
        assert (await update(batch, names.RESUME)).state == "running"
        summary = await batch.result()
    assert (summary.state, summary.rows.inserted) == ("completed", 200)


async def test_what_makes_no_sense_any_more_is_refused_and_leaves_no_event(
    services: Services,
) -> None:
    batch = await start(services, jobs=1, pages=1_000, page_seconds=1.0, size=1)
    await until(lambda: pages(services) > 0)
    first = await update(batch, names.CANCEL)
    assert first.state == "cancelling"
    # It ends with its page, in up to a second; until then a repeat is the same request.
    assert (await update(batch, names.CANCEL)).state in ("cancelling", "finishing")
    for name in (names.PAUSE, names.RESUME):
        refusal = await refused(batch, name)
        assert refusal.type == "ConflictError"
        assert refusal.message.endswith(f": there is nothing to {name}")
    await batch.result()
    history = await batch.fetch_history()
    accepted = [
        event
        for event in history.events
        if event.HasField("workflow_execution_update_accepted_event_attributes")
    ]
    assert len(accepted) == 2


async def test_an_update_that_nobody_waits_for_any_more_is_refused(services: Services) -> None:
    batch = await start(services, **_LONG)
    await until(lambda: pages(services) > 0)
    late = ControlUpdate(heed_until=datetime.now(UTC) - timedelta(minutes=1))
    assert (await refused(batch, names.PAUSE, late)).type == "LateUpdateError"
    assert (await refused(job_of(services), names.PAUSE, late)).type == "LateUpdateError"
    assert (await status(batch)).state == "running"
    await update(batch, names.CANCEL)
    await batch.result()


async def test_the_same_update_is_answered_as_it_was_the_first_time(services: Services) -> None:
    batch = await start(services, **_LONG)
    await until(lambda: pages(services) > 0)
    first = await update(batch, names.PAUSE, id="one-request")
    await update(batch, names.RESUME)
    assert await update(batch, names.PAUSE, id="one-request") == first
    assert (await status(batch)).state == "running"
    await update(batch, names.CANCEL, id="the-end")
    await batch.result()
    assert (await update(batch, names.CANCEL, id="the-end")).state == "cancelling"


async def test_a_job_is_paused_and_resumed_by_itself(services: Services) -> None:
    batch = await start(services, **_LONG)
    await until(lambda: pages(services) > 0)
    job = job_of(services)
    assert await update(job, names.PAUSE) == Accepted(state="pausing", jobs_running=1)
    await until(lambda: job_states(services) == ["paused"])
    assert (await job.query(names.STATUS))["state"] == "paused"
    again = Accepted(state="paused", jobs_running=0, changed=False)
    assert await update(job, names.PAUSE) == again
    assert (stored(services), (await status(batch)).state) == ("running", "running")
    assert (await update(job, names.RESUME)).state == "running"
    await until(lambda: job_states(services) == ["running"])
    assert (await update(job, names.CANCEL)).state == "cancelling"
    assert (await batch.result()).jobs.cancelled == 1


async def test_no_update_is_lost_where_a_job_continues_as_new(
    temporal_server: TemporalServer, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporaletl.worker.flow.SEGMENTS_PER_RUN", 1)
    async with running(
        temporal_server.client, warehouse, segment_seconds=0.001, rows_per_page=1
    ) as services:
        batch = await start(services, pages=10_000, size=1)
        await until(lambda: pages(services) > 0)
        job = job_of(services)
        for _ in range(15):
            # Each somewhere between two runs of its workflow.
            assert (await update(job, names.PAUSE)).state in ("pausing", "paused")
            await until(lambda: job_states(services) == ["paused"])
            standing = pages(services)
            assert (await job.query(names.STATUS))["state"] == "paused"
            assert pages(services) == standing
            assert (await update(job, names.RESUME)).state == "running"
            await until(lambda: pages(services) > standing)  # noqa: B023 - at once
        assert (await update(job, names.CANCEL)).state == "cancelling"
        summary = await batch.result()
        runs = services.rows("SELECT count(DISTINCT run_id)::int FROM etl_pages")
    assert (summary.state, summary.jobs.cancelled) == ("cancelled", 1)
    assert runs[0][0] > 15


async def test_many_updates_at_once_are_all_answered(services: Services) -> None:
    batch = await start(services, **_LONG)
    await until(lambda: pages(services) > 0)
    answers = await asyncio.gather(*(update(batch, names.PAUSE) for _ in range(8)))
    assert {answer.state for answer in answers} <= {"pausing", "paused"}
    await until(lambda: rests(services, batch))
    assert services.rows("SELECT control_changes FROM etl_batches") == [(1,)]
    await update(batch, names.CANCEL)
    await batch.result()


async def test_a_run_that_was_paused_before_the_recording_records_its_next_pause(
    temporal_server: TemporalServer, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "queue": f"test-{uuid.uuid4().hex}",
        "segment_seconds": 1,
        "rows_per_page": 50,
    }
    with monkeypatch.context() as before:
        # As a version would have it that records nothing.
        before.setattr("temporalio.workflow.patched", lambda _patch: False)
        async with running(temporal_server.client, warehouse, **options) as older:
            batch = await start(older, **_LONG)
            await until(lambda: pages(older) > 0)
            await batch.signal(names.PAUSE)

            async def job_rests() -> bool:
                return bool((await job_of(older).query(names.STATUS))["state"] == "paused")

            await until(job_rests)
            assert (stored(older), (await status(batch)).state) == ("running", "paused")
            assert job_states(older) == ["running"]
            await batch.signal(names.RESUME)
            before_it = pages(older)
            await until(lambda: pages(older) > before_it)
    async with running(temporal_server.client, warehouse, **options) as newer:
        assert (await update(batch, names.PAUSE)).state == "pausing"
        await until(lambda: rests(newer, batch))
        assert job_states(newer) == ["paused"]
        await update(batch, names.CANCEL)
        assert (await batch.result()).state == "cancelled"
