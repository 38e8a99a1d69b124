"""`/sources`: registered sources, checks of their settings, and their people."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from temporaletl.bound_connection import DEFAULT
from temporaletl.checks.messages import Check
from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.checks import check_source
from temporaletl.control.operations.sources import registered

router = APIRouter(prefix="/sources", tags=["sources"], responses=RESPONSES)


class StreamReport(BaseModel):
    """A stream of a source, and the tables that it is loaded into."""

    name: str
    tables: list[str]
    place: str = Field(description="where its records are extracted")
    fault: str | None = Field(None, description="what is missing for it to run")


class SourceReport(BaseModel):
    """A registered source, with the versions of its rows."""

    name: str = Field(examples=["jira"])
    version: str
    specific_version: str
    place: str = Field(description="where its runs are planned")
    streams: list[StreamReport]


class Sources(BaseModel):
    """All registered sources."""

    items: list[SourceReport]


class Checks(BaseModel):
    """Results of a source's checks; `good` where none is wrong."""

    good: bool
    checks: list[Check]


@router.get("", summary="List sources", operation_id="list_sources")
def get_sources(_: Reader) -> Sources:
    """List what is registered."""
    return Sources(items=[SourceReport.model_validate(asdict(one)) for one in registered()])


@router.post("/{source}/check", summary="Check a source", operation_id="check_source")
async def post_check(
    context: InContext,
    _: Operator,
    source: Annotated[str, Path(max_length=100, examples=["jira"])],
    connection: str = DEFAULT,
) -> Checks:
    """Try one by one what a run needs; nothing is loaded, and nothing is written."""
    found = await check_source(context.platform, source, connection=connection)
    return Checks(good=all(check.verdict != "wrong" for check in found), checks=found)
