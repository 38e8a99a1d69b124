"""Deletion scans in the warehouse: stored items, and the findings of a scan.

Each function is safe to repeat. Findings are written in the transaction of the page that brings
them, and so with the cursor behind them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.accounts import account_views, read_view
from temporaletl.deletions import Items
from temporaletl.messages import ETLInput
from temporaletl.query import ACCEPT_DELETIONS
from temporaletl.rows import Finding, ScanItems, storable_text
from temporaletl.warehouse.accounts import known_view
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

#: What an unfinished scan knows is used by a later run for so long.
_GOOD_FOR = timedelta(days=7)
#: Behind every id.
_LAST = chr(0x10FFFF)
# Stored items, each found with one look into the index: from the first of its events behind those
# of the last. One is loaded again since the scan began is there, whether it was listed or not.
_STORED_ITEMS = """
    WITH RECURSIVE items (item) AS (
        (SELECT split_part(substr(event_id, %(behind)s), ':', 1) FROM events
         WHERE source_kind_id = %(source)s AND connection = %(connection)s
           AND event_id >= %(prefix)s AND event_id < %(past)s AND deleted_at IS NULL
         ORDER BY event_id LIMIT 1)
        UNION ALL
        SELECT (SELECT split_part(substr(t.event_id, %(behind)s), ':', 1) FROM events AS t
                WHERE t.source_kind_id = %(source)s AND t.connection = %(connection)s
                  AND t.event_id >= %(prefix)s || items.item || ';' AND t.event_id < %(past)s
                  AND t.deleted_at IS NULL
                ORDER BY t.event_id LIMIT 1)
        FROM items WHERE items.item IS NOT NULL
    ), stored (item) AS (
        SELECT item FROM items WHERE item IS NOT NULL AND NOT EXISTS (
            SELECT FROM events AS t
            WHERE t.source_kind_id = %(source)s AND t.connection = %(connection)s
              AND t.event_id >= %(prefix)s || items.item || ':'
              AND t.event_id < %(prefix)s || items.item || ';' AND t.extracted_at >= %(since)s
              -- A time that has not come is no time.
              AND t.extracted_at <= clock_timestamp()
        )
    )
"""
_STORED_IDS = """
    WITH stored (item) AS (
        SELECT substr(event_id, %(behind)s) FROM events
        WHERE source_kind_id = %(source)s AND connection = %(connection)s
          AND event_id >= %(prefix)s AND event_id < %(past)s AND deleted_at IS NULL
          AND NOT (extracted_at >= %(since)s AND extracted_at <= clock_timestamp())
    )
