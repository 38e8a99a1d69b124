"""Waiting jobs: planned, and begun by no worker yet."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from temporaletl.warehouse.connection import Warehouse


@dataclass(frozen=True, slots=True)
class OldestWaiting:
    """The job that waits longest, of a batch that is neither paused nor ended."""

    job_id: str
    workflow_id: str  # of its run
    since: datetime  # when its batch began, or last began a job
    waited: timedelta


def oldest_waiting(warehouse: Warehouse) -> OldestWaiting | None:
    """The job that waits longest; None where none does.

    A batch begins its jobs one after another: they wait since it last began one.
    """
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(OldestWaiting)) as cursor,
    ):
        return cursor.execute(
            """
            SELECT job.job_id, batch.workflow_id, began.since,
                clock_timestamp() - began.since AS waited
            FROM etl_batches AS batch
            CROSS JOIN LATERAL (
                SELECT job_id FROM etl_jobs
                WHERE batch_id = batch.batch_id AND state = 'planned' ORDER BY seq LIMIT 1
            ) AS job
            CROSS JOIN LATERAL (
                SELECT greatest(batch.created_at, max(started_at), max(ended_at)) AS since
                FROM etl_jobs WHERE batch_id = batch.batch_id
            ) AS began
            WHERE batch.ended_at IS NULL AND batch.jobs_planned IS NOT NULL
              AND batch.state = 'running'
            ORDER BY began.since LIMIT 1
            """
        ).fetchone()
