"""Sync state of the streams: watermarks, up to which they are completely loaded.

A watermark only ever stands where everything before it is in the warehouse. Incremental windows
begin at it; backfills never read or move it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.messages import BatchMetadata, BatchState, BatchSummary, Window
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.cursors import unescaped
from temporaletl.warehouse.outlasting import outlasted_streams
from temporaletl.warehouse.rejects import forget_unread
from temporaletl.warehouse.retries import Family, family_of
from temporaletl.warehouse.sessions import only_row

log = get_logger("temporaletl.state")

_BY_HAND = "set by hand"
_MOVING_NOTHING = ("backfill", "replay")


@dataclass(frozen=True, slots=True)
class SyncState:
    """Sync state of one stream of one source and connection."""

    source: str
    stream: str
    connection: str
    watermark: datetime | None  # UTC; everything before it is loaded
    last_full_at: datetime | None
    last_incremental_at: datetime | None
    records: int  # extracted in the last batch
    state: str
    batch_id: str | None
    updated_at: datetime
    #: The filters that the watermark stands for, by their names; None where that is not known.
    scope: Mapping[str, JsonValue] | None = None


_COLUMNS = (
    "source, stream, connection, watermark, last_full_at, last_incremental_at, records, state, "
    "batch_id, updated_at, scope"
)


def read_states(warehouse: Warehouse, source: str | None = None) -> list[SyncState]:
    """The states of one source, or of all, in order."""
    return _states(warehouse, source, "true")


def watermarks_ahead(warehouse: Warehouse, source: str | None = None) -> list[SyncState]:
    """The states whose watermark is ahead of the warehouse's clock: a wrong clock moved it."""
    return _states(warehouse, source, "watermark > clock_timestamp()")


def _states(warehouse: Warehouse, source: str | None, condition: LiteralString) -> list[SyncState]:
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(SyncState)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_sync_state "  # noqa: S608 - constant
            f"WHERE (%(source)s::text IS NULL OR source = %(source)s) AND {condition} "
            "ORDER BY source, stream, connection",
            {"source": source},
        ).fetchall()


def knows_connection(warehouse: Warehouse, source: str, connection_name: str) -> bool:
    """Whether anything was ever loaded over a connection, or a watermark of it set by hand."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT EXISTS (SELECT FROM etl_batches
                           WHERE source = %(source)s AND connection = %(connection)s)
                OR EXISTS (SELECT FROM etl_sync_state
                           WHERE source = %(source)s AND connection = %(connection)s)
            """,
            {"source": source, "connection": connection_name},
        ).fetchone()
    return found == (True,)


