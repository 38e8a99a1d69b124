"""`/people`: the people of sources, and the employees that they are."""

from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Response

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.paging import decode_cursor, encode_cursor
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.identities import fill_identities, list_identities
from temporaletl.control.web.declared import see_declared
from temporaletl.control.web.sights import Sight
from temporaletl.control.web.visit import InVisit, pages
from temporaletl.names import label
from temporaletl.warehouse.identities import PeoplePage, PersonPosition

router = pages()

_PEOPLE = 50

Chosen = Annotated[str, Query(max_length=100)]


@router.get("/people")
async def get_people(
    visit: InVisit,
    source: Chosen = "",
    connection: Chosen = DEFAULT,
    after: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """List the people of a connection, those first who are no known employees."""
    declared = await see_declared(visit)
    connection = connection or DEFAULT
    sight: Sight[PeoplePage] | None = None
    following: str | None = None
    if source:
        key = decode_cursor(after, tuple[bool, str])
        observe = partial(
            list_identities,
            visit.context.platform,
            source,
            connection=connection,
            limit=_PEOPLE + 1,
            after=PersonPosition(*key) if key else None,
        )
        sight = await visit.dashboard.sights.see(f"people {source} {connection} {key}", observe)
        if len(sight.value.people) > _PEOPLE:
            cursor = encode_cursor(*sight.value.people[_PEOPLE - 1].position)
            following = "?" + urlencode(
                {"source": source, "connection": connection, "after": cursor}
            )
    return visit.page(
        "people.html",
        choices=sorted({one.source for one in declared.connections if one.source}),
        source=source,
        connection=connection,
        sight=sight,
        people=sight.value.people[:_PEOPLE] if sight else [],
        next_path=following,
        first_path="/people?" + urlencode({"source": source, "connection": connection}),
        is_first=after is None,
    )


@router.post("/people/fill")
async def post_fill(visit: InVisit) -> Response:
    """Fill employee ids into events of people who are known now. Safe to repeat."""
    caller, form = visit.operator(), await visit.form()
    source, connection = form.text("source"), form.text("connection") or DEFAULT
    found = await fill_identities(visit.context.platform, source, connection=connection)
    visit.context.forget()
    whose = label(source, connection)
    await record_outcome(visit.context.platform, caller.author(), "identities.fill", whose, "done")
    return visit.done(
        "/people?" + urlencode({"source": source, "connection": connection}),
        f"filled {found.events:,} events of {found.people:,} people of {whose}",
    )
