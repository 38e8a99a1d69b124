"""Batches over a connection of the warehouse, without Temporal."""

from dataclasses import replace
from typing import Any

import pytest

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.providers import UnknownConnectionError, find_connection
from temporaletl.messages import ETLInput, JobProgress
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import (
    create_stored,
    delete_stored,
    lock_stored,
    replace_stored,
)
from temporaletl.worker.segment import SegmentLimits
from tests.integration.engine.running import LIMITS, Heard, run, select

PAGE_BY_PAGE = replace(LIMITS, segment=SegmentLimits(rows_per_page=1, pages=1))


@pytest.fixture(autouse=True)
def _north(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_CONNECTIONS", raising=False)
    connection_settings("numbers", names=("NUMBERS_LABEL",))
    with warehouse.connection() as connection:
        create_stored(connection, "north", "numbers", {"NUMBERS_LABEL": "first"}, {})


def label() -> Any:
    found = find_connection("numbers", "north")
    return None if found is None else found.literals["NUMBERS_LABEL"]


async def test_what_replaces_a_connection_holds_from_the_next_segment_on(
    warehouse: Warehouse,
) -> None:
    labels = []

    def on_page(_job: ETLInput, _progress: JobProgress) -> None:
        labels.append(label())
        with warehouse.connection() as connection:
            present = lock_stored(connection, "north")
            replace_stored(connection, present, {"NUMBERS_LABEL": "second"}, {})
        labels.append(label())

    heard = Heard(on_page=on_page)
    summary = await run(warehouse, connection="north", pages=3, limits=PAGE_BY_PAGE, listener=heard)
    assert (summary.state, summary.rows.inserted) == ("completed", 30)
    assert labels == ["first", "first", "second", "second", "second", "second"]
    assert select(warehouse, "SELECT DISTINCT connection FROM events") == [("north",)]


async def test_a_job_whose_connection_is_deleted_fails_at_its_next_segment(
    warehouse: Warehouse,
) -> None:
    def on_page(_job: ETLInput, _progress: JobProgress) -> None:
        with warehouse.connection() as connection:
            delete_stored(connection, lock_stored(connection, "north"))

    heard = Heard(on_page=on_page)
    summary = await run(warehouse, connection="north", pages=3, limits=PAGE_BY_PAGE, listener=heard)
    assert (summary.state, summary.rows.inserted) == ("failed", 10)
    [(_, state, cause)] = heard.ended
    assert (state, type(cause)) == ("failed", UnknownConnectionError)
    with pytest.raises(UnknownConnectionError, match="no connection 'north'"):
        await run(warehouse, connection="north")
