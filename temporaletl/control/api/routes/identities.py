"""`/identities`: the people of a source, and the employees that they resolve to."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.etags import NOT_MODIFIED, IfNoneMatch, digest_of, tagged
from temporaletl.control.api.paging import (
    After,
    Limit,
    PageOf,
    decode_cursor,
    encode_cursor,
    page,
)
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.identities import fill_identities, list_identities
from temporaletl.names import label
from temporaletl.warehouse.identities import PersonPosition

router = APIRouter(prefix="/identities", tags=["identities"], responses=RESPONSES)

SourceName = Annotated[str, Query(max_length=100, examples=["jira"])]
ConnectionName = Annotated[str, Query(max_length=100, examples=["acme"])]


class Person(BaseModel):
    """A person of a source, and the employee that it is, where that is known."""

    person: str
    employee_id: str | None
    email: str | None
    name: str | None


class PeopleFound(PageOf[Person]):
    """A page of people, the unknown ones before the others, and how many there are."""

    total: int
    unknown: int = Field(description="of all, those who are no known employees")


class Filled(BaseModel):
    """How many people's events got an employee id, and how many events."""

    people: int
    events: int


@router.get(
    "",
    summary="List people",
    operation_id="list_identities",
    response_model=PeopleFound,
    responses=NOT_MODIFIED,
)
async def get_identities(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    source: SourceName,
    connection: ConnectionName = DEFAULT,
    limit: Limit = 50,
    after: After = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """List the people of a connection, those first who are no known employees."""
    del if_none_match  # `tagged` reads it
    key = decode_cursor(after, tuple[bool, str])
    found = await list_identities(
        context.platform,
        source,
        connection=connection,
        limit=limit + 1,
        after=PersonPosition(*key) if key else None,
    )
    items, following = page(
        request,
        response,
        found.people,
        limit=limit,
        cursor_of=lambda one: encode_cursor(*one.position),
    )
    listed = PeopleFound(
        items=[Person.model_validate(asdict(person)) for person in items],
        next=following,
        total=found.total,
        unknown=found.unknown,
    )
    return tagged(request, listed, digest_of(listed), headers=response.headers)


@router.post("/fill", summary="Fill employee ids", operation_id="fill_identities")
async def post_fill(
    context: InContext, caller: Operator, source: SourceName, connection: ConnectionName = DEFAULT
) -> Filled:
    """Fill employee ids into events of people who are known now. Safe to repeat."""
    found = await fill_identities(context.platform, source, connection=connection)
    whose = label(source, connection)
    await record_outcome(context.platform, caller.author(), "identities.fill", whose, "done")
    return Filled.model_validate(asdict(found))
