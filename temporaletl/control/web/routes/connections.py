"""`/connections`: listed, shown with their streams and runs, and checked."""

import asyncio
from typing import Annotated, Any

from fastapi import Path, Response

from temporaletl.control.operations.checks import check_source
from temporaletl.control.operations.freshness import StreamFreshness
from temporaletl.control.operations.history import RunFilter, list_runs
from temporaletl.control.operations.sources import find_source
from temporaletl.control.web.declared import see_declared
from temporaletl.control.web.findings import cause_of, connection_path, run_path
from temporaletl.control.web.routes.overview import see_freshness
from temporaletl.control.web.scheduled import schedules_of
from temporaletl.control.web.visit import InVisit, Visit, pages, renewal
from temporaletl.errors import ETLError, NotFoundError

router = pages()

_RUNS = 10

SourceName = Annotated[str, Path(max_length=100)]
ConnectionName = Annotated[str, Path(max_length=100)]

#: From what is wrong to what is well.
_WORST_FIRST = ("failed", "late", "never loaded", "not judged", "fresh")


@router.get("/connections")
async def get_connections(visit: InVisit) -> Response:
    """List the connections: those of the environment, the file and the warehouse."""
    declared, fresh = await asyncio.gather(see_declared(visit), see_freshness(visit))
    streams: dict[tuple[str, str], list[StreamFreshness]] = {}
    for entry in fresh.value.entries if fresh else ():
        streams.setdefault((entry.source, entry.connection), []).append(entry)
    return visit.page(
        "connections.html",
        declared=declared,
        gone=sorted(key for key in streams if not declared.has(*key)),
        streams=streams,
        worst=worst_of,
        fresh=fresh,
        connection_path=connection_path,
    )


def worst_of(entries: list[StreamFreshness]) -> str | None:
    """The worst state of streams; None where there are none."""
    return min((one.state for one in entries), key=_WORST_FIRST.index, default=None)


@router.get("/connections/{source}/{connection}")
async def get_connection(
    visit: InVisit, source: SourceName, connection: ConnectionName
) -> Response:
    """Show a connection: its streams, its schedules, its last runs, and what can be done."""
    return await _page(visit, source, connection)


@router.post("/connections/{source}/{connection}/check")
async def post_check(visit: InVisit, source: SourceName, connection: ConnectionName) -> Response:
    """Try all that a run needs, one by one; nothing is written."""
    visit.operator()
    checks = await check_source(visit.context.platform, source, connection=connection)
    return await _page(visit, source, connection, checks=checks)


async def _page(visit: Visit, source: str, connection: str, **more: Any) -> Response:
    fresh, declared, observed, (schedules, unknown) = await asyncio.gather(
        see_freshness(visit),
        see_declared(visit),
        visit.open_runs(),
        schedules_of(visit, source, connection),
    )
    entries = [
        one
        for one in (fresh.value.entries if fresh else ())
        if (one.source, one.connection) == (source, connection)
    ]
    report = declared.find(source, connection)
    if report is None and not entries:
        raise NotFoundError(f"there is no connection {connection!r} of source {source!r}")
    runs = await list_runs(
        visit.context.platform,
        observed.value,
        RunFilter(source=source, connection=connection),
        limit=_RUNS,
    )
    values: dict[str, Any] = {
        "source": source,
        "connection": connection,
        "report": report,
        "fresh": fresh,
        "entries": entries,
        "streams": await _streams_of(source),
        "runs": runs,
        "observed": observed,
        "schedules": schedules,
        "schedules_unknown": unknown,
        "checks": None,
        "cause_of": cause_of,
        "run_path": run_path,
        "here": connection_path(source, connection),
        # Also where this answers a form: what moves is on the connection's own page.
        "path": connection_path(source, connection),
        "every": renewal(runs),
    }
    return visit.page("connection.html", **(values | more))


async def _streams_of(source: str) -> list[str]:
    """The streams that can be chosen; none where only the source's settings know them."""
    try:
        return list(await asyncio.to_thread(lambda: find_source(source).streams))
    except ETLError:
        return []
