"""Comparison of a source's rows, as they are extracted now, with those that are stored.

The server compares: rows are copied into a temporary table, column by column of their own type,
so that two forms of one value are equal. Nothing is written but that.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from psycopg import sql

from temporaletl.names import label
from temporaletl.rows import Event, Row, storable_text
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.worker.loading.catalog import Destination, inspect_table
from temporaletl.worker.loading.columns import DELETED, PARTITION_KEY, Layout, layout_of
from temporaletl.worker.loading.copying import Stamp, copy_rows, head_of, seed_of
from temporaletl.worker.loading.detached import is_before, loaded_from
from temporaletl.worker.loading.packing import Packed
from temporaletl.worker.loading.schema import Target
from temporaletl.worker.loading.statements import statements_for, within

Kind = Literal["missing", "changed", "surplus"]
#: A key's values, those of its own columns.
Key = tuple[object, ...]

_ROWS_AT_ONCE = 20_000
_NO_MONTH = ""
# What a run before this version made, or one of another scope, is in the columns as well.
_COMPARE = """
    SELECT {keys}, t.{own} IS NULL, {differing}, t.{specific_version}, t.{extracted_at}
    FROM {changed} AS s LEFT JOIN LATERAL (
        SELECT t.* FROM {target} AS t {located} WHERE {same} {present} LIMIT 1
    ) AS t ON true
    WHERE t.{own} IS NULL OR ({stored}) IS DISTINCT FROM ({coming})
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs: `missing` from the warehouse, `changed`, or `surplus` there.

    `columns` are those that differ. `extracted_at` is when the stored row was extracted, by the
    run of `job_id`.
    """

    kind: Kind
    stream: str  # of a stored row the one whose job wrote it
    table: str
    key: Key
    month: str
    columns: tuple[str, ...] = ()
    item: str | None = None
    happened_at: datetime | None = None
    specific_version: str | None = None
    extracted_at: datetime | None = None
    job_id: str | None = None


class Comparison:
    """Comparison of one row class's rows of a connection; not safe to share between threads."""

    def __init__(self, warehouse: Warehouse, row: type[Row], source: str, connection: str) -> None:
        self._warehouse = warehouse
        self.layout: Layout = layout_of(row)
        destination = Destination(warehouse.schema, source, connection)
        with warehouse.connection(snapshot=True) as session:
            state = inspect_table(session, destination, self.layout)
            #: What is older was detached, and is not loaded.
            self._loaded_from = loaded_from(session, source) if self.layout.partitioned else None
        #: None where no run has made the table.
        self._target = (
            None
            if state.target is None
            else Target(self.layout, warehouse.schema, state.target, empty=False, keys=state.keys)
        )
        self._source = source
        self._connection = connection
        self._seen: set[int] = set()
        self._differences: dict[Key, Difference] = {}
        #: Rows of the source by stream and month.
        self.extracted: Counter[tuple[str, str]] = Counter()
        #: Rows of the warehouse likewise; complete once `surplus` is read.
        self.stored: Counter[tuple[str, str]] = Counter()
        self.time_column = _time_column(row)

    @property
    def differences(self) -> list[Difference]:
        """Rows that are missing, or changed, by their key."""
        return [self._differences[key] for key in sorted(self._differences, key=repr)]

    def add(self, stream: str, rows: Sequence[Row]) -> None:
        """Compare rows of one or more pages; of rows with one key the later wins."""
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            self._add(stream, rows[first : first + _ROWS_AT_ONCE])

    def _add(self, stream: str, rows: Sequence[Row]) -> None:
        by_key = {self._key(row): row for row in rows if not is_before(self._loaded_from, row)}
        for key, row in by_key.items():
            self._differences.pop(key, None)
            if (digest := hash(key)) not in self._seen:
                self._seen.add(digest)
                self.extracted[stream, self._month(row)] += 1
        if self._target is None:
            for key, row in by_key.items():
                self._note("missing", stream, key, row)
            return
        with self._warehouse.connection() as session:
            for *values, missing, columns, version, extracted_at in self._compared(
                session, self._target, list(by_key.values())
            ):
                key = tuple(values)
                self._note(
                    "missing" if missing else "changed",
                    stream,
                    key,
                    by_key[key],
                    columns=() if missing else tuple(columns),
                    specific_version=version,
                    extracted_at=extracted_at,
                )

    def _note(self, kind: Kind, stream: str, key: Key, row: Row, **facts: Any) -> None:
        event = row if isinstance(row, Event) else None
        self._differences[key] = Difference(
            kind,
            stream,
            self.layout.table,
            key,
            self._month(row),
            item=None if event is None else event.parent_item_id,
            happened_at=None if event is None else event.event_time_utc,
            **facts,
        )

    def _compared(
        self, session: Connection, target: Target, rows: Sequence[Row]
    ) -> Iterator[tuple[Any, ...]]:
        layout, statements = self.layout, statements_for(target)
        now = datetime.now(UTC)
        stamp = Stamp(self._source, "", "", "", "", "", now, now, connection=self._connection)
        packed = Packed(layout, rows, seed_of(layout, self._source, "", ""))
        packed.finish()
        # The lookup goes through the key's index, whatever statistics say.
        session.execute("SET LOCAL enable_seqscan TO off")
        session.execute(statements.create_changed)
        blocks = ((packed.hashes[block], packed.data[block]) for block in packed.blocks())
        copy_rows(session, statements.copy_changed, head_of(layout, stamp), blocks)
        found = session.execute(self._statement(target, statements.changed), prepare=False)
        yield from found

    def _statement(self, target: Target, changed: sql.Composable) -> sql.Composed:
        layout = self.layout
        plain = [name for name in layout.packed if name not in layout.own_key]
        differing = sql.SQL(", ").join(
            sql.SQL("CASE WHEN t.{0} IS DISTINCT FROM s.{0} THEN {1} END").format(
                sql.Identifier(name), sql.Literal(name)
            )
            for name in plain
        )
        present = sql.SQL("AND t.{} IS NULL").format(sql.Identifier(DELETED))
        return sql.SQL(_COMPARE).format(
            keys=_listed("s.{}", layout.own_key),
            own=sql.Identifier(layout.own_key[0]),
            differing=sql.SQL("array_remove(ARRAY[{}]::text[], NULL)").format(differing),
            specific_version=sql.Identifier(layout.ours["specific_version"]),
            extracted_at=sql.Identifier(layout.ours["extracted_at"]),
            changed=changed,
            target=target.identifier,
            located=sql.SQL("")
            if (keys := target.keys_identifier()) is None
            else sql.SQL("CROSS JOIN {} AS k").format(keys),
            same=sql.SQL(" AND ").join(
                sql.SQL("t.{0} = s.{0}").format(sql.Identifier(name)) for name in layout.key
            )
            + self._same_key(target),
            present=present if layout.partitioned else sql.SQL(""),
            stored=_listed("t.{}", plain),
            coming=_listed("s.{}", plain),
        )

    def _same_key(self, target: Target) -> sql.Composable:
        if target.keys is None:
            return sql.SQL("")
        same = (
            sql.SQL(" AND k.{0} = s.{0}").format(sql.Identifier(name))
            for name in (self.layout.connection, *self.layout.own_key)
        )
        return sql.SQL("").join(same) + within(target)

    def surplus(self, start: datetime | None, end: datetime | None) -> Iterator[Difference]:
        """Yield the stored rows that were not among those compared, and count all by month.

        Between two times only where the class has one: the source was read between them alone.
        """
        target, layout = self._target, self.layout
        if target is None:
            return
        with (
            self._warehouse.connection(unlimited=True) as session,
            session.cursor(name="verify") as cursor,
        ):
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(self._stored(target, start, end))
            for month, item, happened_at, job_id, version, extracted_at, *values in cursor:
                stream = self._stream_of(str(job_id))
                self.stored[stream, str(month or _NO_MONTH)] += 1
                if hash(key := tuple(values)) not in self._seen:
                    yield Difference(
                        "surplus",
                        stream,
                        layout.table,
                        key,
                        str(month or _NO_MONTH),
                        (),
                        item,  # type: ignore[arg-type]
                        happened_at,  # type: ignore[arg-type]
                        version,  # type: ignore[arg-type]
                        extracted_at,  # type: ignore[arg-type]
                        job_id,  # type: ignore[arg-type]
                    )

    def _stored(self, target: Target, start: datetime | None, end: datetime | None) -> sql.Composed:
        layout = self.layout
        where = [
            sql.SQL("{} = {}").format(
                sql.Identifier(layout.connection), sql.Literal(self._connection)
            )
        ]
        if layout.partitioned:
            where.append(
                sql.SQL("{} = {}").format(sql.Identifier(PARTITION_KEY), sql.Literal(self._source))
            )
            where.append(sql.SQL("{} IS NULL").format(sql.Identifier(DELETED)))
        time = None if self.time_column is None else sql.Identifier(self.time_column)
        for sign, limit in ((">=", start), ("<", end)):
            if limit is not None and time is not None:
                where.append(sql.SQL("{} {} {}").format(time, sql.SQL(sign), sql.Literal(limit)))
        nothing = sql.SQL("NULL")
        ours = [layout.ours[name] for name in ("job_id", "specific_version", "extracted_at")]
        return sql.SQL("SELECT {}, {}, {}, {}, {} FROM {} WHERE {}").format(
            nothing if time is None else sql.SQL("to_char({}, 'YYYY-MM')").format(time),
            sql.Identifier("parent_item_id") if layout.partitioned else nothing,
            nothing if time is None else time,
            _listed("{}", ours),
            _listed("{}", layout.own_key),
            target.identifier,
            sql.SQL(" AND ").join(where),
        )

    def _stream_of(self, job_id: str) -> str:
        """The stream of a job, by its id; empty of one that is no job's of the connection."""
        prefix = f"{label(self._source, self._connection)}-"
        return job_id.removeprefix(prefix).rsplit("-", 2)[0] if job_id.startswith(prefix) else ""

    def _key(self, row: Row) -> Key:
        values = (getattr(row, name) for name in self.layout.own_key)
        return tuple(storable_text(one) if isinstance(one, str) else one for one in values)

    def _month(self, row: Row) -> str:
        time = None if self.time_column is None else getattr(row, self.time_column)
        return _NO_MONTH if time is None else time.astimezone(UTC).strftime("%Y-%m")


def _time_column(row: type[Row]) -> str | None:
    """The column by which rows are counted in months: the first that is a time."""
    if issubclass(row, Event):
        return "event_time_utc"
    layout = layout_of(row)
    own = {field.name for field in msgspec.structs.fields(row)}
    times = (c.name for c in layout.columns if c.type == "timestamptz" and c.name in own)
    return next(times, None)


def _listed(pattern: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(pattern).format(sql.Identifier(name)) for name in names)
