"""Members whose work is loaded: Launchpad names of the employees in Salesforce."""

from collections.abc import Iterator

from temporaletl import ConfigurationError
from temporaletl.external.launchpad.settings import person_name
from temporaletl.external.salesforce.employees import Employee, read_employees
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.queuer.sources.launchpad")


def employees() -> Iterator[Employee] | None:
    """Read the employees out of Salesforce; None where it is not configured."""
    if not SalesforceSettings.is_configured():
        return None
    return read_employees(SalesforceSettings.load())


def launchpad_name(employee: Employee) -> str | None:
    """Return an employee's Launchpad name, None where Salesforce has none, or no such name."""
    text = (employee.identities.get("launchpad") or "").strip()
    if not text:
        return None
    try:
        return person_name(text)
    except ValueError as error:
        # One mistyped name must not keep everybody else from being loaded.
        log.warning("no_launchpad_name", employee_id=employee.employee_id, error=str(error))
        return None


def members_of_salesforce() -> tuple[str, ...]:
    """Return the Launchpad names of all employees that have one.

    Raises:
        ConfigurationError: Salesforce is not configured, or knows no Launchpad name.
    """
    found = employees()
    if found is None:
        raise ConfigurationError(
            "launchpad: whose work shall be loaded? Set LP_MEMBERS to Launchpad names (or "
            "LP_TARGETS to projects), or configure Salesforce (SF_USERNAME, SF_PASSWORD and "
            "SF_TOKEN, or SF_CONSUMER_KEY with SF_PRIVATE_KEY or SF_CONSUMER_SECRET), which "
            "knows the members' Launchpad names"
        )
    names = {name for employee in found if (name := launchpad_name(employee))}
    if not names:
        raise ConfigurationError(
            "launchpad: no employee in Salesforce has a Launchpad name; enter them there, or "
            "set LP_MEMBERS"
        )
    return tuple(sorted(names))
