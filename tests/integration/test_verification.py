"""`etl verify` finds each row that somebody removed, added or changed, in every source."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.verification import Verification, verify_source
from temporaletl.messages import QueuerInput
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.testing.batch import Batch
from temporaletl.testing.harness import Harness, make_harness
from temporaletl.testing.source_fixture import SourceFixture
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.catalog import target_name
from temporaletl.worker.loading.columns import HASH, Layout, layout_of
from temporaletl.worker.loading.evolution import rows_of
from tests.integration.loading.jobs import execute
from tests.integration.temporal_server import TemporalServer
from tests.integration.temporal_subjects import Subjects
from tests.integration.trino_server import TrinoServer
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.trino import TrinoFixture


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


async def verified(request: QueuerInput, warehouse: Warehouse, url: str) -> Verification:
    settings = WarehouseSettings.model_validate(
        {"database_url": url, "schema_name": warehouse.schema}
    )
    async with Platform(TemporalSettings(), settings) as platform:
        return await verify_source(platform, request)


def verify(harness: Harness, warehouse: Warehouse, url: str) -> Verification:
    return harness.run(verified(harness.request(), warehouse, url))


def falsify(warehouse: Warehouse, table: str, layout: Layout) -> dict[str, Any]:
    """Remove a row of a table by hand, add one, and change one; return their ids by kind."""
    key = layout.own_key[-1]
    documents = (column.name for column in layout.columns if column.type == "jsonb")
    parts = {
        "table": sql.Identifier(table),
        "key": sql.Identifier(key),
        "column": sql.Identifier(next(documents)),
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


def falsify_all(warehouse: Warehouse, source: str) -> set[tuple[str, str, Any]]:
    return {
        (kind, layout.table, id_)
        for table, layout in tables(source)
        for kind, id_ in falsify(warehouse, table, layout).items()
    }


def differences(found: Verification) -> set[tuple[str, str, Any]]:
    """Kind, table and id of each."""
    return {(d.kind, d.table, d.key[-1]) for d in (one.difference for one in found.listed)}


def test_every_row_that_was_removed_added_or_changed_by_hand_is_found(
    harness: Harness, postgres_url: str
) -> None:
    warehouse = harness.warehouse()
    harness.load(warehouse)
    found = verify(harness, warehouse, postgres_url)
    assert (found.counts, found.holds) == ({}, True)
    assert sum(month.source for month in found.months) > 0
    assert all(month.source == month.warehouse for month in found.months)

    expected = falsify_all(warehouse, harness.source)
    found = verify(harness, warehouse, postgres_url)
    assert differences(found) == expected
    assert not found.holds


async def test_every_execution_that_was_removed_added_or_changed_by_hand_is_found(
    subjects: Subjects,
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
    monkeypatch.setenv("SOURCE_TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", subjects.namespace)
    monkeypatch.setenv("SOURCE_TEMPORAL_LAG_SECONDS", "0")
    request = QueuerInput(source="temporal", mode="full")
    await Batch(warehouse).run(request, scheduled=datetime.now(UTC) + timedelta(minutes=1))
    found = await verified(request, warehouse, postgres_url)
    assert (found.counts, found.holds) == ({}, True)
    totals = [(month.source, month.warehouse) for month in found.months]
    assert (sum(a for a, _ in totals), sum(b for _, b in totals)) == (subjects.rows, subjects.rows)

    expected = falsify_all(warehouse, "temporal")
    found = await verified(request, warehouse, postgres_url)
    assert differences(found) == expected
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
