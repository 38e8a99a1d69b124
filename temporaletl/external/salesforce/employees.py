"""The employees of a Salesforce org, and their identities in other sources."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from temporaletl.errors import ConfigurationError, RecordError
from temporaletl.external.answers import DECODE_FAULTS, decode_record, in_words
from temporaletl.external.salesforce.narrowing import read_rows
from temporaletl.external.salesforce.org import open_org
from temporaletl.external.salesforce.query import Selection
from temporaletl.external.salesforce.refusals import InvalidFieldError, InvalidTypeError
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.rows import Identity
from temporaletl.telemetry.logs import get_logger
from temporaletl.timezones import known_timezone

log = get_logger("salesforce")


@dataclass(frozen=True, slots=True)
class Employee:
    """A person of the org, and who the person is in other sources.

    `person` is the Id of the User, by which Salesforce's records name people. `timezone` is an
    IANA name. `identities` are the person's ids by source, e.g. `{"launchpad": "jane"}`.
    """

    person: str
    employee_id: str
    email: str | None = None
    name: str | None = None
    timezone: str | None = None
    active: bool = True
    identities: Mapping[str, str] = field(default_factory=dict)


def employees_of(
    settings: SalesforceSettings, *, start: datetime | None = None, end: datetime | None = None
) -> Selection:
    """Return the rows of the employees that changed with start <= SystemModstamp < end."""
    wanted = [settings.employee_id_field, settings.employee_email_field]
    wanted += [settings.employee_user_field] if settings.employee_user_field else []
    wanted += [field for _, field in settings.identities]
    users = settings.employee_object == "User"
    return Selection(
        object=settings.employee_object,
        fields=tuple(wanted),
        optional=("Name", "TimeZoneSidKey", "IsActive") if users else ("Name",),
        start=start,
        end=end,
        present=True,
    )


def employee_of(
    settings: SalesforceSettings, row: Mapping[str, Any] | bytes | msgspec.Raw
) -> Employee:
    """Return the employee that a row of `employees_of` describes, as JSON or decoded.

    Raises:
        RecordError: it names nobody.
    """
    if not isinstance(row, Mapping):
        # What nobody reads of it may be anything.
        row = decode_record(dict[str, msgspec.Raw], row)
    id_ = _text(row, "Id")
    if id_ is None:
        raise RecordError("Id is missing")
    user = _text(row, settings.employee_user_field) if settings.employee_user_field else None
    zone = _text(row, "TimeZoneSidKey")
    found = {source: _text(row, field) for source, field in settings.identities}
    return Employee(
        person=user or id_,
        employee_id=_text(row, settings.employee_id_field) or id_,
        email=_text(row, settings.employee_email_field),
        name=_text(row, "Name"),
        timezone=known_timezone(zone),
        active=_text(row, "IsActive") not in {"False", "false"},
        identities={source: person for source, person in found.items() if person},
    )


def identities_of(employee: Employee) -> list[Identity]:
    """Return the employee as the Salesforce user, and as each identity elsewhere."""
    people = {"salesforce": employee.person, **employee.identities}
    return [
        Identity(
            source_kind_id=source,
            person=person,
            employee_id=employee.employee_id,
            email=employee.email,
            name=employee.name,
            timezone=employee.timezone,
        )
        for source, person in people.items()
    ]


def read_employees(
    settings: SalesforceSettings, *, start: datetime | None = None
) -> Iterator[Employee]:
    """Yield the employees, of `start` only those that changed since. Blocks.

    Raises:
        ConfigurationError: the object or a field of the settings is not there; names the setting.
        CredentialsError: the login is refused, or lacks a permission.
        RetryableError: Salesforce is unavailable, or rate-limits us.
    """
    try:
        for row in read_rows(open_org(settings), employees_of(settings, start=start)):
            try:
                yield employee_of(settings, row)
            except RecordError as error:
                # The stream of employees keeps it as a reject; here the others count.
                log.warning("salesforce_employee_unreadable", reason=str(error))
    except (InvalidFieldError, InvalidTypeError) as error:
        raise misnamed(settings, error) from None


def misnamed(
    settings: SalesforceSettings, error: InvalidFieldError | InvalidTypeError
) -> ConfigurationError:
    """Return the same error about the employees with the setting to correct."""
    if isinstance(error, InvalidTypeError):
        return ConfigurationError(
            f"SF_EMPLOYEE_OBJECT={settings.employee_object} is no object that can be read: {error}"
        )
    named = {
        "SF_EMPLOYEE_ID_FIELD": (settings.employee_id_field,),
        "SF_EMPLOYEE_EMAIL_FIELD": (settings.employee_email_field,),
        "SF_EMPLOYEE_USER_FIELD": (settings.employee_user_field or "",),
        "SF_IDENTITY_FIELDS": tuple(field for _, field in settings.identities),
    }
    culprit = next(
        (
            setting
            for setting, fields in named.items()
            if any(error.field in field.split(".") for field in fields)
        ),
        "SF_EMPLOYEE_ID_FIELD, SF_EMPLOYEE_EMAIL_FIELD or SF_IDENTITY_FIELDS",
    )
    return ConfigurationError(
        f"{culprit} names a field that {settings.employee_object} does not show: {error}"
    )


def _text(row: Mapping[str, Any], path: str) -> str | None:
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, msgspec.Raw):
            try:
                value = msgspec.json.decode(value)
            except DECODE_FAULTS as error:
                raise RecordError(f"{path}: {in_words(error)}") from None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip()
    return text or None
