"""The extract method of streams: rows of one query, in pages."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from temporaletl import (
    ConfigurationError,
    Page,
    PageRequest,
    RecordError,
    Reject,
    extract_method,
)
from temporaletl.clock import utc_now
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.account import trino_account
from temporaletl.external.trino.order import Ordered, Position, as_utc, quoted
from temporaletl.external.trino.results import Undecodable
from temporaletl.external.trino.server import open_trino
from temporaletl.external.trino.streams import load_streams
from temporaletl.external.trino.values import Column, Row, utc_timestamp
from temporaletl.worker.sources.trino.mapping import ColumnMapping
from temporaletl.worker.sources.trino.query import TrinoQuery

#: Importing it registers it.
ACCOUNT = trino_account


class TrinoRecord:
    """One row as JSON, its event's time in UTC; and how to make an event of it."""

    __slots__ = ("mapping", "raw")

    def __init__(self, raw: dict[str, Any], mapping: ColumnMapping) -> None:
        self.raw = raw
        self.mapping = mapping

    @property
    def key(self) -> str | None:
        """The row's id; None where a part of it is missing."""
        try:
            return self.mapping.id_of(self.raw)
        except RecordError:
            return None


@extract_method("trino-*")
async def extract(request: PageRequest[TrinoQuery]) -> AsyncGenerator[Page]:
    """Yield the rows of the job's window in the order of their time, each a `TrinoRecord`.

    Raises:
        ConfigurationError: the stream is gone from its file, its query is wrong, or lacks columns.
        ETLError: as `temporaletl.external.trino.server.Statement.fetch`.
    """
    job, query = request.job, request.query
    streams = load_streams()
    stream = streams.get(job.stream)
    server = open_trino(TrinoSettings.load())
    where = streams.described(job.stream)
    by = stream.ordered_by(job.mode)
    sql, parameters = stream.bound(stream.window_of_sql(job.window, job.mode), query.parameters)
    ordered = Ordered(
        sql=sql,
        parameters=parameters,
        time=by,
        keys=stream.event_id,
        start=job.window.start,
        end=job.window.end,
        extra=(as_utc(quoted(stream.event_time)),),
    )
    after = Position.of(request.cursor)
    # The rows are as they were when the query began, however long it is read.
    requested_at = utc_now()
    statement = ordered.statement(server, after, name=f"{where}, read by column {by}")
    count = query.page_rows or server.settings.page_size
    async with contextlib.aclosing(ordered.read(server, statement, after, count)) as batches:
        try:
            columns = (await server.columns(statement))[: -ordered.trailing]
            mapping = ColumnMapping(job.stream, stream, [c.name for c in columns], where=where)
            _check_time(columns, mapping, where)
        except BaseException:
            server.abandon(statement)
            raise
        reader = Row(columns)
        async for rows, position in batches:
            results = [_record(row, len(columns), reader, mapping) for row in rows]
            yield Page(
                records=[item for item in results if isinstance(item, TrinoRecord)],
                cursor=position.cursor,
                rejects=[item for item in results if isinstance(item, Reject)],
                extracted_at=requested_at,
            )


def _record(
    values: Sequence[Any], time: int, reader: Row, mapping: ColumnMapping
) -> TrinoRecord | Reject:
    raw = reader.read(values)
    broken = {name: value for name, value in raw.items() if isinstance(value, Undecodable)}
    if broken:
        # What nobody reads of it costs nothing.
        raw |= {name: value.text for name, value in broken.items()}
        if used := sorted(mapping.used.intersection(broken)):
            reason = "; ".join(f"column {name}: {broken[name].reason}" for name in used)
            key = None if mapping.is_known_by(used) else TrinoRecord(raw, mapping).key
            return Reject(stage="extract", reason=reason, key=key, payload=raw)
    timestamp = values[time]
    if isinstance(timestamp, str):
        # What Trino makes of the time is exact, also in an hour that its zone repeats. A year
        # that Python does not know stays as it came, and is refused later.
        with contextlib.suppress(ValueError):
            raw[mapping.time] = utc_timestamp(timestamp).isoformat()
    return TrinoRecord(raw, mapping)


def _check_time(columns: Sequence[Column], mapping: ColumnMapping, where: str) -> None:
    column = next(column for column in columns if column.name == mapping.time)
    if not column.is_time:
        raise ConfigurationError(
            f"trino: {where}: column {column.name} is the event's time, but is a {column.type}; "
            "make it a timestamp in the query, as with from_iso8601_timestamp or from_unixtime"
        )
