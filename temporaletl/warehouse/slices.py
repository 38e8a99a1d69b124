"""Slices that two batches plan: the job that begins second is skipped.

Of two batches in Temporal, the workflow id of the job sees to that; wherever the local engine has
one of them, the ledger does.
"""

from temporaletl.messages import ETLInput
from temporaletl.warehouse.connection import Connection

#: Names the locks of jobs' slices among the advisory locks of a database.
_SLICES = 7_233_316


def skip_if_taken(connection: Connection, job: ETLInput) -> None:
    """End a job that has not begun as skipped, where another engine's batch is at its slice.

    Of two that begin one slice at once, one is skipped. A batch whose process is dead does not
    count, nor one that has loaded nothing for an hour.
    """
    began = connection.execute(
        """
        SELECT pg_advisory_xact_lock(%s, hashtext(job_id)) FROM etl_jobs
        WHERE batch_id = %s AND seq = %s AND state = 'planned'
        """,
        [_SLICES, job.batch_id, job.seq],
    ).fetchone()
    if began is None:
        return
    values = {"batch": job.batch_id, "seq": job.seq, "job": job.job_id}
    # By itself, as it is mostly all: planning the other one takes longer than its execution.
    ((elsewhere,),) = connection.execute(
        """
        SELECT EXISTS (SELECT FROM etl_jobs WHERE job_id = %(job)s AND batch_id <> %(batch)s
            AND state = 'running')
        """,
        values,
    )
    if not elsewhere:
        return
    connection.execute(
        """
        UPDATE etl_jobs SET state = 'skipped', ended_at = now(), touched_at = now()
        WHERE batch_id = %(batch)s AND seq = %(seq)s AND EXISTS (
            SELECT FROM etl_jobs AS other
            JOIN etl_batches AS batch ON batch.batch_id = other.batch_id
            JOIN etl_batches AS own ON own.batch_id = %(batch)s
            LEFT JOIN etl_runs AS run ON run.workflow_id = batch.workflow_id
            WHERE other.job_id = %(job)s AND other.batch_id <> %(batch)s
              AND other.state = 'running' AND batch.ended_at IS NULL
              AND 'local' IN (batch.engine, own.engine)
              AND coalesce(other.touched_at, other.started_at) > now() - interval '1 hour'
              AND (batch.engine = 'temporal'
                   OR coalesce(run.lease_until, batch.lease_until) > clock_timestamp())
        )
        """,
        values,
    )
