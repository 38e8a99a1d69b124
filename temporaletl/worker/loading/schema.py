"""Schema evolution: tables and columns that row classes declare; nothing is dropped or narrowed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import ConfigurationError, SchemaConflictError, WarehouseCredentialsError
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.views import create_views
from temporaletl.worker.loading.catalog import (
    Destination,
    TableState,
    UniqueKey,
    check_table,
    inspect_table,
    target_name,
)
from temporaletl.worker.loading.columns import HASH, PARTITION_KEY, Column, Layout, check_name
from temporaletl.worker.loading.comments import comment_statements
from temporaletl.worker.loading.indexes import create_indexes

log = get_logger("temporaletl.worker.loading")

# Any number will do, as long as all processes that change tables take the same.
_LOCK = 7_233_302


@dataclass(frozen=True, slots=True)
class Target:
    """Target table of a row class: its own, or the source's partition of it."""

    layout: Layout
    schema: str
    name: str
    #: It held no row of the connection when it was inspected.
    empty: bool
    #: Its table of keys, where it is divided by month.
    keys: str | None = None

    @property
    def identifier(self) -> sql.Identifier:
        return self.named()

    def named(self, *, doubled: bool = False) -> sql.Identifier:
        """Its name; with percent signs `doubled` for a statement that takes parameters."""
        return _named(self.schema, self.name, doubled=doubled)

    def keys_identifier(self, *, doubled: bool = False) -> sql.Identifier | None:
        """The name of its table of keys, likewise."""
        return None if self.keys is None else _named(self.schema, self.keys, doubled=doubled)


def _named(schema: str, name: str, *, doubled: bool) -> sql.Identifier:
    return sql.Identifier(
        *(part.replace("%", "%%") if doubled else part for part in (schema, name))
    )


def prepare(
    warehouse: Warehouse, layouts: Sequence[Layout], source: str, connection_name: str
) -> list[Target]:
    """Create and extend the tables for the rows of one of the source's connections.

    Needs the CREATE privilege, and ownership of the tables, only while something is missing.
    Safe to run from many processes at once.

    Raises:
        SchemaConflictError: a table cannot hold what its class declares; no row was written.
        CredentialsError: the user may not create what is missing; says what to grant.
        ConfigurationError: the source's name does not make a table's name.
    """
    for layout in layouts:
        name = target_name(layout, source)
        check_name(name, f"source {source!r}: table {name!r}")
    # One snapshot: a table that another process creates meanwhile is there or is not.
    destination = Destination(warehouse.schema, source, connection_name)
    with warehouse.connection(snapshot=True) as connection:
        targets = [_ready(connection, destination, one) for one in layouts]
    if None in targets:
        with warehouse.connection(unlimited=True) as connection:
            connection.execute("SET LOCAL lock_timeout TO '60s'")
            connection.execute(
                "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, warehouse.schema]
            )
            for layout in layouts:
                _complete(connection, destination, layout, warehouse.omitted_indexes)
            create_views(connection, {source})
            targets = [_ready(connection, destination, one) for one in layouts]
    return [target for target in targets if target is not None]


def _ready(connection: Connection, destination: Destination, layout: Layout) -> Target | None:
    state = inspect_table(connection, destination, layout)
    check_table(state, layout)
    complete = all(column.name in state.columns for column in layout.columns)
    if state.target is None or not complete or not state.keyed:
        return None
    if destination.named and state.narrow:
        return None
    return Target(layout, destination.schema, state.target, state.empty, state.keys)


def _complete(
    connection: Connection, destination: Destination, layout: Layout, omitted: Collection[str]
) -> None:
    schema, source = destination.schema, destination.source
    state = inspect_table(connection, destination, layout)
    check_table(state, layout)
    root = sql.Identifier(schema, layout.table)
    if not state.root:
        define(connection, schema, f"create table {layout.table}", _create(layout, root))
        _comment(connection, schema, layout.table, layout)
    for column in layout.columns if state.root else ():
        if column.name not in state.columns:
            define(
                connection,
                schema,
                f"add column {column.name} {column.type} to table {layout.table}",
                sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(root, _column(column, layout)),
            )
    if state.root and not {column.name for column in layout.columns} <= state.columns.keys():
        for table in {layout.table, state.target or layout.table}:
            _comment(connection, schema, table, layout)
    if state.root and (not state.keyed or destination.named) and not state.divided:
        _extend_key(connection, destination, layout, state)
    if layout.partitioned and state.target is None:
        name = target_name(layout, source)
        partition = sql.Identifier(schema, name)
        # Created apart and attached: unlike PARTITION OF this does not wait for readers of the
        # other partitions.
        for statement in (
            sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(partition, root),
            set_not_null(schema, name, layout.required),
            *([_primary_key(layout, partition)] if state.divided else []),
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
                root, partition, sql.Literal(source)
            ),
        ):
            define(connection, schema, f"create partition {name}", statement)
        _comment(connection, schema, name, layout)
    if state.target is None:
        # Empty as it is. A table with rows gets those that it lacks by `etl migrate`.
        create_indexes(connection, schema, target_name(layout, source), layout, omitted)


def _comment(connection: Connection, schema: str, table: str, layout: Layout) -> None:
    statements = sql.SQL("; ").join(comment_statements(schema, table, layout))
    define(connection, schema, f"comment on table {table}", statements)


