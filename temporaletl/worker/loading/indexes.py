"""Indexes of tables beside their keys: those that row classes declare and no setting omits."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from psycopg import sql
from xxhash import xxh32_hexdigest

from temporaletl.rows import Index
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.columns import Layout

_LONGEST_NAME = 63
_ALL = "all"
_CREATE = "CREATE INDEX CONCURRENTLY"
_DROP = "DROP INDEX CONCURRENTLY"

# Of expressions and of conditions other than ours nobody knows what they serve.
_INDEXES = """
    SELECT c.relname, m.amname, i.indisvalid, i.indpred IS NULL,
           array(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                 WHERE k.place <= i.indnkeyatts ORDER BY k.place)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = %s AND t.relname = %s AND i.indexprs IS NULL
"""


_PARTITIONS = """
    SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    JOIN pg_class AS t ON t.oid = i.inhparent JOIN pg_namespace AS n ON n.oid = t.relnamespace
    WHERE n.nspname = %s AND t.relname = %s ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class IndexChange:
    """An index to create or to drop; the statements may run while the table is read and written."""

    words: str
    statements: tuple[sql.Composed, ...]


def index_name(table: str, index: Index) -> str:
    """Name of a table's index in the warehouse."""
    name = f"{table}_{index.name}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"etl_index_{xxh32_hexdigest(name.encode())}"


def wanted_indexes(layout: Layout, omitted: Collection[str]) -> list[Index]:
    """A layout's indexes without those that are switched off."""
    if _ALL in omitted:
        return []
    return [index for index in layout.indexes if index.name not in omitted]


def create_indexes(
    connection: Connection, schema: str, table: str, layout: Layout, omitted: Collection[str]
) -> None:
    """Create the indexes of a table that was just made, in the caller's transaction."""
    for index in wanted_indexes(layout, omitted):
        connection.execute(_create(schema, table, index, "CREATE INDEX"))


def index_changes(
    connection: Connection, schema: str, table: str, layout: Layout, omitted: Collection[str]
) -> Iterator[IndexChange]:
    """What brings an existing table's indexes to those that are declared and not omitted.

    An index of the operator's own that begins with the same columns stands for ours. One that is
    omitted is dropped where it has our name.
    """
    found = connection.execute(_INDEXES, [schema, table]).fetchall()
    names = {str(name): bool(valid) for name, _, valid, _, _ in found}
    parts = [str(part) for (part,) in connection.execute(_PARTITIONS, [schema, table])]
    wanted = wanted_indexes(layout, omitted)
    for index in layout.indexes:
        name = index_name(table, index)
        # Of a table that has months it is not done beside others, but at once.
        drop = _drop(schema, name, "DROP INDEX" if parts else _DROP)
        if index not in wanted:
            if name in names:
                yield IndexChange(f"drop index {name}", (drop,))
            continue
        serves = names.get(name) or any(
            method == index.method
            and valid
            and whole
            and tuple(columns[: len(index.columns)]) == index.columns  # type: ignore[index]
            for _, method, valid, whole, columns in found
        )
        if not serves:
            create = (
                _create_by_part(schema, table, parts, index)
                if parts
                else (_create(schema, table, index, _CREATE),)
            )
            # One whose creation was interrupted is there, and of no use.
            statements = (drop, *create) if name in names else create
            yield IndexChange(
                f"create index {name} on {table} ({', '.join(index.columns)})", statements
            )


def _create_by_part(
    schema: str, table: str, parts: list[str], index: Index
) -> tuple[sql.Composed, ...]:
    """Create an index of a table that has months, in one after the other."""
    name = index_name(table, index)
    statements = [_create(schema, table, index, "CREATE INDEX", only=True)]
    for part in parts:
        own = index_name(part, index)
        attach = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
            sql.Identifier(schema, name), sql.Identifier(schema, own)
        )
        statements += [_drop(schema, own, _DROP), _create(schema, part, index, _CREATE), attach]
    return tuple(statements)


def _drop(schema: str, name: str, verb: str) -> sql.Composed:
    return sql.SQL("{} IF EXISTS {}").format(sql.SQL(verb), sql.Identifier(schema, name))


def _create(
    schema: str, table: str, index: Index, verb: str, *, only: bool = False
) -> sql.Composed:
    return sql.SQL("{} {} ON {}{} USING {} ({}){}").format(
        sql.SQL(verb),
        sql.Identifier(index_name(table, index)),
        sql.SQL("ONLY " if only else ""),
        sql.Identifier(schema, table),
        sql.SQL(index.method),
        sql.SQL(", ").join(map(sql.Identifier, index.columns)),
        sql.SQL(" WHERE {} IS NOT NULL").format(sql.Identifier(index.columns[0]))
        if index.present
        else sql.SQL(""),
    )
