"""What could not become rows, as planning sees it, and what a full run leaves of it."""

from temporaletl.messages import BatchMetadata
from temporaletl.warehouse.connection import Connection, Warehouse


def streams_with_rejects(
    warehouse: Warehouse, metadata: BatchMetadata, stage: str | None = None
) -> list[str]:
    """The batch's streams of which something was rejected before, at any stage or at one."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT stream FROM unnest(%(streams)s::text[]) AS s (stream)
            WHERE EXISTS (
                SELECT FROM etl_rejects AS r
                WHERE r.source = %(source)s AND r.stream = s.stream AND r.batch_id <> %(batch)s
                  AND (%(stage)s::text IS NULL OR r.stage = %(stage)s))
            ORDER BY stream
            """,
            {
                "streams": sorted(metadata.windows),
                "source": metadata.source,
                "batch": metadata.batch_id,
                "stage": stage,
            },
        ).fetchall()
    return [str(stream) for (stream,) in found]


def forget_unread(connection: Connection, metadata: BatchMetadata, stream: str) -> None:
    """Delete what an earlier run could not read of a stream, and a full one has read without it.

    Only for a full run that completed and was shown everything. Safe to repeat.
    """
    connection.execute(
        """
        DELETE FROM etl_rejects AS r USING etl_batches AS b
        WHERE b.batch_id = %(batch)s AND r.source = %(source)s AND r.stream = %(stream)s
          AND r.stage = 'extract' AND r.batch_id <> b.batch_id AND r.last_seen <= b.created_at
        """,
        {"batch": metadata.batch_id, "source": metadata.source, "stream": stream},
    )
