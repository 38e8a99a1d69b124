"""What became of a batch's jobs, counted from their ledger rows."""

from collections.abc import Sequence
from typing import Any

from temporaletl.messages import JobCounts, JobFailure, JobNote, RowCounts
from temporaletl.warehouse.connection import Connection

_NAMED_FAILURES = 100
_ERROR_CHARACTERS = 500


class JobTally(JobCounts):
    """Jobs by state; `planned` counts all of them."""

    running: int = 0
    waiting: int = 0  # planned and not begun


def tally_jobs(connection: Connection, batch_id: str) -> tuple[JobTally, RowCounts, int, int]:
    """A batch's jobs by state, rows by outcome, records, and rows deleted, as of now."""
    row: Sequence[Any] | None = connection.execute(
        """
        SELECT count(*), count(*) FILTER (WHERE state = 'completed'),
            count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'skipped'),
            count(*) FILTER (WHERE state = 'cancelled'),
            count(*) FILTER (WHERE state IN ('running', 'paused')),
            count(*) FILTER (WHERE state = 'planned'),
            coalesce(sum(records), 0)::bigint, coalesce(sum(inserted), 0)::bigint,
            coalesce(sum(updated), 0)::bigint, coalesce(sum(unchanged), 0)::bigint,
            coalesce(sum(rejected), 0)::bigint, coalesce(sum(deleted), 0)::bigint
        FROM etl_jobs WHERE batch_id = %s
        """,
        [batch_id],
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always has a row
    jobs = JobTally(
        planned=row[0],
        completed=row[1],
        failed=row[2],
        skipped=row[3],
        cancelled=row[4],
        running=row[5],
        waiting=row[6],
    )
    rows = RowCounts(**dict(zip(RowCounts.model_fields, row[8:12], strict=True)))
    return jobs, rows, row[7], row[12]


def failed_jobs(connection: Connection, batch_id: str) -> tuple[JobFailure, ...]:
    """A batch's first hundred failed jobs, and the first 500 characters of their errors."""
    rows = connection.execute(
        """
        SELECT job_id, coalesce(error, 'unknown') FROM etl_jobs
        WHERE batch_id = %s AND state = 'failed' ORDER BY seq LIMIT %s
        """,
        [batch_id, _NAMED_FAILURES],
    ).fetchall()
    return tuple(
        JobFailure(job=str(job), error=str(error)[:_ERROR_CHARACTERS]) for job, error in rows
    )


def job_notes(connection: Connection, batch_id: str) -> tuple[JobNote, ...]:
    """What a person should know of a batch and its jobs though they did not fail.

    First why it moves no watermark, then the first hundred jobs'.
    """
    rows = connection.execute(
        """
        (SELECT batch_id, held FROM etl_batches WHERE batch_id = %(batch)s AND held IS NOT NULL)
        UNION ALL
        (SELECT job_id, concat_ws('; ', note, CASE WHEN conflicting > 0 THEN format(
            '%%s rows had the key of another row of the job, and another content; of each key the '
            'last was kept: %%s', conflicting, conflict) END)
         FROM etl_jobs WHERE batch_id = %(batch)s AND (note IS NOT NULL OR conflicting > 0)
         ORDER BY seq LIMIT %(most)s)
        """,
        {"batch": batch_id, "most": _NAMED_FAILURES},
    ).fetchall()
    return tuple(JobNote(job=str(job), note=str(note)) for job, note in rows)


def conflicting_rows(connection: Connection, batch_id: str) -> int:
    """Rows of a batch's jobs that had the key of another row of the job, and another content."""
    row: Sequence[Any] | None = connection.execute(
        "SELECT coalesce(sum(conflicting), 0)::bigint FROM etl_jobs WHERE batch_id = %s",
        [batch_id],
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always has a row
    return int(row[0])
