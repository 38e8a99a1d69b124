"""Schedules, over the API."""

from datetime import datetime

from pydantic import BaseModel

from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.schedule_definitions import (
    Put,
    ScheduleDefinition,
    put_schedule,
)
from temporaletl.control.operations.schedule_reports import ScheduleReport
from temporaletl.control.operations.schedules import (
    Schedules,
    backfill_schedule,
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
)
from temporaletl.errors import ConflictError
from temporaletl.names import ScheduleKey
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
async def _pause_schedule(api: Api, key: ScheduleKey, *, author: Author | None = None) -> None:
    del author  # the API knows who sends the request
    path = (*_SCHEDULES, key.source, "pause")
    await api.send("POST", type(None), *path, params=_of(key))


@over_api(resume_schedule)
async def _resume_schedule(
    api: Api, key: ScheduleKey, *, author: Author | None = None
) -> datetime | None:
    del author
    path = (*_SCHEDULES, key.source, "resume")
    return (await api.send("POST", _Resumed, *path, params=_of(key))).next_run


@over_api(delete_schedule)
async def _delete_schedule(api: Api, key: ScheduleKey, *, author: Author | None = None) -> None:
    del author
    await api.send("DELETE", type(None), *_SCHEDULES, key.source, params=_of(key))


@over_api(put_schedule)
async def _put_schedule(api: Api, key: ScheduleKey, definition: ScheduleDefinition) -> Put:
    wanted = definition.model_dump(mode="json")
    try:
        new = {**wanted, **key._asdict()}
        made = await api.send("POST", ScheduleReport, *_SCHEDULES, json=new)
    except ConflictError:
        path = (*_SCHEDULES, key.source)
        made = await api.send("PUT", ScheduleReport, *path, params=_of(key), json=wanted)
        return Put(created=False, schedule=made)
    return Put(created=True, schedule=made)


@over_api(backfill_schedule)
async def _backfill_schedule(
    api: Api, key: ScheduleKey, start: datetime, end: datetime, *, author: Author | None = None
) -> int:
    del author
    span = {"start": start.isoformat(), "end": end.isoformat()}
    done = await api.start(
        _Backfilled, *_SCHEDULES, key.source, "backfill", json={**span, **_of(key)}
    )
    return done.started


def _of(key: ScheduleKey) -> dict[str, str]:
    return {"connection": key.connection, "name": key.name}
