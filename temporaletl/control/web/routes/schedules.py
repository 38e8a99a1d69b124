"""`/schedules`: when runs start by themselves; created, paused, resumed, triggered, deleted."""

from datetime import UTC
from functools import partial
from typing import Annotated, Literal

from fastapi import Path, Response
from pydantic import ValidationError

from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.schedule_definitions import (
    ScheduleDefinition,
    create_schedule,
)
from temporaletl.control.operations.schedules import (
    delete_schedule,
    list_schedules,
    pause_schedule,
    resume_schedule,
    trigger_schedule,
)
from temporaletl.control.web.findings import connection_path
from temporaletl.control.web.visit import InVisit, pages
from temporaletl.errors import ConfigurationError
from temporaletl.names import label
from temporaletl.validation import faults_of

router = pages()

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
        polls=False,
    )


@router.post("/schedules/{source}/{connection}/create")
async def post_create(
    visit: InVisit,
    source: Annotated[str, Path(max_length=100)],
    connection: Annotated[str, Path(max_length=100)],
) -> Response:
    """Create a schedule; the run that is due next is on the page that follows."""
    caller, form = visit.operator(), await visit.form()
    given = {name: form.text(name) for name in ("days", "hours", "timezone", "mode")}
    try:
        definition = ScheduleDefinition.model_validate(
            {name: value for name, value in given.items() if value}
        )
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(str, faults_of(error)))) from None
    author, whose = caller.author(), label(source, connection)
    made = await create_schedule(
        visit.context.platform, source, definition, connection=connection, author=author
    )
    visit.context.forget()
    await record_outcome(visit.context.platform, author, "schedule.create", whose, "done")
    due = made.next_run
    first = "" if due is None else f": a run is due {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return visit.done("/schedules", f"made a schedule of {whose}{first}")


@router.post("/schedules/{source}/{connection}/{action}")
async def post_schedule(
    visit: InVisit,
    source: Annotated[str, Path(max_length=100)],
    connection: Annotated[str, Path(max_length=100)],
    action: Literal["pause", "resume", "trigger", "delete"],
) -> Response:
    """Pause, resume, trigger or delete a schedule; a run that goes on is not touched."""
    caller, form = visit.operator(), await visit.form()
    platform, author = visit.context.platform, caller.author(form.text("reason") or None)
    match action:
        case "pause":
            await pause_schedule(platform, source, connection=connection, author=author)
        case "resume":
            await resume_schedule(platform, source, connection=connection, author=author)
        case "trigger":
            await trigger_schedule(platform, source, connection=connection)
        case "delete":
            await delete_schedule(platform, source, connection=connection)
    visit.context.forget()
    whose = label(source, connection)
    await record_outcome(
        platform,
        author,
        f"schedule.{action}",
        whose,
        "done",
    )
    return visit.done("/schedules", _DONE[action].format(whose))
