"""Values that a warehouse shall not hold, of rows and of what becomes a reject."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from temporaletl.errors import RecordError
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query
from temporaletl.rows import Event
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading import segments
from tests.integration.loading.jobs import Job, fetch, make_event
from tests.integration.truth.stored import stored

CANARY = "canary-of-a-person"


@pytest.mark.parametrize(
    ("action", "begins"), [("hash", "hash:"), ("redact", "[redacted]"), ("drop", "None")]
)
async def test_values_are_hashed_redacted_or_left_out_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, action: str, begins: str
) -> None:
    def transform(record: Any, _context: object) -> list[Event]:
        if isinstance(record, Event):
            return [record]
        raise RecordError("no event")

    async def extract(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
        properties = {"who": [{"mail": CANARY, "id": 1}, {"id": 1}], "text": "kept"}
        event = make_event(1, person=CANARY, event_properties=properties)
        yield Page(records=[event, {"mail": CANARY}], cursor=1)

    paths = ("person", "event_properties.who.mail")
    monkeypatch.setenv("ETL_FIELD_RULES", ",".join(f"jira.{path}={action}" for path in paths))
    monkeypatch.setenv("ETL_HASH_KEY", "a key of some length")
    segments.register(monkeypatch, extract, transform)

    await segments.run(Job(warehouse), reject_threshold=1)

    [row] = fetch(warehouse, "SELECT person, event_properties FROM events")
    assert len(fetch(warehouse, "SELECT 1 FROM etl_rejects")) == 1
    assert CANARY not in str(stored(warehouse))
    who, *others = row["event_properties"]["who"]
    assert row["event_properties"]["text"] == "kept"
    # A digest is the same wherever the value is the same.
    assert who.get("mail") == row["person"]
    assert str(row["person"]).startswith(begins)
    assert [who["id"], *others] == [1, {"id": 1}]
