"""Brings a row class's table to what the class declares; never drops or narrows anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from psycopg import errors, sql

from temporaletl.connections import DEFAULT
from temporaletl.errors import ConfigurationError, CredentialsError, SchemaConflictError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.worker.loading.columns import HASH, PARTITION_KEY, Column, Layout, check_name

log = structlog.get_logger("temporaletl.worker.loading")

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
    #: Nothing of the connection was in it when it was looked at.
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
class _UniqueKey:
    """A unique index, and the constraint that it is there for."""

    table: str
    index: str
    constraint: str | None
    primary: bool
    columns: frozenset[str]
    included: frozenset[str]

    def __str__(self) -> str:
        return f"{self.constraint or self.index} ({', '.join(sorted(self.columns))})"


@dataclass(frozen=True, slots=True)
class _Actual:
    """What is there."""

    root: bool
    target: str | None
    columns: dict[str, _ActualColumn]
    keyed: bool
    empty: bool
    #: Unique keys that hold rows of two connections for the same.
    narrow: tuple[_UniqueKey, ...] = ()


def prepare(
    warehouse: Warehouse, layouts: Sequence[Layout], source: str, connection_name: str
) -> list[Target]:
    """Make every table ready for the rows of one of the source's connections.

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
    place = _Place(warehouse.schema, source, connection_name)
    with warehouse.connection(snapshot=True) as connection:
        targets = [_ready(connection, place, one) for one in layouts]
    if None in targets:
        with warehouse.connection(unlimited=True) as connection:
            connection.execute("SET LOCAL lock_timeout TO '60s'")
            connection.execute(
                "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, warehouse.schema]
            )
            for layout in layouts:
                _complete(connection, place, layout)
            targets = [_ready(connection, place, one) for one in layouts]
    return [target for target in targets if target is not None]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where rows go, and whose they are."""

    schema: str
    source: str
    connection: str

    @property
    def named(self) -> bool:
        return self.connection != DEFAULT


def _target_name(layout: Layout, source: str) -> str:
    return f"{source}_{layout.table}" if layout.partitioned else layout.table


def _ready(connection: Connection, place: _Place, layout: Layout) -> Target | None:
    actual = _inspect(connection, place, layout)
    _check(actual, layout)
    complete = all(column.name in actual.columns for column in layout.columns)
    if actual.target is None or not complete or not actual.keyed:
        return None
    if place.named and actual.narrow:
        return None
    return Target(layout, place.schema, actual.target, actual.empty)


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
# Those of a table, and of its partition; the partition's own alone are not `inherited`.
_KEYS = """
    SELECT t.relname, c.relname, n.conname, i.indisprimary,
           array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid
                 AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])),
           array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid
                 AND a.attnum = ANY (i.indkey[i.indnkeyatts:])),
           i.indrelid, c.relispartition
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    LEFT JOIN pg_constraint n ON n.conindid = i.indexrelid AND n.contype IN ('p', 'u')
    WHERE i.indrelid = ANY (%s) AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
