"""The backlog of source `salesforce`: slices of the streams' objects, by their stamps."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import repeat
from typing import Any

from pydantic import Field, PositiveInt

from temporaletl import (
    Plan,
    Query,
    RateLimitedError,
    SourceProtocolError,
    Window,
    params_method,
)
from temporaletl.external.salesforce.account import salesforce_account
from temporaletl.external.salesforce.counts import (
    MonthCount,
    count,
    count_by_month,
    outermost,
)
from temporaletl.external.salesforce.narrowing import OF_A_ROW
from temporaletl.external.salesforce.org import SalesforceOrg, open_org
from temporaletl.external.salesforce.query import Order, Selection
from temporaletl.external.salesforce.refusals import (
    InvalidFieldError,
    ObjectRefusedError,
    QueryTimeoutError,
)
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.salesforce.streams import EMPLOYEES, STREAMS, SalesforceObject
from temporaletl.external.threads import gather_all
from temporaletl.queuer.division import EPOCH, Counts, Stretch, between, divide_counted
from temporaletl.telemetry.logs import get_logger
from temporaletl.troubles import one_request

log = get_logger("salesforce")

#: Importing it registers it.
ACCOUNT = salesforce_account
SOURCE = "salesforce"

#: So many jobs for each request that may be under way: one that takes longer keeps none idle.
_JOBS_A_REQUEST = 3
#: Pages of a job of an object that is divided, at least.
_LEAST_PAGES = 2
#: The same where it is read in bulk, in SF_BULK_ABOVE_ROWS: each query takes a while.
_LEAST_IN_BULK = 2
#: Months of no more than so many jobs' rows are not counted further: that takes a wait, too.
_UNDIVIDED = 2
#: A limit of requests at once passes; with the day's, the whole planning is tried again later.
_LONGEST_PAUSE = timedelta(minutes=1)
_ATTEMPTS = 6
#: What a count fails with for its object's sake: its job tells of it, or gets around it.
_OF_AN_OBJECT = (
    ObjectRefusedError,
    InvalidFieldError,
    SourceProtocolError,
    QueryTimeoutError,
    *OF_A_ROW,
)
#: What may be said of counts by months alone: there are too many rows, or Salesforce does not
#: group those of the object.
_OF_GROUPS = (QueryTimeoutError, SourceProtocolError)


class SalesforceParams(Query):
    """Parameters of a run: see `temporaletl.worker.sources.salesforce.query`.

    A job reads about `rows_per_job` rows; by default as many as keep a worker's requests busy.
    """

    page_size: int | None = Field(None, ge=1, le=2_000)
    bulk_above_rows: PositiveInt | None = None
    rows_per_job: PositiveInt | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """A job's rows: of one object, by one stamp.

    `counted` is whether its object has few enough rows for REST, as counted when it was planned.
    """

    stream: str
    window: Window
    object: str
    stamp: str = "SystemModstamp"
    deleted: bool = False
    bounded: bool = True
    counted: bool = False

    def selection(self, window: Window) -> Selection:
        """Return its rows within a window, none of their fields."""
        return Selection(
            object=self.object,
            fields=(),
            stamp=self.stamp,
            start=window.start,
            end=window.end,
            deleted=self.deleted,
        )


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
async def describe_backlog(plan: Plan) -> tuple[Slice, ...]:
    """Count the rows of the streams' objects, and plan slices of those that have many.

    Raises:
        ConfigurationError: a parameter or a setting is wrong; it is named.
        CredentialsError: the org refuses whatever is asked of it.
        RetryableError: as `temporaletl.external.salesforce.query.count`.
    """
    params = SalesforceParams.from_dict(plan.metadata.params)
    settings = SalesforceSettings.load()
    slices: list[Slice] = []
    for stream, window in plan.windows.items():
        if window.start is not None and window.start == window.end:
            continue
        if stream == EMPLOYEES:
            slices.append(Slice(stream, window, settings.employee_object, bounded=False))
        for item in STREAMS.get(stream, ()):
            slices += slices_of(item, stream, window, plan.metadata.mode)
    org = open_org(settings)
    planning = _Planning(org, params)
    # A login that may be refused is tried alone first, not by many requests at once.
    asking = (n for n, each in enumerate(slices, 1) if each.stream != EMPLOYEES)
    alone = 0 if org.let_in else next(asking, 0)
    counted = await gather_all(map(planning.counted, slices[:alone]))
    counted += await gather_all(map(planning.counted, slices[alone:]))
    divided = await gather_all(map(planning.parts_of, counted, repeat(_rows(counted))))
    parts = [part for found in divided for part in found]
    # The largest first: what begins last shall not take longest.
    return tuple(part for part, _ in sorted(parts, key=lambda part: -part[1]))


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
    if window.start is None:
        # Of all rows, none leaves its slice while they are read: creation never changes.
        return [Slice(stream, window, item.name, stamp="CreatedDate", bounded=False)]
    return [Slice(stream, window, item.name, bounded=False)]


@dataclass(frozen=True, slots=True)
class _Counted:
    """A slice with its rows in all, None where they cannot be counted; and by stretches of time."""

    whole: Slice
    rows: int | None
    stretches: tuple[Stretch, ...] = ()


def _rows(counted: Iterable[_Counted]) -> int:
    return sum(each.rows or 0 for each in counted)


class _Planning:
    """The division of an org's objects into slices that keep all allowed requests busy."""

    def __init__(self, org: SalesforceOrg, params: SalesforceParams) -> None:
        self._org = org
        self._given = params.rows_per_job
        self._page = params.page_size or org.settings.page_size
        self._in_bulk_above = params.bulk_above_rows or org.settings.bulk_above_rows

    async def counted(self, whole: Slice) -> _Counted:
        """Count the rows of a slice; what cannot be counted fails no other."""
        if whole.stream == EMPLOYEES:
            return _Counted(whole, None)  # they are few, and one job
        try:
            try:
                months = await self._asked(count_by_month, whole.selection(_window_of(whole)))
            except _OF_GROUPS as error:
                log.info("salesforce_months_not_counted", object=whole.object, reason=str(error))
                return _Counted(whole, await self._count(whole, _window_of(whole)))
        except _OF_AN_OBJECT as error:
            log.info("salesforce_not_counted", object=whole.object, reason=str(error))
            return _Counted(whole, None)
        return _Counted(whole, sum(month.rows for month in months), _stretches_of(months))

    async def parts_of(self, counted: _Counted, of_all: int) -> list[tuple[Slice, int]]:
        """Return a slice's slices, which meet exactly, with their rows; none where there are none.

        `of_all` are the rows of all that is planned. What cannot be counted remains whole.
        """
        whole, rows = counted.whole, counted.rows
        if rows is None:
            return [(whole, self._in_bulk_above)]
        if rows == 0:
            return []
        read_by_rest = replace(whole, counted=rows <= self._in_bulk_above)
        most = self._size(rows, of_all)
        undivided = most if self._given is not None else _UNDIVIDED * most
        if rows <= undivided:
            return [(read_by_rest, rows)]
        try:
            parts = await divide_counted(
                Counts(partial(self._count, whole)),
                _window_of(whole),
                counted.stretches or [between(*await self._ends(whole), rows)],
                most=most,
                most_undivided=undivided,
            )
        except _OF_AN_OBJECT as error:
            log.info("salesforce_not_counted", object=whole.object, reason=str(error))
            return [(whole, rows)]
        return [
            (
                replace(
                    read_by_rest,
                    window=Window(start=part.window.start, end=part.window.end or whole.window.end),
                    bounded=whole.bounded or part.window.end is not None,
                ),
                part.held,
            )
            for part in parts
        ]

    def _size(self, rows: int, of_all: int) -> int:
        """How many rows a job reads at most, of an object that has so many."""
        if self._given is not None:
            return self._given
        in_bulk = rows > self._in_bulk_above
        least = _LEAST_IN_BULK * self._in_bulk_above if in_bulk else _LEAST_PAGES * self._page
        return max(least, of_all // (_JOBS_A_REQUEST * self._org.settings.concurrency))

    async def _count(self, whole: Slice, window: Window) -> int:
        return await self._asked(count, whole.selection(window))

    async def _ends(self, whole: Slice) -> tuple[datetime, datetime]:
        """The oldest and the newest stamp within the window, between which bounds may lie."""
        orders: tuple[Order, Order] = ("ASC", "DESC")
        selection = whole.selection(whole.window)
        oldest, newest = await gather_all(
            self._asked(outermost, selection, order) for order in orders
        )
        if oldest is None or newest is None:
            return EPOCH, EPOCH  # it has no stamps to divide it by
        return oldest, newest

    async def _asked[T](self, ask: Callable[..., T], *about: Any) -> T:
        """Ask the org, after a pause again where it takes no more requests at once."""
        with one_request() as failed:
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._org.start(ask, self._org, *about)
                except RateLimitedError as error:
                    if error.delay is None or error.delay > _LONGEST_PAUSE:
                        raise
                    failed(error)
                    await asyncio.sleep(error.delay.total_seconds())
            return await self._org.start(ask, self._org, *about)


def _window_of(whole: Slice) -> Window:
    """The window of what is read of a slice."""
    return whole.window if whole.bounded else Window(start=whole.window.start)


def _stretches_of(months: Sequence[MonthCount]) -> tuple[Stretch, ...]:
    """Return the stretches of time from each month's oldest row to its newest."""
    found: list[Stretch] = []
    for month in months:
        stretch = between(month.oldest, month.newest, month.rows)
        if found and stretch.start <= found[-1].start:  # two months may meet within a minute
            stretch = replace(stretch, held=found.pop().held + stretch.held)
        found.append(stretch)
    return tuple(found)
