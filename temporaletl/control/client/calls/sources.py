"""Sources and their checks, over the API."""

from collections.abc import Callable
from datetime import timedelta

from pydantic import BaseModel

from temporaletl.bound_connection import DEFAULT
from temporaletl.checks.messages import Check
from temporaletl.checks.sources import Notice
from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.checks import check_source
from temporaletl.control.operations.sources import Source, list_sources

#: A check tries each stream, for half a minute at most.
CHECKED_WITHIN = timedelta(minutes=5)


class _Sources(BaseModel):
    items: list[Source]


class _Checks(BaseModel):
    checks: list[Check]


@over_api(list_sources)
async def _list_sources(api: Api) -> list[Source]:
    return (await api.get(_Sources, "sources")).items


@over_api(check_source)
async def _check_source(
    api: Api,
    source: str,
    report: Callable[[Check], None] = lambda _: None,
    *,
    connection: str = DEFAULT,
    notice: Notice = lambda _: None,
) -> list[Check]:
    del notice  # an answer comes at once
    of = {"connection": connection}
    found = await api.send(
        "POST", _Checks, "sources", source, "check", params=of, within=CHECKED_WITHIN
    )
    for check in found.checks:
        report(check)
    return found.checks
