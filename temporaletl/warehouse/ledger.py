"""The ledger of batches and jobs: progress and ends; for plans see `temporaletl.warehouse.plans`.

Every function runs in one short transaction of its own and is safe to repeat. One that waits for
a job's or a batch's row ends the session of an attempt that is frozen or cut off: see
`Session.leased`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, LiteralString, NamedTuple

from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from temporaletl.clock import Clock
from temporaletl.errors import ConfigurationError, ConflictError
from temporaletl.messages import (
    ENDED,
    BatchMetadata,
    ETLInput,
    JobOutcome,
    JobProgress,
    JobState,
    RowCounts,
    RunPolicy,
)
from temporaletl.rows import storable_text
from temporaletl.secrets import redacted
from temporaletl.telemetry import metrics
from temporaletl.warehouse.budget import left_of_cool_down
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.cursors import unescaped
from temporaletl.warehouse.open_batches import Namespace
from temporaletl.warehouse.slices import skip_if_taken

#: What one answer of `open_jobs` may weigh: below the size at which Temporal warns.
MAX_ANSWER_BYTES = 128 * 1024
#: Where no policy is at hand.
_LEASE = RunPolicy().heartbeat_timeout
_OPEN: list[JobState] = ["planned", "running", "paused"]

#: Locks what a write depends on, and raises where that no longer holds.
type Hold = Callable[[Connection], None]

#: The columns of which `progress_of` makes a `JobProgress`.
_FLAT = tuple(name for name in JobProgress.model_fields if name != "rows")
PROGRESS = ", ".join((*_FLAT, *RowCounts.model_fields))


def begin_batch(
    warehouse: Warehouse,
    metadata: BatchMetadata,
    *,
    workflow_id: str,
    run_id: str,
    namespace: Namespace | None = None,
    lease: timedelta | None = None,
    engine: Literal["temporal", "local"] = "temporal",
) -> None:
    """Enter a batch, and where its workflow runs; a second time it changes nothing.

    With a `lease` no workflow runs it, but this process, which counts as alive for so long: see
    `temporaletl.warehouse.leases`.

    Raises:
        ConflictError: another batch of the source and connection has a lease and has not ended.
    """
    try:
        with warehouse.connection() as connection:
            connection.execute(
                """
                INSERT INTO etl_batches
                    (batch_id, source, mode, connection, metadata, state, workflow_id, run_id,
                     temporal_address, temporal_namespace, temporal_namespace_id, lease_until,
                     retries, original, engine)
                VALUES (%s, %s, %s, %s, %s, 'running', %s, %s, %s, %s, %s,
                        clock_timestamp() + %s::interval, %s,
                        (SELECT coalesce(original, batch_id) FROM etl_batches WHERE batch_id = %s),
                        %s)
                ON CONFLICT (batch_id) DO NOTHING
                """,
                [
                    metadata.batch_id,
                    metadata.source,
                    metadata.mode,
                    metadata.connection,
                    Jsonb(metadata.model_dump(mode="json")),
                    workflow_id,
                    run_id,
                    namespace and namespace.address,
                    namespace and namespace.name,
                    namespace and namespace.id,
                    lease,
                    metadata.retries,
                    metadata.retries,
                    engine,
                ],
            )
            connection.execute(
                """
                UPDATE etl_runs SET batch_id = %s
                WHERE workflow_id = %s AND batch_id IS DISTINCT FROM %s
                """,
                [metadata.batch_id, workflow_id, metadata.batch_id],
            )
    except UniqueViolation:
        # The index `etl_batches_leased`; a batch's own id is no conflict.
        raise ConflictError(
            f"{metadata.source} over connection {metadata.connection!r} is being loaded by another "
            "run without Temporal: start this one when that has ended (its row in etl_batches has "
            "no ended_at), or, where its process is dead, after its lease_until"
        ) from None


def hold_watermarks(warehouse: Warehouse, batch_id: str, reason: str) -> None:
    """Keep a batch from moving watermarks; its summary names the reason."""
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_batches SET held = %s WHERE batch_id = %s",
            [without_secrets(reason), batch_id],
        )


def keep_missing(warehouse: Warehouse, batch_id: str) -> None:
    """Keep a batch from deleting what its account is not shown, and may only not see."""
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_batches SET keeps_missing = true WHERE batch_id = %s", [batch_id]
        )


def open_jobs(
    warehouse: Warehouse, batch_id: str, *, first: int, end: int
) -> tuple[list[ETLInput], int]:
    """List jobs with first <= seq < end that have not ended, in order.

    Answers with at most `MAX_ANSWER_BYTES` of jobs, and the seq to go on from.
    """
    jobs: list[ETLInput] = []
    size = 0
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT seq, input::text FROM etl_jobs
            WHERE batch_id = %s AND seq >= %s AND seq < %s AND NOT state = ANY (%s)
            ORDER BY seq LIMIT 500
            """,
            [batch_id, first, end, sorted(ENDED)],
        ).fetchall()
    for seq, text in found:
        size += len(str(text))
        if jobs and size > MAX_ANSWER_BYTES:
            return jobs, int(str(seq))
        jobs.append(ETLInput.model_validate(unescaped(json.loads(str(text)))))
    return jobs, jobs[-1].seq + 1 if len(found) == 500 else end  # noqa: PLR2004 - the LIMIT


