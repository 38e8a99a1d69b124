"""The log of runs: lines written by services and engine, and the last ones of a run read.

Of a run the last two thousand lines are kept, for thirty days.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.messages import Message
from temporaletl.rows import storable_text
from temporaletl.secrets import cleaned, redacted
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.telemetry.run_log import DROPPED, Line, RunLog, kept_in
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.sessions import only_row

log = get_logger("temporaletl.warehouse.run_log")

#: Lines of one run that are kept; the oldest go.
MOST_LINES = 2_000
_KEPT = timedelta(days=30)
_LONGEST_TEXT = 8_000
_AT_ONCE = 1_000
_PRUNED_AT_ONCE = 10_000


class LogLine(Message):
    """A line of a run's log; `fields` are what it says beside the event."""

    at: datetime
    level: str
    logger: str
    event: str
    job_id: str | None
    fields: dict[str, JsonValue]


class RunLogTail(Message):
    """The last lines of a run's log, the oldest of them first.

    `earlier` says that there are others before, or were; `dropped` counts those that were never
    written.
    """

    lines: tuple[LogLine, ...]
    earlier: bool
    dropped: int


@contextmanager
def kept_run_log(warehouse: Warehouse) -> Iterator[None]:
    """Keep in the warehouse what is logged of runs in this context (`telemetry.run_log`)."""
    with kept_in(RunLog(Writer(warehouse).write, _report_refused)):
        yield


def _report_refused(error: Exception, waiting: int, dropped: int) -> None:
    log.warning(
        "run_log_not_written",
        reason=str(error),
        lines_waiting=waiting,
        lines_dropped=dropped,
        exception=unexpected(error),
    )


class Writer:
    """Writer of lines; from time to time it deletes what is too old, or too much of one run."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._written: dict[str, int] = {}
        self._pruned_in: datetime | None = None

    def write(self, lines: Sequence[Line]) -> None:
        """Write lines in one transaction; raises as `Warehouse.connection`."""
        with self._warehouse.connection() as connection:
            for first in range(0, len(lines), _AT_ONCE):
                columns = zip(*map(_storable, lines[first : first + _AT_ONCE]), strict=True)
                # Parameters as arrays: one plan and one message, however many lines.
                connection.execute(
                    """
                    INSERT INTO etl_run_log (batch_id, job_id, at, level, logger, event, fields)
                    SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[],
                                         %s::text[], %s::text[], %s::jsonb[])
                    """,
                    [list(column) for column in columns],
                )
            for line in lines:
                self._written[line.batch_id] = self._written.get(line.batch_id, 0) + 1
            hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
            is_due = hour != self._pruned_in
            if is_due:
                connection.execute(_PRUNE, {"kept": _KEPT, "most": _PRUNED_AT_ONCE})
            # Once an hour also those that say little, but for days.
            least = 0 if is_due else MOST_LINES // 4
            full = [batch for batch, count in self._written.items() if count >= least]
            for batch in full:
                connection.execute(_CUT, {"batch": batch, "most": MOST_LINES})
        # Only now, as lines that were not committed are written again.
        self._pruned_in = hour
        for batch in full:
            del self._written[batch]


_CUT = """
    DELETE FROM etl_run_log WHERE batch_id = %(batch)s AND line_id <= (
        SELECT line_id FROM etl_run_log WHERE batch_id = %(batch)s
        ORDER BY line_id DESC OFFSET %(most)s LIMIT 1)
"""
_PRUNE = """
    DELETE FROM etl_run_log WHERE line_id IN (
        SELECT line_id FROM etl_run_log WHERE at < clock_timestamp() - %(kept)s
        ORDER BY at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""


def _storable(line: Line) -> tuple[Any, ...]:
    fields = {name: _plain(value) for name, value in line.fields.items() if value is not None}
    return (
        *(line.batch_id, line.job_id, line.at, line.level, line.logger, _clean(line.event)),
        Jsonb(cleaned(fields, _clean)),
    )


def _plain(value: Any) -> JsonValue:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)


def _clean(text: str) -> str:
    # Cut behind what looks for secrets: half of one is not recognised any more.
    return storable_text(redacted(text))[:_LONGEST_TEXT]


def read_log(warehouse: Warehouse, batch_id: str, *, limit: int) -> RunLogTail:
    """The last lines of a batch's log, at most `limit`."""
    with warehouse.connection() as connection:
        found = (
            connection.cursor(row_factory=class_row(LogLine))
            .execute(
                """
                SELECT at, level, logger, event, job_id, fields FROM etl_run_log
                WHERE batch_id = %s ORDER BY line_id DESC LIMIT %s
                """,
                [batch_id, limit + 1],
            )
            .fetchall()
        )
        count, dropped = only_row(
            connection.execute(
                """
                SELECT count(*), coalesce(sum((fields->>'count')::bigint)
                                          FILTER (WHERE event = %s), 0)
                FROM etl_run_log WHERE batch_id = %s
                """,
                [DROPPED, batch_id],
            )
        )
    return RunLogTail(
        lines=tuple(reversed(found[:limit])),
        earlier=len(found) > limit or int(count) >= MOST_LINES,
        dropped=int(dropped),
    )
