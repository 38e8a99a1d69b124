"""Events of a source by month: its partition is divided by `event_time_utc`, and kept so.

The table of a divided source, `jira_events`, has a partition for each month, and one for the rest
(`jira_events_rest`): what is of no month that has a partition yet. PostgreSQL keeps a key unique
within one partition only, and an event's time may change. So a table of keys (`jira_events_keys`)
says of each event in which month it is, with the hash of its row: triggers keep it in step with the
partitions, whoever writes to them, and the loader looks there alone.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from psycopg import errors, sql

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import ConflictError
from temporaletl.rows import Event, Row
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.worker.loading.catalog import (
    Destination,
    inspect_table,
    rest_name,
    target_name,
)
from temporaletl.worker.loading.columns import Layout, layout_of
from temporaletl.worker.loading.dividing import (
    CHECK,
    TRIGGERS,
    Division,
    Session,
    limit_waits,
)
from temporaletl.worker.loading.evolution import alone

#: What one transaction moves at most, but one month at least.
ROWS_AT_ONCE = 5_000_000
#: Months to come that have a partition: their events need not be moved.
MONTHS_AHEAD = 3

# Of a time that is no date the rest remains the place.
_IN_REST = """
    SELECT to_char(month, 'YYYY-MM-DD'), sum(rows)::bigint FROM (
        SELECT date_trunc('month', event_time_utc AT TIME ZONE 'UTC') AS month, count(*) AS rows
        FROM {rest} WHERE isfinite(event_time_utc) AND event_time_utc > '0001-01-01 UTC' GROUP BY 1
        UNION ALL
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month', 0
        FROM generate_series(0, {ahead}) AS ahead
    ) AS found
    WHERE NOT EXISTS (
        SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = {table}::regclass AND c.relname = {prefix} || to_char(month, 'YYYY_MM')
    )
    GROUP BY month ORDER BY month
"""
_OLD = """
    SELECT relname, to_char(month, 'YYYY-MM-DD') FROM (
        SELECT c.relname, CASE WHEN right(c.relname, 7) ~ '^[0-9]{{4}}_[0-9]{{2}}$'
            THEN to_date(right(c.relname, 7), 'YYYY_MM') END AS month
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = {table}::regclass AND c.relname <> {rest}
    ) AS part
    WHERE month < date_trunc('month', now() AT TIME ZONE 'UTC') - {keep} * interval '1 month'
    ORDER BY month
"""
_BOUNDS = "FROM ({start}) TO ({end})"
_WITHIN = "event_time_utc >= {start} AND event_time_utc < {end}"
_MOVE = """
    WITH moved AS (DELETE FROM {rest} WHERE event_time_utc >= {start} AND event_time_utc < {end}
        RETURNING *)
    INSERT INTO {month} ({columns}) SELECT {columns} FROM moved
"""
_OUTSIDE = "(event_time_utc < {start} OR event_time_utc >= {end})"
_SIZES = """
    WITH RECURSIVE part AS (
        SELECT c.oid, c.relname, c.relkind FROM pg_class AS c WHERE c.oid = {table}::regclass
        UNION ALL
        SELECT c.oid, c.relname, c.relkind FROM part
        JOIN pg_inherits AS i ON i.inhparent = part.oid JOIN pg_class AS c ON c.oid = i.inhrelid
    ), sized AS (
        SELECT part.relname, part.relkind, pg_total_relation_size(part.oid) AS bytes,
            (CASE WHEN c.reltuples < 0 THEN pg_stat_get_live_tuples(part.oid)
                ELSE c.reltuples END)::bigint AS rows
        FROM part JOIN pg_class AS c USING (oid)
    )
    SELECT coalesce(sum(rows) FILTER (WHERE relkind = 'r'), 0)::bigint, sum(bytes)::bigint,
        count(*) FILTER (WHERE relkind = 'r') - 1,
        coalesce(sum(rows) FILTER (WHERE relname = {rest}), 0)::bigint
    FROM sized
"""


class Step(NamedTuple):
    """One thing that was done to a source's table, in words; and the rows that it concerned."""

    kind: Literal["divide", "detach", "drop"]
    table: str
    words: str
    rows: int


