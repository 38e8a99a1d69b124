"""Who is who, whatever a source says of its people."""

from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rows import Identity, person_key
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.identities import (
    KnownPerson,
    known_people,
    list_people,
    record_people,
)
from tests.integration.warehouse.batches import rows

GOOD = Identity(source_kind_id="jira", person="a1", employee_id="E1", name="Ada")
#: An id that no index takes.
LONG = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(4000))
_NOW = datetime(2024, 5, 1, tzinfo=UTC)


def test_a_nul_in_a_name_or_an_id_becomes_the_replacement_character(warehouse: Warehouse) -> None:
    people = [
        GOOD,
        Identity(source_kind_id="jira", person="b\0", employee_id="E2", name="A\0B \ud800"),
    ]
    assert record_people(warehouse, "default", people) == 2
    assert record_people(warehouse, "default", people) == 2
    found = rows(warehouse, "SELECT person, name FROM etl_identities ORDER BY person")
    assert found == [("a1", "Ada"), ("b�", "A�B �")]

    job = ETLInput(batch_id="b", seq=0, job_id="j", source="jira", stream="issues", mode="full")
    context = TransformContext(job, Query(), known_people(warehouse, "jira", "default"))
    assert [context.employee(person) for person in ("a1", "b\0", "b�", "c\0", None)] == [
        "E1", "E2", "E2", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"person": ""}, {"person": LONG}, {"person": 7}, {"name": ["list"]}, {"email": f"{LONG}@x"}],
    ids=["no id", "long id", "a number", "no text", "long address"],
)
def test_one_person_who_cannot_be_entered_costs_no_other(
    warehouse: Warehouse, changes: dict[str, Any]
) -> None:
    bad: Any = {"source_kind_id": "jira", "person": "bad", "employee_id": "E9", **changes}
    others = [Identity(source_kind_id="jira", person=f"p{n}") for n in range(50)]
    assert record_people(warehouse, "default", [GOOD, Identity(**bad), *others]) == 51
    assert rows(warehouse, "SELECT count(*) FROM etl_identities") == [(51,)]
    assert known_people(warehouse, "jira", "default") == {"a1": "E1"}


def test_people_are_listed_page_by_page_those_first_whom_nobody_knows(warehouse: Warehouse) -> None:
    def person(source: str, name: str, **more: str) -> Identity:
        return Identity(source_kind_id=source, person=name, **more)

    employees = [
        person("salesforce", f"s{n}", employee_id=f"E{n}", email=f"P{n}@x.y") for n in (1, 2)
    ]
    own = [
        GOOD,
        person("jira", "by-address", email="p1@X.y"),
        person("jira", "P2@x.Y"),
        *(person("jira", f"unknown-{n}", email=f"u{n}@x.y") for n in range(4)),
    ]
    record_people(warehouse, "default", [*employees, *own])
    record_people(warehouse, "other", [person("jira", "elsewhere")])
    listed: list[KnownPerson] = []
    after = None
    while page := list_people(warehouse, "jira", "default", limit=3, after=after).people:
        listed += page
        after = page[-1].position
    assert [one.person for one in listed] == [
        *(f"unknown-{n}" for n in range(4)), "P2@x.Y", "a1", "by-address",
    ]  # fmt: skip
    # Who is listed as an employee is one in a run's events, too.
    known = known_people(warehouse, "jira", "default")
    assert [one.employee_id for one in listed] == [
        known.get(person_key(one.person)) for one in listed
    ]
    assert list_people(warehouse, "jira", "default", limit=1)[1:] == (7, 4)
    assert list_people(warehouse, "jira", "nobody's", limit=1) == ([], 0, 0)
