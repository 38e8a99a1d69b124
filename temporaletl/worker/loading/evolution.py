"""Schema evolution of tables with rows: what a run, and what `etl migrate`, would still change."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from temporaletl import strategies
from temporaletl.connections import DEFAULT
from temporaletl.errors import ConflictError
from temporaletl.rows import Row
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.worker.loading import schema
from temporaletl.worker.loading.catalog import (
    Destination,
    TableState,
    check_table,
    inspect_table,
    target_name,
)
from temporaletl.worker.loading.columns import Layout, layout_of
from temporaletl.worker.loading.indexes import index_changes

# Any number will do, as long as all processes that change indexes take the same.
_LOCK = 7_233_303


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a table that is still to be made, by the next `run` or by `etl migrate`."""

    table: str
    words: str
    by: Literal["run", "migrate"]
    statements: tuple[sql.Composed, ...] = ()


def rows_of(source: str) -> tuple[type[Row], ...]:
    """The row classes that a source's streams are declared to yield, each once."""
    found: dict[type[Row], None] = {}
    for name in strategies.transformers:
        if name == source or name.startswith(f"{source}-"):
            found |= dict.fromkeys(strategies.transformers.get(name).rows)
    return tuple(found)


def pending_changes(warehouse: Warehouse, source: str, rows: Collection[type[Row]]) -> list[Change]:
    """Compare a source's row classes with the tables that the warehouse has for them.

    Raises:
        SchemaConflictError: a table cannot hold what its class declares.
    """
    return [change for row in rows for change in _compare(warehouse, source, layout_of(row))[1]]


def migrate_tables(
    warehouse: Warehouse, sources: Mapping[str, Collection[type[Row]]]
) -> Iterator[Change]:
    """Bring the tables that exist to what is declared; yield each change before it is made.

    Tables are read and written meanwhile. Safe to repeat, also after an interruption.

    Raises:
        ConflictError: another process does the same.
        CredentialsError: the user does not own a table; says what to grant.
    """
    with warehouse.apart() as session:
        # Waiting would hold back the very statement that is waited for.
        if session.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone() != (True,):
            raise ConflictError("another process changes the warehouse's tables: let it end first")
        for source, rows in sources.items():
            for layout in map(layout_of, rows):
                exists, changes = _compare(warehouse, source, layout)
                if not exists:
                    continue  # the source's first run makes it whole
                for change in changes:
                    yield change
                    for statement in change.statements:
                        schema.define(session, warehouse.schema, change.words, statement)
                if any(change.by == "run" for change in changes):
                    schema.prepare(warehouse, [layout], source, DEFAULT)


def _compare(warehouse: Warehouse, source: str, layout: Layout) -> tuple[bool, list[Change]]:
    """Whether the source's table exists, and what is still to be changed."""
    destination = Destination(warehouse.schema, source, DEFAULT)
    with warehouse.connection(snapshot=True) as connection:
        state = inspect_table(connection, destination, layout)
        check_table(state, layout)
        changes = list(_next_run(state, layout, source))
        if state.target is not None:
            changes += _migration(connection, warehouse, state.target, layout)
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
    connection: Connection, warehouse: Warehouse, table: str, layout: Layout
) -> Iterator[Change]:
    for change in index_changes(
        connection, warehouse.schema, table, layout, warehouse.omitted_indexes
    ):
        yield Change(table, change.words, "migrate", change.statements)
