"""What the local engine shall do with its runs: recorded, for whoever drives them."""

from dataclasses import dataclass
from typing import Any

from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.runs import RequestedRun, Wanted, find_run, read_run


@dataclass(frozen=True, slots=True)
class RunControl:
    """What was wanted of a run before, and how it stands after the request."""

    run: RequestedRun
    before: Wanted
    planned: bool
    jobs_running: int
    accepted: bool  # False: it has ended, or is being cancelled


def want(warehouse: Warehouse, name: str, wanted: Wanted, by: str | None) -> RunControl | None:
    """Record what the local engine shall do with a run; None where it has no run of that name.

    Its batch says so at once, and whoever drives it follows; it holds when nobody does. A run that
    has ended, or is being cancelled, is not changed. Safe to repeat.
    """
    found = find_run(warehouse, name)
    if found is None or found.engine != "local":
        return None
    with warehouse.connection() as connection:
        run = read_run(connection, found.workflow_id)
        if run is None:
            return None
        accepted = run.ended_at is None and (run.wanted != "cancel" or wanted == "cancel")
        if accepted and run.wanted != wanted:
            connection.execute(
                """
                UPDATE etl_runs SET wanted = %s, wanted_by = %s, wanted_at = clock_timestamp()
                WHERE workflow_id = %s
                """,
                [wanted, by, run.workflow_id],
            )
            show_wanted(connection, run.workflow_id)
        row: Any = connection.execute(
            """
            SELECT jobs_planned IS NOT NULL,
                (SELECT count(*) FROM etl_jobs AS j
                 WHERE j.batch_id = b.batch_id AND j.state = 'running')
            FROM etl_batches AS b WHERE batch_id = %s
            """,
            [run.batch_id],
        ).fetchone() or (False, 0)
    return RunControl(run, run.wanted, planned=row[0], jobs_running=row[1], accepted=accepted)


def show_wanted(connection: Connection, workflow_id: str) -> None:
    """Have a run's batch say what is wanted of it: running, pausing or cancelling."""
    connection.execute(
        """
        UPDATE etl_batches AS b SET state = CASE
            WHEN r.wanted = 'run' THEN 'running'
            WHEN r.wanted = 'cancel' THEN 'cancelling'
            WHEN b.state = 'paused' THEN 'paused' ELSE 'pausing' END
        FROM etl_runs AS r
        WHERE r.workflow_id = %s AND b.batch_id = r.batch_id AND b.ended_at IS NULL
        """,
        [workflow_id],
    )
