"""Retention of events: months of a source that are older than its setting are detached.

What is older than the end of the latest that was is not loaded again: see `detached`.
"""

from collections.abc import Collection, Iterator, Mapping

from psycopg import sql

from temporaletl.bound_connection import DEFAULT
from temporaletl.rows import Row
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.catalog import Destination, inspect_table, keys_name
from temporaletl.worker.loading.columns import Layout
from temporaletl.worker.loading.dividing import Session, limit_waits
from temporaletl.worker.loading.evolution import alone
from temporaletl.worker.loading.months import (
    ROWS_AT_ONCE,
    Step,
    TableNames,
    divide,
    limits,
    old_months,
    take,
    with_events,
)

_EARLIER_IN_REST = "SELECT EXISTS (SELECT FROM {rest} WHERE event_time_utc < {end})"
_ENTER = """
    INSERT INTO {detached} AS d (source, month, table_name, rows)
    SELECT {source}, {month}, {name}, count(*) FROM {part}
    ON CONFLICT (source, month) DO UPDATE
    SET table_name = EXCLUDED.table_name, rows = EXCLUDED.rows, detached_at = clock_timestamp(),
        dropped_at = NULL
"""
_FORGET = """
    DELETE FROM {keys} AS k USING {part} AS t
    WHERE k.{connection} = t.{connection} AND k.event_id = t.event_id
"""


def detach(
    warehouse: Warehouse,
    sources: Mapping[str, Collection[type[Row]]],
    *,
    drop: bool = False,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[Step]:
    """Detach the months that are older than a source's retention, the oldest first.

    Each is one transaction: its table is entered in `etl_detached_months` and stays as it is, apart
    from `events`; with `drop` it is dropped, and so are those that were detached before. Divides
    before what is to be divided. Waits, safety and errors are those of `divide`.
    """
    yield from divide(warehouse, sources, rows_at_once=rows_at_once)
    with warehouse.apart() as session, alone(session, warehouse.schema):
        for source, layout in with_events(sources):
            names = TableNames(warehouse.schema, source, layout)
            if source in warehouse.keep_months and _is_divided(warehouse, source, layout):
                yield from _detach_old(session, names, warehouse.keep_months[source])
            if drop:
                yield from _drop_detached(session, names)


def _is_divided(warehouse: Warehouse, source: str, layout: Layout) -> bool:
    with warehouse.connection(snapshot=True) as connection:
        destination = Destination(warehouse.schema, source, DEFAULT)
        state = inspect_table(connection, destination, layout)
    return state.keys is not None


def _detach_old(session: Session, names: TableNames, keep: int) -> Iterator[Step]:
    for table, month in old_months(session, names, keep):
        part = names.of(table)
        with session.transaction():
            take(session, names)
            earlier = names.fill(
                _EARLIER_IN_REST, rest=names.of(names.rest), end=limits(month)["end"]
            )
            if session.execute(earlier).fetchone() == (True,):
                return  # It was loaded just now: the next time, when it has its own partition.
            parts: dict[str, sql.Composable] = {
                "part": part,
                "keys": names.of(keys_name(names.table)),
                "connection": sql.Identifier(names.layout.connection),
                "detached": names.of("etl_detached_months"),
                "source": sql.Literal(names.source),
                "month": sql.SQL("{}::date").format(sql.Literal(month)),
                "name": sql.Literal(table),
            }
            session.execute(names.fill(_ENTER, **parts))
            rows = session.execute(names.fill(_FORGET, **parts)).rowcount
            session.execute(
                sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(names.of(names.table), part)
            )
        yield Step("detach", table, f"detach {table}", rows)


def _drop_detached(session: Session, names: TableNames) -> Iterator[Step]:
    detached = names.of("etl_detached_months")
    query = sql.SQL(
        "SELECT table_name, rows FROM {} WHERE source = {} AND dropped_at IS NULL ORDER BY month"
    ).format(detached, sql.Literal(names.source))
    for name, rows in session.execute(query).fetchall():
        with session.transaction():
            limit_waits(session)
            session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(names.of(str(name))))
            session.execute(
                sql.SQL(
                    "UPDATE {} SET dropped_at = clock_timestamp() "
                    "WHERE source = {} AND table_name = {}"
                ).format(detached, sql.Literal(names.source), sql.Literal(name))
            )
        yield Step("drop", str(name), f"drop {name}", int(str(rows)))
