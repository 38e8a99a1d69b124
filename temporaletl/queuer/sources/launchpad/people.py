"""Identities of Launchpad's people: the employees behind Launchpad names."""

from collections.abc import Iterator

from temporaletl import Identity, Plan, identities_method
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.queuer.sources.launchpad.members import employees, launchpad_name


@identities_method("launchpad")
def identify(plan: Plan) -> Iterator[Identity]:
    """Yield each employee of whom Salesforce knows a Launchpad name, unless LP_MEMBERS is set."""
    del plan
    if LaunchpadSettings.load().members:
        return
    for employee in employees() or ():
        name = launchpad_name(employee)
        if name is not None:
            yield Identity(
                source_kind_id="launchpad",
                person=name,
                employee_id=employee.employee_id,
                email=employee.email,
                name=employee.name,
                timezone=employee.timezone,
            )