def trusted_watermarks(
    warehouse: Warehouse,
    source: str,
    connection_name: str,
    *,
    scopes: Collection[Mapping[str, JsonValue]] = (),
) -> tuple[datetime, dict[str, datetime | None]]:
    """The warehouse's present time; and by stream, up to where its watermark can be trusted.

    Nothing is loaded that had not happened when its batch began. So a watermark that is ahead of
    that, or of the present, was moved by a wrong clock: the latest time that a completed batch of
    the ledger honestly reached takes its place, and None where the ledger has none. None, too,
    where a watermark stands for other filters than one of `scopes`: it says nothing of these.
    """
    with warehouse.connection() as connection:
        now: datetime = only_row(connection.execute("SELECT clock_timestamp()"))[0]
        found: Sequence[Any] = connection.execute(
            """
            WITH reached AS (
                SELECT w.stream, b.batch_id,
                    least((w.span->>'end')::timestamptz, b.created_at) AS until,
                    coalesce((w.span->>'start')::timestamptz
                        >= (w.span->>'end')::timestamptz, false) AS is_empty
                FROM etl_batches AS b, jsonb_each(b.metadata->'windows') AS w (stream, span)
                WHERE b.source = %(source)s AND b.connection = %(connection)s
                  AND b.mode IN ('full', 'incremental') AND b.created_at <= clock_timestamp()
            )
            SELECT s.stream, s.watermark,
                s.scope IS NOT NULL AND NOT s.scope = ANY (%(scopes)s::jsonb[]), CASE
                WHEN s.watermark IS NULL THEN NULL
                WHEN s.state = %(by_hand)s AND s.watermark <= clock_timestamp() THEN s.watermark
                WHEN s.watermark <= coalesce(
                    (SELECT until FROM reached AS r
                     WHERE r.batch_id = s.batch_id AND r.stream = s.stream),
                    clock_timestamp())
                THEN s.watermark
                -- While a watermark is ahead, windows are empty, and their batches load nothing.
                ELSE (SELECT max(until) FROM reached AS r JOIN etl_batches AS b USING (batch_id)
                      WHERE r.stream = s.stream AND b.state = 'completed' AND NOT r.is_empty
                        AND b.retries IS NULL)
                END
            FROM etl_sync_state AS s
            WHERE s.source = %(source)s AND s.connection = %(connection)s
            """,
            {
                "source": source,
                "connection": connection_name,
                "by_hand": _BY_HAND,
                "scopes": [Jsonb(dict(scope)) for scope in scopes],
            },
        ).fetchall()
    for stream, watermark, foreign, trusted in found:
        if foreign:
            log.warning("watermark_of_other_filters", source=source, stream=stream)
        elif watermark != trusted:
            log.warning(
                "watermark_ahead",
                source=source,
                stream=stream,
                watermark=watermark.isoformat(),
                trusted=trusted and trusted.isoformat(),
            )
    return now, {stream: None if foreign else time for stream, _, foreign, time in found}


def streams_of_other_scope(warehouse: Warehouse, metadata: BatchMetadata) -> list[str]:
    """The batch's streams whose watermark stands for other filters than the batch's."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT stream FROM etl_sync_state
            WHERE source = %s AND connection = %s AND stream = ANY (%s)
              AND watermark IS NOT NULL AND scope <> %s
            ORDER BY stream
            """,
            [
                metadata.source,
                metadata.connection,
                sorted(metadata.windows),
                Jsonb(metadata.scope),
            ],
        ).fetchall()
    return [str(stream) for (stream,) in found]


def set_watermark(
    warehouse: Warehouse,
    source: str,
    stream: str,
    connection_name: str,
    watermark: datetime | None,
) -> None:
    """Set a watermark by hand; with None the next run begins anew."""
    with warehouse.connection() as connection:
        put_watermark(connection, source, stream, connection_name, watermark)


def put_watermark(
    connection: Connection,
    source: str,
    stream: str,
    connection_name: str,
    watermark: datetime | None,
) -> None:
    """The same in the caller's transaction."""
    connection.execute(
        """
        INSERT INTO etl_sync_state (source, stream, connection, watermark, state)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (source, stream, connection) DO UPDATE
        SET watermark = excluded.watermark, state = excluded.state, scope = NULL,
            updated_at = now()
        """,
        [source, stream, connection_name, watermark, _BY_HAND],
    )


def advance(warehouse: Warehouse, metadata: BatchMetadata, summary: BatchSummary) -> None:
    """Advance the watermarks of a batch's streams to what is completely loaded, never backwards.

    Where jobs did not complete, a stream stops at the earliest of their windows' starts, or
    stays where it was if one of those windows has no start. It stays where it was, too, if the
    account was shown less than before, if the batch's filters leave out what the watermark stands
    for, if not all jobs were planned, or if it was set back behind the window's start in the
    meantime. A backfill or reprocessing moves nothing, and no job without a window holds anything
    back. A retry stands for all jobs of the batch that planned them: what any of its retries has
    completed is loaded, and what none has completed holds the watermark. A stream without a window
    has none. Safe to repeat.
    """
    if metadata.mode in _MOVING_NOTHING:
        return
    with warehouse.connection() as connection:
        for stream, window in metadata.windows.items():
            if window == Window():
                continue
            _advance_stream(connection, metadata, summary.state, stream, window)


