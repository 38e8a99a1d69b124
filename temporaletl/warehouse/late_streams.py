"""Late streams: which lateness has been noticed, so that each is announced once.

Who looks for late streams holds the watch for the transaction in which what was found is entered:

    with warehouse.connection() as connection:
        if hold_watch(connection):
            known = noticed(connection)
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from temporaletl.warehouse.connection import Connection
from temporaletl.warehouse.sessions import only_row

#: The key of the advisory lock, within the schema's own: see `hold_watch`.
_WATCH = "etl late watch"


class StreamKey(NamedTuple):
    """One stream of one source and connection."""

    source: str
    connection: str
    stream: str


def hold_watch(connection: Connection) -> bool:
    """Hold the watch until the caller's transaction ends; False where another process holds it."""
    held = only_row(
        connection.execute(
            "SELECT pg_try_advisory_xact_lock(hashtext(%s), hashtext(current_schema()))", [_WATCH]
        )
    )
    return bool(held[0])


def noticed(connection: Connection) -> set[StreamKey]:
    """The streams that were found late and have not recovered since."""
    rows = connection.execute("SELECT source, connection, stream FROM etl_late_streams")
    return {StreamKey(*map(str, row)) for row in rows}


def note_late(connection: Connection, key: StreamKey, due_at: datetime | None) -> None:
    """Note that a stream is late, in the caller's transaction. Safe to repeat.

    `due_at` is None for one that was never loaded.
    """
    connection.execute(
        """
        INSERT INTO etl_late_streams (source, connection, stream, due_at)
        VALUES (%s, %s, %s, %s) ON CONFLICT (source, connection, stream) DO NOTHING
        """,
        [*key, due_at],
    )


def clear_late(connection: Connection, keys: Collection[StreamKey]) -> None:
    """Note that streams are late no more, in the caller's transaction. Safe to repeat."""
    for key in sorted(keys):
        connection.execute(
            "DELETE FROM etl_late_streams WHERE source = %s AND connection = %s AND stream = %s",
            list(key),
        )
