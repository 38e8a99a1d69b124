"""Brings a row class's table to what the class declares; never drops or narrows anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import errors, sql

from temporaletl.errors import ConfigurationError, CredentialsError, SchemaConflictError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.worker.loading.columns import HASH, PARTITION_KEY, Column, Layout, check_name

# Any number will do, as long as all processes that change tables take the same.
_LOCK = 7_233_302

# What PostgreSQL calls the types. varchar takes text's encoding, and refuses what is too long.
_ACCEPTED = {
    "text": ("text", "character varying"),
    "timestamptz": ("timestamp with time zone",),
    "timestamp": ("timestamp without time zone",),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of one class go: its table, or the source's partition of it."""

    layout: Layout
    schema: str
    name: str
    #: Nothing was in it when it was looked at.
    empty: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class _ActualColumn:
    name: str
    type: str
    not_null: bool
    filled_by_itself: bool
    generated: bool


@dataclass(frozen=True, slots=True)
class _Actual:
    """What is there."""

    root: bool
    target: str | None
    columns: dict[str, _ActualColumn]
    keyed: bool
    empty: bool


def prepare(warehouse: Warehouse, layouts: Sequence[Layout], source: str) -> list[Target]:
    """Make every table ready for the source's rows.

    Needs the CREATE privilege, and ownership of the tables, only while something is missing.
    Safe to run from many processes at once.

    Raises:
        SchemaConflictError: a table cannot hold what its class declares; no row was written.
        CredentialsError: the user may not create what is missing; says what to grant.
        ConfigurationError: the source's name does not make a table's name.
    """
    for layout in layouts:
        name = _target_name(layout, source)
        check_name(name, f"source {source!r}: table {name!r}")
    # One snapshot: a table that another process creates meanwhile is there or is not.
    with warehouse.connection(snapshot=True) as connection:
        targets = [_ready(connection, warehouse.schema, one, source) for one in layouts]
    if None in targets:
        with warehouse.connection(unlimited=True) as connection:
            connection.execute("SET LOCAL lock_timeout TO '60s'")
            connection.execute(
                "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, warehouse.schema]
            )
            for layout in layouts:
                _complete(connection, warehouse.schema, layout, source)
            targets = [_ready(connection, warehouse.schema, one, source) for one in layouts]
    return [target for target in targets if target is not None]


def _target_name(layout: Layout, source: str) -> str:
    return f"{source}_{layout.table}" if layout.partitioned else layout.table


def _ready(connection: Connection, schema: str, layout: Layout, source: str) -> Target | None:
    actual = _inspect(connection, schema, layout, source)
    _check(actual, layout)
    complete = all(column.name in actual.columns for column in layout.columns)
    if actual.target is None or not complete or not actual.keyed:
        return None
    return Target(layout, schema, actual.target, actual.empty)


_RELATION = """
    SELECT c.oid, c.relkind::text,
           coalesce((SELECT p.partstrat::text || ':' || a.attname FROM pg_partitioned_table p
                     JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
                     WHERE p.partrelid = c.oid AND p.partnatts = 1), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
"""
_PARTITION = """
    SELECT c.oid, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = %s
      AND pg_get_expr(c.relpartbound, c.oid) = 'FOR VALUES IN (' || %s || ')'
"""
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull,
           atthasdef OR attidentity <> '', attgenerated <> ''
    FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
"""
_KEYS = """
    SELECT array_agg(a.attname::text)
    FROM pg_index i, unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (attnum)
    JOIN pg_attribute a ON a.attnum = k.attnum
    WHERE i.indrelid = %s AND a.attrelid = i.indrelid AND i.indisunique AND i.indisvalid
      AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indexrelid
