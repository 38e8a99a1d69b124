"""What an extraction may ask of what is stored."""

from dataclasses import replace

from temporaletl import CompleteSet
from temporaletl.bound_connection import DEFAULT
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import JobEvents
from tests.integration.loading.jobs import Job, make_event


def stored_ids(warehouse: Warehouse) -> set[str]:
    with warehouse.connection() as connection:
        return {str(id_) for (id_,) in connection.execute("SELECT event_id FROM events")}


def test_an_exact_tombstone_deletes_that_very_event(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    ids = ["order:1", "order:10", "order:1:2", "order:1 ", "order:2"]
    job.load(*(make_event(n, event_id=id_) for n, id_ in enumerate(ids)))
    gone = replace(job.page(), complete_sets=[CompleteSet("order:1", exact=True)])
    assert job.loader.load(gone).deleted == 1
    left = {"order:10", "order:1:2", "order:1 ", "order:2"}
    assert stored_ids(warehouse) == left


def test_an_event_that_cannot_be_packed_is_not_taken_for_a_missing_one(
    warehouse: Warehouse,
) -> None:
    job = Job(warehouse)
    ids = ["order:1:paid", "order:1:sent", "order:1:void"]
    job.load(*(make_event(n, event_id=id_) for n, id_ in enumerate(ids)))
    refused = make_event(1, event_id="order:1:sent", timezone="Mars/Olympus")
    page = job.page(make_event(0, event_id="order:1:paid"), refused)
    progress = job.loader.load(replace(page, complete_sets=[CompleteSet("order:1:")]))
    assert (progress.rows.rejected, progress.deleted) == (1, 1)
    assert stored_ids(warehouse) == {"order:1:paid", "order:1:sent"}


def test_properties_are_those_of_the_sources_own_event(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1, event_id="a"), make_event(2, event_id="b", event_properties={}))
    Job(warehouse, source="other").load(make_event(3, event_id="c"))
    stored = JobEvents(warehouse, job.input.source, job.input.connection)
    assert stored.properties("a") == {"field": "status", "to": "Done", "n": 1}
    assert not stored.properties("b")
    assert stored.properties("c") is None


def test_before_the_first_load_nothing_is_stored(warehouse: Warehouse) -> None:
    assert JobEvents(warehouse, "jira", DEFAULT).properties("a") is None
