"""`/freshness`: whether each stream is loaded up to as late as it must be."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from temporaletl.control.api.access import Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.freshness import FreshnessReport, FreshnessState, freshness

router = APIRouter(prefix="/freshness", tags=["freshness"], responses=RESPONSES)

SourceName = Annotated[str | None, Query(max_length=100, examples=["jira"])]


@router.get("", summary="Freshness of every stream", operation_id="get_freshness")
async def get_freshness(
    context: InContext,
    _: Reader,
    source: SourceName = None,
    connection: SourceName = None,
    state: FreshnessState | None = None,
) -> FreshnessReport:
    """Say of each stream up to when it is loaded, when it is late, and how that was judged."""
    observed = await context.observations.latest("freshness", partial(freshness, context.platform))
    chosen = {"source": source, "connection": connection, "state": state}
    wanted = {name: value for name, value in chosen.items() if value is not None}
    entries = tuple(
        entry
        for entry in observed.value.entries
        if all(getattr(entry, name) == value for name, value in wanted.items())
    )
    return observed.value.model_copy(update={"entries": entries})
