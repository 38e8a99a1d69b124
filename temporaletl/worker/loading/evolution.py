"""Schema evolution of tables with rows: what a run, and what `etl migrate`, would still change."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from temporaletl import strategies
from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import ConflictError
from temporaletl.rows import Identity, Row
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row
from temporaletl.warehouse.views import create_views, stale_views
from temporaletl.worker.loading import schema
from temporaletl.worker.loading.catalog import (
    Destination,
    TableState,
    check_table,
    inspect_table,
    target_name,
)
from temporaletl.worker.loading.columns import Layout, layout_of
from temporaletl.worker.loading.comments import comment_statements
from temporaletl.worker.loading.indexes import index_changes

# Any number will do, as long as all processes that change indexes take the same.
_LOCK = 7_233_303
_CHECK = "etl_not_null"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a table that is still to be made, by the next `run` or by `etl migrate`."""

    table: str
    words: str
    by: Literal["run", "migrate"]
    statements: tuple[sql.Composed, ...] = ()


def rows_of(source: str) -> tuple[type[Row], ...]:
    """The row classes that a source's streams are declared to yield, each once.

    People are not among them: their table is the platform's own.
    """
    found: dict[type[Row], None] = {}
    for name in strategies.transformers:
        if name == source or name.startswith(f"{source}-"):
            found |= dict.fromkeys(strategies.transformers.get(name).rows)
    return tuple(row for row in found if row is not Identity)


def pending_changes(warehouse: Warehouse, source: str, rows: Collection[type[Row]]) -> list[Change]:
    """Compare a source's row classes with the tables that the warehouse has for them.

    Raises:
        SchemaConflictError: a table cannot hold what its class declares.
    """
    changes: list[Change] = []
    has_events = False
    for layout in map(layout_of, rows):
        exists, found = _compare(warehouse, source, layout)
        has_events |= exists and layout.partitioned
        changes += found
    return changes + (_stale_views(warehouse, source) if has_events else [])


def _stale_views(warehouse: Warehouse, source: str) -> list[Change]:
    with warehouse.connection() as connection:
        stale = stale_views(connection, {source})
    return [Change(view.name, f"create view {view.name}", "migrate") for view in stale]


def migrate_tables(
    warehouse: Warehouse, sources: Mapping[str, Collection[type[Row]]]
) -> Iterator[Change]:
    """Bring the tables to what is declared; yield each change before it is made.

    Those of sources that were never loaded are created: a loader may lack the privilege. Tables are
    read and written meanwhile. Safe to repeat, also after an interruption.

    Raises:
        ConflictError: another process does the same.
        CredentialsError: the user does not own a table; says what to grant.
    """
    with warehouse.apart() as session, alone(session, warehouse.schema):
        for source, rows in sources.items():
            yield from _migrate_source(session, warehouse, source, rows)


@contextmanager
def alone(session: psycopg.Connection[Any], name: str) -> Iterator[None]:
    held = [_LOCK, name]
    # Waiting would hold back the very statement that is waited for.
    taken = session.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", held).fetchone()
    if taken != (True,):
        raise ConflictError("another process changes the warehouse's tables: let it end first")
    try:
        yield
    finally:
        session.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", held)


def _migrate_source(
    session: psycopg.Connection[Any],
    warehouse: Warehouse,
    source: str,
    rows: Collection[type[Row]],
) -> Iterator[Change]:
    has_events = False
    for layout in map(layout_of, rows):
        _, changes = _compare(warehouse, source, layout)
        has_events |= layout.partitioned
        for change in changes:
            yield change
            for statement in change.statements:
                schema.define(session, warehouse.schema, change.words, statement)
        if any(change.by == "run" for change in changes):
            schema.prepare(warehouse, [layout], source, DEFAULT)
    if has_events:
        yield from _stale_views(warehouse, source)
        with warehouse.connection() as connection:
            create_views(connection, {source})


def _compare(warehouse: Warehouse, source: str, layout: Layout) -> tuple[bool, list[Change]]:
    """Whether the source's table exists, and what is still to be changed."""
    destination = Destination(warehouse.schema, source, DEFAULT)
    with warehouse.connection(snapshot=True) as connection:
        state = inspect_table(connection, destination, layout)
        check_table(state, layout)
        changes = list(_next_run(state, layout, source))
        if state.target is not None:
            changes += _migration(connection, warehouse, state, layout)
        return state.target is not None, changes


def _next_run(state: TableState, layout: Layout, source: str) -> Iterator[Change]:
    table = layout.table
    if not state.root:
        yield Change(table, f"create table {table}", "run")
    for column in layout.columns if state.root else ():
        if column.name not in state.columns:
            yield Change(table, f"add column {column.name} {column.type}", "run")
    if state.target is None and layout.partitioned:
        name = target_name(layout, source)
        yield Change(name, f"create partition {name} of {table}", "run")
    elif state.root and not state.keyed:
        yield Change(table, f"create a unique index on {', '.join(layout.key)}", "run")


def _migration(
    connection: Connection, warehouse: Warehouse, state: TableState, layout: Layout
) -> Iterator[Change]:
    name, table = warehouse.schema, state.target or layout.table
    if comments := tuple(comment_statements(name, table, layout, present=state)):
        # Of the table as a whole, and of the source's part of it.
        of_whole = comment_statements(name, layout.table, layout) if layout.partitioned else ()
        yield Change(
            table, f"{len(comments)} comments on {table}", "migrate", (*of_whole, *comments)
        )
    if columns := _never_null(connection, name, table, state, layout):
        words = f"NOT NULL of {', '.join(columns)}"
        yield Change(table, words, "migrate", _require(name, table, columns))
    for column in layout.columns:
        stored = state.columns.get(column.name)
        if stored and stored.not_null and column.name not in layout.required:
            drop = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(
                sql.Identifier(name, layout.table), sql.Identifier(column.name)
            )
            yield Change(table, f"no NOT NULL of {column.name}", "migrate", (drop,))
    for change in index_changes(connection, name, table, layout, warehouse.omitted_indexes):
        yield Change(table, change.words, "migrate", change.statements)


def _never_null(
    connection: Connection, name: str, table: str, state: TableState, layout: Layout
) -> list[str]:
    """The required columns that may be null, and are not in any row."""
    free = [
        column
        for column in layout.required
        if column in state.columns and not state.columns[column].not_null
    ]
    if not free:
        return []
    holds = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(
            sql.SQL("count(*) = count({})").format(sql.Identifier(column)) for column in free
        ),
        sql.Identifier(name, table),
    )
    row = only_row(connection.execute(holds))
    return [column for column, always in zip(free, row, strict=True) if always]


def _require(name: str, table: str, columns: list[str]) -> tuple[sql.Composed, ...]:
    """The statements by which columns may not be null any more; rows are checked beside others."""
    alter = sql.SQL("ALTER TABLE {} ").format(sql.Identifier(name, table))
    drop = sql.SQL("DROP CONSTRAINT IF EXISTS {}").format(sql.Identifier(_CHECK))
    check = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in columns
    )
    return (
        # Who waits for longer keeps all others from the table.
        sql.SQL("SET lock_timeout TO '60s'").format(),
        alter + drop,
        alter
        + sql.SQL("ADD CONSTRAINT {} CHECK ({}) NOT VALID").format(sql.Identifier(_CHECK), check),
        alter + sql.SQL("VALIDATE CONSTRAINT {}").format(sql.Identifier(_CHECK)),
        schema.set_not_null(name, table, columns),
        alter + drop,
        sql.SQL("RESET lock_timeout").format(),
    )
