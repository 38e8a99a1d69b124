"""What the warehouse says of the whole platform, for metrics: a few short queries.

Each is given up after three seconds, and its values are then left out: what is measured goes first.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from psycopg import errors, sql

from temporaletl.messages import Message
from temporaletl.telemetry.instruments import Labels
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.clock import warehouse_now
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.waiting import oldest_waiting

#: A figure is not worth more of the warehouse's time.
_AT_MOST = timedelta(seconds=3)

_OPEN_BATCHES = """
    SELECT source, connection, state, count(*) FROM etl_batches
    WHERE ended_at IS NULL GROUP BY 1, 2, 3
"""
_OPEN_JOBS = """
    SELECT job.source, job.connection,
        CASE job.state WHEN 'planned' THEN 'waiting' ELSE job.state END, count(*)
    FROM etl_batches AS batch JOIN etl_jobs AS job USING (batch_id)
    WHERE batch.ended_at IS NULL AND job.state IN ('planned', 'running', 'paused')
    GROUP BY 1, 2, 3
"""
_REJECTS = "SELECT source, connection, stream, count(*) FROM etl_rejects GROUP BY 1, 2, 3"
# Of a partitioned table, what its partitions have together.
_TABLES = """
    WITH RECURSIVE part (root, oid, relkind, reltuples) AS (
        SELECT relname, oid, relkind, reltuples FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
          AND NOT relispartition
        UNION ALL
        SELECT part.root, child.oid, child.relkind, child.reltuples
        FROM part JOIN pg_inherits ON inhparent = part.oid
        JOIN pg_class AS child ON child.oid = inhrelid
    )
    SELECT root, sum(pg_total_relation_size(oid)),
        sum(greatest(reltuples, 0)) FILTER (WHERE relkind = 'r')
    FROM part GROUP BY root
"""

Values = Sequence[tuple[Labels, float]]


class Measures(Message):
    """Values by their labels, in the order in which their metrics declare them.

    Those of a query that took too long are empty.
    """

    batches_open: Values
    jobs_open: Values
    oldest_waiting_seconds: float
    cool_downs: Values
    rejects_kept: Values
    table_bytes: Values
    table_rows: Values


def measure(warehouse: Warehouse) -> Measures:
    """Read all of them, as of about now.

    Raises:
        ETLError: as `Warehouse.connection`.
    """
    oldest = oldest_waiting(warehouse)
    now, blocked = warehouse_now(warehouse), blocked_sources(warehouse)
    with warehouse.connection() as connection:
        tables = _rows(connection, _TABLES)
        return Measures(
            batches_open=_counts(_rows(connection, _OPEN_BATCHES)),
            jobs_open=_counts(_rows(connection, _OPEN_JOBS)),
            oldest_waiting_seconds=0.0 if oldest is None else oldest.waited.total_seconds(),
            cool_downs=[
                ((one.source, one.connection), (one.blocked_until - now).total_seconds())
                for one in blocked
            ],
            rejects_kept=_counts(_rows(connection, _REJECTS)),
            table_bytes=[((str(table),), float(size)) for table, size, _ in tables],
            table_rows=[((str(table),), float(rows or 0)) for table, _, rows in tables],
        )


def _counts(rows: Sequence[Sequence[Any]]) -> Values:
    return [(tuple(map(str, labels)), float(count)) for *labels, count in rows]


def _rows(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    milliseconds = round(_AT_MOST.total_seconds() * 1_000)
    limit = sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(milliseconds))
    try:
        with connection.transaction():
            connection.execute(limit)
            return connection.execute(query.encode()).fetchall()
    except errors.QueryCanceled:
        return []
