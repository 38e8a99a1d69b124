"""Rows that the source no longer has."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from temporaletl.deletions import Items
from temporaletl.messages import JobProgress
from temporaletl.rows import CompleteSet
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.scans import JobScan
from temporaletl.worker.loading.stored import JobEvents
from tests.integration.flows.services import Services
from tests.integration.loading.jobs import Job, fetch, make_event


def ids(services: Services) -> list[str]:
    return [row for (row,) in services.rows("SELECT event_id FROM events ORDER BY 1")]


async def test_events_missing_from_a_complete_set_are_deleted_and_counted(
    services: Services,
) -> None:
    await services.run(jobs=2, size=3)
    summary = await services.run(jobs=2, size=3, complete=True, missing=1)
    assert (summary.deleted, summary.rows.unchanged) == (2, 4)
    assert ids(services) == ["0:0", "0:2", "1:0", "1:2"]
    [(pages,)] = services.rows("SELECT sum(deleted)::int FROM etl_pages")
    assert pages == 2


async def test_a_complete_set_covers_its_own_prefix_alone(services: Services) -> None:
    await services.run(jobs=12, size=2)  # jobs 1, 10 and 11 begin with the same digit
    await services.run(jobs=2, size=2, complete=True, missing=0)
    assert [row for row in ids(services) if row.endswith(":0")] == [
        f"{job}:0" for job in (10, 11, 2, 3, 4, 5, 6, 7, 8, 9)
    ]


async def test_without_a_complete_set_nothing_is_deleted(services: Services) -> None:
    await services.run(size=3)
    summary = await services.run(size=3, missing=1)
    assert summary.deleted == 0
    assert len(ids(services)) == 3


async def test_a_repeated_complete_set_deletes_nothing(services: Services) -> None:
    await services.run(size=3, complete=True)
    summary = await services.run(size=3, complete=True)
    assert (summary.deleted, summary.rows.unchanged) == (0, 3)


async def test_deleted_rows_are_entered_with_the_run_that_deleted_them(services: Services) -> None:
    await services.run(jobs=2, size=3)
    await services.run(jobs=2, size=3, complete=True, missing=1)
    found = services.rows(
        "SELECT d.source, d.connection, d.table_name, d.key FROM etl_deletions AS d "
        "JOIN etl_jobs AS j USING (batch_id, job_id, workflow_id, run_id) "
        "WHERE d.deleted_at <= now() AND j.deleted = 1 ORDER BY d.key"
    )
    assert found == [("numbers", "default", "events", f"{job}:1") for job in range(2)]


def test_a_soft_deleted_event_stays_until_it_is_loaded_again(warehouse: Warehouse) -> None:
    def states() -> list[tuple[Any, ...]]:
        columns = (
            "SELECT event_id, deleted_at IS NULL AS there, row_hash IS NULL AS anew "
            "FROM events ORDER BY 1"
        )
        return [tuple(row.values()) for row in fetch(warehouse, columns)]

    def load(*numbers: int, at: datetime | None = None) -> JobProgress:
        job = Job(warehouse)
        page = job.page(*map(make_event, numbers), at=at)
        return job.loader.load(replace(page, complete_sets=[CompleteSet("event-")]))

    warehouse.soft_delete = True
    before = datetime.now(UTC)
    load(1, 2, 3)
    assert load(1).deleted == 2
    gone = [("event-000002", False, True), ("event-000003", False, True)]
    assert states() == [("event-000001", True, False), *gone]
    # It is deleted once, and an older extraction does not bring it back.
    assert load(1).deleted == 0
    assert load(1, 2, 3, at=before).rows.updated == 0
    assert load(1, 3).rows.updated == 1
    assert states()[1:] == [gone[0], ("event-000003", True, False)]
    assert JobEvents(warehouse, "jira", "default").properties("event-000002") is None
    assert JobEvents(warehouse, "jira", "default").properties("event-000003") is not None
    keys = fetch(warehouse, "SELECT key FROM etl_deletions ORDER BY deletion_id")
    assert [row["key"] for row in keys] == ["event-000002", "event-000003"]


def test_a_soft_deleted_item_is_stored_no_more_for_a_scan(warehouse: Warehouse) -> None:
    warehouse.soft_delete = True
    job = Job(warehouse)
    job.load(*(make_event(event_id=f"{item}:created") for item in ("1", "2", "3")))
    later = Job(warehouse)
    later.loader.load(replace(later.page(), complete_sets=[CompleteSet("2:")]))
    scan = JobScan(warehouse, later.input, most=timedelta(minutes=1))
    since = datetime.now(UTC) + timedelta(minutes=1)
    assert scan.compare(Items(), since, with_kept=True) == 2
    assert sorted(scan.found("missing", 9)) == ["1", "3"]
