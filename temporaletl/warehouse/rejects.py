"""Rejects in the ledger: listed, found for reprocessing, and deleted once they are read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.rows import dict_row
from pydantic import JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import NotFoundError
from temporaletl.messages import BatchMetadata, ETLInput, Message
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row


def streams_with_rejects(
    warehouse: Warehouse, metadata: BatchMetadata, stage: str | None = None
) -> list[str]:
    """The batch's streams that have rejects of earlier batches, of any stage or of one."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT stream FROM unnest(%(streams)s::text[]) AS s (stream)
            WHERE EXISTS (
                SELECT FROM etl_rejects AS r
                WHERE r.source = %(source)s AND r.connection = %(connection)s
                  AND r.stream = s.stream AND r.batch_id <> %(batch)s
                  AND (%(stage)s::text IS NULL OR r.stage = %(stage)s))
            ORDER BY stream
            """,
            {
                "streams": sorted(metadata.windows),
                "source": metadata.source,
                "connection": metadata.connection,
                "batch": metadata.batch_id,
                "stage": stage,
            },
        ).fetchall()
    return [str(stream) for (stream,) in found]


def params_of_rejects(warehouse: Warehouse, job: ETLInput) -> list[dict[str, JsonValue]]:
    """The parameters of the jobs that met the rejects a job reprocesses, oldest job first.

    Rejects whose job the ledger no longer knows have none.
    """
    only = job.params.get("rejects")
    with warehouse.connection() as connection:
        found: list[tuple[Any, ...]] = connection.execute(
            """
            SELECT j.input -> 'params' FROM etl_jobs AS j JOIN etl_batches AS b USING (batch_id)
            WHERE (j.batch_id, j.job_id) IN (
                SELECT batch_id, job_id FROM etl_rejects
                WHERE source = %(source)s AND connection = %(connection)s AND stream = %(stream)s
                  AND (%(only)s::bigint[] IS NULL OR reject_id = ANY (%(only)s)))
            ORDER BY b.created_at, j.batch_id, j.seq
            """,
            {
                "source": job.source,
                "connection": job.connection,
                "stream": job.stream,
                "only": only if isinstance(only, list) else None,
            },
        ).fetchall()
    return [params for (params,) in found]


def forget_unread(connection: Connection, metadata: BatchMetadata, stream: str) -> None:
    """Delete unread rejects of a stream that a full run has read without meeting them again.

    Only for a full run that completed and was shown everything. Safe to repeat.
    """
    connection.execute(
        """
        DELETE FROM etl_rejects AS r USING etl_batches AS b
        WHERE b.batch_id = %(batch)s AND r.source = %(source)s
          AND r.connection = %(connection)s AND r.stream = %(stream)s
          AND r.stage = 'extract' AND r.batch_id <> b.batch_id AND r.last_seen <= b.created_at
        """,
        {
            "batch": metadata.batch_id,
            "source": metadata.source,
            "connection": metadata.connection,
            "stream": stream,
        },
    )


class StoredReject(Message):
    """A record that could not become a row, as the warehouse keeps it."""

    reject_id: int
    source: str
    connection: str = DEFAULT
    stream: str
    stage: str
    key: str | None
    reason: str
    payload: JsonValue
    times: int
    first_seen: datetime
    last_seen: datetime
    batch_id: str
    job_id: str
    workflow_id: str
    run_id: str


class RejectDetails(StoredReject):
    """A reject with the page that wrote it last; None where the ledger no longer knows that.

    `payload_bytes` is the record's size where only its beginning is kept.
    """

    extracted_at: datetime
    payload_bytes: int | None
    seq: int | None  # of the page's job, in its batch
    page: int | None


#: To count more would take longer than anybody waits for a list.
MOST_COUNTED = 100_000


class Rejects(NamedTuple):
    """The latest rejects, and how many there are; `MOST_COUNTED` stands for that many or more."""

    rejects: list[StoredReject]
    total: int


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, StoredReject.model_fields))
_OF_STREAMS = sql.SQL(
    "source = %(source)s AND connection = %(connection)s "
    "AND (%(streams)s::text[] IS NULL OR stream = ANY (%(streams)s))"
)


def find_reject(warehouse: Warehouse, reject_id: int) -> RejectDetails:
    """One reject, by its id.

    Raises:
        NotFoundError: there is none; it may have become rows.
    """
    own = [name for name in RejectDetails.model_fields if name not in ("seq", "page")]
    query = sql.SQL(
        """
        SELECT {}, p.seq, p.page FROM etl_rejects AS r LEFT JOIN LATERAL (
            SELECT p.seq, p.page FROM etl_pages AS p JOIN etl_jobs AS j USING (batch_id, seq)
            WHERE j.batch_id = r.batch_id AND j.job_id = r.job_id
              -- Both are the time of the transaction that wrote them.
              AND p.loaded_at IN (r.first_seen, r.last_seen)
            ORDER BY p.loaded_at DESC LIMIT 1) AS p ON true
        WHERE r.reject_id = %s
        """
    ).format(sql.SQL(", ").join(sql.Identifier("r", name) for name in own))
    with warehouse.connection() as connection:
        row = connection.cursor(row_factory=dict_row).execute(query, [reject_id]).fetchone()
    if row is None:
        raise NotFoundError(
            f"there is no reject {reject_id}: it has become rows, or never was "
            "(`etl rejects list SOURCE`)"
        )
    return RejectDetails.model_validate(row)


def read_rejects(
    warehouse: Warehouse,
    source: str,
    connection_name: str,
    streams: Sequence[str] = (),
    *,
    limit: int,
) -> Rejects:
    """The rejects of a connection seen last, of all its streams where none is named."""
    values = {
        "source": source,
        "connection": connection_name,
        "streams": list(streams) or None,
        "limit": limit,
    }
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(
            sql.SQL(
                "SELECT {} FROM etl_rejects WHERE {} "
                "ORDER BY last_seen DESC, reject_id DESC LIMIT %(limit)s"
            ).format(_COLUMNS, _OF_STREAMS),
            values,
        )
        found = [StoredReject.model_validate(row) for row in rows]
        total = only_row(
            connection.execute(
                sql.SQL(
                    "SELECT count(*) FROM "
                    "(SELECT FROM etl_rejects WHERE {} LIMIT %(most)s) AS counted"
                ).format(_OF_STREAMS),
                {**values, "most": MOST_COUNTED},
            )
        )
    return Rejects(found, int(total[0]))


_OF_FILTER = sql.SQL(
    "(%(source)s::text IS NULL OR source = %(source)s) "
    "AND (%(connection)s::text IS NULL OR connection = %(connection)s) "
    "AND (%(stream)s::text IS NULL OR stream = %(stream)s)"
)


def rejects_after(
    warehouse: Warehouse,
    *,
    limit: int,
    after: int | None = None,
    source: str | None = None,
    connection_name: str | None = None,
    stream: str | None = None,
) -> list[StoredReject]:
    """Rejects by their number, the newest first, behind the one numbered `after`."""
    values = {
        "limit": limit,
        "after": after,
        "source": source,
        "connection": connection_name,
        "stream": stream,
    }
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(
            sql.SQL(
                "SELECT {} FROM etl_rejects WHERE {} "
                "AND (%(after)s::bigint IS NULL OR reject_id < %(after)s) "
                "ORDER BY reject_id DESC LIMIT %(limit)s"
            ).format(_COLUMNS, _OF_FILTER),
            values,
        )
        return [StoredReject.model_validate(row) for row in rows]
