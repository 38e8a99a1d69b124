"""Retention of the ledger: pages and jobs of runs that ended long ago, summarised and removed.

A batch stays for good, with its totals, and so does one summary of each of its streams, which says
what its jobs and pages came to and which workflow runs wrote rows. Of a batch that has not ended
nothing is removed. Its jobs stay for as long as anything may need them:

- a stream's state names the batch: the next run continues behind their cursors;
- a job failed and nothing has loaded its window since, so that it can be retried: no retry, no
  watermark that has passed it, no complete full run;
- a reject of it is stored: it is reprocessed with the job's parameters;
- a deletion scan of it can be continued;
- a retry of it goes on, or one that ended before it has its jobs.

Every step is one transaction over some whole batches: the pages of a batch are all there, or none.
Any number of processes may prune at once: they take different batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Literal, NamedTuple

from psycopg import sql
from psycopg.rows import class_row

from temporaletl.messages import Message
from temporaletl.settings.platform import LedgerSettings
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

#: What one transaction takes at most: batches, and rows of pages and jobs, but one batch at least.
BATCHES_AT_ONCE = 100
ROWS_AT_ONCE = 10_000
#: A job that somebody has locked is removed another time.
_LOCK_TIMEOUT = timedelta(seconds=2)

type Kind = Literal["pages", "jobs"]


class StreamSummary(Message):
    """What the jobs and pages of one stream of a batch came to."""

    stream: str
    jobs: int
    completed: int
    failed: int
    skipped: int
    cancelled: int
    pages: int
    records: int
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    deleted: int
    started_at: datetime | None
    ended_at: datetime | None


class Position(NamedTuple):
    """The batch behind which a round goes on."""

    ended_at: datetime
    batch_id: str


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows removed, or due to be: batches concerned, their pages, their jobs."""

    batches: int = 0
    pages: int = 0
    jobs: int = 0

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(
            self.batches + other.batches, self.pages + other.pages, self.jobs + other.jobs
        )