def set_not_null(schema: str, table: str, columns: Sequence[str]) -> sql.Composed:
    """The statement by which columns of a table may not be null."""
    return sql.SQL("ALTER TABLE {} {}").format(
        sql.Identifier(schema, table),
        sql.SQL(", ").join(
            sql.SQL("ALTER COLUMN {} SET NOT NULL").format(sql.Identifier(name)) for name in columns
        ),
    )


def _extend_key(
    connection: Connection, destination: Destination, layout: Layout, state: TableState
) -> None:
    """Give the table a key by connection, in place of those of before there were any.

    A narrower key that is not ours, or that something depends on, stays: rows of `default` need
    none other.

    Raises:
        SchemaConflictError: one that stays is in the way of a named connection.
    """
    root = sql.Identifier(destination.schema, layout.table)
    primary = False
    for key in state.narrow:
        ours = layout.ours[HASH] in key.included
        if ours and _dropped(connection, destination.schema, key):
            primary = primary or (key.primary and key.table == layout.table)
        elif destination.named:
            raise SchemaConflictError(
                f"table {key.table} has the unique key {key}: it would take the rows of two "
                f"connections for the same, and {destination.connection!r} cannot be loaded beside "
                f"others: {_drop(destination.schema, key).as_string(connection)}"
            )
    if not state.keyed:
        make = _primary_key if primary else _index
        define(connection, destination.schema, f"index table {layout.table}", make(layout, root))


def _dropped(connection: Connection, schema: str, key: UniqueKey) -> bool:
    try:
        with connection.transaction():
            define(connection, schema, f"alter table {key.table}", _drop(schema, key))
    except errors.DependentObjectsStillExist as error:
        log.warning("key_kept", table=key.table, key=str(key), reason=error.diag.message_detail)
        return False
    return True


def _drop(schema: str, key: UniqueKey) -> sql.Composed:
    if key.constraint is None:
        return sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, key.index))
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
        sql.Identifier(schema, key.table), sql.Identifier(key.constraint)
    )


def _column(column: Column, layout: Layout, *, new: bool = False) -> sql.Composable:
    # "C" compares bytes: much faster than a language's order, and the same on every system.
    collation = ' COLLATE "C"' if column.name in layout.key and column.type == "text" else ""
    # Rows of before there were connections came from the environment's.
    default = f" NOT NULL DEFAULT '{DEFAULT}'" if column.name == layout.connection else ""
    # Rows that are there have nothing in a column that is added.
    if new and not default and column.name in layout.required:
        default = " NOT NULL"
    return sql.SQL("{} {}{}{}").format(
        sql.Identifier(column.name),
        sql.SQL(column.type),
        sql.SQL(collation),
        sql.SQL(default),
    )


def _create(layout: Layout, root: sql.Composable) -> sql.Composed:
    return sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}) INCLUDE ({})){}").format(
        root,
        sql.SQL(", ").join(_column(column, layout, new=True) for column in layout.columns),
        sql.SQL(", ").join(map(sql.Identifier, layout.key)),
        sql.Identifier(layout.ours[HASH]),
        sql.SQL(" PARTITION BY LIST ({})").format(sql.Identifier(PARTITION_KEY))
        if layout.partitioned
        else sql.SQL(""),
    )


def _primary_key(layout: Layout, root: sql.Composable) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({}) INCLUDE ({})").format(
        root,
        sql.SQL(", ").join(map(sql.Identifier, layout.key)),
        sql.Identifier(layout.ours[HASH]),
    )


def _index(layout: Layout, root: sql.Composable) -> sql.Composed:
    # With the hash in the index, the lookup of a page need not visit the table.
    return sql.SQL("CREATE UNIQUE INDEX ON {} ({}) INCLUDE ({})").format(
        root,
        sql.SQL(", ").join(map(sql.Identifier, layout.key)),
        sql.Identifier(layout.ours[HASH]),
    )


def define(
    connection: psycopg.Connection[Any], schema: str, what: str, statement: sql.Composed
) -> None:
    try:
        connection.execute(statement)
    except errors.InsufficientPrivilege as error:
        user = connection.info.user
        remedy = (
            f"GRANT CREATE ON SCHEMA {schema} TO {user}"
            if what.startswith("create") and "partition" not in what
            else f"GRANT CREATE ON SCHEMA {schema} TO {user}, and make {user} (a member of) the "
            "owner of the table"
        )
        raise WarehouseCredentialsError(
            f"database user {user} may not {what}: {error.diag.message_primary}; run `etl migrate` "
            f"as a user who may, or {remedy}; or let its owner run: "
            f"{statement.as_string(connection)}"
        ) from error
    except (errors.UniqueViolation, errors.InvalidTableDefinition) as error:
        raise SchemaConflictError(
            f"cannot {what} in schema {schema}: {error.diag.message_primary} "
            f"({error.diag.message_detail or 'no detail'})"
        ) from error
    except errors.ProgramLimitExceeded as error:
        raise ConfigurationError(
            f"cannot {what}: {error.diag.message_primary}; WPE_DB_OMIT_INDEXES leaves an index out"
        ) from error
    except errors.UndefinedObject as error:
        raise ConfigurationError(f"cannot {what}: {error.diag.message_primary}") from error
