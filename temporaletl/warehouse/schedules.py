"""Schedules as Temporal listed them last: what they are judged by while it does not answer."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.messages import Message
from temporaletl.names import DEFAULT_SCHEDULE, SKIPPED, ScheduleKey
from temporaletl.warehouse.connection import Warehouse


class SeenSchedule(Message):
    """A schedule of a connection; `streams` is empty where it loads all of them.

    `timetable` is None where its times are none that the platform makes.
    """

    source: str
    connection: str
    name: str = DEFAULT_SCHEDULE
    streams: tuple[str, ...]
    mode: str
    filtered: bool = False  # whether its parameters leave out what other runs load
    paused: bool
    timetable: dict[str, JsonValue] | None
    next_run: datetime | None
    created_at: datetime
    missed: int  # runs that no service could start within the catch-up window
    skipped: int  # runs that were left out because another one went on, of any schedule
    missed_at: datetime | None = None  # when one of the two was last seen to have grown
    seen_at: datetime | None = None

    @property
    def key(self) -> ScheduleKey:
        return ScheduleKey(self.source, self.connection, self.name)


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, SeenSchedule.model_fields))


def record_schedules(warehouse: Warehouse, found: Sequence[SeenSchedule]) -> None:
    """Replace what is known of all schedules by what Temporal has just listed.

    Numbers of missed and skipped runs that were there when a schedule is first seen count as old.
    """
    with warehouse.connection() as connection:
        connection.execute(
            "DELETE FROM etl_schedules AS s WHERE NOT EXISTS (SELECT FROM unnest(%s::text[], "
            "%s::text[], %s::text[]) AS f (source, connection, name) WHERE f.source = s.source "
            "AND f.connection = s.connection AND f.name = s.name)",
            [[one.key[part] for one in found] for part in range(3)],
        )
        for one in sorted(found, key=lambda seen: seen.key):
            values: dict[str, Any] = one.model_dump(exclude={"timetable"})
            connection.execute(
                """
                INSERT INTO etl_schedules AS s (source, connection, name, streams, mode, filtered,
                    paused, timetable, next_run, created_at, missed, skipped)
                VALUES (%(source)s, %(connection)s, %(name)s, %(streams)s, %(mode)s, %(filtered)s,
                    %(paused)s, %(timetable)s, %(next_run)s, %(created_at)s, %(missed)s,
                    %(skipped)s)
                ON CONFLICT (source, connection, name) DO UPDATE SET
                    streams = excluded.streams, mode = excluded.mode,
                    filtered = excluded.filtered, paused = excluded.paused,
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
    query = sql.SQL("SELECT {} FROM etl_schedules ORDER BY source, connection, name")
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query.format(_COLUMNS)).fetchall()
    return [SeenSchedule.model_validate(row) for row in rows]


def skipped_runs(warehouse: Warehouse) -> Counter[ScheduleKey]:
    """How many runs of each schedule were skipped since another run loaded the same already."""
    with warehouse.connection() as connection:
        rows = connection.execute(
            """
            SELECT source, connection, request->>'schedule', count(*) FROM etl_runs
            WHERE error_type = %s AND request->>'schedule' IS NOT NULL
            GROUP BY source, connection, request->>'schedule'
            """,
            [SKIPPED],
        ).fetchall()
    return Counter({ScheduleKey(str(s), str(c), str(n)): int(str(m)) for s, c, n, m in rows})
