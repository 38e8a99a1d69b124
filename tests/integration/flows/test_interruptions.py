"""Pausing and cancelling at the awkward moments, on a real Temporal server and PostgreSQL."""

from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from temporaletl import names
from temporaletl.messages import BatchSummary, QueuerInput
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import Services, planning
from tests.waiting import until

type Batch = WorkflowHandle[Any, BatchSummary]


SERVICES = {"attempts": 1_000, "segment_seconds": 1, "rows_per_page": 50}


async def start(services: Services, **params: Any) -> Batch:
    return await services.start(QueuerInput(source="numbers", mode="full", params=params))


def job_states(services: Services) -> list[str]:
    return [state for (state,) in services.rows("SELECT state FROM etl_jobs ORDER BY seq")]


async def job_of(services: Services) -> WorkflowHandle[Any, Any]:
    await until(lambda: job_states(services) == ["running"])
    [(job_id,)] = services.rows("SELECT job_id FROM etl_jobs")
    return services.client.get_workflow_handle(names.job_workflow_id(str(job_id)))


async def failing_attempts(job: WorkflowHandle[Any, Any]) -> int:
    """How often the job's present segment has failed so far."""
    pending = (await job.describe()).raw_description.pending_activities
    return pending[0].attempt - 1 if pending else 0


async def test_cancel_does_not_wait_for_the_planning_to_end(services: Services) -> None:
    batch = await start(services, jobs=10_000, plan_seconds=0.02)
    await until(lambda: planning(batch))
    await batch.signal(names.CANCEL)
    summary = await batch.result()

    assert summary.state == "cancelled"
    assert set(job_states(services)) <= {"cancelled"}
    assert services.rows("SELECT jobs_planned FROM etl_batches") == [(None,)]
    assert services.rows("SELECT watermark FROM etl_sync_state") == [(None,)]


async def test_cancelling_the_planning_from_outside_closes_the_books_as_cancelled(
    services: Services,
) -> None:
    batch = await start(services, jobs=10_000, plan_seconds=0.02)
    await until(lambda: planning(batch))
    await batch.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await batch.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert services.rows("SELECT state, summary->>'error' FROM etl_batches") == [
        ("cancelled", None)
    ]


async def test_cancelling_from_outside_while_a_batch_is_opened_leaves_its_books_closed(
    services: Services,
) -> None:
    services.rows_changed(
        """
        CREATE TABLE held (); INSERT INTO held DEFAULT VALUES;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            WHILE EXISTS (SELECT FROM held) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NEW;
        END $$;
        CREATE TRIGGER wait BEFORE INSERT ON etl_batches FOR EACH ROW EXECUTE FUNCTION wait()
        """
    )
    batch = await start(services)

    async def pending() -> Any:
        return next(iter((await batch.describe()).raw_description.pending_activities), None)

    async def is_cancelled() -> bool:
        found = await pending()
        wanted = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
        return found is not None and found.state == wanted

    await until(pending)
    await batch.cancel()
    await until(is_cancelled)
    heard_of = (await pending()).last_heartbeat_time

    async def is_told() -> bool:
        return bool((await pending()).last_heartbeat_time != heard_of)

    await until(is_told)
    services.rows_changed("DELETE FROM held")
    with pytest.raises(WorkflowFailureError) as ended:
        await batch.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert services.rows("SELECT state FROM etl_batches") == [("cancelled",)]
    assert services.rows("SELECT ended_at IS NULL FROM etl_runs") in ([], [(False,)])


async def test_a_batch_paused_while_it_is_planned_starts_no_job_until_it_is_resumed(
    services: Services, outage: str
) -> None:
    batch = await start(services, jobs=10, stalled=outage)
    await until(lambda: planning(batch))
    await batch.signal(names.PAUSE)
    outages.discard(outage)

    async def planned() -> bool:
        return bool((await batch.query(names.STATUS))["jobs"] == 10)

    await until(planned)
    assert (await batch.query(names.STATUS))["state"] == "paused"
    assert job_states(services) == ["planned"] * 10
    await batch.signal(names.RESUME)
    assert (await batch.result()).jobs.completed == 10


async def test_a_batch_cancelled_while_it_is_paused_ends(services: Services, outage: str) -> None:
    batch = await start(services, jobs=10, stalled=outage)
    await batch.signal(names.PAUSE)
    outages.discard(outage)
    await until(lambda: job_states(services) == ["planned"] * 10)
    await batch.signal(names.CANCEL)
    assert (await batch.result()).jobs.cancelled == 10


async def test_a_pause_during_an_outage_does_not_fail_the_job(
    services: Services, outage: str
) -> None:
    batch = await start(services, outage=outage)
    job = await job_of(services)

    async def tried() -> bool:
        return await failing_attempts(job) >= 1

    for _ in range(3):
        await until(tried)
        await batch.signal(names.PAUSE)
        await batch.signal(names.RESUME)
    outages.discard(outage)
    summary = await batch.result()
    assert (summary.state, summary.rows.inserted) == ("completed", 10)


async def test_cancel_during_an_outage_ends_the_job_as_cancelled(
    services: Services, outage: str
) -> None:
    batch = await start(services, outage=outage)
    job = await job_of(services)

    async def tried() -> bool:
        return await failing_attempts(job) >= 1

    await until(tried)
    await batch.signal(names.CANCEL)
    summary = await batch.result()
    assert (summary.state, summary.jobs.cancelled, summary.jobs.failed) == ("cancelled", 1, 0)


async def test_cancelling_a_paused_batch_from_outside_ends_it(services: Services) -> None:
    batch = await start(services, pages=10_000, page_seconds=0.05)
    job = await job_of(services)
    # At once: the segment that the pause calls off is still at its page.
    await batch.signal(names.PAUSE)
    await batch.cancel()
    with pytest.raises(WorkflowFailureError):
        await batch.result()
    assert job_states(services) == ["cancelled"]
    assert services.rows("SELECT state FROM etl_batches") == [("cancelled",)]
    assert (await job.describe()).close_time is not None


async def test_a_job_that_an_operator_cancels_leaves_its_batch_cancelled_not_complete(
    services: Services,
) -> None:
    batch = await start(services, pages=10_000, page_seconds=0.05)
    await (await job_of(services)).cancel()
    summary = await batch.result()
    assert (summary.state, summary.jobs.cancelled) == ("cancelled", 1)
    assert services.rows("SELECT watermark FROM etl_sync_state") == [(None,)]


async def test_a_job_that_is_terminated_is_a_failure_by_name(services: Services) -> None:
    batch = await start(services, pages=10_000, page_seconds=0.05)
    await (await job_of(services)).terminate("by an operator")
    summary = await batch.result()
    assert (summary.state, summary.jobs.failed) == ("failed", 1)
    assert summary.failures[0].error == "Terminated"


async def test_the_end_of_a_dispatcher_that_fails_waits_for_no_job_to_be_cut_off(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two dispatchers; one is terminated, and the other one's jobs still load."""
    monkeypatch.setattr("temporaletl.queuer.flow._JOBS_PER_DISPATCHER", 2)
    batch = await start(services, jobs=4, pages=12, page_seconds=0.1)
    await until(lambda: job_states(services) == ["running"] * 4)
    [(batch_id,)] = services.rows("SELECT batch_id FROM etl_batches")
    dispatcher = services.client.get_workflow_handle(names.dispatch_workflow_id(batch_id, 0))
    await dispatcher.terminate("by an operator")
    with pytest.raises(WorkflowFailureError):
        await batch.result()
    assert job_states(services)[2:] == ["completed", "completed"]
    assert services.rows("SELECT state FROM etl_batches") == [("failed",)]
