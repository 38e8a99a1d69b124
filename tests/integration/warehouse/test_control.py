"""Pause and cancel in the ledger."""

from typing import Any

import pytest

from temporaletl.messages import ETLInput
from temporaletl.warehouse import control, ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.control import Rest
from temporaletl.warehouse.reports import find_batch, list_batches
from tests.integration.warehouse.batches import begin, finish, job, make_metadata, plan, rows

BATCH = make_metadata().batch_id


@pytest.fixture
def jobs(warehouse: Warehouse) -> list[ETLInput]:
    """Two jobs of a batch, of which the first runs."""
    metadata = make_metadata()
    planned = plan(warehouse, metadata, [job(metadata, 1), job(metadata, 2)])
    run(warehouse, planned[0])
    return planned


def run(warehouse: Warehouse, begun: ETLInput) -> None:
    ledger.begin_job(warehouse, begun, workflow_id="job/1", run_id="run")


def request(warehouse: Warehouse, state: Any, change: int) -> None:
    control.record_control(warehouse, BATCH, state, change=change)


def stored(warehouse: Warehouse) -> str:
    [(state,)] = rows(warehouse, "SELECT state FROM etl_batches")
    return str(state)


def reported(warehouse: Warehouse) -> str:
    report = find_batch(warehouse, BATCH)
    assert report is not None
    return report.state


def test_a_batch_is_paused_once_none_of_its_jobs_runs(
    warehouse: Warehouse, jobs: list[ETLInput]
) -> None:
    request(warehouse, "pausing", 1)
    assert not control.record_rest(warehouse, BATCH)
    assert (stored(warehouse), reported(warehouse)) == ("pausing", "pausing")
    assert control.read_rest(warehouse, BATCH) == Rest(at_rest=False, jobs_running=1)

    control.pause_job(warehouse, jobs[0])
    assert control.read_rest(warehouse, BATCH) == Rest(at_rest=True, jobs_running=0)
    # Nobody has looked for it yet, and a report is right all the same.
    assert (stored(warehouse), reported(warehouse)) == ("pausing", "paused")
    assert control.record_rest(warehouse, BATCH)
    assert stored(warehouse) == "paused"


def test_a_job_that_is_resumed_by_itself_makes_its_paused_batch_a_pausing_one(
    warehouse: Warehouse, jobs: list[ETLInput]
) -> None:
    request(warehouse, "pausing", 1)
    control.pause_job(warehouse, jobs[0])
    control.record_rest(warehouse, BATCH)
    run(warehouse, jobs[0])
    assert reported(warehouse) == "pausing"


def test_a_batch_that_is_being_planned_is_not_at_rest(warehouse: Warehouse) -> None:
    begin(warehouse, make_metadata())
    request(warehouse, "pausing", 1)
    assert not control.read_rest(warehouse, BATCH).at_rest
    assert not control.record_rest(warehouse, BATCH)
    assert reported(warehouse) == "pausing"


@pytest.mark.usefixtures("jobs")
def test_a_late_attempt_at_a_request_does_not_undo_a_later_one(warehouse: Warehouse) -> None:
    request(warehouse, "pausing", 1)
    request(warehouse, "running", 2)
    request(warehouse, "pausing", 1)
    assert stored(warehouse) == "running"
    request(warehouse, "cancelling", 3)
    request(warehouse, "running", 2)
    assert (stored(warehouse), reported(warehouse)) == ("cancelling", "cancelling")


def test_a_repeated_request_leaves_a_paused_batch_paused(
    warehouse: Warehouse, jobs: list[ETLInput]
) -> None:
    request(warehouse, "pausing", 1)
    control.pause_job(warehouse, jobs[0])
    control.record_rest(warehouse, BATCH)
    request(warehouse, "pausing", 1)
    assert stored(warehouse) == "paused"


@pytest.mark.usefixtures("jobs")
def test_a_batch_that_has_ended_stays_as_it_ended(warehouse: Warehouse) -> None:
    request(warehouse, "pausing", 1)
    assert finish(warehouse, make_metadata(), cancelled=True).state == "cancelled"
    request(warehouse, "running", 2)
    assert control.record_rest(warehouse, BATCH)
    assert (stored(warehouse), reported(warehouse)) == ("cancelled", "cancelled")


def test_a_job_that_never_began_or_has_ended_is_not_paused(
    warehouse: Warehouse, jobs: list[ETLInput]
) -> None:
    ledger.end_job(warehouse, jobs[0], "completed")
    for one in jobs:
        control.pause_job(warehouse, one)
    assert rows(warehouse, "SELECT state FROM etl_jobs ORDER BY seq") == [
        ("completed",),
        ("planned",),
    ]


def test_a_paused_batch_is_listed_among_those_that_go_on(
    warehouse: Warehouse, jobs: list[ETLInput]
) -> None:
    request(warehouse, "pausing", 1)
    control.pause_job(warehouse, jobs[0])
    later = make_metadata("shop-2")
    plan(warehouse, later, [])
    finish(warehouse, later)
    found = [
        (report.batch_id, report.state) for report in list_batches(warehouse, ended=False, limit=5)
    ]
    assert found == [(BATCH, "paused")]
