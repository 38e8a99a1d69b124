"""Who is who, as Salesforce tells it."""

from datetime import timedelta
from typing import Any

import pytest

from temporaletl import ConfigurationError, Identity
from temporaletl.external.salesforce.employees import Employee, read_employees
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.queuer.sources.salesforce.people import read_people
from tests.fakes.salesforce import generate
from tests.fakes.salesforce.org import Org, timestamp
from tests.integration.job_reading import NOW, Serve, plan_of, read, transformed
from tests.integration.salesforce_reading import STREAMS, jobs_of, served

__all__ = ["served"]

FIELDS = {"SF_IDENTITY_FIELDS": "launchpad:Launchpad_ID__c, jira:Jira_Account__c"}


def employees() -> list[Employee]:
    return list(read_employees(SalesforceSettings.load()))


def staffed() -> Org:
    """An org whose employees are a custom object's rows."""
    org = generate(1, seed=1)
    user = org.all("User")[0]
    org.add(
        "Employee__c",
        timestamp(9),
        Name="Jane",
        Work_Email__c="jane@example.com",
        Staff_Number__c="S1",
        User__c=user["Id"],
        Launchpad_ID__c="jane",
    )
    left = org.add("Employee__c", timestamp(9), Name="Joe", Staff_Number__c="S2")
    org.delete(left, timestamp(10), None)
    return org


CUSTOM = {
    "SF_EMPLOYEE_OBJECT": "Employee__c",
    "SF_EMPLOYEE_ID_FIELD": "Staff_Number__c",
    "SF_EMPLOYEE_EMAIL_FIELD": "Work_Email__c",
    "SF_EMPLOYEE_USER_FIELD": "User__c",
    "SF_IDENTITY_FIELDS": "launchpad:Launchpad_ID__c",
}


def test_employees_are_the_users_of_the_org(served: Serve) -> None:
    org = generate(1, seed=1, users=45)
    served(org, **FIELDS)
    found = {employee.person: employee for employee in employees()}
    assert len(found) == 45
    for user in org.all("User"):
        employee = found[user["Id"]]
        assert employee.employee_id == (user["EmployeeNumber"] or user["Id"])
        assert (employee.email, employee.name) == (user["Email"], user["Name"])
        assert employee.timezone == user["TimeZoneSidKey"]
        assert employee.active is user["IsActive"]
        expected = {
            "launchpad": user["Launchpad_ID__c"],
            "jira": user["Jira_Account__c"],
        }
        assert employee.identities == {k: v for k, v in expected.items() if v}


def test_employees_may_be_another_objects_rows(served: Serve) -> None:
    org = staffed()
    served(org, **CUSTOM)
    assert employees() == [
        Employee(
            person=org.all("User")[0]["Id"],
            employee_id="S1",
            email="jane@example.com",
            name="Jane",
            identities={"launchpad": "jane"},
        )
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"SF_EMPLOYEE_OBJECT": "Staff__c"}, "SF_EMPLOYEE_OBJECT=Staff__c is no object"),
        ({"SF_EMPLOYEE_ID_FIELD": "Nummer__c"}, "SF_EMPLOYEE_ID_FIELD names a field"),
        ({"SF_EMPLOYEE_EMAIL_FIELD": "Mail__c"}, "SF_EMPLOYEE_EMAIL_FIELD names a field"),
        ({"SF_IDENTITY_FIELDS": "jira:Jira__c"}, "SF_IDENTITY_FIELDS names a field"),
        ({"SF_IDENTITY_FIELDS": "jira:Boss__r.Name"}, "SF_IDENTITY_FIELDS names a field"),
    ],
)
async def test_names_that_the_org_does_not_know_are_told_with_their_setting(
    served: Serve, wrong: dict[str, str], words: str
) -> None:
    served(generate(1), **wrong)
    with pytest.raises(ConfigurationError, match=words):
        employees()
    with pytest.raises(ConfigurationError, match=words):
        await read(jobs_of(streams=("employees",)))


@pytest.mark.parametrize("bulk", [{}, {"SF_BULK_ABOVE_ROWS": "10"}])
async def test_the_stream_and_the_planning_give_the_same_identities(
    served: Serve, bulk: dict[str, str]
) -> None:
    org = generate(1, seed=1, users=45)
    served(org, **FIELDS, **bulk)
    found = await read(jobs_of(streams=("employees",)))
    planned = list(read_people(plan_of("salesforce", ["employees"])))
    assert found.identities == {(each.source_kind_id, each.person): each for each in planned}
    sources = {source for source, _ in found.identities}
    assert sources == {"salesforce", "launchpad", "jira"}
    assert all(isinstance(each, Identity) for each in planned)


async def test_without_the_stream_everybody_is_read_and_with_it_those_who_changed(
    served: Serve,
) -> None:
    org = generate(1, seed=1)
    served(org)
    changed = org.all("User")[3]
    org.change(changed, NOW - timedelta(minutes=10), None, Email="new@example.com")
    start = NOW - timedelta(hours=1)
    everybody = list(read_people(plan_of("salesforce", STREAMS, "incremental", start=start)))
    some = list(read_people(plan_of("salesforce", ["employees"], "incremental", start=start)))
    assert len(everybody) == len(org.all("User"))
    assert [(each.person, each.email) for each in some] == [(changed["Id"], "new@example.com")]
    found = await read(jobs_of("incremental", start=start, streams=("employees",)))
    assert [person for _, person in found.identities] == [changed["Id"]]


async def test_no_fault_hides_an_employee(served: Serve) -> None:
    org = generate(1, seed=1, users=45)
    served(org, "503:0.2", "reset:0.2", "session-ended:0.2", "empty-page:0.2", "short-page:0.2")
    found = await read(jobs_of(streams=("employees",)))
    assert {person for _, person in found.identities} == {row["Id"] for row in org.all("User")}


def test_a_row_is_taken_as_a_reject_keeps_it(served: Serve) -> None:
    served(generate(1), **FIELDS)
    job = jobs_of(streams=("employees",))[0]
    payload: dict[str, Any] = {"Id": "0051", "EmployeeNumber": 17.0, "Launchpad_ID__c": "jane"}
    made = transformed(job, payload)
    assert [(each.source_kind_id, each.person, each.employee_id) for each in made] == [
        ("salesforce", "0051", "17"),
        ("launchpad", "jane", "17"),
    ]
