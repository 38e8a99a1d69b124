"""Figures for charts: events by day and type, and a run's throughput; each within a time limit."""

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from psycopg import errors, sql
from psycopg.rows import class_row

from temporaletl.warehouse.connection import Warehouse

#: A chart is not worth more of the warehouse's time.
_AT_MOST = timedelta(seconds=3)


class EventCount(NamedTuple):
    """Events of one type that happened on one day (UTC)."""

    day: date
    event_type: str
    events: int


class PageCount(NamedTuple):
    """Pages committed within one span of a run, from `start` on, and their rows by outcome."""

    start: datetime
    pages: int
    records: int
    inserted: int
    updated: int
    unchanged: int
    rejected: int


def events_by_day(warehouse: Warehouse, *, days: int) -> list[EventCount] | None:
    """Events of the last days by day and type, today's included; None where counting takes long.

    Empty where there is no table of events yet.
    """
    query = """
        SELECT (event_time_utc AT TIME ZONE 'UTC')::date AS day, event_type, count(*) AS events
        FROM events
        WHERE event_time_utc >= (date_trunc('day', now() AT TIME ZONE 'UTC')
            - make_interval(days => %(days)s - 1)) AT TIME ZONE 'UTC'
          AND event_time_utc < now() + interval '1 day' AND deleted_at IS NULL
        GROUP BY 1, 2 ORDER BY 1, 2
    """
    with warehouse.connection() as connection:
        found = connection.execute("SELECT to_regclass('events')").fetchone()
    if found is None or found[0] is None:
        return []
    return _read(warehouse, EventCount, query, {"days": days})


def pages_by_time(warehouse: Warehouse, batch_id: str, step: timedelta) -> list[PageCount] | None:
    """A batch's pages by spans of `step`; spans without any are left out.

    None where counting takes long.
    """
    query = """
        SELECT date_bin(%(step)s, loaded_at, timestamptz '2000-01-01') AS start,
            count(*) AS pages, sum(records)::bigint AS records, sum(inserted)::bigint AS inserted,
            sum(updated)::bigint AS updated, sum(unchanged)::bigint AS unchanged,
            sum(rejected)::bigint AS rejected
        FROM etl_pages WHERE batch_id = %(batch)s GROUP BY 1 ORDER BY 1
    """
    return _read(warehouse, PageCount, query, {"step": step, "batch": batch_id})


def _read[T](warehouse: Warehouse, kind: type[T], query: str, values: Any) -> list[T] | None:
    milliseconds = round(_AT_MOST.total_seconds() * 1_000)
    limit = sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(milliseconds))
    with warehouse.connection() as connection:
        try:
            with connection.transaction(), connection.cursor(row_factory=class_row(kind)) as cursor:
                cursor.execute(limit)
                return cursor.execute(query.encode(), values).fetchall()
        except errors.QueryCanceled:
            return None