"""
_COMPARE = """
    , eligible AS (
        SELECT item FROM stored AS s WHERE %(with_kept)s OR NOT EXISTS (
            SELECT FROM etl_kept_items AS k WHERE k.source = %(source)s AND k.stream = %(stream)s
              AND k.connection = %(connection)s AND k.item = s.item)
    ), noted AS (
        INSERT INTO etl_scan_items (batch_id, seq, item, finding)
        SELECT %(batch_id)s, %(seq)s, item, 'missing' FROM eligible
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM eligible
"""


class JobScan:
    """A job's deletion scan: see `temporaletl.worker.scanning.ScanStore`."""

    def __init__(self, warehouse: Warehouse, job: ETLInput, *, most: timedelta) -> None:
        self._warehouse = warehouse
        self._source = job.source
        self._most = most
        self._job: dict[str, Any] = {"batch_id": job.batch_id, "seq": job.seq}
        self._stream: dict[str, Any] = {
            "source": job.source,
            "stream": job.stream,
            "connection": job.connection,
        }
        kept = {name: value for name, value in job.params.items() if name != ACCEPT_DELETIONS}
        self._params = kept

    def resume(self, *, list_alone: bool) -> JsonValue:
        values = {
            **self._job,
            **self._stream,
            "good_for": _GOOD_FOR,
            "accepting": ACCEPT_DELETIONS,
            "list_alone": list_alone,
            "params": Jsonb(self._params),
        }
        with self._warehouse.connection() as connection:
            # An attempt that stood still and goes on may be here as well.
            connection.execute(_LOCK, values)
            connection.execute(_FORGET, values)
            found = connection.execute(_UNFINISHED, values).fetchone()
            batch_id, seq, cursor = found or (None, None, None)
            connection.execute(_TIDY, {**values, "taken": batch_id, "taken_seq": seq})
            if found is None:
                connection.execute(_MARK, values)
                return None
            connection.execute(
                """
                UPDATE etl_scan_items SET batch_id = %s, seq = %s
                WHERE batch_id = %s AND seq = %s
                """,
                [self._job["batch_id"], self._job["seq"], batch_id, seq],
            )
            # Whose findings were taken has none any more to go on from.
            connection.execute(
                "UPDATE etl_jobs SET cursor = NULL WHERE batch_id = %s AND seq = %s",
                [batch_id, seq],
            )
        return cursor  # type: ignore[return-value]

    def is_intact(self) -> bool:
        row = self._one(
            """
            SELECT EXISTS (SELECT FROM etl_scan_items
                WHERE batch_id = %(batch_id)s AND seq = %(seq)s AND finding = 'begun')
            """
        )
        return bool(row[0])

    def is_over(self) -> bool:
        row = self._one(
            """
            SELECT clock_timestamp() - started_at >= %(most)s FROM etl_jobs
            WHERE batch_id = %(batch_id)s AND seq = %(seq)s
            """,
            most=self._most,
        )
        return bool(row[0])

    def now(self) -> datetime:
        found = self._one("SELECT clock_timestamp()")[0]
        assert isinstance(found, datetime)  # noqa: S101 - the function's type
        return found

    def lacking_view(self) -> str | None:
        view = read_view(self._source) if self._source in account_views else None
        if view is None:
            return None
        known = known_view(self._warehouse, self._source, self._stream["connection"])
        return None if known is None else known.lacks(view)

    def has_stored(self, items: Items) -> bool:
        with self._warehouse.connection() as connection:
            if connection.execute("SELECT to_regclass('events')").fetchone() == (None,):
                return False
            found = connection.execute(
                """
                SELECT EXISTS (SELECT FROM events WHERE source_kind_id = %(source)s
                    AND connection = %(connection)s
                    AND event_id >= %(prefix)s AND event_id < %(past)s AND deleted_at IS NULL)
                """,
                {**self._stream, "prefix": items.prefix, "past": past(items.prefix)},
            )
            return found.fetchone() == (True,)

    def narrowed_scope(self, scope: Collection[str]) -> list[str]:
        row = self._one(
            """
            SELECT coalesce((SELECT s.scope FROM etl_scans AS s WHERE source = %(source)s
                AND stream = %(stream)s AND connection = %(connection)s), '{}')
            """
        )
        return sorted({str(part) for part in row[0]}.difference(scope))

    def compare(self, items: Items, since: datetime, *, with_kept: bool) -> int:
        values = {
            "prefix": items.prefix,
            "past": past(items.prefix),
            "behind": len(items.prefix) + 1,
            "since": since,
            "with_kept": with_kept,
        }
        stored = _STORED_IDS if items.exact else _STORED_ITEMS
        return int(self._one(stored + _COMPARE, **values)[0])

    def count(self, finding: Finding) -> int:
        return int(
            self._one(
                """
                SELECT count(*) FROM etl_scan_items
                WHERE batch_id = %(batch_id)s AND seq = %(seq)s AND finding = %(finding)s
                """,
                finding=finding,
            )[0]
        )

    def found(self, finding: Finding, most: int) -> list[str]:
        values = {**self._job, "finding": finding, "most": most}
        with self._warehouse.connection() as connection:
            rows = connection.execute(
                """
                SELECT item FROM etl_scan_items
                WHERE batch_id = %(batch_id)s AND seq = %(seq)s AND finding = %(finding)s
                ORDER BY md5(item || %(batch_id)s), item LIMIT %(most)s
                """,
                values,
            ).fetchall()
        return [str(item) for (item,) in rows]

    def keep_missing(self) -> int:
        with self._warehouse.connection() as connection:
            kept = connection.execute(
                """
                UPDATE etl_scan_items SET finding = 'kept'
                WHERE batch_id = %(batch_id)s AND seq = %(seq)s AND finding = 'missing'
                """,
                self._job,
            )
            return kept.rowcount

    def finish(self, scope: Collection[str]) -> None:
        values = {**self._job, **self._stream, "scope": sorted(scope)}
        with self._warehouse.connection() as connection:
            for statement in _FINISH:
                connection.execute(statement, values)

    def _one(self, statement: str, **values: Any) -> Sequence[Any]:
        with self._warehouse.connection() as connection:
            return only_row(
                connection.execute(
                    sql.SQL(statement),
                    {**self._job, **self._stream, **values},
                    prepare=False,
                )
            )


_LOCK = "SELECT FROM etl_jobs WHERE batch_id = %(batch_id)s AND seq = %(seq)s FOR UPDATE"
_FORGET = "DELETE FROM etl_scan_items WHERE batch_id = %(batch_id)s AND seq = %(seq)s"
_MARK = """
    INSERT INTO etl_scan_items (batch_id, seq, item, finding)
    VALUES (%(batch_id)s, %(seq)s, '', 'begun')
"""
_UNFINISHED = """
    SELECT batch_id, seq, cursor FROM etl_jobs
    WHERE source = %(source)s AND stream = %(stream)s AND windowless
      AND connection = %(connection)s AND (input->'params') - %(accepting)s = %(params)s
      AND NOT (batch_id = %(batch_id)s AND seq = %(seq)s)
      AND ended_at > now() - %(good_for)s AND cursor->>'phase' IS DISTINCT FROM 'ended'
      AND (NOT %(list_alone)s OR coalesce(cursor->>'phase', 'list') = 'list')
      AND cursor IS NOT NULL AND EXISTS (
        SELECT FROM etl_scan_items AS i WHERE i.batch_id = etl_jobs.batch_id
          AND i.seq = etl_jobs.seq AND i.finding = 'begun')
    ORDER BY ended_at DESC LIMIT 1 FOR UPDATE
"""
# What other jobs found that ended is of no use any more: they looked for something else.
_TIDY = """
    DELETE FROM etl_scan_items AS i USING etl_jobs AS j
    WHERE j.batch_id = i.batch_id AND j.seq = i.seq AND j.ended_at IS NOT NULL
      AND j.source = %(source)s AND j.stream = %(stream)s AND j.windowless
      AND j.connection = %(connection)s
      AND (i.batch_id, i.seq) IS DISTINCT FROM (%(taken)s::text, %(taken_seq)s::integer)
"""
_FINISH = (
    # An item that is listed again is covered again, and one that was checked is there or deleted.
    """
    DELETE FROM etl_kept_items AS k USING etl_scan_items AS i
    WHERE k.source = %(source)s AND k.stream = %(stream)s AND k.connection = %(connection)s
      AND i.batch_id = %(batch_id)s AND i.seq = %(seq)s AND i.item = k.item
      AND i.finding <> 'kept'
    """,
    """
    INSERT INTO etl_kept_items (source, stream, connection, item)
    SELECT %(source)s, %(stream)s, %(connection)s, item FROM etl_scan_items
    WHERE batch_id = %(batch_id)s AND seq = %(seq)s AND finding = 'kept'
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO etl_scans AS s (source, stream, connection, scope)
    VALUES (%(source)s, %(stream)s, %(connection)s, %(scope)s)
    ON CONFLICT (source, stream, connection) DO UPDATE
    SET scope = excluded.scope, finished_at = now()
    """,
    _FORGET,
)


def write_findings(connection: Connection, job: ETLInput, found: Sequence[ScanItems]) -> None:
    """Write a page's findings of a scan's items, in the caller's transaction."""
    for items in found:
        if items.ids:
            connection.execute(
                """
                INSERT INTO etl_scan_items AS i (batch_id, seq, item, finding)
                SELECT %s, %s, item, %s FROM (SELECT DISTINCT unnest(%s::text[]) AS item) AS u
                ON CONFLICT (batch_id, seq, item) DO UPDATE SET finding = excluded.finding
                WHERE i.finding <> excluded.finding
                """,
                [job.batch_id, job.seq, items.finding, [*map(storable_text, items.ids)]],
                prepare=False,
            )


def kept_items(warehouse: Warehouse, source: str, connection: str) -> set[str]:
    """The items of a connection that a narrower scope no longer covers."""
    with warehouse.connection() as session:
        found = session.execute(
            "SELECT item FROM etl_kept_items WHERE source = %s AND connection = %s",
            [source, connection],
        )
        return {str(item) for (item,) in found}


def past(prefix: str) -> str:
    """The first text behind all that begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else _LAST
