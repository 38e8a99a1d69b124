"""Inspection of the database catalog: the table that a row class finds, and whether it fits."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import SchemaConflictError
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.columns import PARTITION_KEY, Layout

# What PostgreSQL calls the types. varchar takes text's encoding, and refuses what is too long.
_ACCEPTED = {
    "text": ("text", "character varying"),
    "timestamptz": ("timestamp with time zone",),
    "timestamp": ("timestamp without time zone",),
}


@dataclass(frozen=True, slots=True)
class StoredColumn:
    name: str
    type: str
    not_null: bool
    filled_by_itself: bool
    generated: bool
    comment: str | None


@dataclass(frozen=True, slots=True)
class UniqueKey:
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
class TableState:
    """Present state of a row class's table, and of the source's partition."""

    root: bool
    target: str | None
    columns: dict[str, StoredColumn]
    keyed: bool
    empty: bool
    #: Unique keys that hold rows of two connections for the same.
    narrow: tuple[UniqueKey, ...] = ()
    comment: str | None = None
    #: The table of keys of a source whose events are divided by month.
    keys: str | None = None
    #: Some source's are: each partition then has a key of its own, and the table none.
    divided: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Schema, source and connection of the rows to load."""

    schema: str
    source: str
    connection: str

    @property
    def named(self) -> bool:
        return self.connection != DEFAULT


def target_name(layout: Layout, source: str) -> str:
    """Name of the table that a source's rows are written to: a partition, or the table itself."""
    return f"{source}_{layout.table}" if layout.partitioned else layout.table


def keys_name(table: str) -> str:
    """Name of the table of keys of a source's table that is divided by month."""
    return f"{table}_keys"


def rest_name(table: str) -> str:
    """Name of its partition for what is of no month that has one."""
    return f"{table}_rest"


_RELATION = """
    SELECT c.oid, c.relkind::text,
           coalesce((SELECT p.partstrat::text || ':' || a.attname FROM pg_partitioned_table p
                     JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
                     WHERE p.partrelid = c.oid AND p.partnatts = 1), '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
"""
_PARTITION = """
    SELECT c.oid, c.relname, c.relkind = 'p'
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = %s
      AND pg_get_expr(c.relpartbound, c.oid) = 'FOR VALUES IN (' || %s || ')'
"""
_DIVIDED = """
    SELECT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = %s AND c.relkind = 'p')
"""
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull,
           atthasdef OR attidentity <> '', attgenerated <> '', col_description(attrelid, attnum)
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


def inspect_table(connection: Connection, destination: Destination, layout: Layout) -> TableState:
    """Read the state of a row class's table from the catalog.

    Raises:
        SchemaConflictError: something else has the table's name, or the partition's.
    """
    schema, source = destination.schema, destination.source
    root = _relation(connection, schema, layout.table)
    if root is None:
        if layout.partitioned:
            _check_unattached(connection, schema, layout, source)
        return TableState(root=False, target=None, columns={}, keyed=False, empty=True)
    oid, kind, partitioning = root
    root_oid, keys_oid = oid, None
    divided, keys = False, None
    if layout.partitioned:
        if partitioning != f"l:{PARTITION_KEY}":
            raise SchemaConflictError(
                f"table {layout.table} is there, but not partitioned by list ({PARTITION_KEY}): "
                "rename it, so that the platform can create its own"
            )
        partition = _partition(connection, oid, source)
        if partition is None:
            _check_unattached(connection, schema, layout, source)
        oid, target, by_month = partition or (oid, None, False)
        ((divided,),) = _rows(connection, _DIVIDED, root_oid)
        if by_month and target is not None:
            keys, keys_oid = _keys_of(connection, schema, target)
    elif kind not in ("r", "p"):
        raise SchemaConflictError(f"{layout.table} is there, but is no table: rename it")
    else:
        target = layout.table
    rows: list[tuple[Any, ...]] = list(connection.execute(_COLUMNS, [oid]))
    columns = {r[0]: StoredColumn(*r) for r in rows}
    whole = target is None or not layout.partitioned
    keyed, narrow = _unique_keys(connection, layout, root_oid, keys_oid or oid, whole=whole)
    empty = target is None or (
        layout.connection in columns
        and not _holds_rows(connection, destination, layout, keys or target, whole=keys is None)
    )
    ((comment,),) = _rows(connection, "SELECT obj_description(%s, 'pg_class')", oid)
    return TableState(
        root=True,
        target=target,
        columns=columns,
        keyed=keyed,
        empty=empty,
        narrow=tuple(narrow),
        comment=comment,
        keys=keys,
        divided=bool(divided),
    )