@dataclass(frozen=True, slots=True)
class Partitions:
    """How a source's events are divided, as PostgreSQL estimates their rows.

    `months` is None where they are not; `rest` are the rows of no month yet. `due` says that the
    source has grown past the setting, or has a retention, and is to be divided; `old` is how many
    months are older than its retention.
    """

    source: str
    rows: int
    bytes: int
    months: int | None
    rest: int
    due: bool
    old: int


def partitions_of(
    warehouse: Warehouse, sources: Mapping[str, Collection[type[Row]]]
) -> list[Partitions]:
    """How the events of these sources are divided; those that were never loaded are left out."""
    found = []
    for source, layout in with_events(sources):
        with warehouse.connection(snapshot=True) as connection:
            state = inspect_table(
                connection, Destination(warehouse.schema, source, DEFAULT), layout
            )
            if state.target is None:
                continue
            names = TableNames(warehouse.schema, source, layout)
            row = connection.execute(names.fill(_SIZES)).fetchone()
            keep = warehouse.keep_months.get(source)
            old = [] if keep is None else old_months(connection, names, keep)
        assert row is not None  # noqa: S101 - an aggregate
        rows, size, parts, rest = (int(str(one)) for one in row)
        divided = state.keys is not None
        due = not divided and (
            source in warehouse.keep_months or 0 < warehouse.months_from_rows <= rows
        )
        found.append(
            Partitions(source, rows, size, parts if divided else None, rest, due, len(old))
        )
    return found


def divide(
    warehouse: Warehouse,
    sources: Mapping[str, Collection[type[Row]]],
    *,
    named: Collection[str] = (),
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[Step]:
    """Divide the events of sources that are due, or named; give months to what has none yet.

    Each step is one transaction, and is yielded when it is made. While one goes on, loaders of the
    source wait, or are tried again; readers of its events wait at its end. Safe to repeat, also
    after an interruption.

    Raises:
        ConflictError: another process changes the tables.
        SchemaConflictError: something else is in the way; says what.
        WarehouseUnavailableError: another session kept a table for a minute.
    """
    due = {one.source: one for one in partitions_of(warehouse, sources)}
    with warehouse.apart() as session, alone(session, warehouse.schema):
        for source, layout in with_events(sources):
            one = due.get(source)
            if one is None or not (one.due or one.months is not None or source in named):
                continue
            if one.months is None:
                Division(session, warehouse.schema, source, layout).run()
                table = target_name(layout, source)
                yield Step("divide", table, f"divide {table} by month", one.rows)
            names = TableNames(warehouse.schema, source, layout)
            yield from _give_months(session, names, rows_at_once)


class TableNames:
    """Names of a source's table and of what belongs to it, for statements."""

    def __init__(self, schema_name: str, source: str, layout: Layout) -> None:
        self.schema, self.source, self.layout = schema_name, source, layout
        self.table = target_name(layout, source)
        self.rest = rest_name(self.table)

    def of(self, table: str) -> sql.Identifier:
        return sql.Identifier(self.schema, table)

    def month(self, start: str) -> str:
        """The table of a month, by its first day."""
        return f"{self.table}_{start[:-3].replace('-', '_')}"

    def fill(self, statement: str, **parts: sql.Composable) -> sql.Composed:
        """A statement, with `table` and `rest` as literals unless they are given."""
        literals = {
            "table": sql.Literal(self.of(self.table).as_string()),
            "rest": sql.Literal(self.rest),
        }
        return sql.SQL(statement).format(**{**literals, **parts})


def with_events(sources: Mapping[str, Collection[type[Row]]]) -> Iterator[tuple[str, Layout]]:
    """The sources that have events, each with their layout."""
    for source, rows in sources.items():
        for row in rows:
            if issubclass(row, Event):
                yield source, layout_of(row)
                break


def _give_months(session: Session, names: TableNames, rows_at_once: int) -> Iterator[Step]:
    query = names.fill(
        _IN_REST,
        rest=names.of(names.rest),
        prefix=sql.Literal(f"{names.table}_"),
        ahead=sql.Literal(MONTHS_AHEAD),
    )
    wanted = [(str(start), int(str(rows))) for start, rows in session.execute(query).fetchall()]
    while wanted:
        some = [wanted.pop(0)]
        while wanted and sum(rows for _, rows in some) + wanted[0][1] <= rows_at_once:
            some.append(wanted.pop(0))
        moved = _move(session, names, [start for start, _ in some])
        if moved:
            # What is moved leaves its place behind, and the next step reads that again.
            session.execute(sql.SQL("VACUUM (ANALYZE) {}").format(names.of(names.rest)))
        for start, _ in some:
            session.execute(sql.SQL("ANALYZE {}").format(names.of(names.month(start))))
        words = f"give partitions to {some[0][0][:-3]}"
        yield Step(
            "divide", names.table, words + (f" to {some[-1][0][:-3]}" if some[1:] else ""), moved
        )


def _move(session: Session, names: TableNames, starts: list[str]) -> int:
    """Move the rows of these months, in order, out of the rest; return their number."""
    moved = 0
    rest = names.of(names.rest)
    with session.transaction():
        take(session, names)
        for name in TRIGGERS:
            _alter(session, rest, f"DISABLE TRIGGER {name}")
        columns = _columns(session, names)
        for start in starts:
            moved += _fill(session, names, start, columns)
        # One reading of what is left says for all months that it has none of their rows.
        outside = sql.SQL(" AND ").join(
            sql.SQL(_OUTSIDE).format(**limits(start)) for start in starts
        )
        _alter(session, rest, f"ADD CONSTRAINT {CHECK} CHECK ({{outside}})", outside=outside)
        for start in starts:
            month = names.of(names.month(start))
            session.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES " + _BOUNDS).format(
                    names.of(names.table), month, **limits(start)
                )
            )
            _alter(session, month, f"DROP CONSTRAINT {CHECK}")
        _alter(session, rest, f"DROP CONSTRAINT {CHECK}")
        for name in TRIGGERS:
            _alter(session, rest, f"ENABLE TRIGGER {name}")
    return moved


