"""Deletes events that a source no longer shows, where it was seen to show all there are."""

from collections.abc import Sequence
from datetime import datetime

from psycopg import sql

from temporaletl.rows import Event, Row, Whole
from temporaletl.warehouse.connection import Connection
from worker.loading.columns import PARTITION_KEY
from worker.loading.schema import Target

# The ids are in the index's order, bytes by bytes, so that a prefix is a range of them. Planned
# each time: a long list of what is kept is then searched by hash.
_DELETE = """
    DELETE FROM {target} AS t
    USING unnest(%(prefixes)s::text[], %(ends)s::text[]) AS w (prefix, past)
    WHERE t.{partition} = %(source)s AND t.event_id >= w.prefix AND t.event_id < w.past
      AND NOT t.event_id = ANY (%(kept)s::text[])
      AND (t.{extracted_at} IS NULL OR t.{extracted_at} <= %(extracted_at)s)
"""


def retract(
    connection: Connection,
    target: Target,
    wholes: Sequence[Whole],
    rows: Sequence[Row],
    *,
    source: str,
    extracted_at: datetime,
) -> int:
    """Delete the stored events that a `Whole` covers and the page lacks; return their number.

    What is newer than the page stays. Runs in the caller's transaction; safe to repeat.
    """
    if not wholes:
        return 0
    prefixes = sorted({whole.prefix for whole in wholes})
    name = target.name.replace("%", "%%")  # the statement takes parameters
    statement = sql.SQL(_DELETE).format(
        target=sql.Identifier(target.schema.replace("%", "%%"), name),
        partition=sql.Identifier(PARTITION_KEY),
        extracted_at=sql.Identifier(target.layout.ours["extracted_at"]),
    )
    values = {
        "source": source,
        "prefixes": prefixes,
        "ends": [_past(prefix) for prefix in prefixes],
        "kept": [row.event_id for row in rows if isinstance(row, Event)],
        "extracted_at": extracted_at,
    }
    return connection.execute(statement, values, prepare=False).rowcount


def _past(prefix: str) -> str:
    """The first text behind all that begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
