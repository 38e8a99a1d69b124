"""Figures for charts: events by day and type, and the throughput of a run."""

import asyncio
from datetime import datetime, timedelta

from temporaletl.control.operations.platform import Platform
from temporaletl.warehouse.figures import EventCount, PageCount, events_by_day, pages_by_time

#: Bars of a run's throughput, at most.
_MOST_SPANS = 60
_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600)
)
_LONGEST_STEP = timedelta(days=1)


async def count_events(platform: Platform, *, days: int) -> list[EventCount] | None:
    """Events of the last days by day and type; None where counting takes too long.

    Raises:
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    return await asyncio.to_thread(events_by_day, warehouse, days=days)


async def count_pages(
    platform: Platform, batch_id: str, started: datetime, until: datetime
) -> tuple[timedelta, list[PageCount] | None]:
    """A run's committed pages by spans of time, and how long these are; None as `count_events`.

    Raises:
        ETLError: as `Platform.warehouse`.
    """
    took = until - started
    step = next((step for step in _STEPS if took <= step * _MOST_SPANS), _LONGEST_STEP)
    warehouse = await platform.warehouse()
    return step, await asyncio.to_thread(pages_by_time, warehouse, batch_id, step)
