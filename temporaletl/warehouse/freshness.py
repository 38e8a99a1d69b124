"""Loads of the streams: up to when each is loaded, and what came of its last run."""

from datetime import datetime
from typing import Literal, NamedTuple

from psycopg.rows import dict_row

from temporaletl.messages import ErrorText, Message
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row


class StreamLoads(Message):
    """What is committed of one stream, and the outcome of the last run that was to load it."""

    source: str
    connection: str
    stream: str
    loaded_until: datetime | None  # the watermark
    last_loaded_at: datetime | None  # when a run last loaded its whole window
    last_outcome: Literal["complete", "failed", "other"]
    batch_id: str | None
    error: ErrorText | None = None  # of the last run, where that failed


class Loads(NamedTuple):
    """The loads of all streams that a run has met, and the warehouse's time."""

    streams: list[StreamLoads]
    as_of: datetime


def read_loads(warehouse: Warehouse) -> Loads:
    """Read the loads of all streams."""
    with warehouse.connection() as connection:
        return loads_in(connection)


def loads_in(connection: Connection) -> Loads:
    """The same in the caller's transaction, in one statement each for loads and time."""
    cursor = connection.cursor(row_factory=dict_row)
    rows = cursor.execute(
        # Both times are of the transaction that moved the watermark: equal where the last run has
        # loaded its whole window.
        """
        SELECT s.source, s.connection, s.stream, s.watermark AS loaded_until,
            greatest(s.last_full_at, s.last_incremental_at) AS last_loaded_at, s.batch_id,
            CASE WHEN s.updated_at = greatest(s.last_full_at, s.last_incremental_at)
                 THEN 'complete' WHEN s.state = 'failed' THEN 'failed' ELSE 'other' END
                AS last_outcome,
            CASE WHEN s.state = 'failed' THEN coalesce(
                (SELECT j.error FROM etl_jobs AS j
                 WHERE j.batch_id = s.batch_id AND j.stream = s.stream AND j.state = 'failed'
                 ORDER BY j.seq LIMIT 1),
                b.summary->>'error') END AS error
        FROM etl_sync_state AS s LEFT JOIN etl_batches AS b USING (batch_id)
        ORDER BY s.source, s.connection, s.stream
        """
    ).fetchall()
    now = only_row(connection.execute("SELECT clock_timestamp()"))[0]
    return Loads([StreamLoads.model_validate(row) for row in rows], now)
