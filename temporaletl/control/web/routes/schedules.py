"""`/schedules`: when runs start by themselves; created, paused, resumed, triggered, deleted."""

from datetime import UTC
from functools import partial
from typing import Annotated, Literal

from fastapi import Path, Response

from temporaletl.control.operations.schedule_definitions import create_schedule, define
from temporaletl.control.operations.schedules import (
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
    trigger_schedule,
)
from temporaletl.control.web.findings import connection_path
from temporaletl.control.web.visit import InVisit, pages
from temporaletl.names import DEFAULT_SCHEDULE, ScheduleKey

router = pages()

SourceName = Annotated[str, Path(max_length=100)]
ConnectionName = Annotated[str, Path(max_length=100)]

_DONE = {
    "pause": "paused the schedule of {}",
    "resume": "resumed the schedule of {}",
    "trigger": "a run of {} starts now, unless one goes on and the schedule skips it then",
    "delete": "deleted the schedule of {}",
}


@router.get("/schedules")
async def get_schedules(visit: InVisit) -> Response:
    """List the schedules, with their next times and the runs that go on."""
    observe = partial(list_schedules, visit.context.platform)
    sight = await visit.dashboard.sights.see("schedules", observe)
    return visit.page(
        "schedules.html",
        schedules=sight.value.schedules,
        faults=sight.value.faults,
        sight=sight,
        connection_path=connection_path,
    )


@router.post("/schedules/{source}/{connection}/create")
async def post_create(visit: InVisit, source: SourceName, connection: ConnectionName) -> Response:
    """Create a schedule; the run that is due next is on the page that follows."""
    caller, form = visit.operator(), await visit.form()
    key = ScheduleKey(source, connection, form.text("name") or DEFAULT_SCHEDULE)
    given = {name: form.text(name) or None for name in ("cron", "timezone", "mode")}
    if given["cron"] is None:
        given |= {name: form.text(name) or None for name in ("days", "hours")}
    author = caller.author()
    made = await create_schedule(visit.context.platform, key, define(**given), author=author)
    visit.context.forget()
    due = made.next_run
    first = "" if due is None else f": a run is due {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return visit.done("/schedules", f"made a schedule of {key.label}{first}")


@router.post("/schedules/{source}/{connection}/{name}/{action}")
async def post_schedule(
    visit: InVisit,
    source: SourceName,
    connection: ConnectionName,
    name: Annotated[str, Path(max_length=50)],
    action: Literal["pause", "resume", "trigger", "delete"],
) -> Response:
    """Pause, resume, trigger or delete a schedule; a run that goes on is not touched."""
    caller, form = visit.operator(), await visit.form()
    platform, author = visit.context.platform, caller.author(form.text("reason") or None)
    key = ScheduleKey(source, connection, name)
    match action:
        case "pause":
            await pause_schedule(platform, key, author=author)
        case "resume":
            await resume_schedule(platform, key, author=author)
        case "trigger":
            await trigger_schedule(platform, key, author=author)
        case "delete":
            await delete_schedule(platform, key, author=author)
    visit.context.forget()
    return visit.done("/schedules", _DONE[action].format(key.label))
