"""The backlog of source `salesforce`: slices of the streams' objects, by their stamps."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field, PositiveInt

from temporaletl import Plan, Query, Window, params_method
from temporaletl.external.salesforce.account import salesforce_account
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.salesforce.streams import EMPLOYEES, STREAMS, SalesforceObject

#: Importing it registers it.
ACCOUNT = salesforce_account
SOURCE = "salesforce"


class SalesforceParams(Query):
    """Parameters of a run: see `temporaletl.worker.sources.salesforce.query`."""

    page_size: int | None = Field(None, ge=1, le=2_000)
    bulk_above_rows: PositiveInt | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A job's rows: of one object, by one stamp."""

    stream: str
    window: Window
    object: str
    stamp: str = "SystemModstamp"
    deleted: bool = False
    bounded: bool = True


# Rows are stamped when they are written and seen when their transaction is committed, which may
# take minutes: most within the lag, the others within the overlap.
@params_method(
    SOURCE,
    streams=(*STREAMS, EMPLOYEES),
    overlap=timedelta(minutes=15),
    lag=lambda: timedelta(seconds=SalesforceSettings.load().lag_seconds),
    settings=SalesforceSettings.load,
    params=SalesforceParams,
    filters=(),
)
def describe_backlog(plan: Plan) -> tuple[Slice, ...]:
    """Plan the slices of the run's streams, without a request to Salesforce.

    Raises:
        ConfigurationError: a parameter or a setting is wrong; it is named.
    """
    SalesforceParams.from_dict(plan.metadata.params)
    settings = SalesforceSettings.load()
    slices: list[Slice] = []
    for stream, window in plan.windows.items():
        if window.start is not None and window.start == window.end:
            continue
        if stream == EMPLOYEES:
            slices.append(Slice(stream, window, settings.employee_object, bounded=False))
        for item in STREAMS.get(stream, ()):
            slices += slices_of(item, stream, window, plan.metadata.mode)
    return tuple(slices)


def slices_of(item: SalesforceObject, stream: str, window: Window, mode: str) -> list[Slice]:
    """Return the parts of one object that a window concerns; they may share rows."""
    if item.history:
        return [Slice(stream, window, item.name, stamp="CreatedDate")]
    if mode == "backfill":
        # What happened in the window: creations, and deletions of whatever was created when.
        slices = [Slice(stream, window, item.name, stamp="CreatedDate")]
        if item.deletions:
            slices.append(Slice(stream, window, item.name, deleted=True))
        return slices
    # No upper bound: a row that changes every few minutes would always be above it.
    return [Slice(stream, window, item.name, bounded=False)]
