"""PostgreSQL goes away, or has no room, for longer than any number of attempts lasts."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowHandle

from temporaletl import names
from temporaletl.control_messages import Accepted
from temporaletl.messages import (
    BatchSummary,
    QueuerInput,
)
from tests.integration.flows.numbers import outages
from tests.integration.flows.own_postgres import OwnPostgres, own_postgres, small_disk
from tests.integration.flows.services import Services, planning, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

type Batch = WorkflowHandle[Any, BatchSummary]

ATTEMPTS = 2
#: From the end of an outage on.
SOON_SECONDS = 60
PAGES, SIZE = 40, 25


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as own:
        yield own


@pytest_asyncio.fixture
async def services(
    temporal_server: TemporalServer, postgres: OwnPostgres
) -> AsyncGenerator[Services]:
    async with running(
        temporal_server.client,
        postgres.warehouse,
        attempts=ATTEMPTS,
        segment_seconds=1,
        rows_per_page=50,
    ) as both:
        yield both


async def start(services: Services, **params: Any) -> Batch:
    return await services.start(QueuerInput(source="numbers", mode="full", params=params))


def counted(services: Services) -> int:
    [(count,)] = services.rows("SELECT coalesce(sum(inserted), 0)::int FROM etl_jobs")
    return int(count)


async def failed_attempts(client: Client, workflow_id: str) -> int:
    """How often what the workflow waits for has failed."""
    workflow = client.get_workflow_handle(workflow_id)
    pending = (await workflow.describe()).raw_description.pending_activities
    return max((each.attempt - 1 for each in pending), default=0)


async def out_of_attempts(services: Services, workflow_id: str) -> None:
    """Wait until there have been more failures than a policy allows."""

    async def failed() -> bool:
        return await failed_attempts(services.client, workflow_id) > ATTEMPTS + 1

    await until(failed, within_seconds=120)


async def job_of(services: Services) -> str:
    [(job_id,)] = services.rows("SELECT job_id FROM etl_jobs")
    return names.job_workflow_id(str(job_id))


async def end_of(batch: Batch) -> BatchSummary:
    ends: list[BatchSummary] = []

    async def ended() -> bool:
        if (await batch.describe()).close_time is None:
            return False
        ends.append(await batch.result())
        return True

    await until(ended, within_seconds=SOON_SECONDS)
    return ends[0]


async def test_a_run_goes_on_soon_after_an_outage_and_loses_and_doubles_nothing(
    services: Services, postgres: OwnPostgres
) -> None:
    batch = await start(services, pages=PAGES, size=SIZE, page_seconds=0.05)
    await until(lambda: counted(services) >= 2 * SIZE)
    job = await job_of(services)
    postgres.end()
    await out_of_attempts(services, job)
    postgres.start()
    summary = await end_of(batch)
    assert (summary.state, summary.rows.inserted) == ("completed", PAGES * SIZE)
    assert services.rows("SELECT count(*), count(DISTINCT event_id) FROM events") == [
        (PAGES * SIZE, PAGES * SIZE)
    ]


async def test_a_pause_in_an_outage_is_accepted_at_once_and_entered_after_it(
    services: Services, postgres: OwnPostgres
) -> None:
    batch = await start(services, pages=10_000, size=SIZE, page_seconds=0.05)
    await until(lambda: counted(services) >= SIZE)
    postgres.end()
    accepted = await batch.execute_update(names.PAUSE, result_type=Accepted)
    assert accepted == Accepted(state="pausing")
    await out_of_attempts(services, batch.id)
    # Whether a job runs cannot be known now.
    assert (await batch.query(names.STATUS))["state"] == "pausing"
    postgres.start()
    paused = [("paused", "paused")]
    states = "SELECT b.state, j.state FROM etl_batches AS b JOIN etl_jobs AS j USING (batch_id)"
    await until(lambda: services.rows(states) == paused, within_seconds=SOON_SECONDS)

    async def says_so() -> bool:
        return bool((await batch.query(names.STATUS))["state"] == "paused")

    await until(says_so)
    await batch.execute_update(names.CANCEL)
    assert (await batch.result()).state == "cancelled"
    assert services.rows(states) == [("cancelled", "cancelled")]


async def test_the_end_of_a_job_that_is_cancelled_in_an_outage_is_entered_after_it(
    services: Services, postgres: OwnPostgres
) -> None:
    batch = await start(services, pages=10_000, size=SIZE, page_seconds=0.05)
    await until(lambda: counted(services) >= SIZE)
    job = await job_of(services)
    postgres.end()
    await batch.signal(names.CANCEL)
    await out_of_attempts(services, job)
    postgres.start()
    summary = await end_of(batch)
    assert (summary.state, summary.jobs.cancelled) == ("cancelled", 1)
    assert services.rows("SELECT state FROM etl_jobs") == [("cancelled",)]


async def test_a_batch_that_is_planned_in_an_outage_is_planned_after_it(
    services: Services, postgres: OwnPostgres, outage: str
) -> None:
    batch = await start(services, jobs=600, stalled=outage, pages=0)
    await until(lambda: planning(batch))
    postgres.end()
    outages.discard(outage)
    await out_of_attempts(services, batch.id)
    await batch.signal(names.PAUSE)
    postgres.start()

    async def planned() -> bool:
        return bool((await batch.query(names.STATUS))["jobs"] == 600)

    await until(planned, within_seconds=SOON_SECONDS)
    assert services.rows("SELECT count(*) FROM etl_jobs") == [(600,)]
    await batch.signal(names.CANCEL)
    assert (await end_of(batch)).state == "cancelled"


async def test_a_run_goes_on_soon_after_a_full_disk_has_room_again(
    temporal_server: TemporalServer,
) -> None:
    """Where no disk may be mounted, the server is made to say what it says of a full one."""
    with small_disk() as disk, own_postgres(disk.folder if disk else None) as own:
        async with running(
            temporal_server.client,
            own.warehouse,
            attempts=ATTEMPTS,
            segment_seconds=1,
            rows_per_page=50,
        ) as services:
            batch = await start(services, pages=PAGES, size=SIZE, page_seconds=0.05)
            await until(lambda: counted(services) >= 2 * SIZE)
            job = await job_of(services)
            if disk is not None:
                disk.fill()
            else:
                services.rows_changed(_FULL)
            await out_of_attempts(services, job)
            if disk is None:
                services.rows_changed("DROP TRIGGER no_room ON etl_pages")
            else:
                disk.clear()
            if not own.running:  # without room for its log a server ends; its keeper starts it
                own.start()
            summary = await end_of(batch)
            assert (summary.state, summary.rows.inserted) == ("completed", PAGES * SIZE)
            assert services.rows("SELECT count(*) FROM events") == [(PAGES * SIZE,)]


_FULL = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END
    $$;
    CREATE TRIGGER no_room BEFORE INSERT ON etl_pages FOR EACH ROW EXECUTE FUNCTION no_room()
"""
