"""`/people`: the people of sources, and the employees that they are."""

from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Response

from temporaletl.connections import DEFAULT
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.connections import list_environment
from temporaletl.control.operations.identities import fill_identities, list_identities
from temporaletl.control.web.visit import InVisit, pages
from temporaletl.names import label

router = pages()

_PEOPLE = 200

Chosen = Annotated[str, Query(max_length=100)]


@router.get("/people")
async def get_people(visit: InVisit, source: Chosen = "", connection: Chosen = DEFAULT) -> Response:
    """List the people of a connection, those first who are no known employees."""
    known = await visit.dashboard.sights.see("environment", list_environment)
    found = None
    if source:
        whose = partial(
            list_identities, visit.context.platform, source, connection=connection, limit=_PEOPLE
        )
        found = (await visit.dashboard.sights.see(f"people {source} {connection}", whose)).value
    return visit.page(
        "people.html",
        sources=[one.source for one in known.value],
        source=source,
        connection=connection or DEFAULT,
        found=found,
        polls=False,
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
