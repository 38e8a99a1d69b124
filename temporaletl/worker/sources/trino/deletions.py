"""Which rows are gone: a query does not tell what it no longer finds."""

import contextlib
from collections.abc import AsyncGenerator

from temporaletl import Page, PageRequest, RecordError, Window
from temporaletl.deletions import DeletionScan, Items
from temporaletl.external.trino.order import columns_of_all
from temporaletl.external.trino.server import Statement, TrinoServer
from temporaletl.external.trino.streams import Stream
from temporaletl.external.trino.values import Row
from temporaletl.worker.sources.trino.mapping import id_of


async def gone(
    request: PageRequest, stream: Stream, server: TrinoServer, where: str
) -> AsyncGenerator[Page]:
    """Yield the stored events whose rows the query finds no more; see `DeletionScan.pages`.

    All `event_id`s of the query are held at once: it is not taken up in the middle.
    """
    sql, parameters = stream.bound(Window(), request.query.parameters)
    statement = columns_of_all(server, sql, parameters, stream.event_id, name=where)
    count = request.query.page_rows or server.settings.page_rows
    scan = DeletionScan(
        f"rows of {request.job.stream}",
        Items(f"{request.job.stream}:", exact=True),
        lambda _: iter([(_listed(statement, count), None)]),
        scope=[f"the rows of {sql} with {parameters}"],
    )
    try:
        async with contextlib.aclosing(scan.pages(request, server.start)) as pages:
            async for page in pages:
                yield page
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
