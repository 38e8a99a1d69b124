"""Schemas of empty warehouses: one that has been used is emptied, and used again.

To create one takes the server a tenth of a second of its processor, to empty one some milliseconds,
and a source's tests take hundreds.
"""

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from temporaletl.warehouse.migration import create_schema

Connection = psycopg.Connection[Any]

#: A table that has become larger is truncated: dead rows would slow down whoever reads it next.
_LARGE_BYTES = 128 * 1024

#: What a schema consists of, each part with the transaction that last changed it.
_PARTS = sql.SQL("""
    WITH relations AS (
        SELECT oid FROM pg_class WHERE relnamespace = {schema}
    ), parts AS (
        SELECT 1 AS kind, oid, 0 AS number, xmin FROM pg_class WHERE relnamespace = {schema}
        UNION ALL
        SELECT 2, attrelid, attnum, a.xmin FROM pg_attribute a JOIN relations r ON r.oid = attrelid
        UNION ALL
        SELECT 3, adrelid, adnum, a.xmin FROM pg_attrdef a JOIN relations r ON r.oid = adrelid
        UNION ALL
        SELECT 4, indexrelid, 0, i.xmin FROM pg_index i JOIN relations r ON r.oid = indrelid
        UNION ALL
        SELECT 5, t.oid, 0, t.xmin FROM pg_trigger t JOIN relations r ON r.oid = tgrelid
        UNION ALL
        SELECT 6, w.oid, 0, w.xmin FROM pg_rewrite w JOIN relations r ON r.oid = ev_class
        UNION ALL
        SELECT 7, p.oid, 0, p.xmin FROM pg_policy p JOIN relations r ON r.oid = polrelid
        UNION ALL
        SELECT 8, objoid, objsubid, d.xmin
        FROM pg_description d JOIN relations r ON r.oid = objoid
        WHERE classoid = 'pg_class'::regclass
        UNION ALL
        SELECT 9, oid, 0, xmin FROM pg_constraint WHERE connamespace = {schema}
        UNION ALL
        SELECT 10, oid, 0, xmin FROM pg_proc WHERE pronamespace = {schema}
        UNION ALL
        SELECT 11, oid, 0, xmin FROM pg_type WHERE typnamespace = {schema}
        UNION ALL
        SELECT 12, oid, 0, xmin FROM pg_default_acl WHERE defaclnamespace = {schema}
    )
    SELECT md5(string_agg(concat_ws(' ', kind, oid, number, xmin), ',' ORDER BY kind, oid, number)),
           (SELECT concat(nspowner, nspacl) FROM pg_namespace WHERE oid = {schema})
    FROM parts
""")


@dataclass
class _Schema:
    """A schema as it was made or last emptied."""

    name: str
    oid: int
    tables: dict[str, int]  # the platform's own, with their oids
    sequences: list[int]
    seeded: dict[str, str]  # tables whose rows are the platform's own, with a digest of these
    parts: Any


@dataclass
class EmptySchemas:
    """The schemas of one server that nobody uses, and those that are in use.

    One whose structure or whose own rows a test has changed is not used again.
    """

    _free: list[_Schema] = field(default_factory=list)
    _used: dict[str, _Schema] = field(default_factory=dict)

    def take(self, connection: Connection) -> str:
        """The name of a migrated schema without anything in it."""
        while self._free:
            schema = self._free.pop()
            # Another server may run there now.
            if _oid_of(connection, schema.name) == schema.oid:
                break
        else:
            name = _new_name()
            create_schema(connection, name)
            schema = _described(connection, name)
        self._used[schema.name] = schema
        return schema.name

    def give_back(self, connection: Connection, name: str) -> None:
        """Empty a schema for the next, under another name; drop it where that cannot be done.

        Who still works in it finds it no more.
        """
        schema = self._used.pop(name)
        try:
            with connection.transaction():
                emptied = _emptied(connection, schema)
        except psycopg.DatabaseError:
            if connection.closed:
                raise
            emptied = None
        if emptied is None:
            _drop(connection, name)
        else:
            self._free.append(emptied)

    def drop_free(self, connection: Connection) -> None:
        while self._free:
            _drop(connection, self._free.pop().name)


def _new_name() -> str:
    return f"suite_{uuid.uuid4().hex[:12]}"


