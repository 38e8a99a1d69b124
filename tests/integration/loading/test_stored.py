"""What an extraction may ask of what is stored."""

from dataclasses import replace

import pytest

from temporaletl import Whole
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading.jobs import Job, make_event

IDS = [
    "bug:1:created",
    "bug:1:x",
    "bug:12:created",
    "bug:2",
    "bugs:9:x",
    "question:7:a",
    "\U0010fffe:1",
]


@pytest.mark.parametrize(
    ("prefix", "items"),
    [
        ("", {"bug", "bugs", "question", "\U0010fffe"}),
        ("bug:", {"1", "12", "2"}),
        ("bug:1:", {"created", "x"}),
        ("question:", {"7"}),
        ("nothing:", set()),
    ],
)
def test_items_are_what_follows_a_prefix_up_to_the_next_colon(
    warehouse: Warehouse, prefix: str, items: set[str]
) -> None:
    job = Job(warehouse)
    job.load(*(make_event(n, event_id=id_) for n, id_ in enumerate(IDS)))
    Job(warehouse, source="other").load(make_event(event_id="bug:99:created"))
    assert job.loader.stored_items(prefix) == items


def test_ids_are_all_that_follows_a_prefix(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(*(make_event(n, event_id=id_) for n, id_ in enumerate(IDS)))
    Job(warehouse, source="other").load(make_event(event_id="bug:99:created"))
    assert job.loader.stored_ids("bug:") == {"1:created", "1:x", "12:created", "2"}
    assert job.loader.stored_ids("") == set(IDS)
    assert job.loader.stored_ids("nothing:") == set()


def test_an_exact_whole_of_nothing_is_that_very_event(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    ids = ["order:1", "order:10", "order:1:2", "order:1 ", "order:2"]
    job.load(*(make_event(n, event_id=id_) for n, id_ in enumerate(ids)))
    gone = replace(job.page(), wholes=[Whole("order:1", exact=True)])
    assert job.loader.load(gone).deleted == 1
    assert job.loader.stored_ids("order:") == {"10", "1:2", "1 ", "2"}


def test_properties_are_those_of_the_sources_own_event(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1, event_id="a"), make_event(2, event_id="b", event_properties={}))
    Job(warehouse, source="other").load(make_event(3, event_id="c"))
    assert job.loader.stored_properties("a") == {"field": "status", "to": "Done", "n": 1}
    assert not job.loader.stored_properties("b")
    assert job.loader.stored_properties("c") is None


def test_before_the_first_load_nothing_is_stored(warehouse: Warehouse) -> None:
    loader = Job(warehouse).loader
    assert loader.stored_items("") == frozenset()
    assert loader.stored_properties("a") is None
