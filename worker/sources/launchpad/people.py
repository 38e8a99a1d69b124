"""The people behind links, as events name them."""

from functools import cache
from typing import Any
from zoneinfo import available_timezones

from temporaletl import TransformContext
from worker.sources.launchpad.entries import REDACTED, name_of
from worker.sources.launchpad.record import Known


def part_of(
    link: str | None, relation: str, known: Known, context: TransformContext
) -> dict[str, Any]:
    """Return the columns of an event that tell a person's part in it.

    A person who is hidden from us, or is nobody, leaves an event without one.
    """
    name = name_of(link)
    person = known.get(name) if name else None
    told: dict[str, Any] = {}
    if name:
        told["name"] = name
    if link == REDACTED:
        told["redacted"] = True
    if person is not None:
        if person.display_name:
            told["display_name"] = person.display_name
        if person.is_team:
            told["is_team"] = True
    return {
        "relation_type": relation,
        "employee_id": context.employee(name),
        "timezone": _zone(person.time_zone if person else None),
        "relation_properties": told,
    }


def _zone(zone: str | None) -> str:
    return zone if zone and zone in _zones() else "UTC"


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
