"""Identities of the employees in Salesforce, here and in other sources."""

from collections.abc import Iterator

from temporaletl import Identity, Plan, identities_method
from temporaletl.external.salesforce.employees import identities_of, read_employees
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.salesforce.streams import EMPLOYEES
from temporaletl.queuer.sources.salesforce.params import SOURCE


@identities_method(SOURCE)
def read_people(plan: Plan) -> Iterator[Identity]:
    """Yield every employee's identities; with the stream `employees`, those of its window.

    Raises: as `temporaletl.external.salesforce.employees.read_employees`.
    """
    # Without that stream there is no watermark that would show who is known already.
    window = plan.windows.get(EMPLOYEES)
    start = window.start if window is not None and plan.metadata.mode == "incremental" else None
    for employee in read_employees(SalesforceSettings.load(), start=start):
        yield from identities_of(employee)
