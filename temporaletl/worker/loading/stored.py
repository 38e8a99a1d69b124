"""Reads of stored rows, for a source that compares them with its present answers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from psycopg import sql
from psycopg.rows import dict_row

from temporaletl.errors import ConfigurationError
from temporaletl.rows import Json, Row, storable_text
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.columns import layout_of


class JobEvents:
    """Stored events of a running job's source: see `temporaletl.extraction.StoredEvents`."""

    def __init__(self, warehouse: Warehouse, source: str, connection: str) -> None:
        self._warehouse = warehouse
        self._source = source
        self._connection = connection
        self._uncommitted = 0
        self._all_committed = asyncio.Event()
        self._all_committed.set()

    def expect_page(self) -> None:
        """Count a page that was extracted, and is not committed."""
        self._uncommitted += 1
        self._all_committed.clear()

    def note_committed(self, pages: int) -> None:
        """Count extracted pages that are committed."""
        self._uncommitted -= pages
        if self._uncommitted == 0:
            self._all_committed.set()

    async def committed(self) -> None:
        await self._all_committed.wait()

    def properties(self, event_id: str) -> Mapping[str, Json] | None:
        with self._warehouse.connection() as connection:
            if connection.execute("SELECT to_regclass('events')").fetchone() == (None,):
                return None
            found = connection.execute(
                "SELECT event_properties FROM events "
                "WHERE source_kind_id = %s AND connection = %s AND event_id = %s "
                "AND deleted_at IS NULL",
                (self._source, self._connection, storable_text(event_id)),
            ).fetchone()
        return None if found is None else cast("Mapping[str, Json]", found[0] or {})

    def rows[R: Row](
        self, wanted: type[R], *, equal: Mapping[str, str], behind: Sequence[str] | None, most: int
    ) -> Sequence[R]:
        """Return rows of a table.

        Raises:
            ConfigurationError: the class is one of events, which cannot be restored.
        """
        layout = layout_of(wanted)
        if layout.partitioned:
            raise ConfigurationError(f"rows of {wanted.__name__} are not read back")
        names = [field.name for field in msgspec.structs.fields(wanted)]
        clauses = [
            sql.SQL("{} = %s").format(sql.Identifier(name)) for name in (layout.connection, *equal)
        ]
        values: list[Any] = [self._connection, *equal.values()]
        key = sql.SQL(", ").join(map(sql.Identifier, layout.own_key))
        if behind is not None:
            marks = sql.SQL(", ").join([sql.Placeholder()] * len(layout.own_key))
            clauses.append(sql.SQL("({}) > ({})").format(key, marks))
            values += behind
        query = sql.SQL(
            "SELECT {columns} FROM {table} WHERE {where} ORDER BY {key} LIMIT %s"
        ).format(
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            table=sql.Identifier(layout.table),
            where=sql.SQL(" AND ").join(clauses),
            key=key,
        )
        with (
            self._warehouse.connection() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            found = cursor.execute(query, [*values, most]).fetchall()
        return [wanted(**row) for row in found]
