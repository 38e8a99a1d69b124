"""Deletion of missing events: those that a complete set covers and its page lacks."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from psycopg import sql

from temporaletl.rows import CompleteSet, Event, Row, storable_text
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.columns import PARTITION_KEY
from temporaletl.worker.loading.scans import past
from temporaletl.worker.loading.schema import Target

# The ids are in the index's order, bytes by bytes, so that a prefix is a range of them. LATERAL
# with OFFSET keeps the planner from reading the whole table for each. Planned each time: a long
# list of what is kept is then searched by hash.
_FIND = """
    SELECT found.event_id FROM unnest(%(prefixes)s::text[], %(ends)s::text[]) AS w (prefix, past),
    LATERAL (
        SELECT t.event_id FROM {target} AS t
        WHERE t.{partition} = %(source)s AND t.{connection} = %(connection)s
          AND t.event_id >= w.prefix AND t.event_id < w.past
        OFFSET 0
    ) AS found
    WHERE NOT found.event_id = ANY (%(kept)s::text[])
"""
# A time that has not come says nothing.
_DELETE = """
    DELETE FROM {target} AS t
    WHERE t.{partition} = %(source)s AND t.{connection} = %(connection)s
      AND t.event_id = ANY (%(missing)s::text[])
      AND (t.{extracted_at} IS NULL OR t.{extracted_at} <= %(extracted_at)s
           OR t.{extracted_at} > clock_timestamp())
"""


def delete_missing(
    connection: Connection,
    target: Target,
    complete_sets: Sequence[CompleteSet],
    rows: Sequence[Row],
    *,
    source: str,
    connection_name: str,
    extracted_at: datetime,
) -> int:
    """Delete the stored events of complete sets that the page lacks; return their number.

    What is newer than the page stays. Runs in the caller's transaction; safe to repeat.
    """
    if not complete_sets:
        return 0
    ranges = sorted(
        {(storable_text(one.prefix), storable_text(_end(one))) for one in complete_sets}
    )
    # The statement takes parameters: a percent sign in a name must be doubled.
    names = (name.replace("%", "%%") for name in (target.schema, target.name))
    parts = {
        "target": sql.Identifier(*names),
        "partition": sql.Identifier(PARTITION_KEY),
        "connection": sql.Identifier(target.layout.connection),
        "extracted_at": sql.Identifier(target.layout.ours["extracted_at"]),
    }
    values = {
        "source": source,
        "connection": connection_name,
        "prefixes": [prefix for prefix, _ in ranges],
        "ends": [end for _, end in ranges],
        "kept": [storable_text(row.event_id) for row in _events(rows)],
    }
    found = connection.execute(sql.SQL(_FIND).format(**parts), values, prepare=False)
    missing = [str(event_id) for (event_id,) in found]
    if not missing:
        return 0
    deleted = connection.execute(
        sql.SQL(_DELETE).format(**parts),
        {
            "source": source,
            "connection": connection_name,
            "missing": missing,
            "extracted_at": extracted_at,
        },
        prepare=False,
    )
    return deleted.rowcount


def _events(rows: Sequence[Row]) -> Iterator[Event]:
    # An id of another type is refused where rows are packed.
    return (row for row in rows if isinstance(row, Event) and isinstance(row.event_id, str))


def _end(events: CompleteSet) -> str:
    """The first text behind all ids of the set; they have no control characters."""
    return f"{events.prefix}\x01" if events.exact else past(events.prefix)
