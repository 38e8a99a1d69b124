"""The reference of tables and the warehouse that services make name the same columns."""

import re

import msgspec
import pytest

from temporaletl import strategies
from temporaletl.bound_connection import DEFAULT
from temporaletl.queuer import sources as queuer_sources
from temporaletl.rows import Event, Row
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.views import views
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


def comments(warehouse: Warehouse, kinds: str) -> dict[str, dict[str, str]]:
    """The comments in the warehouse: by table or view, of itself and of its columns."""
    with warehouse.connection() as connection:
        found = connection.execute(
            "SELECT c.relname, coalesce(a.attname, ''), coalesce(d.description, '') "
            "FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 "
            "AND NOT a.attisdropped LEFT JOIN pg_description d ON d.objoid = c.oid "
            "AND d.classoid = 'pg_class'::regclass AND d.objsubid = coalesce(a.attnum, 0) "
            "WHERE c.relnamespace = current_schema()::regnamespace AND strpos(%s, c.relkind) > 0",
            [kinds],
        ).fetchall()
    told: dict[str, dict[str, str]] = {}
    for name, column, text in found:
        told.setdefault(str(name), {})[str(column)] = str(text)
    return told


def plain(cell: str) -> str:
    """A cell's text without its marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell).replace("`", "")


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


def test_what_the_reference_says_of_a_sources_columns_is_their_comment(
    warehouse: Warehouse, made: dict[str, dict[str, str]]
) -> None:
    told = comments(warehouse, "rp")
    said = {
        heading: {code_in(row[0])[0]: plain(row[-1]) for row in rows}
        for heading, text in sections(text_of("reference/tables.md"))
        for head, rows in tables(text)
        if head[:2] == ["column", "type"]
    }
    for row in rows_of_sources():
        columns = [field.name for field in msgspec.structs.fields(row)]
        for table in {row.table, *(name for name in told if name.endswith(f"_{row.table}"))}:
            assert {c: told[table][c] for c in columns} == {c: said[row.table][c] for c in columns}
            assert all(told[table].values()), table
    assert made["etl_batches"].keys() == {
        name for name, text in told["etl_batches"].items() if text
    }


def test_every_view_is_documented_as_its_comments_say(warehouse: Warehouse) -> None:
    layouts = [layout_of(Event)]
    for source in ("jira", "launchpad", "salesforce"):
        schema.prepare(warehouse, layouts, source, DEFAULT)
    said = {
        heading: {code_in(row[0])[0]: row[-1] for row in rows}
        for heading, text in sections(text_of("reference/tables.md"))
        for head, rows in tables(text)
        if head == ["column", "meaning"]
    }
    assert comments(warehouse, "v") == said
    assert said.keys() == {view.name for view in views()}
