"""The ledger of batches and jobs: plans, progress and ends.

Every function runs in one short transaction of its own and is safe to repeat. One that waits for
a job's or a batch's row ends the session of an attempt that is frozen or cut off: see
`Session.leased`.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from temporaletl.errors import ConfigurationError, ConflictError, RetryableError
from temporaletl.messages import (
    ENDED,
    BatchMetadata,
    ETLInput,
    JobOutcome,
    JobProgress,
    JobState,
    RowCounts,
    RunPolicy,
    job_id_of,
)
from temporaletl.rows import storable_text
from temporaletl.secrets import redacted
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.cursors import escaped, unescaped
from temporaletl.warehouse.open_batches import Namespace
from temporaletl.warehouse.slices import skip_if_taken


class SupersededPlanError(RetryableError):
    """Another attempt writes the batch's jobs; this one must not."""


#: A job travels through workflow history twice; this keeps 2,000 of them small.
MAX_JOB_BYTES = 16 * 1024
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


class JobWriter:
    """Writer of a batch's jobs to the ledger, numbered from 0 in the order they come.

    A second writer begins anew, forgets what the first one planned, and shuts it out: the
    batch never mixes jobs of two attempts, which may have met different backlogs. Once planning is
    `complete` no writer changes the plan any more: the jobs may be running. Holds one block of jobs
    in memory, whatever their number.
    """

    def __init__(self, warehouse: Warehouse, batch_id: str, *, lease: timedelta = _LEASE) -> None:
        self._warehouse = warehouse
        self._batch_id = batch_id
        self._planner = uuid.uuid4().hex
        self.count = 0
        self.complete = False
        with warehouse.connection(lease=lease) as connection:
            planned = connection.execute(
                """
                UPDATE etl_batches
                SET planner = CASE WHEN jobs_planned IS NULL THEN %s ELSE planner END
                WHERE batch_id = %s AND ended_at IS NULL RETURNING jobs_planned
                """,
                [self._planner, batch_id],
            ).fetchone()
            if planned is not None and planned[0] is not None:
                self.count, self.complete = int(str(planned[0])), True
                return
            connection.execute(
                "DELETE FROM etl_jobs WHERE batch_id = %s AND state = 'planned'", [batch_id]
            )

    def write(self, jobs: Iterable[ETLInput]) -> None:
        """Enter a block of jobs.

        Raises:
            ConfigurationError: a job's parameters weigh more than `MAX_JOB_BYTES`, or a job is
                the same as one before.
            SupersededPlanError: another attempt plans this batch now.
        """
        rows = []
        for job in jobs:
            numbered = job.model_copy(update={"seq": self.count, "job_id": job_id_of(job)})
            text = _as_text(numbered)
            size = len(text.encode())
            if size > MAX_JOB_BYTES:
                raise ConfigurationError(
                    f"job {self.count} of {self._batch_id} weighs {size} bytes, more than "
                    f"{MAX_JOB_BYTES}: plan smaller slices"
                )
            rows.append(
                (
                    self._batch_id,
                    numbered.seq,
                    numbered.job_id,
                    numbered.source,
                    numbered.connection,
                    numbered.stream,
                    numbered.window.start,
                    numbered.window.end,
                    numbered.windowless,
                    text,
                )
            )
            self.count += 1
        with self._warehouse.connection() as connection:
            self._hold(connection)
            try:
                connection.cursor().executemany(
                    """
                    INSERT INTO etl_jobs
                        (batch_id, seq, job_id, source, connection, stream, window_start,
                         window_end, windowless, input)
                    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)
                    """,
                    rows,
                )
            except UniqueViolation:
                # They would have one workflow id, and run one after the other or not at all.
                raise ConfigurationError(
                    f"source {rows[0][3]!r} plans one job of {self._batch_id} twice: two of its "
                    "jobs have the same stream, window and parameters"
                ) from None

    def close(self) -> int:
        """Record that planning is complete; return the number of jobs.

        Raises:
            SupersededPlanError: another attempt plans this batch now.
        """
        with self._warehouse.connection() as connection:
            self._hold(connection)
            connection.execute(
                "UPDATE etl_batches SET jobs_planned = %s WHERE batch_id = %s",
                [self.count, self._batch_id],
            )
        return self.count

    def _hold(self, connection: Connection) -> None:
        planner = connection.execute(
            "SELECT planner FROM etl_batches WHERE batch_id = %s FOR NO KEY UPDATE",
            [self._batch_id],
        ).fetchone()
        if planner != (self._planner,):
            raise SupersededPlanError(
                f"batch {self._batch_id} has ended, or another attempt plans it now"
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


def _as_text(job: ETLInput) -> str:
    """The job as JSON that jsonb takes: its parameters may hold a source's cursor."""
    text = job.model_dump_json()
    if "\\u0000" not in text:
        return text
    return json.dumps(escaped(json.loads(text)), separators=(",", ":"), ensure_ascii=False)


def begin_job(warehouse: Warehouse, job: ETLInput, *, workflow_id: str, run_id: str) -> JobProgress:
    """Mark a job as running for this run; return its progress.

    A job that has ended is not modified; its progress says so. One whose slice is just loaded by
    another batch, in another engine, is skipped: of two in Temporal, its workflow id sees to that.

    Raises:
        ConfigurationError: the ledger does not know the job.
    """
    with warehouse.connection(lease=job.policy.heartbeat_timeout) as connection:
        skip_if_taken(connection, job)
        connection.execute(
            """
            UPDATE etl_jobs SET state = 'running', workflow_id = %s, run_id = %s, error = NULL,
                started_at = coalesce(started_at, now()), touched_at = now()
            WHERE batch_id = %s AND seq = %s AND NOT state = ANY (%s)
            """,
            [workflow_id, run_id, job.batch_id, job.seq, sorted(ENDED)],
        )
        return _read_progress(connection, job)


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
        connection.execute(
            """
            UPDATE etl_jobs SET state = %s, error = %s, ended_at = now(), touched_at = now()
            WHERE batch_id = %s AND seq = %s AND NOT state = ANY (%s)
            """,
            [state, without_secrets(error), job.batch_id, job.seq, sorted(ENDED)],
        )
        return _read_progress(connection, job)


def without_secrets(text: str | None) -> str | None:
    """Remove secrets from a text, and what PostgreSQL refuses: an answer may hold a NUL."""
    return None if text is None else storable_text(redacted(text))


def job_progress(warehouse: Warehouse, job: ETLInput) -> JobProgress:
    """Read the progress of a job.

    Raises:
        ConfigurationError: the ledger does not know the job.
    """
    with warehouse.connection() as connection:
        return _read_progress(connection, job)


def _read_progress(connection: Connection, job: ETLInput) -> JobProgress:
    cursor = connection.cursor(row_factory=dict_row)
    row = cursor.execute(
        f"SELECT {PROGRESS} FROM etl_jobs WHERE batch_id = %s AND seq = %s",  # noqa: S608 - constant
        [job.batch_id, job.seq],
    ).fetchone()
    if row is None:
        raise ConfigurationError(
            f"job {job.job_id} of batch {job.batch_id} is not in the ledger of this warehouse: "
            "do the queuer and the worker use the same one? (jobs of runs that ended long ago are "
            "summarised)"
        )
    return progress_of(row)


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
    with warehouse.connection(lease=_LEASE) as connection:
        connection.cursor().executemany(
            """
            UPDATE etl_jobs SET state = %s, error = %s, ended_at = now(), touched_at = now()
            WHERE batch_id = %s AND seq = %s AND state = ANY (%s)
            """,
            rows,
        )