def advance_loaded(warehouse: Warehouse, batch_id: str, stream: str) -> None:
    """Advance a stream's watermark as soon as its rows are loaded, before its batch has ended.

    Does nothing while one of its jobs has not completed. Safe to repeat.
    """
    if stream not in outlasted_streams(warehouse, batch_id):
        return
    with warehouse.connection() as connection:
        row = connection.execute(
            """
            SELECT metadata FROM etl_batches AS b
            WHERE batch_id = %(batch)s AND EXISTS (
                SELECT FROM etl_jobs AS j WHERE j.batch_id = b.batch_id AND j.stream = %(stream)s
                  AND j.windowless AND j.ended_at IS NULL)
            AND NOT EXISTS (
                SELECT FROM etl_jobs AS j WHERE j.batch_id = b.batch_id AND j.stream = %(stream)s
                  AND NOT j.windowless AND j.state <> 'completed')
            """,
            {"batch": batch_id, "stream": stream},
        ).fetchone()
        if row is None:
            return
        metadata = BatchMetadata.model_validate(row[0])
        moves = metadata.mode not in _MOVING_NOTHING
        if moves and metadata.windows.get(stream, Window()) != Window():
            _advance_stream(connection, metadata, "running", stream, metadata.windows[stream])


def _advance_stream(
    connection: Connection,
    metadata: BatchMetadata,
    state: BatchState,
    stream: str,
    window: Window,
) -> None:
    family = None if metadata.retries is None else family_of(connection, metadata.batch_id)
    latest = family is None or _is_latest(connection, metadata, stream, family)
    if latest is None:
        return
    original = metadata.batch_id if family is None else family.original
    jobs = only_row(
        connection.cursor(row_factory=dict_row).execute(
            """
        SELECT count(*) FILTER (WHERE NOT loaded) AS open,
            count(*) FILTER (WHERE NOT loaded AND window_start IS NULL) AS unbounded,
            min(window_start) FILTER (WHERE NOT loaded) AS earliest,
            (SELECT coalesce(sum(records), 0)::bigint FROM etl_jobs
             WHERE batch_id = %(batch)s AND stream = %(stream)s AND NOT windowless) AS records,
            (SELECT bool_and(jobs_planned IS NOT NULL AND held IS NULL)
             FROM etl_batches WHERE batch_id IN (%(batch)s, %(original)s)) AS planned,
            clock_timestamp() AS now
        FROM etl_jobs AS j, LATERAL (
            SELECT j.state = 'completed' OR EXISTS (
                SELECT FROM etl_jobs AS o JOIN etl_batches AS r USING (batch_id)
                WHERE o.job_id = j.job_id AND o.state = 'completed' AND r.held IS NULL
                  AND r.original = j.batch_id) AS loaded) AS l
        WHERE j.batch_id = %(original)s AND j.stream = %(stream)s AND NOT j.windowless
        """,
            {"batch": metadata.batch_id, "original": original, "stream": stream},
        )
    )
    # Each stream by itself: one that is broken for long must not hold up the others.
    complete = jobs["planned"] and jobs["open"] == 0
    if complete:
        watermark = window.end and min(window.end, jobs["now"])
    elif not jobs["planned"] or jobs["unbounded"] or metadata.mode == "full":
        # Jobs that were never planned have no row that could hold the watermark back, and a full
        # batch's slices need not be slices of the time that the watermark counts.
        watermark = None
    else:
        watermark = jobs["earliest"]
    if complete and metadata.mode == "full" and not metadata.params:
        forget_unread(connection, metadata.model_copy(update={"batch_id": original}), stream)
    if family is not None and state == "completed" and jobs["open"]:
        state = "failed"  # it loaded all that it ran, and not all that the first run planned
    connection.execute(
        """
        INSERT INTO etl_sync_state AS s (source, stream, connection, watermark,
            last_full_at, last_incremental_at, records, state, batch_id, scope)
        VALUES (%(source)s, %(stream)s, %(connection)s,
            CASE WHEN %(start)s::timestamptz IS NULL THEN %(watermark)s::timestamptz END,
            CASE WHEN %(complete)s AND %(mode)s = 'full' THEN now() END,
            CASE WHEN %(complete)s AND %(mode)s = 'incremental' THEN now() END,
            %(records)s, %(state)s, %(batch)s, %(scope)s)
        ON CONFLICT (source, stream, connection) DO UPDATE SET
            watermark = CASE
                -- A later batch began anew: an older one's retry is not what it waits for.
                WHEN NOT %(latest)s AND s.watermark IS NULL THEN NULL
                -- A time that has not come is of a wrong clock, and is no watermark.
                WHEN s.watermark > clock_timestamp()
                THEN coalesce(%(watermark)s::timestamptz, s.watermark)
                -- Other filters: what was loaded through those of before says nothing of these.
                WHEN s.scope <> %(scope)s::jsonb AND %(start)s::timestamptz IS NULL
                THEN coalesce(%(watermark)s::timestamptz, s.watermark)
                WHEN %(start)s::timestamptz IS NULL OR %(start)s::timestamptz <= s.watermark
                THEN greatest(s.watermark, %(watermark)s::timestamptz) ELSE s.watermark END,
            last_full_at = coalesce(excluded.last_full_at, s.last_full_at),
            last_incremental_at = coalesce(excluded.last_incremental_at, s.last_incremental_at),
            scope = CASE WHEN %(watermark)s::timestamptz IS NULL THEN s.scope
                ELSE coalesce(excluded.scope, s.scope) END,
            records = CASE WHEN %(latest)s THEN excluded.records ELSE s.records END,
            state = CASE WHEN %(latest)s THEN excluded.state ELSE s.state END,
            batch_id = CASE WHEN %(latest)s THEN excluded.batch_id ELSE s.batch_id END,
            updated_at = now()
        """,
        {
            "latest": latest,
            "source": metadata.source,
            "stream": stream,
            "connection": metadata.connection,
            "start": window.start,
            "watermark": watermark,
            "complete": complete,
            "mode": metadata.mode,
            "records": jobs["records"],
            "state": state,
            "batch": metadata.batch_id,
            "scope": None if metadata.scope is None else Jsonb(metadata.scope),
        },
    )