class Begun(NamedTuple):
    """A job that begins or goes on: its progress, and what its source and its pages depend on."""

    progress: JobProgress
    clock: Clock  # never ahead of the warehouse's, and behind it by one answer
    #: What is left of the source's cool-down, if anything is.
    cool_down: timedelta | None


def begin_job(warehouse: Warehouse, job: ETLInput, *, workflow_id: str, run_id: str) -> Begun:
    """Mark a job as running for this run; return its progress, the clock, and the cool-down.

    A job that has ended is not modified; its progress says so. One whose slice is just loaded by
    another batch, in another engine, is skipped: of two in Temporal, its workflow id sees to that.

    Raises:
        ConfigurationError: the ledger does not know the job.
    """
    with warehouse.connection(lease=job.policy.heartbeat_timeout) as connection:
        skip_if_taken(connection, job)
        cool_down = left_of_cool_down(connection, job.source, job.connection)
        begun = _update(
            connection,
            job,
            """
            state = 'running', workflow_id = %s, run_id = %s, error = NULL,
            started_at = coalesce(started_at, now()), touched_at = now()
            """,
            [workflow_id, run_id],
        )
        row = begun or _read(connection, job)
        return Begun(progress_of(row), Clock(row["now"]), cool_down)


def end_job(
    warehouse: Warehouse,
    job: ETLInput,
    state: JobState,
    error: str | None = None,
    *,
    hold: Hold | None = None,
) -> JobProgress:
    """Record the end of a job; the first end stands. `hold` is called first, and may refuse it."""
    with warehouse.connection(lease=job.policy.heartbeat_timeout) as connection:
        if hold is not None:
            hold(connection)
        ended = _update(
            connection,
            job,
            "state = %s, error = %s, ended_at = now(), touched_at = now()",
            [state, without_secrets(error)],
        )
        progress = progress_of(ended or _read(connection, job))
    of_job = {"source": job.source, "connection": job.connection, "stream": job.stream}
    metrics.jobs.add(int(ended is not None), outcome=progress.state, **of_job)
    return progress


def without_secrets(text: str | None) -> str | None:
    """Remove secrets from a text, and what PostgreSQL refuses: an answer may hold a NUL."""
    return None if text is None else storable_text(redacted(text))


def job_progress(warehouse: Warehouse, job: ETLInput) -> JobProgress:
    """Read the progress of a job.

    Raises:
        ConfigurationError: the ledger does not know the job.
    """
    with warehouse.connection() as connection:
        return progress_of(_read(connection, job))


#: The columns of `progress_of`, and the warehouse's present time.
_READ_COLUMNS = f"{PROGRESS}, clock_timestamp() AS now"
_READ = f"""
    SELECT {_READ_COLUMNS} FROM etl_jobs WHERE batch_id = %s AND seq = %s
"""  # noqa: S608 - a constant


def _update(
    connection: Connection, job: ETLInput, changes: LiteralString, values: Sequence[object]
) -> Mapping[str, Any] | None:
    """Update a job that has not ended; answer as `_read`, or None where nothing was updated."""
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(
        f"""
        UPDATE etl_jobs SET {changes}
        WHERE batch_id = %s AND seq = %s AND NOT state = ANY (%s) RETURNING {_READ_COLUMNS}
        """.encode(),  # noqa: S608 - constants
        [*values, job.batch_id, job.seq, sorted(ENDED)],
    ).fetchone()


def _read(connection: Connection, job: ETLInput) -> Mapping[str, Any]:
    """The columns of `_READ_COLUMNS`; raises where the job is unknown."""
    cursor = connection.cursor(row_factory=dict_row)
    row = cursor.execute(_READ.encode(), [job.batch_id, job.seq]).fetchone()
    if row is None:
        raise ConfigurationError(
            f"job {job.job_id} of batch {job.batch_id} is not in the ledger of this warehouse: "
            "do the queuer and the worker use the same one? (jobs of runs that ended long ago are "
            "summarised)"
        )
    return row


def progress_of(row: Mapping[str, Any]) -> JobProgress:
    """Make a job's progress of its columns `PROGRESS`, whatever others there are."""
    return JobProgress(
        rows=RowCounts(**{name: row[name] for name in RowCounts.model_fields}),
        **{name: row[name] for name in _FLAT},
    )


def record_outcomes(warehouse: Warehouse, batch_id: str, outcomes: Iterable[JobOutcome]) -> None:
    """Record ends of jobs that could not do it themselves; ends recorded before stand.

    Only a job that never began can have been skipped: one that runs is this batch's own.
    """
    open_states = {"skipped": ["planned"]}
    rows = [
        (o.state, without_secrets(o.error), batch_id, o.seq, open_states.get(o.state, _OPEN))
        for o in outcomes
    ]
    ended: list[tuple[object, ...]] = []
    with warehouse.connection(lease=_LEASE) as connection:
        cursor = connection.cursor()
        cursor.executemany(
            """
            UPDATE etl_jobs SET state = %s, error = %s, ended_at = now(), touched_at = now()
            WHERE batch_id = %s AND seq = %s AND state = ANY (%s)
            RETURNING source, connection, stream, state
            """,
            rows,
            returning=True,
        )
        for found in cursor.results():
            ended += found.fetchall()
    for source, name, stream, state in ended:
        metrics.jobs.add(
            1, source=str(source), connection=str(name), stream=str(stream), outcome=str(state)
        )
