"""The reference of tables and the warehouse that services make name the same columns."""

import pytest

from temporaletl import strategies
from temporaletl.connections import DEFAULT
from temporaletl.queuer import sources as queuer_sources
from temporaletl.rows import Event, Row
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker import sources as worker_sources
from temporaletl.worker.loading import schema
from temporaletl.worker.loading.columns import layout_of
from tests.documentation import code_in, sections, tables, text_of

#: Every table with rows of a source; documented once, above them.
LINEAGE = "Columns of every row"


def documented() -> dict[str, dict[str, str]]:
    """The tables of the page, each with its columns and their types."""
    found: dict[str, dict[str, str]] = {}
    for heading, text in sections(text_of("reference/tables.md")):
        for head, rows in tables(text):
            if head[:2] == ["column", "type"]:
                found[heading] = {code_in(name)[0]: kind for name, kind, *_ in rows}
                assert all(cells[-1] for cells in rows), heading
    return found


def rows_of_sources() -> set[type[Row]]:
    import_sources(queuer_sources.__name__)
    import_sources(worker_sources.__name__)
    return {
        row
        for name in strategies.transformers
        for row in strategies.transformers.get(name).rows
        if row.__module__.startswith("temporaletl.")
    }


def actual(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    rows = rows_of_sources()
    schema.prepare(warehouse, [layout_of(row) for row in rows], "jira", DEFAULT)
    with warehouse.connection() as connection:
        columns = connection.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) "
            "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum",
            [warehouse.schema],
        ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in (map(str, row) for row in columns):
        short = kind.replace("timestamp with time zone", "timestamptz")
        found.setdefault(table, {})[column] = short.replace(
            "timestamp without time zone", "timestamp"
        )
    return found


@pytest.fixture
def made(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    return actual(warehouse)


def test_every_table_and_column_is_documented_and_no_other(
    made: dict[str, dict[str, str]],
) -> None:
    described = documented()
    lineage = described.pop(LINEAGE)
    assert lineage.items() <= made[Event.table].items()
    assert described.keys() == made.keys()
    loaded = {row.table for row in rows_of_sources()}
    for table, columns in made.items():
        expected = described[table]
        if table in loaded:
            # Where a row class has a field of that name, the platform's column has another.
            expected |= {name: lineage[name] for name in lineage.keys() & columns - expected.keys()}
        assert columns == expected, table


def test_tables_of_events_are_partitioned_by_source(made: dict[str, dict[str, str]]) -> None:
    assert "source_kind_id" in made[Event.table]
