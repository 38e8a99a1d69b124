"""`/`: whether anything is wrong, how fresh the data is, and what goes on."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from fastapi import Response

from temporaletl.control.operations.figures import count_events
from temporaletl.control.operations.freshness import FreshnessReport, freshness
from temporaletl.control.operations.health import Health, check_health
from temporaletl.control.web.charts import events_chart
from temporaletl.control.web.declared import see_declared
from temporaletl.control.web.findings import cause_of, connection_path, find, run_path
from temporaletl.control.web.sights import Sight
from temporaletl.control.web.visit import InVisit, Visit, pages, renewal
from temporaletl.errors import ETLError

router = pages()

_DAYS = 14
_ENDED_SHOWN = 8
_OPEN_SHOWN = 20


@router.get("/")
async def get_overview(visit: InVisit) -> Response:
    """Show what is wrong first, then freshness, runs that go on, and the last ones."""
    # At once: in an outage, each is waited for as long as a page waits.
    health, runs, fresh, is_declared = await asyncio.gather(
        see_health(visit), visit.recent_runs(), see_freshness(visit), _declared(visit)
    )
    since = {
        part.name: visit.dashboard.outages.since(part.name, failing=part.verdict == "down")
        for part in (health.value.parts if health else ())
    }
    found = runs.value.runs
    open_runs = [run for run in found if run.ended_at is None]
    ended = [run for run in found if run.ended_at is not None]
    return visit.page(
        "overview.html",
        findings=find(
            None if health is None else health.value,
            None if fresh is None else fresh.value,
            runs.value,
            since,
            is_declared=is_declared,
        ),
        health=health,
        fresh=fresh,
        runs=runs,
        open_runs=open_runs[:_OPEN_SHOWN],
        more_open=max(0, len(open_runs) - _OPEN_SHOWN),
        ended=ended[:_ENDED_SHOWN],
        cause_of=cause_of,
        run_path=run_path,
        connection_path=connection_path,
        every=renewal(open_runs),
    )


async def _declared(visit: Visit) -> Callable[[str, str], bool]:
    """Whether a connection is declared; where that cannot be known, each one is."""
    try:
        return (await see_declared(visit)).has
    except (ETLError, TimeoutError):
        return lambda _source, _name: True


@router.get("/events")
async def get_events(visit: InVisit) -> Response:
    """Show the events of the last days by type."""
    figures = visit.dashboard.figures
    observe = partial(count_events, visit.context.platform, days=_DAYS)
    sight = await visit.dashboard.sights.of("events", partial(figures.latest, "events", observe))
    counts = sight.value
    today = datetime.now(UTC).date()
    return visit.page(
        "events.html",
        chart=None if counts is None else events_chart(counts, today, days=_DAYS),
        counted=sight,
        days=_DAYS,
    )


async def see_health(visit: Visit) -> Sight[Health] | None:
    """The health of all parts, as it was seen last; None where it cannot be checked in time."""
    observe = partial(check_health, visit.context.platform)
    try:
        return await visit.dashboard.sights.see("health", observe)
    except TimeoutError:
        return None


async def see_freshness(visit: Visit) -> Sight[FreshnessReport] | None:
    """The freshness of all streams, as it was seen last; None where it cannot be known."""
    observe = partial(freshness, visit.context.platform)
    try:
        return await visit.dashboard.sights.see("freshness", observe)
    except (ETLError, TimeoutError):
        return None