def _is_latest(
    connection: Connection, metadata: BatchMetadata, stream: str, family: Family
) -> bool | None:
    """Whether a retry's family wrote the stream's state last; None where it may not touch it.

    That is so where a person has put the watermark since, or deleted it with its connection, and
    where it stands for other filters now.
    """
    row: Any = connection.execute(
        """
        SELECT batch_id, state, updated_at, scope FROM etl_sync_state
        WHERE source = %s AND stream = %s AND connection = %s FOR UPDATE
        """,
        [metadata.source, stream, metadata.connection],
    ).fetchone()
    if row is None:
        return None
    batch_id, state, updated_at, scope = row
    if state == _BY_HAND and updated_at >= family.began:
        return None
    if None not in (scope, metadata.scope) and scope != metadata.scope:
        return None
    return batch_id in family.members


def last_cursors(warehouse: Warehouse, metadata: BatchMetadata) -> dict[str, JsonValue]:
    """The last cursors by stream: those of the last job of the stream's latest batch.

    Only where all its jobs completed and the watermark was not put elsewhere since. Backfills,
    reprocessing and retries do not count: they cover a part alone.
    """
    with warehouse.connection() as connection:
        found: Sequence[Any] = connection.execute(
            """
            SELECT s.stream, (array_agg(j.cursor ORDER BY j.seq DESC))[1]
            FROM etl_sync_state AS s JOIN etl_jobs AS j USING (batch_id, stream)
            WHERE s.source = %s AND s.connection = %s AND s.stream = ANY (%s) AND s.state <> %s
              AND NOT j.windowless
              AND (SELECT retries IS NULL FROM etl_batches AS b WHERE b.batch_id = s.batch_id)
            GROUP BY s.stream HAVING bool_and(j.state = 'completed')
            """,
            [metadata.source, metadata.connection, sorted(metadata.windows), _BY_HAND],
        ).fetchall()
    return {stream: unescaped(cursor) for stream, cursor in found if cursor is not None}