def _oid_of(connection: Connection, name: str) -> int | None:
    row = connection.execute("SELECT oid FROM pg_namespace WHERE nspname = %s", [name]).fetchone()
    return None if row is None else int(row[0])


def _drop(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def _described(connection: Connection, name: str) -> _Schema:
    oid = _oid_of(connection, name)
    assert oid is not None  # noqa: S101 - it was just created
    found = connection.execute(
        "SELECT relname, oid, relkind FROM pg_class "
        "WHERE relnamespace = %s AND relkind IN ('r', 'p', 'S') AND NOT relispartition",
        [oid],
    ).fetchall()
    tables = {table: number for table, number, kind in found if kind != "S"}
    return _Schema(
        name=name,
        oid=oid,
        tables=tables,
        sequences=[number for _, number, kind in found if kind == "S"],
        seeded={
            table: _digest(connection, name, table) for table in _filled(connection, name, tables)
        },
        parts=_parts(connection, oid),
    )


def _emptied(connection: Connection, schema: _Schema) -> _Schema | None:
    """The schema without what was put into it; None where it is not what it was."""
    tables = [sql.Identifier(schema.name, table) for table in schema.tables]
    # What others have begun is over, or is waited for.
    connection.execute(sql.SQL("LOCK TABLE {}").format(sql.SQL(", ").join(tables)))
    _drop_added(connection, schema)
    if _parts(connection, schema.oid) != schema.parts or any(
        _digest(connection, schema.name, table) != digest for table, digest in schema.seeded.items()
    ):
        return None
    filled = [
        table
        for table in _filled(connection, schema.name, schema.tables)
        if table not in schema.seeded
    ]
    _remove_rows(connection, schema, filled)
    connection.execute(
        "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence WHERE seqrelid = ANY (%s)",
        [schema.sequences],
    )
    name = _new_name()
    connection.execute(
        sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(
            sql.Identifier(schema.name), sql.Identifier(name)
        )
    )
    # To truncate a table changes it.
    return replace(schema, name=name, parts=_parts(connection, schema.oid))


def _drop_added(connection: Connection, schema: _Schema) -> None:
    """Drop the tables and views that were added, with all that belongs to them."""
    added = connection.execute(
        "SELECT relname, relkind IN ('v') FROM pg_class "
        "WHERE relnamespace = %s AND relkind IN ('r', 'p', 'v') AND NOT relispartition "
        "AND oid <> ALL (%s)",
        [schema.oid, [*schema.tables.values()]],
    ).fetchall()
    for kind, is_view in (("VIEW", True), ("TABLE", False)):
        names = [sql.Identifier(schema.name, name) for name, view in added if view == is_view]
        if names:
            connection.execute(
                sql.SQL("DROP {} {} CASCADE").format(sql.SQL(kind), sql.SQL(", ").join(names))
            )


def _remove_rows(connection: Connection, schema: _Schema, filled: list[str]) -> None:
    large: list[sql.Composable] = []
    small: list[sql.Composable] = []
    for table in filled:
        row = connection.execute("SELECT pg_relation_size(%s)", [schema.tables[table]]).fetchone()
        (large if row and row[0] > _LARGE_BYTES else small).append(
            sql.Identifier(schema.name, table)
        )
    if large:
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(large)))
    if small:
        # As one statement, so that rows that refer to each other go together.
        deletions = [
            sql.SQL("d{} AS (DELETE FROM {})").format(sql.SQL(str(number)), table)
            for number, table in enumerate(small)
        ]
        connection.execute(sql.SQL("WITH {} SELECT").format(sql.SQL(", ").join(deletions)))


def _filled(connection: Connection, name: str, tables: dict[str, int]) -> list[str]:
    """The tables that hold rows."""
    found = connection.execute(
        sql.SQL(" UNION ALL ").join(
            sql.SQL("(SELECT {} FROM {} LIMIT 1)").format(
                sql.Literal(table), sql.Identifier(name, table)
            )
            for table in tables
        )
    )
    return [str(table) for (table,) in found]


def _digest(connection: Connection, name: str, table: str) -> str:
    row = connection.execute(
        sql.SQL("SELECT md5(string_agg(concat_ws(' ', ctid, xmin), ',')) FROM {}").format(
            sql.Identifier(name, table)
        )
    ).fetchone()
    return str(row)


def _parts(connection: Connection, oid: int) -> Any:
    return connection.execute(_PARTS.format(schema=sql.Literal(oid))).fetchone()
