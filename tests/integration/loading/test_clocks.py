"""No clock that was wrong for a while loses an update, or keeps what is gone."""

from datetime import UTC, datetime, timedelta

from temporaletl.rows import CompleteSet
from temporaletl.warehouse.clock import warehouse_now
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import begin_job
from tests.integration.loading.jobs import NOON, Job, counts, execute, fetch, make_event

_DAY = timedelta(days=1)


def stored_times(warehouse: Warehouse) -> list[datetime]:
    return [row["extracted_at"] for row in fetch(warehouse, "SELECT extracted_at FROM events")]


def set_ahead(warehouse: Warehouse) -> None:
    """As a worker or a database left it whose clock was a day ahead."""
    execute(warehouse, "UPDATE events SET extracted_at = now() + interval '1 day'")


def test_the_clock_of_the_warehouse_is_never_ahead_of_it(warehouse: Warehouse) -> None:
    clock = begin_job(warehouse, Job(warehouse).input, workflow_id="job/1", run_id="r").clock
    for _ in range(20):
        assert clock() <= warehouse_now(warehouse)


def test_a_change_is_stored_though_the_stored_time_has_not_come(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1), make_event(2))
    set_ahead(warehouse)

    progress = job.load(make_event(1, employee_id="E2"), make_event(2))
    assert counts(progress) == (2, 1, 1, 0)
    assert fetch(warehouse, "SELECT employee_id FROM events ORDER BY event_id") == [
        {"employee_id": "E2"},
        {"employee_id": "E1"},
    ]


def test_what_is_older_is_still_refused_beside_it(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1), make_event(2), at=NOON)
    execute(
        warehouse,
        "UPDATE events SET extracted_at = now() + interval '1 day' WHERE event_id = %s",
        make_event(1).event_id,
    )
    older = [make_event(n, employee_id="older") for n in (1, 2)]
    assert counts(job.load(*older, at=NOON - _DAY)) == (2, 1, 1, 0)
    assert fetch(warehouse, "SELECT employee_id FROM events ORDER BY event_id") == [
        {"employee_id": "older"},
        {"employee_id": "E1"},
    ]


def test_a_page_that_says_it_comes_from_tomorrow_is_of_today(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1), at=datetime.now(UTC) + _DAY)
    assert stored_times(warehouse)[0] <= warehouse_now(warehouse)
    # The ledger's page is found by the row's time.
    assert fetch(
        warehouse, "SELECT count(*) AS n FROM events JOIN etl_pages USING (job_id, extracted_at)"
    ) == [{"n": 1}]


def test_what_is_gone_is_deleted_though_its_time_has_not_come(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1, event_id="7:a"), make_event(2, event_id="7:b"))
    set_ahead(warehouse)
    page = job.page(make_event(1, event_id="7:a"))
    progress = job.loader.load(type(page)(**{
        **{name: getattr(page, name) for name in page.__slots__},
        "complete_sets": [CompleteSet("7:")],
    }))  # fmt: skip
    assert progress.deleted == 1
    assert [row["event_id"] for row in fetch(warehouse, "SELECT event_id FROM events")] == ["7:a"]


def test_while_others_run_an_unchanged_row_gets_an_honest_time(warehouse: Warehouse) -> None:
    job, _other = Job(warehouse), Job(warehouse)
    job.load(make_event(1))
    set_ahead(warehouse)
    job.load(make_event(1))
    assert stored_times(warehouse)[0] <= warehouse_now(warehouse)