#: A retry and the first run of its chain together load what that one planned.
_FAMILY = "coalesce(b.original, b.batch_id)"
_LOADED_SINCE = f"""
    EXISTS (SELECT FROM etl_jobs AS o JOIN etl_batches AS r USING (batch_id)
            WHERE o.job_id = j.job_id AND o.state = 'completed' AND r.held IS NULL
              AND r.original = {_FAMILY})
    OR EXISTS (
        SELECT FROM etl_sync_state AS s
        WHERE s.source = b.source AND s.connection = b.connection AND s.stream = j.stream
          AND CASE b.mode WHEN 'incremental' THEN s.watermark >= j.window_end
                          WHEN 'full' THEN s.last_full_at > b.ended_at END
          AND (s.scope IS NOT DISTINCT FROM nullif(b.metadata->'scope', 'null')
               OR s.scope = b.metadata->'whole_scope'))
"""  # noqa: S608 - constants
_JOBS_ARE_NEEDED = f"""
    EXISTS (SELECT FROM etl_sync_state AS s WHERE s.batch_id = b.batch_id)
    OR EXISTS (SELECT FROM etl_rejects AS r WHERE r.batch_id = b.batch_id)
    OR EXISTS (SELECT FROM etl_scan_items AS i WHERE i.batch_id = b.batch_id)
    OR EXISTS (SELECT FROM etl_batches AS r WHERE r.original = {_FAMILY} AND r.ended_at IS NULL)
    OR (b.original IS NOT NULL AND EXISTS (
        SELECT FROM etl_batches AS f
        WHERE (f.batch_id = b.original OR f.original = b.original) AND f.jobs_removed_at IS NULL
          AND (f.ended_at, f.batch_id) < (b.ended_at, b.batch_id)))
    OR (b.jobs_planned IS NOT NULL AND EXISTS (
        SELECT FROM etl_jobs AS j
        WHERE j.batch_id = b.batch_id AND NOT j.windowless
          AND (j.state = 'failed'
               OR (j.state = 'cancelled' AND b.summary->>'error' IS NOT NULL))
          AND NOT ({_LOADED_SINCE})))
"""  # noqa: S608 - constants
_PAGES = "(SELECT coalesce(sum(j.pages), 0) FROM etl_jobs AS j WHERE j.batch_id = b.batch_id)"
_DUE: dict[Kind, str] = {
    "pages": "b.pages_removed_at IS NULL AND b.ended_at < clock_timestamp() - %(keep)s::interval",
    "jobs": "b.jobs_removed_at IS NULL AND b.ended_at < clock_timestamp() - %(keep)s::interval "
    f"AND NOT ({_JOBS_ARE_NEEDED})",
}
_WEIGHT: dict[Kind, str] = {
    "pages": _PAGES,
    "jobs": "(SELECT count(*) FROM etl_jobs AS j WHERE j.batch_id = b.batch_id) "  # noqa: S608
    f"+ CASE WHEN b.pages_removed_at IS NULL THEN {_PAGES} ELSE 0 END",
}
_CLAIM = """
    WITH due AS (
        SELECT b.batch_id, b.ended_at, {weight} AS weight FROM etl_batches AS b
        WHERE {due}
          AND (%(ended_at)s::timestamptz IS NULL
               OR (b.ended_at, b.batch_id) > (%(ended_at)s, %(batch_id)s))
        ORDER BY b.ended_at, b.batch_id LIMIT %(batches)s FOR NO KEY UPDATE SKIP LOCKED
    ), weighed AS (
        SELECT batch_id, ended_at,
            sum(weight) OVER (ORDER BY ended_at, batch_id) - weight AS before FROM due
    )
    SELECT batch_id, ended_at FROM weighed WHERE before < %(rows)s ORDER BY ended_at, batch_id
"""
_SUMMARISE = """
    WITH writers AS (
        SELECT p.batch_id, j.stream, array_agg(DISTINCT p.run_id) AS run_ids
        FROM etl_pages AS p JOIN etl_jobs AS j USING (batch_id, seq)
        WHERE p.batch_id = ANY (%(batches)s) AND p.inserted + p.updated + p.deleted > 0
        GROUP BY 1, 2
    )
    INSERT INTO etl_stream_summaries (batch_id, stream, jobs, completed, failed, skipped,
        cancelled, pages, records, inserted, updated, unchanged, rejected, deleted, started_at,
        ended_at, run_ids)
    SELECT j.batch_id, j.stream, count(*), count(*) FILTER (WHERE j.state = 'completed'),
        count(*) FILTER (WHERE j.state = 'failed'), count(*) FILTER (WHERE j.state = 'skipped'),
        count(*) FILTER (WHERE j.state = 'cancelled'), sum(j.pages), sum(j.records),
        sum(j.inserted), sum(j.updated), sum(j.unchanged), sum(j.rejected), sum(j.deleted),
        min(j.started_at), max(j.ended_at), coalesce(min(w.run_ids), '{}')
    FROM etl_jobs AS j LEFT JOIN writers AS w USING (batch_id, stream)
    WHERE j.batch_id = ANY (%(batches)s)
    GROUP BY j.batch_id, j.stream
    ON CONFLICT (batch_id, stream) DO NOTHING
"""


def prune_step(
    warehouse: Warehouse,
    kind: Kind,
    keep: timedelta,
    *,
    after: Position | None = None,
    effect: Callable[[Connection], object] = lambda _: None,
) -> tuple[Removed, Position] | None:
    """Remove the pages, or jobs and pages, of the next batches that ended longer ago than `keep`.

    Return what was removed, and where the next step goes on; None where nothing is due behind
    `after`. `effect` is called in the same transaction, where anything is removed.

    Raises:
        WarehouseUnavailableError: as `Warehouse.connection`, and where a job is locked for long.
    """
    values: dict[str, Any] = {
        "keep": keep,
        "ended_at": after and after.ended_at,
        "batch_id": after and after.batch_id,
        "batches": BATCHES_AT_ONCE,
        "rows": ROWS_AT_ONCE,
    }
    milliseconds = sql.Literal(round(_LOCK_TIMEOUT.total_seconds() * 1_000))
    claim = _CLAIM.format(due=_DUE[kind], weight=_WEIGHT[kind])
    with warehouse.connection() as connection:
        # The server checks references by plans that it keeps: those of empty tables read all.
        connection.execute(
            sql.SQL("SET LOCAL lock_timeout = {}; SET LOCAL enable_seqscan TO off").format(
                milliseconds
            )
        )
        claimed: list[Any] = connection.execute(claim.encode(), values).fetchall()
        if not claimed:
            return None
        of_batches = {"batches": [batch for batch, _ in claimed]}
        effect(connection)
        connection.execute(_SUMMARISE, of_batches)
        pages = connection.execute(
            "DELETE FROM etl_pages WHERE batch_id = ANY (%(batches)s)", of_batches
        ).rowcount
        jobs = 0
        if kind == "jobs":
            jobs = connection.execute(
                "DELETE FROM etl_jobs WHERE batch_id = ANY (%(batches)s)", of_batches
            ).rowcount
        connection.execute(
            """
            UPDATE etl_batches SET pages_removed_at = coalesce(pages_removed_at, now()),
                jobs_removed_at = CASE WHEN %(jobs)s THEN now() END
            WHERE batch_id = ANY (%(batches)s)
            """,
            {**of_batches, "jobs": kind == "jobs"},
        )
    batch_id, ended_at = claimed[-1]
    return Removed(len(claimed), pages, jobs), Position(ended_at, batch_id)


