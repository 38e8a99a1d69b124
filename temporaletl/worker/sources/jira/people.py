"""People of Jira's JSON as the columns of an event: employee, time zone, properties."""

from functools import lru_cache
from typing import Any, NamedTuple

from temporaletl import TransformContext
from temporaletl.timezones import known_timezone
from temporaletl.worker.sources.jira.issue import Person
from temporaletl.worker.sources.jira.query import JiraQuery

#: People whose profiles are kept: those who work on the same issues come again and again.
_MOST_PEOPLE = 4_096


class Profile(NamedTuple):
    """What an event says of a person, but the employee."""

    #: The source's own id: the account where there is one, for e-mail may be hidden.
    person: str | None
    #: The person's time zone, UTC where it is unknown or no zone at all.
    timezone: str
    #: What is known of the person, as relation properties; each event has a copy.
    properties: dict[str, Any]


@lru_cache(_MOST_PEOPLE)
def profile_of(person: Person | None) -> Profile:
    """Return the profile of a person, an empty one of nobody."""
    if person is None:
        return Profile(None, "UTC", {})
    properties: dict[str, Any] = {}
    if person.display_name:
        properties["display_name"] = person.display_name
    if person.email_address:
        properties["email"] = person.email_address
    if person.account_type:
        properties["account_type"] = person.account_type
    if person.active is not None:
        properties["active"] = person.active
    id_ = person.account_id or person.name or person.key or person.email_address or None
    return Profile(id_, known_timezone(person.time_zone) or "UTC", properties)


def id_of(person: Person | None) -> str | None:
    """Return the source's own id of a person."""
    return profile_of(person).person


def employee_of(person: Person | None, context: TransformContext[JiraQuery]) -> str | None:
    """Resolve a person by whichever of the ids is known."""
    if person is None or not context.identities:
        return None
    return context.employee(person.account_id, person.name, person.key, person.email_address)
