"""Keyset pagination over a list, oldest change first, that skips no record when others move.

Each request seeks to the time of the last record (the high-water mark), inclusive: what changes
goes to the end, where it is read again, and what shifts behind the mark cannot make it skip.

Page numbers are needed where one time has more records than a page: there the API gives no order,
so that they are read by id, apart. And where a list does not keep the requested order, or gave
fewer records than it had counted, all of it is read by page numbers. Such a run is read in several
passes until one has found as many as the list counts all the while, because rows slip over the
edges of pages when one before them goes. A page that holds fewer than requested, and is not the
last, is requested again. What the list still counts and has never given is a reject.

Where a page fails for the sake of one record that cannot be rendered, positions are all that is
known of it, and they shift as well. So a span of time is chosen that ends behind it, and is read as
one time with many records is: by id, in parts, again until nothing can be missing. There the record
counts as met, and is a reject.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl import ConfigurationError, Reject, SourceProtocolError, SourceUnavailableError
from temporaletl.clock import utc_now
from temporaletl.errors import ETLError
from temporaletl.worker.sources.servicetitan.extract.client import (
    FAILURES,
    FetchedPage,
    ListAnswer,
    ServiceTitanClient,
    Span,
    as_text,
)
from temporaletl.worker.sources.servicetitan.extract.list_position import (
    TICK,
    ListPosition,
    Way,
)
from temporaletl.worker.sources.servicetitan.extract.narrowing import (
    MOST_NEIGHBOURS,
    Narrowing,
    Unreadable,
)
from temporaletl.worker.sources.servicetitan.extract.passes import Pass, Read, Row, row_of
from temporaletl.worker.sources.servicetitan.record import Record

_BAD_REQUEST = 400
_MOST_PASSES = 6
_MOST_EMPTY = 4
#: Requests for a page that holds fewer than requested, and is not the last.
_MOST_SHORT = 3
#: Pages in a row of a pass that hold only what it has met.
_MOST_STALE = 10
#: Returns in a row from records of one time to keyset paging, with nothing new.
_MOST_RETURNS = 3
#: How often one job may be left without headway, and be taken up again.
_MOST_CIRCLES = 3
#: Behind the present, by whatever clock.
_FAR = timedelta(days=2)


class KeysetPagination:
    """Keyset pagination over a list: from a cursor on, every record of a span at least once."""

    def __init__(
        self, client: ServiceTitanClient, span: Span, page_size: int, cursor: JsonValue
    ) -> None:
        self._client = client
        self._span = span
        self._page_size = page_size
        try:
            self._position = (
                ListPosition(at=span.start)
                if cursor is None
                else msgspec.convert(cursor, ListPosition)
            )
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a list of ServiceTitan's: {error}") from None
        #: The content of what was delivered. A pagination lives no longer than a segment.
        self._seen: dict[int | str, int] = {}
        self._pass = Pass(from_its_start=self._position.page == 1)
        self._empty = self._returns = 0
        self._no_headway: str | None = None
        #: Of what no row tells: they go with the next page.
        self._rejects: list[Reject] = []
        self._ended = False
        #: Whatever this pagination reads was modified before.
        self._latest = span.modified_before or (utc_now() + _FAR).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        #: How many records could not be read.
        self.unreadable = 0

    @property
    def reached(self) -> datetime | None:
        """Everything modified before it is delivered; None where nothing is known of the times."""
        return self._position.at if self._position.way == "walk" else None

    def next(self) -> FetchedPage | None:
        """Return the next page of records, None at the end. Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be. What comes
                right before it may hold nothing but that cursor.
            SourceProtocolError: no headway from several cursors.
            ETLError: as `ServiceTitanSite.read`, where it is not a single record's fault.
        """
        requested_at = utc_now()
        while not self._ended:
            if self._no_headway is not None:
                raise SourceUnavailableError(self._no_headway)
            if self._position.way is None:
                self._learn()
            fresh = self._step()
            if fresh or self._rejects or self._no_headway is not None:
                cursor: JsonValue = msgspec.to_builtins(self._position)
                rejects = [row.read for row in fresh if isinstance(row.read, Reject)]
                rejects += self._rejects
                self._rejects = []
                return FetchedPage(
                    records=[row.read for row in fresh if isinstance(row.read, Record)],
                    rejects=rejects,
                    cursor=cursor,
                    requested_at=requested_at,
                )
        return None

    @property
    def _what(self) -> str:
        return f"servicetitan: the list of {self._client.resource.stream}"

    def _learn(self) -> None:
        """Find out whether the list keeps its order, and how many records it has.

        Not every list documents an order. One that keeps it gives a newer record when the newest
        is requested first than when the oldest is.
        """
        newest, count = self._end_of(descending=True)
        oldest, _ = self._end_of(descending=False)
        ordered = newest is not None and oldest is not None and newest > oldest
        self._position = msgspec.structs.replace(
            self._position, way="walk" if ordered else "all", expected=count
        )

    def _end_of(self, *, descending: bool) -> tuple[datetime | None, int]:
        answer = self._first_of(self._client.resource.order("ModifiedOn", descending=descending))
        if answer is None:
            return None, 0
        time = row_of(self._client, answer.data[0]).time if answer.data else None
        return time, answer.total_count or 0

    def _first_of(self, order: Mapping[str, str]) -> ListAnswer | None:
        query = {**order, "pageSize": 1, "includeTotal": "true"}
        for page in range(1, MOST_NEIGHBOURS + 1):
            try:
                return self._request({**query, "page": page}, accept=(_BAD_REQUEST,))
            except FAILURES as error:
                # One that cannot be read; its neighbour shows the order as well.
                if not (self._client.may_narrow(error) and self._client.lists_others()):
                    raise
        return self._request({**query, "page": MOST_NEIGHBOURS + 1}, accept=(_BAD_REQUEST,))

    def _query(self) -> dict[str, Any]:
        position, order = self._position, self._client.resource.order
        query: dict[str, Any] = {"page": position.page, "pageSize": self._page_size}
        if position.way == "walk":
            return {**order("ModifiedOn"), **query}
        query["includeTotal"] = "true"
        if (before := position.end_of_ties) is not None:
            return {**order("Id"), **query, "modifiedBefore": as_text(before)}
        return query

    def _request(
        self,
        query: Mapping[str, Any],
        *,
        accept: Sequence[int] = (),
        attempts: int | None = None,
    ) -> ListAnswer | None:
        """Request a page; None for an accepted error status."""
        params: dict[str, Any] = {"active": "Any", **query}
        if self._position.at is not None:
            params["modifiedOnOrAfter"] = as_text(self._position.at)
        if self._span.created_before is not None:
            params["createdBefore"] = as_text(self._span.created_before)
        if self._span.modified_before is not None:
            params.setdefault("modifiedBefore", as_text(self._span.modified_before))
        return self._client.read(
            self._client.resource.stream, params, ListAnswer, accept=accept, attempts=attempts
        )

    def _request_page(self, query: Mapping[str, Any], *, attempts: int | None = None) -> ListAnswer:
        """Request a page, by its number again where it is neither full nor the last."""
        answer = self._request(query, attempts=attempts)
        assert answer is not None  # noqa: S101 - a refusal was raised
        if self._position.way == "walk":
            return answer  # what it lacks comes with the next one, from its last row on
        for _ in range(_MOST_SHORT - 1):
            if not answer.has_more or len(answer.data) >= query["pageSize"]:
                break
            again = self._request(query, attempts=attempts)
            assert again is not None  # noqa: S101 - a refusal was raised
            if answer.data and len(again.data) == len(answer.data):
                break  # it holds no more than that
            answer = max(again, answer, key=lambda each: len(each.data))
        return answer

    def _step(self) -> list[Row]:
        """Send one request, advance, and return the rows that were not delivered before."""
        try:
            answer = self._request_page(self._query())
        except FAILURES as error:
            narrowing = self._narrowing(error)
            if self._position.way == "walk":
                self._enclose(narrowing)
                return []
            position, size = self._position, self._page_size
            before = position.end_of_ties or self._latest
            read = narrowing.page((position.page - 1) * size, size, position.at, before)
        else:
            if answer.has_more and not answer.data:
                self._empty += 1
                if self._empty > _MOST_EMPTY:
                    raise SourceUnavailableError(
                        f"{self._what} says it has more, and gives nothing"
                    )
                return []
            rows = [row_of(self._client, raw) for raw in answer.data]
            read = Read(rows, {answer.total_count}, answer.has_more)
        self._empty = 0
        return self._take(read)

    def _take(self, read: Read) -> list[Row]:
        fresh: list[Row] = []
        new = 0
        for row in read.rows:
            known = self._seen.get(row.id)
            if known is None and self._is_behind(row):
                continue
            if known != row.content:
                self._seen[row.id] = row.content
                fresh.append(row)
            new += known is None
            self.unreadable += known is None and row.unreadable
        delivered = self._position.delivered + new
        self._position = msgspec.structs.replace(self._position, delivered=delivered)
        if fresh:
            self._returns = 0
        if self._position.way == "walk":
            self._advance_keyset(read.rows, has_more=read.has_more)
        else:
            self._pass.add(read, new=new)
            self._advance_page(has_more=read.has_more)
        return fresh

    def _is_behind(self, row: Row) -> bool:
        """Whether a record lies behind the high-water mark: it was delivered, and not requested."""
        at = self._position.at
        if self._position.way == "all" or at is None or row.time is None:
            return False
        return row.time < at

    def _give_up(self, why: str) -> None:
        """End the pagination with an error, behind a cursor that counts how often it did."""
        circles = self._position.circles + 1
        if circles > _MOST_CIRCLES:
            raise SourceProtocolError(f"{self._what} {why}; it was taken up {_MOST_CIRCLES} times")
        self._position = msgspec.structs.replace(self._position, circles=circles)
        self._no_headway = f"{self._what} {why}"

    def _narrowing(self, error: ETLError) -> Narrowing:
        query = self._query()

        def request(page: int, size: int, attempts: int | None) -> ListAnswer:
            part = {**query, "page": page, "pageSize": size}
            return self._request_page(part, attempts=attempts)

        return Narrowing(self._client, request, error)

    def _enclose(self, narrowing: Narrowing) -> None:
        """Turn to a span of time that encloses the unreadable record and its neighbours."""
        at, latest, passed, closed, has_more = self._position.at, None, False, False, True
        for part in narrowing.read(0, self._page_size + MOST_NEIGHBOURS + 1):
            if isinstance(part, Unreadable):
                passed = True
                continue
            has_more = part.has_more
            times = [time for time in (row_of(self._client, raw).time for raw in part.data) if time]
            if times:
                latest, closed = times[0] if passed else times[-1], passed
            if closed:
                break
        if latest is None or (passed and not closed and not has_more):
            # Nothing behind it has a time: there is no end to give to a span.
            self._go("all", at)
        elif at is not None and latest < at:
            self._go("all", self._span.start)
        else:
            self._go("ties", at, before=latest + TICK)

    def _advance_keyset(self, rows: Sequence[Row], *, has_more: bool) -> None:
        at = self._position.at
        # A record without a time says nothing about the order.
        times = [row.time for row in rows if row.time is not None]
        if any(one > other for one, other in pairwise(times)) or (has_more and not times):
            self._go("all", self._span.start)
        elif not has_more:
            self._end_keyset()
        elif at is None or times[-1] > at:
            self._returns = 0
            self._go("walk", times[-1])
        else:
            self._go("ties", at)

    def _advance_page(self, *, has_more: bool) -> None:
        position = self._position
        if has_more:
            self._position = msgspec.structs.replace(position, page=position.page + 1)
            if self._pass.stale > _MOST_STALE:
                self._give_up(
                    f"says that it has more, and {self._pass.stale} pages in a row held only what "
                    "came before, as if page or sort were ignored"
                )
            return
        if not self._pass.is_complete:
            # One that began at a cursor tells nothing of what is missing.
            if position.pass_number < _MOST_PASSES or not self._pass.from_its_start:
                number = position.pass_number + 1
                self._go_to(msgspec.structs.replace(position, page=1, pass_number=number))
                return
            if self._pass.shortfall:
                self._rejects.append(self._missing_records(self._pass.shortfall))
        if position.way == "all":
            self._ended = True
        elif self._pass.is_empty or (until := position.end_of_ties) is None:
            # There were some: the list does not know times as exactly as it writes them.
            self._go("all", position.at)
        else:
            self._returns += 1
            self._go("walk", until)
            if self._returns > _MOST_RETURNS:
                self._give_up(
                    "gives again and again what was requested before, as if modifiedOnOrAfter and "
                    "modifiedBefore were ignored"
                )

    def _missing_records(self, count: int) -> Reject:
        """The reject for what the list counts, and gave in no pass."""
        stream, position = self._client.resource.stream, self._position
        before = position.end_of_ties
        return Reject(
            stage="extract",
            reason=f"ServiceTitan counts {count} more of the {stream} than it gave, in each of "
            f"{_MOST_PASSES} readings of its list",
            payload={
                "stream": stream,
                "shortfall": True,
                "modified_on_or_after": None if position.at is None else as_text(position.at),
                "modified_before": None if before is None else as_text(before),
            },
        )

    def _end_keyset(self) -> None:
        if self._position.delivered < self._position.expected:
            self._go("all", self._span.start)
        else:
            self._ended = True

    def _go(self, way: Way, at: datetime | None, *, before: datetime | None = None) -> None:
        position = msgspec.structs.replace(
            self._position, way=way, at=at, before=before, page=1, pass_number=1
        )
        self._go_to(position)

    def _go_to(self, position: ListPosition) -> None:
        self._position = position
        self._pass = Pass(from_its_start=True)
