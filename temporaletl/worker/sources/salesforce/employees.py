"""The employees of an org, as identities here and in other sources."""

import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

import msgspec

from temporaletl import (
    Identity,
    Page,
    PageRequest,
    RecordError,
    Reject,
    TransformContext,
    extract_method,
    transform_method,
)
from temporaletl.external.salesforce.employees import (
    Employee,
    employee_of,
    employees_of,
    identities_of,
    misnamed,
)
from temporaletl.external.salesforce.org import open_org
from temporaletl.external.salesforce.refusals import InvalidFieldError, InvalidTypeError
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.worker.sources.salesforce.bulk import UnreadableRow
from temporaletl.worker.sources.salesforce.extract import pages_of, reject_of
from temporaletl.worker.sources.salesforce.query import SalesforceQuery


class EmployeeRecord:
    """An employee, with the row it was read from."""

    __slots__ = ("employee", "key", "raw")

    def __init__(self, employee: Employee, raw: Mapping[str, Any] | bytes | msgspec.Raw) -> None:
        self.employee = employee
        self.key = employee.email or employee.person
        self.raw = raw


@extract_method("salesforce-employees")
async def extract_employees(request: PageRequest[SalesforceQuery]) -> AsyncGenerator[Page]:
    """Read the employees that changed in the job's window, and those that changed since.

    Raises:
        ConfigurationError: a setting names an object or a field that is not there.
        ETLError: as `pages_of`.
    """
    settings = SalesforceSettings.load()

    def read(rows: Iterable[Any]) -> tuple[list[Any], list[Reject]]:
        records, rejects = [], []
        for row in rows:
            if isinstance(row, UnreadableRow):
                rejects.append(reject_of(row, row.reason))
                continue
            try:
                records.append(EmployeeRecord(employee_of(settings, row), row))
            except RecordError as error:
                rejects.append(reject_of(row, str(error)))
        return records, rejects

    selection = employees_of(settings, start=request.job.window.start)
    try:
        pages = pages_of(open_org(settings), selection, request, read)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page
    except (InvalidFieldError, InvalidTypeError) as error:
        raise misnamed(settings, error) from None


@transform_method("salesforce-employees", rows=(Identity,))
def transform_employee(record: Any, _context: TransformContext[SalesforceQuery]) -> list[Identity]:
    """Transform an employee into the Salesforce user and the identities elsewhere.

    Takes an `EmployeeRecord`, or a row's JSON as a reject keeps it.

    Raises:
        RecordError: the row names nobody.
    """
    if isinstance(record, EmployeeRecord):
        return identities_of(record.employee)
    if not isinstance(record, Mapping):
        raise RecordError("the payload is no row of an employee")
    return identities_of(employee_of(SalesforceSettings.load(), record))
