"""Deletion scans of streams: a query does not report what it no longer finds."""

import contextlib
from collections.abc import Iterator

from temporaletl import (
    DeletionScan,
    Items,
    PageRequest,
    RecordError,
    Window,
    deletion_scan,
)
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.order import columns_of_all
from temporaletl.external.trino.server import Statement, open_trino
from temporaletl.external.trino.streams import load_streams
from temporaletl.external.trino.values import Row
from temporaletl.worker.sources.trino.mapping import id_of
from temporaletl.worker.sources.trino.query import TrinoQuery


@deletion_scan("trino-*")
def scan_rows(request: PageRequest[TrinoQuery]) -> Iterator[DeletionScan]:
    """List the rows of a stream's query.

    All `event_id`s of the query are held at once: it is not taken up in the middle.
    """
    query, name = request.query, request.job.stream
    streams = load_streams()
    stream = streams.get(name)
    server = open_trino(TrinoSettings.load())
    sql, parameters = stream.bound(Window(), query.parameters)
    statement = columns_of_all(
        server, sql, parameters, stream.event_id, name=streams.described(name)
    )
    count = query.page_rows or server.settings.page_size
    try:
        yield DeletionScan(
            f"rows of {name}",
            Items(f"{name}:", exact=True),
            lambda _: iter([(_listed(statement, count), None)]),
            scope=[f"the rows of {sql} with {parameters}"],
            start=server.start,
        )
    finally:
        server.abandon(statement)


def _listed(statement: Statement, count: int) -> set[str]:
    columns = statement.columns()
    reader, names = Row(columns), [column.name for column in columns]
    found: set[str] = set()
    while rows := statement.fetch(count):
        for row in rows:
            # A row without an id is no event.
            with contextlib.suppress(RecordError):
                found.add(id_of(reader.read(row), names))
    return found
