"""Batches from a request to rows, on a real Temporal server and a real PostgreSQL."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle

import temporaletl.queuer.dispatch
from temporaletl import names
from temporaletl.messages import BatchSummary, QueuerInput
from tests.integration.flows import numbers
from tests.integration.flows.services import Services
from tests.waiting import until

SERVICES = {"segment_seconds": 1, "rows_per_page": 50}


def loaded(services: Services) -> int:
    [(count,)] = services.rows("SELECT coalesce(sum(inserted), 0)::int FROM etl_jobs")
    return int(count)


async def test_every_number_becomes_one_row_that_leads_to_its_page(services: Services) -> None:
    summary = await services.run(jobs=3, pages=4, size=25)

    assert summary.state == "completed"
    assert summary.jobs.planned == summary.jobs.completed == 3
    assert summary.rows.inserted == 300
    [(rows, distinct)] = services.rows("SELECT count(*), count(DISTINCT event_id) FROM events")
    assert rows == distinct == 300
    [(orphans,)] = services.rows(
        """
        SELECT count(*) FROM events e WHERE NOT EXISTS (
            SELECT FROM etl_pages p WHERE (p.run_id, p.job_id, p.extracted_at)
                = (e.run_id, e.job_id, e.extracted_at))
        """
    )
    assert orphans == 0
    assert services.rows("SELECT DISTINCT version, specific_version FROM events") == [("3", "3.1")]


async def test_each_activity_of_a_batch_is_noticed_by_its_heartbeats_where_its_worker_dies(
    services: Services,
) -> None:
    params = {"jobs": 9, "poisoned": 3}
    batch = await services.start(QueuerInput(source="numbers", mode="full", params=params))
    batch_id, workflows = (await batch.result()).batch_id, [batch.id]
    workflows.append(names.dispatch_workflow_id(batch_id, 0))
    jobs = services.rows("SELECT job_id FROM etl_jobs")
    workflows += [names.job_workflow_id(str(job_id)) for (job_id,) in jobs]
    noticed_within: dict[str, timedelta] = {}
    for workflow in workflows:
        async for event in services.client.get_workflow_handle(workflow).fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                found = event.activity_task_scheduled_event_attributes
                within = found.heartbeat_timeout.ToTimedelta()
                noticed_within[found.activity_type.name] = within
    assert noticed_within.keys() >= {
        names.GET_METADATA,
        names.EXPAND_JOBS,
        names.LIST_JOBS,
        names.RUN_SEGMENT,
        names.END_JOB,
        names.FINISH_BATCH,
    }
    del noticed_within[names.NOTIFY]  # which has a minute, three times at most
    assert all(noticed_within.values()), noticed_within


async def test_a_repeat_changes_nothing(services: Services) -> None:
    await services.run(jobs=2, pages=2)
    again = await services.run(jobs=2, pages=2)
    assert (again.rows.inserted, again.rows.updated, again.rows.unchanged) == (0, 0, 40)


async def test_one_poisoned_job_fails_by_name_and_the_others_load(services: Services) -> None:
    summary = await services.run(jobs=5, poisoned=3)

    assert summary.state == "failed"
    assert (summary.jobs.completed, summary.jobs.failed) == (4, 1)
    [failure] = summary.failures
    assert failure.error == "job 3 is poisoned"
    [(job_id,)] = services.rows("SELECT job_id FROM etl_jobs WHERE seq = 3")
    assert failure.job == job_id
    assert services.rows("SELECT watermark FROM etl_sync_state") == [(None,)]


async def test_a_completed_batch_moves_the_watermark_to_the_windows_end(services: Services) -> None:
    await services.run("incremental", jobs=1)
    [(watermark, end)] = services.rows(
        "SELECT watermark, window_end FROM etl_sync_state CROSS JOIN etl_jobs"
    )
    assert watermark == end


async def test_a_source_that_breaks_off_costs_no_row_and_no_page_twice(services: Services) -> None:
    summary = await services.run(jobs=2, pages=6, size=10, flaky_page=3)
    assert summary.state == "completed"
    assert summary.rows.inserted == 120
    assert summary.rows.unchanged == 0


async def test_bad_records_become_rejects_and_the_rest_loads(services: Services) -> None:
    summary = await services.run(pages=5, size=10, bad_every=20)

    assert summary.state == "completed"
    assert (summary.rows.inserted, summary.rows.rejected) == (47, 3)
    found = services.rows("SELECT stage, reason, key, payload FROM etl_rejects ORDER BY key")
    assert found[1] == ("transform", "20 is a bad number", "0:20", {"job": 0, "value": 20})


async def test_a_job_that_only_rejects_fails_and_says_so(services: Services) -> None:
    summary = await services.run(pages=1, size=4, bad_every=1)
    assert summary.state == "failed"
    assert "of 4 records of numbers all 4 were rejected" in summary.failures[0].error


async def test_a_batch_that_cannot_be_planned_fails_with_the_reason(services: Services) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await services.run(jobs=-1)
    assert "jobs must not be negative" in str(failure.value.cause.__cause__)
    assert services.rows("SELECT state FROM etl_batches") == [("failed",)]


async def test_an_unknown_parameter_is_named(services: Services) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await services.run(jbos=1)
    assert "jbos" in str(failure.value.cause.__cause__)


async def test_pause_stops_loading_and_resume_goes_on(services: Services) -> None:
    handle = await start_slow(services)
    await handle.signal(names.PAUSE)
    await until(lambda: no_activity_pending(services))
    standing = loaded(services)
    job = await job_of(services)
    assert (await job.query(names.STATUS))["state"] == "paused"

    await handle.signal(names.RESUME)
    await until(lambda: loaded(services) > standing)
    await handle.signal(names.CANCEL)
    assert (await handle.result()).state == "cancelled"


async def test_cancel_ends_at_a_page_boundary_with_a_truthful_summary(services: Services) -> None:
    handle = await start_slow(services, jobs=3, max_in_flight=1)
    await handle.signal(names.CANCEL)
    summary: BatchSummary = await handle.result()

    assert summary.state == "cancelled"
    assert summary.jobs.cancelled == 3
    [(count,)] = services.rows("SELECT count(*) FROM events")
    assert summary.rows.inserted == count > 0
    assert services.rows("SELECT watermark FROM etl_sync_state") == [(None,)]


async def test_cancelling_from_outside_closes_the_books_too(services: Services) -> None:
    handle = await start_slow(services)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert services.rows("SELECT state FROM etl_batches") == [("cancelled",)]
    assert services.rows("SELECT state FROM etl_jobs") == [("cancelled",)]


async def test_a_job_that_runs_already_is_skipped(services: Services) -> None:
    first = await start_slow(services, mode="backfill")
    second = await start_slow(services, mode="backfill", wait=False)
    summary = await second.result()
    assert summary.jobs.skipped == 1
    await first.signal(names.CANCEL)
    assert (await first.result()).jobs.cancelled == 1


async def test_dispatching_goes_on_over_many_runs(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporaletl.queuer.dispatch, "JOBS_PER_RUN", 4)
    summary = await services.run(jobs=11, size=1)
    assert summary.jobs.completed == 11
    assert summary.rows.inserted == 11


async def start_slow(
    services: Services, *, mode: Any = "full", wait: bool = True, jobs: int = 1, **request: Any
) -> WorkflowHandle[Any, BatchSummary]:
    """Start a batch that would take minutes; it has loaded something when this returns."""
    dates = (
        {"date_start": "2024-01-01T00:00Z", "date_end": "2025-01-01T00:00Z"}
        if mode == "backfill"
        else {}
    )
    handle = await services.start(
        QueuerInput(
            source="numbers",
            mode=mode,
            params={"jobs": jobs, "pages": 10_000, "page_seconds": 0.05},
            **dates,
            **request,
        )
    )
    if wait:
        await until(lambda: loaded(services) > 0)
    return handle


async def job_of(services: Services) -> WorkflowHandle[Any, Any]:
    [(job_id,)] = services.rows("SELECT job_id FROM etl_jobs")
    return services.client.get_workflow_handle(names.job_workflow_id(str(job_id)))


async def no_activity_pending(services: Services) -> bool:
    described = await (await job_of(services)).describe()
    return not described.raw_description.pending_activities


@pytest.mark.parametrize(("mode", "key"), [("full", 0), ("backfill", 4)])
async def test_jobs_of_a_backfill_have_a_lower_priority(
    services: Services, mode: str, key: int
) -> None:
    span = {"date_start": numbers.EPOCH, "date_end": numbers.EPOCH + timedelta(days=1)}
    handle = await services.start(
        QueuerInput(source="numbers", mode=mode, **(span if mode == "backfill" else {}))
    )
    assert (await handle.result()).rows.inserted == 10
    [(job_id,)] = services.rows("SELECT workflow_id FROM etl_jobs")
    job = await services.client.get_workflow_handle(job_id).describe()
    priority = job.raw_description.workflow_execution_info.priority
    assert priority.priority_key == key
    # By which jobs of other connections get their turn beside these.
    assert priority.fairness_key == "numbers"