def take(session: Session, names: TableNames) -> None:
    """Keep loaders from the source's table for the transaction; readers go on."""
    limit_waits(session)
    session.execute(
        sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names.of(names.table))
    )


def _fill(session: Session, names: TableNames, start: str, columns: sql.Composable) -> int:
    month, rest = names.of(names.month(start)), names.of(names.rest)
    try:
        with session.transaction():
            session.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(month, rest))
    except errors.DuplicateTable as error:
        raise ConflictError(
            f"table {names.month(start)} is there, but is no partition of {names.table}: if it was "
            "detached, drop it, or rename it"
        ) from error
    session.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(
            month, sql.Literal(f"Events of {names.table} in {start[:-3]}, UTC.")
        )
    )
    bound = f"ADD CONSTRAINT {CHECK} CHECK (source_kind_id = {{source}} AND {_WITHIN})"
    _alter(session, month, bound, source=sql.Literal(names.source), **limits(start))
    moved = session.execute(
        sql.SQL(_MOVE).format(rest=rest, month=month, columns=columns, **limits(start))
    )
    return moved.rowcount


def _columns(session: Session, names: TableNames) -> sql.Composed:
    found = session.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
        "AND NOT attisdropped AND attgenerated = ''",
        [names.of(names.rest).as_string(session)],
    )
    return sql.SQL(", ").join(sql.Identifier(str(name)) for (name,) in found)


def old_months(
    session: Session | Connection, names: TableNames, keep: int
) -> list[tuple[str, str]]:
    """The partitions of months older than so many whole ones before this: table and first day."""
    found = session.execute(names.fill(_OLD, keep=sql.Literal(keep)))
    return [(str(table), str(start)) for table, start in found]


def limits(start: str) -> dict[str, sql.Literal]:
    """Begin and end of a month, as literals of UTC."""
    year, month = int(start[:-6]), int(start[-5:-3])
    following = f"{year + month // 12:04d}-{month % 12 + 1:02d}-01"
    return {
        "start": sql.Literal(f"{start} 00:00:00+00"),
        "end": sql.Literal(f"{following} 00:00:00+00"),
    }


def _alter(session: Session, table: sql.Identifier, change: str, **parts: sql.Composable) -> None:
    statement = sql.SQL("ALTER TABLE {table} " + change)
    session.execute(statement.format(table=table, **parts))
