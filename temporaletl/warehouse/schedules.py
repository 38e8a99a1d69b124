"""Schedules as Temporal listed them last: what they are judged by while it does not answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.messages import Message
from temporaletl.warehouse.connection import Warehouse


class SeenSchedule(Message):
    """A connection's schedule; `streams` is empty where it loads all of them.

    `timetable` is None where its times are none that the platform makes.
    """

    source: str
    connection: str
    streams: tuple[str, ...]
    mode: str
    paused: bool
    timetable: dict[str, JsonValue] | None
    next_run: datetime | None
    created_at: datetime
    missed: int  # runs that no service could start within the catch-up window
    skipped: int  # runs that were left out because another one went on
    missed_at: datetime | None = None  # when one of the two was last seen to have grown
    seen_at: datetime | None = None


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, SeenSchedule.model_fields))


def record_schedules(warehouse: Warehouse, found: Sequence[SeenSchedule]) -> None:
    """Replace what is known of all schedules by what Temporal has just listed.

    Numbers of missed and skipped runs that were there when a schedule is first seen count as old.
    """
    with warehouse.connection() as connection:
        connection.execute(
            "DELETE FROM etl_schedules AS s WHERE NOT EXISTS (SELECT FROM unnest(%s::text[], "
            "%s::text[]) AS f (source, connection) WHERE f.source = s.source "
            "AND f.connection = s.connection)",
            [[one.source for one in found], [one.connection for one in found]],
        )
        for one in sorted(found, key=lambda seen: (seen.source, seen.connection)):
            values: dict[str, Any] = one.model_dump(exclude={"timetable"})
            connection.execute(
                """
                INSERT INTO etl_schedules AS s (source, connection, streams, mode, paused,
                    timetable, next_run, created_at, missed, skipped)
                VALUES (%(source)s, %(connection)s, %(streams)s, %(mode)s, %(paused)s,
                    %(timetable)s, %(next_run)s, %(created_at)s, %(missed)s, %(skipped)s)
                ON CONFLICT (source, connection) DO UPDATE SET
                    streams = excluded.streams, mode = excluded.mode, paused = excluded.paused,
                    timetable = excluded.timetable, next_run = excluded.next_run,
                    created_at = excluded.created_at, missed = excluded.missed,
                    skipped = excluded.skipped, seen_at = clock_timestamp(),
                    missed_at = CASE
                        WHEN excluded.missed > s.missed OR excluded.skipped > s.skipped
                        THEN clock_timestamp() ELSE s.missed_at END
                """,
                values
                | {
                    "streams": list(one.streams),
                    "timetable": None if one.timetable is None else Jsonb(one.timetable),
                },
            )


def seen_schedules(warehouse: Warehouse) -> list[SeenSchedule]:
    """The schedules as they were listed last, in order."""
    query = sql.SQL("SELECT {} FROM etl_schedules ORDER BY source, connection").format(_COLUMNS)
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query).fetchall()
    return [SeenSchedule.model_validate(row) for row in rows]
