"""People of Jira's JSON as the columns of an event: employee, time zone, properties."""

from typing import Any

from temporaletl import TransformContext
from temporaletl.timezones import known_timezone
from temporaletl.worker.sources.jira.issue import Person
from temporaletl.worker.sources.jira.query import JiraQuery


def id_of(person: Person | None) -> str | None:
    """Return the source's own id: the account where there is one, for e-mail may be hidden."""
    if person is None:
        return None
    return person.account_id or person.name or person.key or person.email_address or None


def employee_of(person: Person | None, context: TransformContext[JiraQuery]) -> str | None:
    """Resolve a person by whichever of the ids is known."""
    if person is None:
        return None
    return context.employee(person.account_id, person.name, person.key, person.email_address)


def timezone_of(person: Person | None) -> str:
    """Return the person's time zone, UTC where it is unknown or no zone at all."""
    return known_timezone(person.time_zone if person else None) or "UTC"


def described(person: Person | None) -> dict[str, Any]:
    """Return what is known of a person, as relation properties; a new dict each time."""
    if person is None:
        return {}
    known: dict[str, Any] = {}
    if person.display_name:
        known["display_name"] = person.display_name
    if person.email_address:
        known["email"] = person.email_address
    if person.account_type:
        known["account_type"] = person.account_type
    if person.active is not None:
        known["active"] = person.active
    return known
