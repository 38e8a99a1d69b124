"""Schedules, over the API."""

from datetime import datetime

from pydantic import BaseModel

from temporaletl.connections import DEFAULT
from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.schedule_definitions import ScheduleDefinition, put_schedule
from temporaletl.control.operations.schedules import (
    ScheduleReport,
    Schedules,
    backfill_schedule,
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
)
from temporaletl.errors import ConflictError
from temporaletl.queuer.scheduling import Put
from temporaletl.warehouse.audit import Author

_SCHEDULES = ("temporal", "schedules")


class _Schedules(BaseModel):
    items: list[ScheduleReport]
    remarks: list[str]


class _Backfilled(BaseModel):
    started: int


class _Resumed(BaseModel):
    next_run: datetime | None


@over_api(list_schedules)
async def _list_schedules(api: Api) -> Schedules:
    found = await api.get(_Schedules, *_SCHEDULES)
    return Schedules(found.items, found.remarks)


@over_api(pause_schedule)
async def _pause_schedule(
    api: Api, source: str, *, connection: str = DEFAULT, author: Author | None = None
) -> None:
    del author  # the API knows who sends the request
    of = {"connection": connection}
    await api.send("POST", type(None), *_SCHEDULES, source, "pause", params=of)


@over_api(resume_schedule)
async def _resume_schedule(
    api: Api, source: str, *, connection: str = DEFAULT, author: Author | None = None
) -> datetime | None:
    del author
    of = {"connection": connection}
    resumed = await api.send("POST", _Resumed, *_SCHEDULES, source, "resume", params=of)
    return resumed.next_run


@over_api(delete_schedule)
async def _delete_schedule(api: Api, source: str, *, connection: str = DEFAULT) -> None:
    await api.send("DELETE", type(None), *_SCHEDULES, source, params={"connection": connection})


@over_api(put_schedule)
async def _put_schedule(
    api: Api, source: str, definition: ScheduleDefinition, *, connection: str = DEFAULT
) -> Put:
    wanted = definition.model_dump(mode="json")
    try:
        new = {**wanted, "source": source, "connection": connection}
        await api.send("POST", ScheduleReport, *_SCHEDULES, json=new)
    except ConflictError:
        of = {"connection": connection}
        made = await api.send("PUT", ScheduleReport, *_SCHEDULES, source, params=of, json=wanted)
        return Put(created=False, paused=made.paused)
    return Put(created=True, paused=False)


@over_api(backfill_schedule)
async def _backfill_schedule(
    api: Api, source: str, start: datetime, end: datetime, *, connection: str = DEFAULT
) -> int:
    wanted = {"start": start.isoformat(), "end": end.isoformat(), "connection": connection}
    done = await api.start(_Backfilled, *_SCHEDULES, source, "backfill", json=wanted)
    return done.started
