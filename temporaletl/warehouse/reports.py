"""Reports of batches and jobs, read from the ledger."""

from datetime import datetime
from typing import Any

from psycopg.rows import class_row, dict_row
from pydantic import JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.messages import (
    BatchSummary,
    JobFailure,
    Message,
    Mode,
    RowCounts,
    Window,
)
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.control import STATE
from temporaletl.warehouse.ledger import PROGRESS, progress_of
from temporaletl.warehouse.runs import Engine
from temporaletl.warehouse.tally import JobTally, Tally, failed_jobs, tally_jobs


class BatchReport(Message):
    """Report of a batch from the ledger."""

    batch_id: str
    source: str
    connection: str = DEFAULT
    mode: Mode
    state: str
    workflow_id: str
    run_id: str
    retries: str | None = None  # the batch whose failed jobs it runs
    retried_by: tuple[str, ...] = ()  # batches that run what failed in it, the first one first
    created_at: datetime
    ended_at: datetime | None
    windows: dict[str, Window]
    planned: bool  # whether all its jobs are in the ledger
    jobs: JobTally
    rows: RowCounts
    deleted: int  # rows loaded before that the source no longer has
    records: int
    error: str | None = None
    failures: tuple[JobFailure, ...] = ()
    engine: Engine = "temporal"
    abandoned: bool = False  # the local engine's, and open, and no process drives it
    lost_since: datetime | None = None  # when a program's own run was last known to be alive
    pages_removed_at: datetime | None = None  # when they were summarised: see `retention`
    jobs_removed_at: datetime | None = None


class JobReport(Message):
    """Report of a job from the ledger; from its workflow alone it has less."""

    job_id: str
    batch_id: str | None = None
    seq: int | None = None
    source: str | None = None
    connection: str = DEFAULT
    stream: str
    window: Window | None = None
    params: dict[str, JsonValue] | None = None
    state: str
    pages: int
    records: int
    rows: RowCounts
    deleted: int = 0  # rows loaded before that the source no longer has
    cursor: JsonValue = None
    error: str | None = None
    note: str | None = None
    workflow_id: str | None = None
    run_id: str | None = None
    started_at: datetime | None = None
    touched_at: datetime | None = None  # when its last page was committed
    ended_at: datetime | None = None


class PageReport(Message):
    """Report of one page: the transaction that wrote its rows, and their outcomes."""

    seq: int  # of its job, in the batch
    page: int
    job_id: str
    workflow_id: str
    run_id: str
    records: int
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    extracted_at: datetime
    loaded_at: datetime


_RETRIED_BY = """
    ARRAY(SELECT r.batch_id FROM etl_batches AS r
          WHERE r.retries = etl_batches.batch_id ORDER BY r.created_at)
"""
#: Whether a batch of the local engine has to go on, and no living process drives it.
_ABANDONED = """
    (etl_batches.engine = 'local' AND etl_batches.ended_at IS NULL
     AND NOT coalesce(etl_batches.lease_until > clock_timestamp(), false) AND NOT EXISTS (
        SELECT FROM etl_runs AS r WHERE r.batch_id = etl_batches.batch_id
          AND r.owner IS NOT NULL AND r.lease_until > clock_timestamp()))
"""
_BATCH = f"""
    batch_id, source, connection, mode, {STATE} AS state, workflow_id, run_id, created_at, ended_at,
    retries, {_RETRIED_BY} AS retried_by,
    coalesce(metadata->'windows', '{{}}') AS windows, jobs_planned IS NOT NULL AS planned, summary,
    engine, pages_removed_at, jobs_removed_at,
    {_ABANDONED} AS abandoned, CASE WHEN {_ABANDONED} THEN lease_until END AS lost_since
"""
#: A job's state; what ran when its last owner died waits for the next one.
_JOB_STATE = f"""
    CASE WHEN state = 'running' AND EXISTS (
        SELECT FROM etl_batches WHERE etl_batches.batch_id = etl_jobs.batch_id AND {_ABANDONED}
    ) THEN 'planned' ELSE state END
"""
_JOB_COLUMNS = (
    *("job_id", "batch_id", "seq", "source", "connection", "workflow_id", "run_id"),
    *("started_at", "touched_at", "ended_at"),
)
_JOB = f"""
    {", ".join(_JOB_COLUMNS)}, window_start, window_end, input->'params' AS params, {PROGRESS},
    {_JOB_STATE} AS state
"""


def list_batches(
    warehouse: Warehouse,
    *,
    ended: bool,
    limit: int,
    after: tuple[datetime, str] | None = None,
    source: str | None = None,
    connection_name: str | None = None,
    mode: str | None = None,
    state: str | None = None,
) -> list[BatchReport]:
    """Batches that go on, or that `ended`, the latest first.

    Behind one, given by its `created_at` and id.
    """
    values = {
        "limit": limit,
        "created_at": after and after[0],
        "batch_id": after and after[1],
        "source": source,
        "connection": connection_name,
        "mode": mode,
        "state": state,
    }
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_BATCH} FROM etl_batches "  # noqa: S608 - constant
            f"WHERE ended_at IS {'NOT NULL' if ended else 'NULL'} "
            "AND (%(created_at)s::timestamptz IS NULL "
            "OR (created_at, batch_id) < (%(created_at)s, %(batch_id)s)) "
            "AND (%(source)s::text IS NULL OR source = %(source)s) "
            "AND (%(connection)s::text IS NULL OR connection = %(connection)s) "
            "AND (%(mode)s::text IS NULL OR mode = %(mode)s) "
            "AND (%(state)s::text IS NULL OR state = %(state)s) "
            "ORDER BY created_at DESC, batch_id DESC LIMIT %(limit)s",
            values,
        ).fetchall()
        return [_batch(connection, row) for row in rows]


