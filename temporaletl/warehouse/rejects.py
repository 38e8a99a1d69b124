"""What could not become rows, as the planning of a replay sees it."""

from temporaletl.messages import BatchMetadata
from temporaletl.warehouse.connection import Warehouse


def streams_with_rejects(warehouse: Warehouse, metadata: BatchMetadata) -> list[str]:
    """The batch's streams of which something was rejected."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT DISTINCT stream FROM etl_rejects
            WHERE source = %s AND stream = ANY (%s) ORDER BY stream
            """,
            [metadata.source, sorted(metadata.windows)],
        ).fetchall()
    return [str(stream) for (stream,) in found]