def _unique_keys(
    connection: Connection, layout: Layout, root: int, table: int, *, whole: bool
) -> tuple[bool, list[UniqueKey]]:
    """Whether a table has the layout's key; and the keys that are too narrow, its root's as well.

    Within a partition, which is not the `whole`, all rows have the same source.
    """
    keyed, narrow = False, []
    wanted = {*layout.key} - (set() if whole else {PARTITION_KEY})
    for found in _rows(connection, _KEYS, [root, table]):
        name, index, constraint, primary, names, included, of, inherited = found
        key = UniqueKey(name, index, constraint, primary, frozenset(names), frozenset(included))
        if of == table and wanted <= key.columns <= {*layout.key}:
            keyed = True
        if key.columns <= {*layout.key} - {layout.connection} and not inherited:
            narrow.append(key)
    return keyed, narrow


def _keys_of(connection: Connection, schema: str, target: str) -> tuple[str, int]:
    found = _relation(connection, schema, keys_name(target))
    if found is None:
        raise SchemaConflictError(
            f"table {target} is partitioned, but not by `etl partitions divide`: there is no "
            f"{keys_name(target)}, which says where each event is"
        )
    return keys_name(target), found[0]


def _holds_rows(
    connection: Connection,
    destination: Destination,
    layout: Layout,
    target: str,
    *,
    whole: bool,
) -> bool:
    """Whether any row of the connection is there."""
    # Found by the key's index, or known to be absent: never by reading rows of others.
    connection.execute("SET LOCAL enable_seqscan TO off")
    owner = sql.SQL("{} = {}")
    conditions = [
        owner.format(sql.Identifier(layout.connection), sql.Literal(destination.connection)),
    ]
    if layout.partitioned and whole:
        conditions.append(
            owner.format(sql.Identifier(PARTITION_KEY), sql.Literal(destination.source))
        )
    statement = sql.SQL("SELECT 1 FROM {} WHERE {} LIMIT 1").format(
        sql.Identifier(destination.schema, target), sql.SQL(" AND ").join(conditions)
    )
    return bool(_rows(connection, statement))


def _partition(connection: Connection, parent: int, source: str) -> tuple[int, str, bool] | None:
    # As PostgreSQL writes a bound: never with E'', whatever is in it.
    literal = "'{}'".format(source.replace("'", "''"))
    found = _rows(connection, _PARTITION, parent, literal)
    return (found[0][0], found[0][1], found[0][2]) if found else None


def _check_unattached(connection: Connection, schema: str, layout: Layout, source: str) -> None:
    name = target_name(layout, source)
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


def check_table(state: TableState, layout: Layout) -> None:
    """Check that a table can hold what its row class declares, once it has all columns.

    Raises:
        SchemaConflictError: a column has another type, cannot be left empty, or is the platform's.
    """
    if not state.root:
        return
    table = state.target or layout.table
    for column in layout.columns:
        present = state.columns.get(column.name)
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
    nullable = {column.name for column in layout.columns if column.null}
    for name, own in layout.ours.items():
        # Its own under this name the platform made while no field was called so.
        is_ours = own not in state.columns and name in nullable and name in state.columns
        if is_ours and state.columns[name].not_null:
            raise SchemaConflictError(
                f"column {table}.{name} is the platform's own, as no field had that name when the "
                f"table was made: rename the field of {layout.row.__name__}, or load another table"
            )
    mark = state.columns.get(layout.connection)
    if mark is not None and not mark.not_null:
        raise SchemaConflictError(
            f"column {table}.{mark.name} is there, but may be null: the platform's own of that "
            f"name says which connection a row came from. ALTER TABLE {layout.table} RENAME COLUMN "
            f"{mark.name} TO another name"
        )
    ours = {column.name for column in layout.columns}
    for present in state.columns.values():
        if present.name not in ours and present.not_null and not present.filled_by_itself:
            raise SchemaConflictError(
                f"column {table}.{present.name} may not be null, but {layout.row.__name__} has "
                f"no such field: ALTER TABLE {layout.table} ALTER COLUMN {present.name} "
                "DROP NOT NULL, or give it a default"
            )
