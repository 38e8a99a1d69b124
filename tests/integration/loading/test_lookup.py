"""The lookup of keys costs by the page, not by the table."""

from typing import Any

from temporaletl.rows import Event
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import pages, schema
from temporaletl.worker.loading.columns import layout_of
from temporaletl.worker.loading.copying import array, hash_array
from temporaletl.worker.loading.statements import statements_for
from tests.integration.loading.jobs import Job, execute, make_event


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    below = [found for part in plan.get("Plans", []) for found in scans(part)]
    return [plan, *below] if "Relation Name" in plan else below


def test_a_table_without_statistics_is_read_by_its_key(warehouse: Warehouse) -> None:
    """Read whole for each key, a reload of 130,000 events took a minute and a half."""
    job = Job(warehouse)
    job.load(*map(make_event, range(5_000)))
    execute(warehouse, "ALTER TABLE jira_events SET (autovacuum_enabled = off)")
    layout = layout_of(Event)
    [target] = schema.prepare(warehouse, [layout], "jira", "default")
    keys = [array("text", [b"\0\0\0\x0cevent-000001"] * 2_000)]
    asked = {
        "source": "jira",
        "connection": "default",
        "a0": keys[0],
        "a1": hash_array([bytes(8)] * 2_000),
    }
    with warehouse.connection() as connection:
        connection.execute(pages._SETTINGS)
        explain = b"EXPLAIN (FORMAT JSON) " + statements_for(target).lookup.as_bytes(connection)
        row: Any = connection.execute(explain, asked).fetchone()
    found = scans(row[0][0]["Plan"])
    assert len(found) == 1
    for column in ("source_kind_id", "connection", "event_id"):
        assert column in found[0]["Index Cond"]
