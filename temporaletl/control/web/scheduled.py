"""Schedules of one connection, or one pipeline, for its page."""

from functools import partial

from temporaletl.control.operations.schedule_reports import ScheduleReport
from temporaletl.control.operations.schedules import list_schedules
from temporaletl.control.web.visit import Visit
from temporaletl.errors import ETLError


async def schedules_of(
    visit: Visit, source: str, connection: str
) -> tuple[list[ScheduleReport], str | None]:
    """The schedules; and why they are not known, where they are not."""
    observe = partial(list_schedules, visit.context.platform)
    try:
        found = await visit.dashboard.sights.see("schedules", observe)
    except (ETLError, TimeoutError) as error:
        return [], str(error) or "Temporal does not answer"
    whose = (source, connection)
    return [one for one in found.value.schedules if one.key[:2] == whose], None
