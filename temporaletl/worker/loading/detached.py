"""What retention has detached of a source's events: nothing up to its end is loaded again."""

from collections.abc import Sequence
from datetime import datetime

from temporaletl.rows import Event, Row, storable_text
from temporaletl.warehouse.connection import Connection

#: The end of the latest month that was detached, as an expression over `%(source)s`.
LOADED_FROM = (
    "(SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM etl_detached_months "
    "WHERE source = %(source)s)"
)


def loaded_from(connection: Connection, source: str) -> datetime | None:
    """The time before which a source's events are not loaded; None where nothing was detached."""
    query = f"SELECT {LOADED_FROM}"  # a constant
    found = connection.execute(query.encode(), {"source": source}).fetchone()
    assert found is not None  # noqa: S101 - one row
    return found[0]  # type: ignore[return-value] # of the expression's type


def is_before(time: datetime | None, row: Row) -> bool:
    """Whether a row is an event of before this time, if there is one."""
    if time is None or not isinstance(row, Event):
        return False
    happened: object = row.event_time_utc
    # A time that cannot be compared is left to the packing, which rejects it.
    return isinstance(happened, datetime) and happened.tzinfo is not None and happened < time


def without_older(
    time: datetime | None, rows: Sequence[Row]
) -> tuple[Sequence[Row], Sequence[str]]:
    """The rows without events of before this time; and the ids of those events.

    Of rows with one id the last counts, as for the load.
    """
    if time is None or not any(is_before(time, row) for row in rows):
        return rows, ()
    last = {id_: row for row in rows if (id_ := _id_of(row)) is not None}
    kept = [row for row in rows if not is_before(time, last.get(_id_of(row) or "", row))]
    return kept, [id_ for id_, row in last.items() if is_before(time, row)]


def _id_of(row: Row) -> str | None:
    found: object = row.event_id if isinstance(row, Event) else None
    return storable_text(found) if isinstance(found, str) else None
