"""`/rejects`: the records that could not become rows."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from temporaletl.connections import DEFAULT
from temporaletl.control.api.access import Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.paging import Limit
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.rejects import list_rejects
from temporaletl.warehouse.rejects import StoredReject

router = APIRouter(prefix="/rejects", tags=["rejects"], responses=RESPONSES)


class RejectsFound(BaseModel):
    """The rejects seen last, and how many there are."""

    items: list[StoredReject]
    total: int


@router.get("", summary="List rejects", operation_id="list_rejects")
async def get_rejects(
    context: InContext,
    _: Reader,
    source: Annotated[str, Query(max_length=100, examples=["jira"])],
    connection: str = DEFAULT,
    stream: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI's way
    limit: Limit = 50,
) -> RejectsFound:
    """List the rejects of a connection, the latest first, with reason and record."""
    found = await list_rejects(context.platform, source, stream, connection=connection, limit=limit)
    return RejectsFound(items=found.rejects, total=found.total)
