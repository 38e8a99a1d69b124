"""People behind links as the columns of an event: employee, time zone, properties."""

from typing import Any

from temporaletl import TransformContext
from temporaletl.timezones import known_timezone
from temporaletl.worker.sources.launchpad.entries import REDACTED, name_of
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import Known


def part_of(
    link: str | None, relation: str, known: Known, context: TransformContext[LaunchpadQuery]
) -> dict[str, Any]:
    """Return the columns of an event for a person's part in it.

    A person who is hidden from us, or is nobody, leaves an event without one.
    """
    name = name_of(link)
    person = known.get(name) if name else None
    properties: dict[str, Any] = {}
    if name:
        properties["name"] = name
    if link == REDACTED:
        properties["redacted"] = True
    if person is not None:
        if person.display_name:
            properties["display_name"] = person.display_name
        if person.is_team:
            properties["is_team"] = True
    return {
        "relation_type": relation,
        "person": name,
        "employee_id": context.employee(name),
        "timezone": known_timezone(person.time_zone if person else None) or "UTC",
        "relation_properties": properties,
    }
