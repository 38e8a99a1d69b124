"""Rejects that are sent through the transform again, as a batch of its own."""

from collections.abc import Iterator

import pytest

from temporaletl.messages import BatchSummary
from tests.integration.flows import numbers
from tests.integration.flows.services import Services

SERVICES = {"reject_threshold": 1}


@pytest.fixture(autouse=True)
def _curses() -> Iterator[None]:
    yield
    numbers.cursed.clear()


async def rejected(services: Services, *values: int) -> BatchSummary:
    numbers.cursed.update(values)
    return await services.run(jobs=2, size=10)


def ids(services: Services) -> set[str]:
    return {row for (row,) in services.rows("SELECT event_id FROM events")}


async def test_what_can_be_transformed_now_becomes_rows_and_leaves_the_table(
    services: Services,
) -> None:
    first = await rejected(services, 3, 4)
    assert (first.rows.inserted, first.rows.rejected) == (16, 4)
    numbers.cursed.clear()

    replay = await services.run("replay")

    assert replay.state == "completed"
    assert (replay.rows.inserted, replay.rows.rejected, replay.records) == (4, 0, 4)
    assert services.rows("SELECT count(*) FROM etl_rejects") == [(0,)]
    assert len(ids(services)) == 20
    # A replay is a run like any other: its rows lead to it.
    [(pages,)] = services.rows(
        "SELECT count(*) FROM events e JOIN etl_pages p USING (job_id, run_id, extracted_at) "
        "JOIN etl_batches b USING (batch_id) WHERE b.mode = 'replay'"
    )
    assert pages == 4


async def test_what_fails_again_stays_with_its_new_reason_and_fails_nothing(
    services: Services,
) -> None:
    await rejected(services, 3, 4)
    before = services.rows("SELECT reject_id, times, first_seen FROM etl_rejects ORDER BY 1")
    numbers.cursed.remove(4)

    replay = await services.run("replay")

    assert (replay.state, replay.rows.inserted, replay.rows.rejected) == ("completed", 2, 2)
    left = services.rows("SELECT reject_id, times, first_seen FROM etl_rejects ORDER BY 1")
    assert len(left) == 2
    assert set(left) < set(before)
    assert services.rows("SELECT DISTINCT reason FROM etl_rejects") == [("3 is cursed",)]


async def test_a_replay_does_not_move_the_watermark(services: Services) -> None:
    await rejected(services, 3)
    before = services.rows("SELECT * FROM etl_sync_state")
    numbers.cursed.clear()
    await services.run("replay")
    assert services.rows("SELECT * FROM etl_sync_state") == before


async def test_a_replay_without_rejects_completes_with_nothing_to_do(services: Services) -> None:
    replay = await services.run("replay")
    assert (replay.state, replay.jobs.planned, replay.records) == ("completed", 0, 0)


async def test_what_was_loaded_since_is_not_overwritten_by_an_older_record(
    services: Services,
) -> None:
    await rejected(services, 3)
    numbers.cursed.clear()
    await services.run(jobs=2, size=10, people=["jane"])  # loads number 3, and newer

    replay = await services.run("replay")

    assert (replay.rows.inserted, replay.rows.updated, replay.rows.unchanged) == (0, 0, 2)
    assert services.rows("SELECT DISTINCT person FROM events") == [("jane",)]
    assert services.rows("SELECT count(*) FROM etl_rejects") == [(0,)]


async def test_rows_that_the_warehouse_refused_are_tried_again_as_rows(
    services: Services,
) -> None:
    await services.run(jobs=1, size=1)  # makes the table
    services.rows_changed(
        "ALTER TABLE numbers_events ADD CONSTRAINT even CHECK (event_id <> '0:3')"
    )
    refused = await services.run(jobs=1, size=10)
    assert refused.rows.rejected == 1
    again = await services.run("replay")
    assert (again.rows.inserted, again.rows.rejected) == (0, 1)
    assert services.rows("SELECT count(*) FROM etl_rejects") == [(1,)]

    services.rows_changed("ALTER TABLE numbers_events DROP CONSTRAINT even")
    replay = await services.run("replay")

    assert (replay.rows.inserted, replay.rows.rejected) == (1, 0)
    assert "0:3" in ids(services)
    assert services.rows("SELECT count(*) FROM etl_rejects") == [(0,)]
