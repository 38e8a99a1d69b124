"""Closing of batches in the ledger: the summary is computed once, from the jobs' rows."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.types.json import Jsonb

from temporaletl.errors import ConfigurationError
from temporaletl.messages import ENDED, BatchMetadata, BatchSummary, JobCounts
from temporaletl.telemetry import metrics
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.leases import LeasedBatch, is_lapsed, silent_since
from temporaletl.warehouse.ledger import without_secrets
from temporaletl.warehouse.ownership import LeaseLostError, Ownership
from temporaletl.warehouse.tally import failed_jobs, job_notes, tally_jobs


def finish_batch(
    warehouse: Warehouse,
    metadata: BatchMetadata,
    *,
    workflow_id: str,
    cancelled: bool,
    error: str | None,
    ownership: Ownership | None = None,
) -> BatchSummary:
    """Close a batch and compute its summary from its jobs' rows.

    Jobs that have not ended become `cancelled`. Safe to repeat: the first summary stands.

    Raises:
        LeaseLostError: a process of the local engine drives the batch, and it is not this one's
            `ownership`.
    """
    return close_batch(
        warehouse,
        metadata,
        workflow_id=workflow_id,
        cancelled=cancelled,
        error=error,
        ownership=ownership,
    )[0]


def close_batch(
    warehouse: Warehouse,
    metadata: BatchMetadata,
    *,
    workflow_id: str,
    cancelled: bool,
    error: str | None,
    ownership: Ownership | None = None,
) -> tuple[BatchSummary, bool]:
    """As `finish_batch`; and whether it was this call that closed it."""
    with warehouse.connection(lease=metadata.policy.heartbeat_timeout) as connection:
        _refuse_strangers(connection, workflow_id, ownership)
        closed = _close(
            connection, metadata, workflow_id=workflow_id, cancelled=cancelled, error=error
        )
    closed.note()
    return closed.summary, closed.first


def close_lapsed(warehouse: Warehouse, batch: LeasedBatch) -> BatchSummary | None:
    """Close a batch as failed whose process no longer renews its lease.

    None where it has done so after all, or where somebody else closed the batch.
    """
    with warehouse.connection(lease=batch.metadata.policy.heartbeat_timeout) as connection:
        if not is_lapsed(connection, batch.metadata.batch_id):
            return None
        closed = _close(
            connection,
            batch.metadata,
            workflow_id=batch.workflow_id,
            cancelled=False,
            error=silent_since(batch.lease_until),
        )
    closed.note()
    return closed.summary


class _Closed(NamedTuple):
    """A batch that is closed; the `cancelled` jobs of each stream are those that had not ended."""

    summary: BatchSummary
    first: bool
    cancelled: Sequence[tuple[str, int]] = ()

    def note(self) -> None:
        """Count what was closed, once it is committed; what was closed before is counted."""
        if not self.first:
            return
        of_batch = {"source": self.summary.source, "connection": self.summary.connection}
        mode = self.summary.mode
        metrics.batches.add(1, mode=mode, outcome=self.summary.state, **of_batch)
        metrics.batch_duration.observe(self.summary.seconds, mode=mode, **of_batch)
        for stream, jobs in self.cancelled:
            metrics.jobs.add(jobs, stream=stream, outcome="cancelled", **of_batch)


def _refuse_strangers(
    connection: Connection, workflow_id: str, ownership: Ownership | None
) -> None:
    if ownership is not None:
        ownership.hold(connection)
        return
    driven = connection.execute(
        """
        SELECT FROM etl_runs
        WHERE workflow_id = %s AND engine = 'local' AND ended_at IS NULL FOR NO KEY UPDATE
        """,
        [workflow_id],
    ).fetchone()
    if driven is not None:
        raise LeaseLostError(
            f"{workflow_id}: only the process of the local engine that drives it may end the run"
        )


def _close(
    connection: Connection,
    metadata: BatchMetadata,
    *,
    workflow_id: str,
    cancelled: bool,
    error: str | None,
) -> _Closed:
    batch = connection.execute(
        """
        SELECT summary, extract(epoch FROM now() - created_at)::float8
        FROM etl_batches WHERE batch_id = %s FOR UPDATE
        """,
        [metadata.batch_id],
    ).fetchone()
    if batch is None:
        raise ConfigurationError(f"batch {metadata.batch_id} is not in this ledger")
    if batch[0] is not None:
        return _Closed(BatchSummary.model_validate(batch[0]), first=False)
    ended = connection.execute(
        """
        WITH ended AS (
            UPDATE etl_jobs SET state = 'cancelled', ended_at = now()
            WHERE batch_id = %s AND NOT state = ANY (%s) RETURNING stream
        ) SELECT stream, count(*) FROM ended GROUP BY stream
        """,
        [metadata.batch_id, sorted(ENDED)],
    ).fetchall()
    summary = _summarise(
        connection,
        metadata,
        workflow_id=workflow_id,
        seconds=float(str(batch[1])),
        cancelled=cancelled,
        error=without_secrets(error),
    )
    # Without a planner, an attempt at planning that still runs somewhere adds no more jobs.
    connection.execute(
        """
        UPDATE etl_batches SET state = %s, summary = %s, ended_at = now(), planner = NULL
        WHERE batch_id = %s
        """,
        [summary.state, Jsonb(summary.model_dump(mode="json")), metadata.batch_id],
    )
    # One of the local engine is ended by whoever drives it.
    connection.execute(
        """
        UPDATE etl_runs SET ended_at = now(), error = %s
        WHERE batch_id = %s AND ended_at IS NULL AND engine IS DISTINCT FROM 'local'
        """,
        [summary.error, metadata.batch_id],
    )
    return _Closed(
        summary, first=True, cancelled=[(str(stream), int(str(jobs))) for stream, jobs in ended]
    )


def _summarise(
    connection: Connection,
    metadata: BatchMetadata,
    *,
    workflow_id: str,
    seconds: float,
    cancelled: bool,
    error: str | None,
) -> BatchSummary:
    tally = tally_jobs(connection, metadata.batch_id)
    jobs = tally.jobs
    failed = error is not None or jobs.failed > 0
    return BatchSummary(
        batch_id=metadata.batch_id,
        workflow_id=workflow_id,
        source=metadata.source,
        connection=metadata.connection,
        mode=metadata.mode,
        retries=metadata.retries,
        windows=metadata.windows,
        state="failed" if failed else "cancelled" if cancelled or jobs.cancelled else "completed",
        seconds=round(seconds, 3),
        jobs=JobCounts.model_validate(jobs.model_dump()),  # by state: only how they ended
        records=tally.records,
        rows=tally.rows,
        deleted=tally.deleted,
        conflicting=tally.conflicting,
        failures=failed_jobs(connection, metadata.batch_id),
        notes=job_notes(connection, metadata.batch_id),
        error=error,
    )
