"""Ends of deletion scans, by stream."""

from datetime import timedelta

from temporaletl.messages import BatchMetadata
from temporaletl.warehouse.connection import Warehouse

#: A little less, so that a daily run finds yesterday's over.
_DAY = timedelta(hours=23)


def scanned_streams(warehouse: Warehouse, metadata: BatchMetadata) -> set[str]:
    """The streams of a batch whose last deletion scan was finished within the last day."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT stream FROM etl_scans
            WHERE source = %s AND connection = %s AND finished_at > now() - %s
            """,
            [metadata.source, metadata.connection, _DAY],
        ).fetchall()
    return {str(stream) for (stream,) in found}