def find_batch(warehouse: Warehouse, name: str) -> BatchReport | None:
    """The batch of that id, or the latest of that workflow id."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT {_BATCH} FROM etl_batches "  # noqa: S608 - constant
            "WHERE batch_id = %(name)s OR workflow_id = %(name)s "
            "ORDER BY created_at DESC LIMIT 1",
            {"name": name},
        ).fetchone()
        return None if row is None else _batch(connection, row)


def find_job(warehouse: Warehouse, name: str) -> JobReport | None:
    """The latest execution of the job of that id, or of that workflow id."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT {_JOB} FROM etl_jobs WHERE job_id = %s "  # noqa: S608 - constant
            "ORDER BY (SELECT created_at FROM etl_batches b WHERE b.batch_id = etl_jobs.batch_id) "
            "DESC, seq LIMIT 1",
            [name.removeprefix("job/")],
        ).fetchone()
        return None if row is None else _job(row)


def jobs_of_interest(warehouse: Warehouse, batch_id: str, *, limit: int) -> list[JobReport]:
    """Jobs of a batch that failed or run, then those still waiting; not those that are done."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_JOB} FROM etl_jobs "  # noqa: S608 - constant
            "WHERE batch_id = %s AND state <> 'completed' ORDER BY array_position("
            "ARRAY['failed', 'running', 'paused', 'skipped', 'cancelled', 'planned'], state), seq "
            "LIMIT %s",
            [batch_id, limit],
        ).fetchall()
    return [_job(row) for row in rows]


def jobs_after(
    warehouse: Warehouse,
    batch_id: str,
    *,
    limit: int,
    after: int | None = None,
    state: str | None = None,
) -> list[JobReport]:
    """A batch's jobs by their number, behind one, given by its number; of one state if given."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_JOB} FROM etl_jobs WHERE batch_id = %(batch)s "  # noqa: S608 - constant
            "AND (%(after)s::integer IS NULL OR seq > %(after)s) "
            f"AND (%(state)s::text IS NULL OR {_JOB_STATE} = %(state)s) "
            "ORDER BY seq LIMIT %(limit)s",
            {"batch": batch_id, "after": after, "state": state, "limit": limit},
        ).fetchall()
    return [_job(row) for row in rows]


def pages_after(
    warehouse: Warehouse, batch_id: str, *, limit: int, after: tuple[int, int] | None = None
) -> list[PageReport]:
    """A batch's pages by job and number, behind one, given by these two."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(PageReport)) as cursor,
    ):
        return cursor.execute(
            "SELECT seq, page, job_id, workflow_id, run_id, records, inserted, updated, "
            "unchanged, rejected, extracted_at, loaded_at FROM etl_pages "
            "WHERE batch_id = %(batch)s "
            "AND (%(seq)s::integer IS NULL OR (seq, page) > (%(seq)s, %(page)s)) "
            "ORDER BY seq, page LIMIT %(limit)s",
            {
                "batch": batch_id,
                "seq": after and after[0],
                "page": after and after[1],
                "limit": limit,
            },
        ).fetchall()


def tally(warehouse: Warehouse, batch_id: str) -> Tally:
    """A batch's jobs, and what they loaded, as of now."""
    with warehouse.connection() as connection:
        return tally_jobs(connection, batch_id)


def summary_of(warehouse: Warehouse, workflow_id: str, run_id: str) -> BatchSummary | None:
    """The summary of the batch that a run closed, also one that then failed."""
    with warehouse.connection() as connection:
        row = connection.execute(
            "SELECT summary FROM etl_batches WHERE workflow_id = %s AND run_id = %s",
            [workflow_id, run_id],
        ).fetchone()
    return None if row is None or row[0] is None else BatchSummary.model_validate(row[0])


def _batch(connection: Connection, row: dict[str, Any]) -> BatchReport:
    if row["summary"] is not None:
        # It is closed: its rows need not be counted again.
        summary = BatchSummary.model_validate(row["summary"])
        jobs = JobTally(**summary.jobs.model_dump())
        rows, deleted, records = summary.rows, summary.deleted, summary.records
        error, failures = summary.error, summary.failures
    else:
        counted = tally_jobs(connection, row["batch_id"])
        jobs, rows = counted.jobs, counted.rows
        deleted, records = counted.deleted, counted.records
        if row["abandoned"]:
            waiting = jobs.waiting + jobs.running
            jobs = jobs.model_copy(update={"running": 0, "waiting": waiting})
        error, failures = None, failed_jobs(connection, row["batch_id"]) if jobs.failed else ()
    return BatchReport(
        **{name: value for name, value in row.items() if name != "summary"},
        jobs=jobs,
        rows=rows,
        deleted=deleted,
        records=records,
        error=error,
        failures=failures,
    )


def _job(row: dict[str, Any]) -> JobReport:
    progress = progress_of(row)
    return JobReport(
        window=Window(start=row["window_start"], end=row["window_end"]),
        params=row["params"] or {},
        **{name: row[name] for name in _JOB_COLUMNS},
        **progress.model_dump(),
    )
