"""Pause and cancel in the ledger: what was requested of batches, and which jobs still run.

Every function runs in one short transaction of its own and is safe to repeat.
"""

from typing import Literal, NamedTuple

from temporaletl.messages import ETLInput
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import Hold

#: A batch's state as its jobs have it: `etl_batches.state` follows them by a second or two, and a
#: job can be resumed by itself. One that is not planned yet is not at rest: planning goes on.
STATE = """
    CASE WHEN ended_at IS NULL AND state IN ('pausing', 'paused') THEN
        CASE WHEN jobs_planned IS NULL OR EXISTS (
            SELECT FROM etl_jobs AS j
            WHERE j.batch_id = etl_batches.batch_id AND j.state = 'running'
        ) THEN 'pausing' ELSE 'paused' END
    ELSE state END
"""


class Rest(NamedTuple):
    """A batch's jobs that run; at rest are all of them, where they are planned and none runs."""

    at_rest: bool
    jobs_running: int


def record_control(
    warehouse: Warehouse,
    batch_id: str,
    state: Literal["running", "pausing", "cancelling"],
    *,
    change: int,
) -> None:
    """Record what was requested of a batch's run; `change` numbers the requests from 1.

    Changes nothing where the batch has ended, or where this request or a later one is recorded.
    """
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_batches SET state = %(state)s, control_changes = %(change)s
            WHERE batch_id = %(batch)s AND ended_at IS NULL AND control_changes < %(change)s
            """,
            {"batch": batch_id, "state": state, "change": change},
        )


def read_rest(warehouse: Warehouse, batch_id: str) -> Rest:
    """Whether a batch is at rest, now; one that has ended is."""
    with warehouse.connection() as connection:
        row = connection.execute(
            """
            SELECT jobs_planned IS NOT NULL OR ended_at IS NOT NULL,
                (SELECT count(*) FROM etl_jobs AS j
                 WHERE j.batch_id = b.batch_id AND j.state = 'running')
            FROM etl_batches AS b WHERE batch_id = %s
            """,
            [batch_id],
        ).fetchone()
    planned, running = row or (True, 0)
    jobs = int(str(running))
    return Rest(bool(planned) and jobs == 0, jobs)


def record_rest(warehouse: Warehouse, batch_id: str) -> bool:
    """Record that a batch that is pausing is paused, where no job of it runs.

    Return whether it is recorded. Whoever calls it late says nothing untrue.
    """
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_batches AS b SET state = 'paused'
            WHERE batch_id = %s AND ended_at IS NULL AND state = 'pausing'
              AND jobs_planned IS NOT NULL
              AND NOT EXISTS (SELECT FROM etl_jobs AS j
                              WHERE j.batch_id = b.batch_id AND j.state = 'running')
            """,
            [batch_id],
        )
        row = connection.execute(
            "SELECT state <> 'pausing' FROM etl_batches WHERE batch_id = %s", [batch_id]
        ).fetchone()
    return row is None or bool(row[0])


def pause_job(warehouse: Warehouse, job: ETLInput, *, hold: Hold | None = None) -> None:
    """Record that a job that ran is at rest; its next segment marks it as running again.

    A job that never began, or has ended, stays as it is. A page that an attempt cut off from
    Temporal still brings is not loaded any more. `hold` is called first, and may refuse it.
    """
    with warehouse.connection(lease=job.policy.heartbeat_timeout) as connection:
        if hold is not None:
            hold(connection)
        connection.execute(
            """
            UPDATE etl_jobs SET state = 'paused'
            WHERE batch_id = %s AND seq = %s AND state = 'running'
            """,
            [job.batch_id, job.seq],
        )
