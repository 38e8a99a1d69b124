"""Reads rows back as they are loaded, for a source that must know what it told before."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from psycopg import sql
from psycopg.rows import dict_row

from temporaletl.errors import ConfigurationError
from temporaletl.rows import Row
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.columns import Layout


def stored_rows[R: Row](
    warehouse: Warehouse,
    layout: Layout,
    equal: Mapping[str, str],
    behind: Sequence[str] | None,
    most: int,
) -> Sequence[R]:
    """Return rows of a table: see `temporaletl.strategies.StoredRows`.

    Raises:
        ConfigurationError: the class is one of events, which do not come back as they were made.
    """
    if layout.partitioned:
        raise ConfigurationError(f"rows of {layout.row.__name__} are not read back")
    names = [field.name for field in msgspec.structs.fields(layout.row)]
    clauses = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in equal]
    values: list[Any] = list(equal.values())
    key = sql.SQL(", ").join(map(sql.Identifier, layout.key))
    if behind is not None:
        marks = sql.SQL(", ").join([sql.Placeholder()] * len(layout.key))
        clauses.append(sql.SQL("({}) > ({})").format(key, marks))
        values += behind
    query = sql.SQL("SELECT {columns} FROM {table} WHERE {where} ORDER BY {key} LIMIT %s").format(
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        table=sql.Identifier(layout.table),
        where=sql.SQL(" AND ").join(clauses) if clauses else sql.SQL("true"),
        key=key,
    )
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(query, [*values, most]).fetchall()
    return [layout.row(**row) for row in found]  # type: ignore[misc]
