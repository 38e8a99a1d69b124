"""Jobs that outlast a stream's load: those of a batch for which its watermark does not wait."""

from functools import lru_cache

from temporaletl.warehouse.connection import Warehouse


def outlasted_streams(warehouse: Warehouse, batch_id: str) -> frozenset[str]:
    """The streams of a batch that have such jobs, read once; none while it is being planned.

    The others' watermarks advance at the batch's end. Asking at the end of each of their jobs,
    which reads all jobs of the batch, would bring nothing.
    """
    try:
        return _of_planned(warehouse, batch_id)
    except _UnplannedError:
        return frozenset()


class _UnplannedError(Exception):
    """A batch may still get jobs."""


@lru_cache(maxsize=16)
def _of_planned(warehouse: Warehouse, batch_id: str) -> frozenset[str]:
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT DISTINCT j.stream FROM etl_batches AS b
            LEFT JOIN etl_jobs AS j ON j.batch_id = b.batch_id AND j.windowless
            WHERE b.batch_id = %s AND b.jobs_planned IS NOT NULL
            """,
            [batch_id],
        ).fetchall()
    if not found:
        raise _UnplannedError
    return frozenset(str(stream) for (stream,) in found if stream is not None)
