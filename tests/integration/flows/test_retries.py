"""Retries: what failed in a run, and nothing else; watermarks move once all of it is loaded."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.retries import NothingFailedError, retry_request
from temporaletl.control.operations.runs import RunGoesOnError
from temporaletl.errors import NotFoundError
from temporaletl.messages import BatchSummary
from temporaletl.warehouse.state import set_watermark
from tests.integration.api.in_process import platform_of
from tests.integration.flows import numbers
from tests.integration.flows.services import Services

SERVICES = {"reject_threshold": 1, "attempts": 1}


@pytest_asyncio.fixture
async def platform(services: Services, postgres_url: str) -> AsyncGenerator[Platform]:
    async with platform_of(services, postgres_url) as made:
        yield made


@pytest.fixture(autouse=True)
def _mended() -> Iterator[None]:
    yield
    numbers.outages.clear()
    numbers.broken.clear()
    numbers.scanned.clear()


async def failing(
    services: Services, *jobs: int, mode: str = "full", **params: Any
) -> BatchSummary:
    """A run of four jobs, of which these fail."""
    numbers.broken.update(jobs)
    found = await services.run(mode, **{"jobs": 4, "size": 5, **params})
    assert found.state == "failed", found
    return found


async def retry(services: Services, platform: Platform, run: BatchSummary | str) -> BatchSummary:
    name = run if isinstance(run, str) else run.batch_id
    handle = await services.start(await retry_request(platform, name))
    return await handle.result()


def watermark(services: Services) -> Any:
    found = services.rows("SELECT watermark FROM etl_sync_state WHERE source = 'numbers'")
    return found[0][0] if found else None


def jobs_of(services: Services, run: BatchSummary) -> list[Any]:
    return [
        job
        for (job,) in services.rows(
            "SELECT job_id FROM etl_jobs WHERE batch_id = %s ORDER BY seq", run.batch_id
        )
    ]


async def test_a_retry_runs_what_failed_only_and_then_the_watermark_moves(
    services: Services, platform: Platform
) -> None:
    first = await failing(services, 1, 3)
    assert watermark(services) is None
    numbers.broken.clear()

    done = await retry(services, platform, first.workflow_id)

    assert (done.state, done.jobs.planned, done.rows.inserted) == ("completed", 2, 10)
    assert (done.retries, done.mode, done.windows) == (first.batch_id, "full", first.windows)
    failed = {failure.job for failure in first.failures}
    assert set(jobs_of(services, done)) == failed
    assert watermark(services) == first.windows["all"].end
    [(full_at, batch, state)] = services.rows(
        "SELECT last_full_at IS NOT NULL, batch_id, state FROM etl_sync_state"
    )
    assert (full_at, batch, state) == (True, done.batch_id, "completed")
    with pytest.raises(NothingFailedError, match="has been loaded by a retry"):
        await retry_request(platform, first.batch_id)
    # The next incremental run begins where both together ended.
    following = await services.run("incremental", jobs=1)
    assert following.windows["all"].start == first.windows["all"].end


async def test_what_fails_again_holds_the_watermark_until_a_retry_of_either_loads_it(
    services: Services, platform: Platform
) -> None:
    first = await failing(services, 1, 3)
    numbers.broken.discard(1)
    second = await retry(services, platform, first)
    assert (second.state, second.jobs.completed, second.jobs.failed) == ("failed", 1, 1)
    assert watermark(services) is None
    assert services.rows("SELECT state FROM etl_sync_state") == [("failed",)]
    numbers.broken.clear()

    # Of the first run once more: what the second one loaded is left out.
    assert jobs_of(services, third := await retry(services, platform, first)) == [
        second.failures[0].job
    ]
    assert third.state == "completed"
    assert watermark(services) == first.windows["all"].end
    with pytest.raises(NothingFailedError, match="has been loaded by a retry"):
        await retry_request(platform, second.batch_id)


async def test_a_retry_of_a_retry_completes_the_first_run(
    services: Services, platform: Platform
) -> None:
    first = await failing(services, 0, 1, 2)
    numbers.broken.discard(0)
    second = await retry(services, platform, first)
    numbers.broken.discard(1)
    third = await retry(services, platform, second)
    assert (third.jobs.planned, third.jobs.completed) == (2, 1)
    assert watermark(services) is None
    numbers.broken.clear()
    fourth = await retry(services, platform, third)
    assert (fourth.jobs.planned, fourth.state) == (1, "completed")
    assert watermark(services) == first.windows["all"].end
    chain = services.rows("SELECT retries, original FROM etl_batches ORDER BY created_at")
    assert chain == [
        (None, None),
        (first.batch_id, first.batch_id),
        (second.batch_id, first.batch_id),
        (third.batch_id, first.batch_id),
    ]


async def test_a_later_runs_watermark_is_neither_moved_back_nor_mistrusted(
    services: Services, platform: Platform
) -> None:
    first = await failing(services, 2)
    numbers.broken.clear()
    later = await services.run("full", jobs=4, size=5)
    assert watermark(services) == later.windows["all"].end
    done = await retry(services, platform, first)
    assert done.state == "completed"
    assert services.rows("SELECT watermark, batch_id FROM etl_sync_state") == [
        (later.windows["all"].end, later.batch_id)
    ]
    following = await services.run("incremental", jobs=1)
    assert following.windows["all"].start == later.windows["all"].end


async def test_a_watermark_that_a_person_has_put_since_stays(
    services: Services, platform: Platform
) -> None:
    first = await failing(services, 2)
    set_watermark(services.warehouse, "numbers", "all", "default", None)
    numbers.broken.clear()
    assert (await retry(services, platform, first)).state == "completed"
    assert watermark(services) is None


async def test_a_failed_deletion_scan_is_retried_and_holds_nothing(
    services: Services, platform: Platform
) -> None:
    loaded = await services.run("full", jobs=3, size=2)
    assert loaded.rows.inserted == 6
    first = await services.run("incremental", jobs=1, size=2, here=[0, 1], scan_fails=True)
    assert (first.state, first.jobs.failed) == ("failed", 1)
    assert watermark(services) == first.windows["all"].end
    # What the parameters say is what failed: the source's own fault is gone.
    services.rows_changed(
        "UPDATE etl_jobs SET input = jsonb_set(input, '{params,scan_fails}', 'false') "
        f"WHERE batch_id = '{first.batch_id}' AND state = 'failed'"
    )
    done = await retry(services, platform, first)
    assert (done.state, done.jobs.planned) == ("completed", 1)
    assert numbers.scanned == [0, 1]
    assert watermark(services) == first.windows["all"].end


async def test_what_was_shown_less_than_there_is_has_loaded_nothing_for_certain(
    services: Services, platform: Platform
) -> None:
    first = await failing(services, 1, 2)
    numbers.broken.discard(1)
    second = await retry(services, platform, first)
    services.rows_changed(
        f"UPDATE etl_batches SET held = 'shown less' WHERE batch_id = '{second.batch_id}'"
    )
    numbers.broken.clear()
    third = await retry(services, platform, first)
    assert third.jobs.planned == 2
    assert watermark(services) == first.windows["all"].end


async def test_what_a_lost_run_left_open_has_failed_and_what_a_person_cancelled_has_not(
    services: Services, platform: Platform
) -> None:
    cancelled = await services.run("full", jobs=2, size=3)
    services.rows_changed(
        "UPDATE etl_jobs SET state = 'cancelled' WHERE seq = 1; "
        "UPDATE etl_batches SET state = 'cancelled'"
    )
    with pytest.raises(NothingFailedError, match="was cancelled, and no job of it failed"):
        await retry_request(platform, cancelled.batch_id)
    services.rows_changed(
        "UPDATE etl_batches SET state = 'failed', "
        """summary = jsonb_set(summary, '{error}', '"lost"')"""
    )
    done = await retry(services, platform, cancelled)
    assert (done.state, done.jobs.planned, done.rows.unchanged) == ("completed", 1, 3)


async def test_what_has_not_failed_is_not_retried(services: Services, platform: Platform) -> None:
    done = await services.run("full", jobs=1, size=1)
    with pytest.raises(NothingFailedError, match="has no failed job"):
        await retry_request(platform, done.batch_id)
    with pytest.raises(NotFoundError, match="never-was"):
        await retry_request(platform, "never-was")
    services.rows_changed("UPDATE etl_batches SET ended_at = NULL, state = 'running'")
    with pytest.raises(RunGoesOnError):
        await retry_request(platform, done.batch_id)
