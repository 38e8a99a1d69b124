"""The backlog of source `servicetitan`: for each stream, the changes of its window."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from temporaletl import Plan, Query, Window, params_method
from temporaletl.external.servicetitan.account import servicetitan_account
from temporaletl.external.servicetitan.resources import RESOURCES, continuation
from temporaletl.external.servicetitan.settings import (
    MOST_ROWS,
    OVERLAP,
    SOURCE,
    Paging,
    ServiceTitanSettings,
)

#: Importing it registers it.
ACCOUNT = servicetitan_account


class ServiceTitanParams(Query):
    """Parameters of a run, in place of the settings of the same names."""

    paging: Paging | None = None
    page_size: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """One job's stream and window. `continue_from` is an export's first token, None by date."""

    stream: str
    window: Window
    paging: Paging
    continue_from: str | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    shares: tuple[Share, ...]


@params_method(
    SOURCE,
    streams=tuple(RESOURCES),
    overlap=OVERLAP,
    lag=lambda: ServiceTitanSettings.load().lag,
    settings=ServiceTitanSettings.load,
    params=ServiceTitanParams,
    filters=(),
)
def describe_backlog(plan: Plan) -> Backlog:
    """One job for each stream: a feed has one order, and a list's pages follow each other.

    An incremental export goes on with the token of the last completed job, where there is one.

    Raises:
        ConfigurationError: a parameter is unknown or wrong; it is named.
    """
    params = ServiceTitanParams.from_dict(plan.metadata.params)
    settings = ServiceTitanSettings.load()
    paging = params.paging or settings.paging
    shares = []
    for stream, window in plan.windows.items():
        if window.start is not None and window.start == window.end:
            continue
        token = None
        if paging == "export" and plan.metadata.mode == "incremental" and window.start is not None:
            watermark = window.start + OVERLAP
            last = plan.last_cursors.get(stream)
            token = continuation(last, site=settings.site, watermark=watermark)
        shares.append(Share(stream, window, paging, token))
    return Backlog(tuple(shares))