"""


def _inspect(connection: Connection, place: _Place, layout: Layout) -> _Actual:
    schema, source = place.schema, place.source
    root = _relation(connection, schema, layout.table)
    if root is None:
        if layout.partitioned:
            _check_place(connection, schema, layout, source)
        return _Actual(root=False, target=None, columns={}, keyed=False, empty=True)
    oid, kind, partitioning = root
    root_oid = oid
    if layout.partitioned:
        if partitioning != f"l:{PARTITION_KEY}":
            raise SchemaConflictError(
                f"table {layout.table} is there, but not partitioned by list ({PARTITION_KEY}): "
                "rename it, so that the platform can create its own"
            )
        partition = _partition(connection, oid, source)
        if partition is None:
            _check_place(connection, schema, layout, source)
        oid, target = partition or (oid, None)
    elif kind not in ("r", "p"):
        raise SchemaConflictError(f"{layout.table} is there, but is no table: rename it")
    else:
        target = layout.table
    rows: list[tuple[Any, ...]] = list(connection.execute(_COLUMNS, [oid]))
    columns = {r[0]: _ActualColumn(*r) for r in rows}
    keyed, narrow = False, []
    # Within a partition all rows have the same source.
    within = layout.partitioned and target is not None
    wanted = {*layout.key} - ({PARTITION_KEY} if within else set())
    for found in _rows(connection, _KEYS, [root_oid, oid]):
        name, index, constraint, primary, names, included, of, inherited = found
        key = _UniqueKey(name, index, constraint, primary, frozenset(names), frozenset(included))
        if of == oid and wanted <= key.columns <= {*layout.key}:
            keyed = True
        if key.columns <= {*layout.key} - {layout.connection} and not inherited:
            narrow.append(key)
    empty = target is None or (
        layout.connection in columns and not _holds_rows(connection, place, layout, target)
    )
    return _Actual(
        root=True, target=target, columns=columns, keyed=keyed, empty=empty, narrow=tuple(narrow)
    )


def _holds_rows(connection: Connection, place: _Place, layout: Layout, target: str) -> bool:
    """Whether any row of the connection is there."""
    # Found by the key's index, or known to be absent: never by reading rows of others.
    connection.execute("SET LOCAL enable_seqscan TO off")
    owner = sql.SQL("{} = {}")
    conditions = [
        owner.format(sql.Identifier(layout.connection), sql.Literal(place.connection)),
    ]
    if layout.partitioned:
        conditions.append(owner.format(sql.Identifier(PARTITION_KEY), sql.Literal(place.source)))
    statement = sql.SQL("SELECT 1 FROM {} WHERE {} LIMIT 1").format(
        sql.Identifier(place.schema, target), sql.SQL(" AND ").join(conditions)
    )
    return bool(_rows(connection, statement))


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
    mark = actual.columns.get(layout.connection)
    if mark is not None and not mark.not_null:
        raise SchemaConflictError(
            f"column {table}.{mark.name} is there, but may be null: the platform's own of that "
            f"name says which connection a row came from. ALTER TABLE {layout.table} RENAME COLUMN "
            f"{mark.name} TO another name"
        )
    ours = {column.name for column in layout.columns}
    for present in actual.columns.values():
        if present.name not in ours and present.not_null and not present.filled_by_itself:
            raise SchemaConflictError(
                f"column {table}.{present.name} may not be null, but {layout.row.__name__} has "
                f"no such field: ALTER TABLE {layout.table} ALTER COLUMN {present.name} "
                "DROP NOT NULL, or give it a default"
            )


def _complete(connection: Connection, place: _Place, layout: Layout) -> None:
    schema, source = place.schema, place.source
    actual = _inspect(connection, place, layout)
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
    if actual.root and (not actual.keyed or place.named):
        _extend_key(connection, place, layout, actual)
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


def _extend_key(connection: Connection, place: _Place, layout: Layout, actual: _Actual) -> None:
    """Give the table a key by connection, in place of those of before there were any.

    A narrower key that is not ours, or that something depends on, stays: rows of `default` need
    none other.

    Raises:
        SchemaConflictError: one that stays is in the way of a named connection.
    """
    root = sql.Identifier(place.schema, layout.table)
    primary = False
    for key in actual.narrow:
        ours = layout.ours[HASH] in key.included
        if ours and _dropped(connection, place.schema, key):
            primary = primary or (key.primary and key.table == layout.table)
        elif place.named:
            raise SchemaConflictError(
                f"table {key.table} has the unique key {key}: it would take the rows of two "
                f"connections for the same, and {place.connection!r} cannot be loaded beside "
                f"others: {_drop(place.schema, key).as_string(connection)}"
            )
    if not actual.keyed:
        make = _primary_key if primary else _index
        _define(connection, place.schema, f"index table {layout.table}", make(layout, root))


def _dropped(connection: Connection, schema: str, key: _UniqueKey) -> bool:
    try:
        with connection.transaction():
            _define(connection, schema, f"alter table {key.table}", _drop(schema, key))
    except errors.DependentObjectsStillExist as error:
        log.warning("key_kept", table=key.table, key=str(key), reason=error.diag.message_detail)
        return False
    return True


def _drop(schema: str, key: _UniqueKey) -> sql.Composed:
    if key.constraint is None:
        return sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, key.index))
    return sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
        sql.Identifier(schema, key.table), sql.Identifier(key.constraint)
    )


def _column(column: Column, layout: Layout) -> sql.Composable:
    # "C" compares bytes: much faster than a language's order, and the same on every system.
    collation = ' COLLATE "C"' if column.name in layout.key and column.type == "text" else ""
    # Rows of before there were connections came from the environment's.
    default = f" NOT NULL DEFAULT '{DEFAULT}'" if column.name == layout.connection else ""
    return sql.SQL("{} {}{}{}").format(
        sql.Identifier(column.name),
        sql.SQL(column.type),
        sql.SQL(collation),
        sql.SQL(default),
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


def _primary_key(layout: Layout, root: sql.Composable) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({}) INCLUDE ({})").format(
        root,
        sql.SQL(", ").join(map(sql.Identifier, layout.key)),
        sql.Identifier(layout.ours[HASH]),
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
