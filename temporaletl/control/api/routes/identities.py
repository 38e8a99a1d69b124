"""`/identities`: the people of a source, and the employees that they resolve to."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from temporaletl.connections import DEFAULT
from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.paging import Limit
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.identities import fill_identities, list_identities
from temporaletl.names import label

router = APIRouter(prefix="/identities", tags=["identities"], responses=RESPONSES)

SourceName = Annotated[str, Query(max_length=100, examples=["jira"])]


class Person(BaseModel):
    """A person of a source, and the employee that it is, where that is known."""

    person: str
    employee_id: str | None
    email: str | None
    name: str | None


class PeopleFound(BaseModel):
    """The first people, the unknown ones before the others, and how many there are."""

    items: list[Person]
    total: int


class Filled(BaseModel):
    """How many people's events got an employee id, and how many events."""

    people: int
    events: int


@router.get("", summary="List people", operation_id="list_identities")
async def get_identities(
    context: InContext,
    _: Reader,
    source: SourceName,
    connection: str = DEFAULT,
    limit: Limit = 50,
) -> PeopleFound:
    """List the people of a connection, those first who are no known employees."""
    found = await list_identities(context.platform, source, connection=connection, limit=limit)
    people = [Person.model_validate(asdict(person)) for person in found.people]
    return PeopleFound(items=people, total=found.total)


@router.post("/fill", summary="Fill employee ids", operation_id="fill_identities")
async def post_fill(
    context: InContext, caller: Operator, source: SourceName, connection: str = DEFAULT
) -> Filled:
    """Fill employee ids into events of people who are known now. Safe to repeat."""
    found = await fill_identities(context.platform, source, connection=connection)
    whose = label(source, connection)
    await record_outcome(context.platform, caller.author(), "identities.fill", whose, "done")
    return Filled.model_validate(asdict(found))
