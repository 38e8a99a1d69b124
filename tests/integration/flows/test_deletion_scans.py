"""Deletion scans under Temporal: across segments and runs, and in nobody's way."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest_asyncio

from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import read_states
from tests.integration.flows import numbers
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer


@pytest_asyncio.fixture
async def services(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> AsyncGenerator[Services]:
    async with running(temporal_server.client, warehouse) as both:
        yield both


def ids(services: Services) -> list[str]:
    return [row[0] for row in services.rows("SELECT event_id FROM events ORDER BY event_id")]


def of_jobs(*jobs: int) -> list[str]:
    return sorted(f"{job}:{value}" for job in jobs for value in range(2))


async def test_what_is_listed_no_more_is_deleted(services: Services) -> None:
    await services.run(jobs=12, size=2)
    here = [job for job in range(12) if job not in (1, 7)]
    summary = await services.run(jobs=1, size=2, here=here)
    assert (summary.state, summary.deleted, summary.jobs.completed) == ("completed", 4, 2)
    assert ids(services) == of_jobs(*here)


async def test_a_scan_goes_on_over_any_number_of_segments(services: Services) -> None:
    await services.run(jobs=12, size=2)
    here = list(range(11))
    numbers.scanned.clear()
    async with running(services.client, services.warehouse, segment_seconds=0.000001) as hasty:
        summary = await hasty.run(jobs=0, size=2, here=here)
    assert (summary.state, summary.deleted) == ("completed", 2)
    # Nothing is listed twice but what was under way when a segment ended.
    assert sorted(set(numbers.scanned)) == here
    assert ids(services) == of_jobs(*here)


async def test_a_scan_whose_time_is_over_goes_on_in_the_next_run(services: Services) -> None:
    await services.run(jobs=5, size=2)
    async with running(
        services.client, services.warehouse, deletion_scan_minutes=0.0000001
    ) as hurried:
        for listed in (1, 2):
            summary = await hurried.run(jobs=0, size=2, here=[0, 1, 2, 3])
            assert (summary.state, summary.deleted) == ("completed", 0)
            (note,) = summary.notes
            assert f"goes on in the next run: {listed} are listed so far" in note.note
    summary = await services.run(jobs=0, size=2, here=[0, 1, 2, 3])
    assert (summary.state, summary.deleted, summary.notes) == ("completed", 2, ())
    assert ids(services) == of_jobs(0, 1, 2, 3)


async def test_a_scan_that_fails_holds_no_watermark_back_and_deletes_nothing(
    services: Services,
) -> None:
    await services.run("incremental", jobs=3, size=2)
    before = datetime.now(UTC)
    summary = await services.run("incremental", jobs=3, size=2, here=[0], scan_fails=True)
    assert (summary.state, summary.jobs.completed, summary.jobs.failed) == ("failed", 3, 1)
    assert "the list cannot be had" in summary.failures[0].error
    (state,) = read_states(services.warehouse, "numbers")
    assert state.watermark is not None
    assert state.watermark > before
    assert ids(services) == of_jobs(0, 1, 2)
