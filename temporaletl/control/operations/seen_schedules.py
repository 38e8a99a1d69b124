"""Schedules as Temporal lists them, kept in the warehouse for when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.schedule_reports import request_of
from temporaletl.control.operations.schedules import describe_schedules, skipped_of
from temporaletl.control.operations.sources import known_planners
from temporaletl.control.operations.timetable import Timetable
from temporaletl.errors import ETLError, TemporalDisabledError
from temporaletl.messages import QueuerInput
from temporaletl.names import ScheduleKey
from temporaletl.queuer.planning import filters_of
from temporaletl.warehouse.schedules import SeenSchedule, record_schedules, seen_schedules

if TYPE_CHECKING:
    from temporalio.client import (
        Client,
        ScheduleDescription,
    )

#: Temporal is asked again when its last list is older, and no sooner after it did not answer.
_LISTED_FOR = timedelta(seconds=30)
_PATIENCE = timedelta(seconds=2)


class KnownSchedules(NamedTuple):
    """The schedules, as they were listed last; `fault` says why they are not of now."""

    schedules: list[SeenSchedule]
    fault: str | None


class _Refresh:
    """The latest list of one platform: when it was begun, and what came of it."""

    def __init__(self) -> None:
        self.guard = asyncio.Lock()
        self.begun: float | None = None
        self.fault: str | None = None


_refreshes: WeakKeyDictionary[Platform, _Refresh] = WeakKeyDictionary()


async def known_schedules(platform: Platform) -> KnownSchedules:
    """The schedules, listed anew where the last list is older than half a minute.

    Temporal is waited for two seconds at most; then those of before are returned.

    Raises:
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    refresh = _refreshes.setdefault(platform, _Refresh())
    async with refresh.guard:
        now = monotonic()
        if refresh.begun is None or now - refresh.begun > _LISTED_FOR.total_seconds():
            refresh.begun = now
            refresh.fault = await _refresh(platform)
    return KnownSchedules(await asyncio.to_thread(seen_schedules, warehouse), refresh.fault)


async def _refresh(platform: Platform) -> str | None:
    warehouse = await platform.current_warehouse()
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            described, _ = await describe_schedules(platform)
            client = await platform.client()
            skipped = await skipped_of(platform)
            found = [await _seen(client, one, skipped) for one in described]
    except TimeoutError:
        return f"Temporal did not list them within {_PATIENCE.total_seconds():.0f} s"
    except TemporalDisabledError:
        return None
    except ETLError as error:
        return str(error)
    await asyncio.to_thread(record_schedules, warehouse, found)
    return None


async def _seen(
    client: Client, described: ScheduleDescription, skipped: Mapping[ScheduleKey, int]
) -> SeenSchedule:
    schedule, info = described.schedule, described.info
    key = ScheduleKey.of_id(described.id)
    request = None if key.pipeline is not None else await request_of(client, schedule)
    timetable = None if request is None else Timetable.of(schedule)
    upcoming = info.next_action_times
    return SeenSchedule(
        **key._asdict(),
        streams=request.streams if request else (),
        mode=request.mode if request else "",
        filtered=request is not None and _is_filtered(request),
        paused=schedule.state.paused,
        timetable=timetable and timetable.model_dump(mode="json"),
        next_run=upcoming[0] if upcoming and not schedule.state.paused else None,
        created_at=info.created_at,
        missed=info.num_actions_missed_catchup_window,
        skipped=info.num_actions_skipped_overlap + skipped.get(key, 0),
    )


def _is_filtered(request: QueuerInput) -> bool:
    planners = known_planners()
    if not request.params or request.source not in planners:
        return bool(request.params)
    return bool(filters_of(planners.get(request.source), request))
