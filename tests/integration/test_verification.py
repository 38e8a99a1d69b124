"""`etl verify` finds each row that somebody removed, added or changed, in every source."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.verification import Verification, verify_source
from temporaletl.settings import TemporalSettings, WarehouseSettings
from temporaletl.testing.harness import Harness, make_harness
from temporaletl.testing.source_fixture import SourceFixture
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.catalog import target_name
from temporaletl.worker.loading.columns import HASH, Layout, layout_of
from temporaletl.worker.loading.evolution import rows_of
from tests.integration.loading.jobs import execute
from tests.integration.trino_server import TrinoServer
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.trino import TrinoFixture

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(
    params=[JiraFixture, LaunchpadFixture, SalesforceFixture, ServiceTitanFixture, TrinoFixture],
    ids=lambda kind: kind.source,
)
def harness(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Iterator[Harness]:
    kind: type[SourceFixture] = request.param
    if kind is TrinoFixture:
        server: TrinoServer = request.getfixturevalue("trino_server")
        if server.secured is None:
            pytest.skip("no Trino server that takes our tokens")
        TrinoFixture.use(server)
    with make_harness(kind, request, monkeypatch, caplog, tmp_path) as made:
        yield made


def tables(source: str) -> list[tuple[str, Layout]]:
    layouts = map(layout_of, rows_of(source))
    return [(target_name(layout, source), layout) for layout in layouts]


def verify(harness: Harness, warehouse: Warehouse, url: str) -> Verification:
    async def verified() -> Verification:
        settings = WarehouseSettings.model_validate(
            {"database_url": url, "schema_name": warehouse.schema}
        )
        async with Platform(TemporalSettings(), settings) as platform:
            return await verify_source(platform, harness.request())

    return harness.run(verified())


def falsify(warehouse: Warehouse, table: str, layout: Layout) -> dict[str, Any]:
    """Remove a row of a table by hand, add one, and change one; return their keys by kind."""
    key = layout.own_key[0]
    parts = {
        "table": sql.Identifier(table),
        "key": sql.Identifier(key),
        "column": sql.Identifier("event_properties" if layout.partitioned else "full_data"),
        "columns": sql.SQL(", ").join(
            sql.Identifier(column.name) for column in layout.columns if column.name != key
        ),
        "hash": sql.Identifier(layout.ours[HASH]),
    }
    with warehouse.connection() as connection:
        first, second, third = (
            value
            for (value,) in connection.execute(
                sql.SQL("SELECT {key} FROM {table} ORDER BY {key} LIMIT 3").format(**parts)
            )
        )
        added = f"{second}:by-hand" if isinstance(second, str) else -7
        for statement, values in (
            ("DELETE FROM {table} WHERE {key} = %s", [first]),
            (
                (
                    "INSERT INTO {table} ({key}, {columns}) "
                    "SELECT %s, {columns} FROM {table} WHERE {key} = %s"
                ),
                [added, second],
            ),
            (
                'UPDATE {table} SET {column} = {column} || \'{{"by": "hand"}}\' WHERE {key} = %s',
                [third],
            ),
        ):
            connection.execute(sql.SQL(statement).format(**parts), values)
    return {"missing": first, "surplus": added, "changed": third}


def test_every_row_that_was_removed_added_or_changed_by_hand_is_found(
    harness: Harness, postgres_url: str
) -> None:
    warehouse = harness.warehouse()
    harness.load(warehouse)
    found = verify(harness, warehouse, postgres_url)
    assert (found.counts, found.holds) == ({}, True)
    assert sum(month.source for month in found.months) > 0
    assert all(month.source == month.warehouse for month in found.months)

    expected = {
        (kind, layout.table, (key,))
        for table, layout in tables(harness.source)
        for kind, key in falsify(warehouse, table, layout).items()
    }
    found = verify(harness, warehouse, postgres_url)
    listed = {(d.kind, d.table, d.key) for d in (one.difference for one in found.listed)}
    assert listed == expected
    assert not found.holds


@pytest.mark.parametrize("harness", [JiraFixture], indirect=True)
def test_what_the_next_run_would_load_is_no_fault(harness: Harness, postgres_url: str) -> None:
    warehouse = harness.warehouse()
    harness.load(warehouse)
    execute(
        warehouse,
        "INSERT INTO etl_sync_state (source, stream, connection, watermark, state) VALUES "
        "('jira', 'issues', 'default', %s, 'completed') ON CONFLICT (source, stream, connection) "
        "DO UPDATE SET watermark = excluded.watermark",
        harness.fixture.now,
    )
    harness.fixture.change(harness.fixture.now + timedelta(minutes=5))
    execute(
        warehouse,
        "UPDATE events SET extracted_at = now() + interval '1 hour', event_type = 'by_hand' "
        "WHERE event_id = (SELECT max(event_id) FROM events WHERE event_type = 'comment_created')",
    )
    found = verify(harness, warehouse, postgres_url)
    assert found.holds
    kinds = {kind for kind, _ in found.counts}
    reasons = {str(reason).partition(":")[0] for _, reason in found.counts}
    assert (kinds, reasons) == ({"missing", "changed"}, {"not loaded yet", "loaded meanwhile"})