def prune(
    warehouse: Warehouse,
    settings: LedgerSettings,
    *,
    effect: Callable[[Connection], object] = lambda _: None,
    pause: Callable[[float], bool] = lambda _: False,
) -> Removed:
    """Remove all that is due, step by step. Safe to repeat, and to do in many processes at once.

    `effect` is called in the first transaction that removes anything. `pause` is called between
    steps with the seconds that the last one took; it ends the round by returning True.

    Raises:
        WarehouseUnavailableError: as `prune_step`; what was removed before stays so.
    """
    removed = Removed()
    for kind, keep in _kept(settings):
        after: Position | None = None
        while True:
            began = monotonic()
            step = prune_step(
                warehouse,
                kind,
                keep,
                after=after,
                effect=effect if removed == Removed() else lambda _: None,
            )
            if step is None:
                break
            removed, after = removed + step[0], step[1]
            if pause(monotonic() - began):
                return removed
    return removed


def _kept(settings: LedgerSettings) -> list[tuple[Kind, timedelta]]:
    """What is removed at all, and how long it is kept."""
    kinds: list[tuple[Kind, int]] = [
        ("pages", settings.pages_keep_days),
        ("jobs", settings.jobs_keep_days),
    ]
    return [(kind, timedelta(days=days)) for kind, days in kinds if days]


def count_due(warehouse: Warehouse, settings: LedgerSettings) -> dict[Kind, Removed]:
    """What a round would remove now, first of pages alone, then of jobs and pages with them."""
    found: dict[Kind, Removed] = {}
    with warehouse.connection() as connection:
        for kind, keep in _kept(settings):
            query = (
                f"SELECT count(*), coalesce(sum(CASE WHEN b.pages_removed_at IS NULL "  # noqa: S608 - constant
                f"THEN {_PAGES} END), 0)::bigint, "
                "coalesce(sum((SELECT count(*) FROM etl_jobs AS j WHERE j.batch_id = b.batch_id))"
                f", 0)::bigint FROM etl_batches AS b WHERE {_DUE[kind]}"
            )
            batches, pages, jobs = only_row(connection.execute(query.encode(), {"keep": keep}))
            found[kind] = Removed(batches, pages, jobs if kind == "jobs" else 0)
    return found


def stream_summaries(warehouse: Warehouse, batch_id: str) -> list[StreamSummary]:
    """A batch's summaries by stream; none where its pages are still there."""
    columns = ", ".join(StreamSummary.model_fields)
    with warehouse.connection() as connection:
        return (
            connection.cursor(row_factory=class_row(StreamSummary))
            .execute(
                f"SELECT {columns} FROM etl_stream_summaries "  # noqa: S608 - constant
                "WHERE batch_id = %s ORDER BY stream",
                [batch_id],
            )
            .fetchall()
        )


class TableSize(Message):
    """One of the platform's own tables: rows, as PostgreSQL estimates them, and bytes on disk."""

    table: str
    rows: int
    bytes: int  # with its indexes
    index_bytes: int


def table_sizes(warehouse: Warehouse) -> list[TableSize]:
    """The platform's own tables, the largest first."""
    with warehouse.connection() as connection:
        return (
            connection.cursor(row_factory=class_row(TableSize))
            .execute(
                """
                SELECT relname AS table, greatest(reltuples, 0)::bigint AS rows,
                    pg_total_relation_size(oid) AS bytes, pg_indexes_size(oid) AS index_bytes
                FROM pg_class
                WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
                  AND starts_with(relname, 'etl_') AND relname <> 'etl_identities'
                ORDER BY 3 DESC, 1
                """
            )
            .fetchall()
        )
