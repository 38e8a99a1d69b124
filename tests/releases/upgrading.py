"""Warehouses of releases, brought to what the code of today wants."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from temporaletl.control.operations.tables import declared_rows
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.sessions import only_row
from temporaletl.worker.loading.evolution import migrate_tables
from tests.integration.warehouse.batches import rows
from tests.releases.frozen import Release

_COLUMNS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           coalesce(pg_get_expr(d.adbin, d.adrelid), a.attidentity::text)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
"""
_OTHERS = """
    SELECT tablename, replace(regexp_replace(indexdef, 'INDEX \\S+ ', 'INDEX '),
                              quote_ident(schemaname) || '.', '')
    FROM pg_indexes WHERE schemaname = current_schema()
    UNION ALL
    SELECT c.relname, contype::text || pg_get_constraintdef(o.oid) FROM pg_constraint o
    JOIN pg_class c ON c.oid = o.conrelid
    WHERE o.connamespace = current_schema()::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT viewname, definition FROM pg_views WHERE schemaname = current_schema()
"""


@contextmanager
def own_database(url: str) -> Iterator[str]:
    """The URL of a new database of the server, which is dropped afterwards."""
    database = f"released_{uuid.uuid4().hex[:12]}"
    name = sql.Identifier(database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    try:
        yield make_conninfo(url, dbname=database)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def restored(url: str, release: Release) -> Iterator[Warehouse]:
    """The warehouse that a release left, in a database of its own, which is dropped."""
    with own_database(url) as own:
        with psycopg.connect(own, autocommit=True) as connection:
            connection.execute(release.warehouse.read_bytes())
        with Warehouse(WarehouseSettings.model_validate({"database_url": own})) as warehouse:
            yield warehouse


def bring_up_to_date(warehouse: Warehouse) -> None:
    """Do what `etl migrate` does."""
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
    migrate(warehouse)
    for _change in migrate_tables(warehouse, declared_rows(None)):
        pass


@dataclass(frozen=True)
class State:
    """What a warehouse holds: its columns, what else stands on its tables, and their rows."""

    columns: frozenset[tuple[str, str, str, bool, str]]  # table, name, type, NOT NULL, default
    others: frozenset[tuple[str, str]]  # table, and the definition of what is on it
    rows: dict[str, int]

    @classmethod
    def of(cls, warehouse: Warehouse) -> "State":
        columns = frozenset(rows(warehouse, _COLUMNS))
        counted: dict[str, int] = {}
        with warehouse.connection() as connection:
            for table in {column[0] for column in columns}:
                count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
                counted[table] = only_row(connection.execute(count))[0]
        return cls(columns, frozenset(rows(warehouse, _OTHERS)), counted)

    def lacks(self, wanted: "State") -> list[tuple[object, ...]]:
        """What is not as it is in a warehouse that this version made, on the tables of that."""
        differences = (self.columns ^ wanted.columns, self.others ^ wanted.others)
        return [one for each in differences for one in sorted(each) if one[0] in wanted.rows]

    def harms(self, before: "State") -> list[str]:
        """What a service of the version before would miss in it, or could not write to it."""
        had, has = ({one[:3] for one in state.columns} for state in (before, self))
        gone = [f"{table}.{column} {kind}" for table, column, kind in sorted(had - has)]
        lost = [
            name for name, count in sorted(before.rows.items()) if self.rows.get(name, 0) < count
        ]
        known = {one[:2] for one in before.columns}
        required = [
            f"{table}.{column} is required"
            for table, column, _, never_null, default in sorted(self.columns)
            if never_null and not default and table in before.rows and (table, column) not in known
        ]
        return [*gone, *(f"rows of {name}" for name in lost), *required]