"""


def _inspect(connection: Connection, schema: str, layout: Layout, source: str) -> _Actual:
    root = _relation(connection, schema, layout.table)
    if root is None:
        if layout.partitioned:
            _check_place(connection, schema, layout, source)
        return _Actual(root=False, target=None, columns={}, keyed=False, empty=True)
    oid, kind, partitioning = root
    if layout.partitioned:
        if partitioning != f"l:{PARTITION_KEY}":
            raise SchemaConflictError(
                f"table {layout.table} is there, but not partitioned by list ({PARTITION_KEY}): "
                "rename it, so that the platform can create its own"
            )
        found = _partition(connection, oid, source)
        if found is None:
            _check_place(connection, schema, layout, source)
        oid, target = found or (oid, None)
    elif kind not in ("r", "p"):
        raise SchemaConflictError(f"{layout.table} is there, but is no table: rename it")
    else:
        target = layout.table
    rows: list[tuple[Any, ...]] = list(connection.execute(_COLUMNS, [oid]))
    keys = [set(names) for (names,) in _rows(connection, _KEYS, oid)]
    keyed = set(layout.key) in keys or (target is not None and set(layout.own_key) in keys)
    empty = target is None or not _rows(
        connection, sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(schema, target))
    )
    return _Actual(True, target, {r[0]: _ActualColumn(*r) for r in rows}, keyed, empty)  # noqa: FBT003


def _partition(connection: Connection, parent: int, source: str) -> tuple[int, str] | None:
    # As PostgreSQL writes a bound: never with E'', whatever is in it.
    literal = "'{}'".format(source.replace("'", "''"))
    found = _rows(connection, _PARTITION, parent, literal)
    return (found[0][0], found[0][1]) if found else None


def _check_place(connection: Connection, schema: str, layout: Layout, source: str) -> None:
    name = _target_name(layout, source)
    if _relation(connection, schema, name) is not None:
        raise SchemaConflictError(
            f"table {name} is there, but is no partition of {layout.table} for "
            f"{PARTITION_KEY} {source!r}: rename or attach it"
        )


def _rows(connection: Connection, query: Any, *values: object) -> list[tuple[Any, ...]]:
    return connection.execute(query, values or None).fetchall()


def _relation(connection: Connection, schema: str, name: str) -> tuple[Any, ...] | None:
    found = _rows(connection, _RELATION, schema, name)
    return found[0] if found else None


def _check(actual: _Actual, layout: Layout) -> None:
    if not actual.root:
        return
    table = actual.target or layout.table
    for column in layout.columns:
        present = actual.columns.get(column.name)
        if present is None:
            continue
        accepted = _ACCEPTED.get(column.type, (column.type,))
        kind = present.type.partition("(")[0] if column.type == "text" else present.type
        if kind not in accepted or present.generated:
            actual_type = f"generated {present.type}" if present.generated else present.type
            raise SchemaConflictError(
                f"column {table}.{column.name} is {actual_type}, but "
                f"{layout.row.__name__} declares {column.declared}, stored as {column.type}: "
                f"ALTER TABLE {layout.table} ALTER COLUMN {column.name} TYPE {column.type}, "
                "or rename the field or the column"
            )
    ours = {column.name for column in layout.columns}
    for present in actual.columns.values():
        if present.name not in ours and present.not_null and not present.filled_by_itself:
            raise SchemaConflictError(
                f"column {table}.{present.name} may not be null, but {layout.row.__name__} has "
                f"no such field: ALTER TABLE {layout.table} ALTER COLUMN {present.name} "
                "DROP NOT NULL, or give it a default"
            )


def _complete(connection: Connection, schema: str, layout: Layout, source: str) -> None:
    actual = _inspect(connection, schema, layout, source)
    _check(actual, layout)
    root = sql.Identifier(schema, layout.table)
    if not actual.root:
        _define(connection, schema, f"create table {layout.table}", _create(layout, root))
    for column in layout.columns if actual.root else ():
        if column.name not in actual.columns:
            _define(
                connection,
                schema,
                f"add column {column.name} {column.type} to table {layout.table}",
                sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(root, _column(column, layout)),
            )
    if actual.root and not actual.keyed:
        _define(connection, schema, f"index table {layout.table}", _index(layout, root))
    if layout.partitioned and actual.target is None:
        name = _target_name(layout, source)
        partition = sql.Identifier(schema, name)
        # Created apart and attached: unlike PARTITION OF this does not wait for readers of the
        # other partitions.
        for statement in (
            sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(partition, root),
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
                root, partition, sql.Literal(source)
            ),
        ):
            _define(connection, schema, f"create partition {name}", statement)


def _column(column: Column, layout: Layout) -> sql.Composable:
    # "C" compares bytes: much faster than a language's order, and the same on every system.
    collation = ' COLLATE "C"' if column.name in layout.key and column.type == "text" else ""
    return sql.SQL("{} {}{}").format(
        sql.Identifier(column.name),
        sql.SQL(column.type),
        sql.SQL(collation),
    )


def _create(layout: Layout, root: sql.Composable) -> sql.Composed:
    return sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}) INCLUDE ({})){}").format(
        root,
        sql.SQL(", ").join(_column(column, layout) for column in layout.columns),
        sql.SQL(", ").join(map(sql.Identifier, layout.key)),
        sql.Identifier(layout.ours[HASH]),
        sql.SQL(" PARTITION BY LIST ({})").format(sql.Identifier(PARTITION_KEY))
        if layout.partitioned
        else sql.SQL(""),
    )


def _index(layout: Layout, root: sql.Composable) -> sql.Composed:
    # With the hash in the index, the look-up of a page need not visit the table.
    return sql.SQL("CREATE UNIQUE INDEX ON {} ({}) INCLUDE ({})").format(
        root,
        sql.SQL(", ").join(map(sql.Identifier, layout.key)),
        sql.Identifier(layout.ours[HASH]),
    )


def _define(connection: Connection, schema: str, what: str, statement: sql.Composed) -> None:
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
        raise CredentialsError(
            f"database user {user} may not {what}: {error.diag.message_primary}; {remedy}; or let "
            f"its owner run: {statement.as_string(connection)}"
        ) from error
    except (errors.UniqueViolation, errors.InvalidTableDefinition) as error:
        raise SchemaConflictError(
            f"cannot {what} in schema {schema}: {error.diag.message_primary} "
            f"({error.diag.message_detail or 'no detail'})"
        ) from error
    except errors.UndefinedObject as error:
        raise ConfigurationError(f"cannot {what}: {error.diag.message_primary}") from error
