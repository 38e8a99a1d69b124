"""Tally of a batch: its jobs by state and its rows by outcome, from the ledger."""

from typing import NamedTuple

from psycopg.rows import dict_row

from temporaletl.messages import JobCounts, JobFailure, JobNote, RowCounts
from temporaletl.warehouse.connection import Connection
from temporaletl.warehouse.sessions import only_row

_NAMED_FAILURES = 100
_ERROR_CHARACTERS = 500


class JobTally(JobCounts):
    """Jobs by state; `planned` counts all of them."""

    running: int = 0
    paused: int = 0
    waiting: int = 0  # planned and not begun


class Tally(NamedTuple):
    """A batch's jobs by state, its rows by outcome, records, rows deleted, and conflicting rows.

    `conflicting` are rows that had the key of another row of their job, and another content.
    """

    jobs: JobTally
    rows: RowCounts
    records: int
    deleted: int
    conflicting: int


def tally_jobs(connection: Connection, batch_id: str) -> Tally:
    """Count a batch's jobs, and what they loaded, as of now."""
    row = only_row(
        connection.cursor(row_factory=dict_row).execute(
            """
            SELECT count(*) AS planned,
                count(*) FILTER (WHERE state = 'completed') AS completed,
                count(*) FILTER (WHERE state = 'failed') AS failed,
                count(*) FILTER (WHERE state = 'skipped') AS skipped,
                count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'paused') AS paused,
                count(*) FILTER (WHERE state = 'planned') AS waiting,
                coalesce(sum(records), 0)::bigint AS records,
                coalesce(sum(inserted), 0)::bigint AS inserted,
                coalesce(sum(updated), 0)::bigint AS updated,
                coalesce(sum(unchanged), 0)::bigint AS unchanged,
                coalesce(sum(rejected), 0)::bigint AS rejected,
                coalesce(sum(deleted), 0)::bigint AS deleted,
                coalesce(sum(conflicting), 0)::bigint AS conflicting
            FROM etl_jobs WHERE batch_id = %s
            """,
            [batch_id],
        )
    )
    return Tally(
        jobs=JobTally(**{name: row[name] for name in JobTally.model_fields}),
        rows=RowCounts(**{name: row[name] for name in RowCounts.model_fields}),
        records=row["records"],
        deleted=row["deleted"],
        conflicting=row["conflicting"],
    )


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
    """Notes of a batch and its jobs that did not fail.

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
