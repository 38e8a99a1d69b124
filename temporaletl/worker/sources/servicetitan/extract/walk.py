"""The walk through a list, oldest change first, that survives rows moving under its feet.

Each request starts anew at the time of the last record (the anchor), inclusive: what changes goes
to the end, where it is met again, and what shifts behind the anchor cannot make the walk skip.

Page numbers are needed where one time has more records than a page: there the API gives no order,
so that they are read by id, apart. And where a list does not keep the order it is asked for, or
gave fewer records than it had counted, all of it is read by page numbers. Such a run is read again
until one round has found as many as the list counts all the while, because rows slip over the
edges of pages when one before them goes.

Where a page fails for the sake of one record that cannot be rendered, positions are all that is
known of it, and they shift as well. So a span of time is chosen that ends behind it, and is read as
one time with many records is: by id, in parts, again until nothing can be missing. There the record
counts as met, and is a reject.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import msgspec
from pydantic import JsonValue

from temporaletl import ConfigurationError, Reject, SourceProtocolError, SourceUnavailableError
from temporaletl.clock import utc_now
from temporaletl.errors import ETLError
from temporaletl.worker.sources.servicetitan.extract.client import (
    FAILURES,
    Found,
    ListAnswer,
    ServiceTitanClient,
    Span,
    as_text,
)
from temporaletl.worker.sources.servicetitan.extract.narrowing import (
    MOST_NEIGHBOURS,
    Narrowing,
    Unreadable,
)
from temporaletl.worker.sources.servicetitan.extract.rounds import Read, Round, Row, row_of
from temporaletl.worker.sources.servicetitan.record import Record

_BAD_REQUEST = 400
_MOST_ROUNDS = 6
_MOST_EMPTY = 4
#: Pages in a row of a round that hold only what it has met.
_MOST_STALE = 10
#: Returns in a row from records of one time to the walk, with nothing that was not delivered.
_MOST_RETURNS = 3
#: How often one job may be left without headway, and be taken up again.
_MOST_CIRCLES = 3
#: Records have times to 100 ns, and are known here by those to a microsecond.
_TICK = timedelta(microseconds=1)
#: Behind the present, by whatever clock.
_FAR = timedelta(days=2)

#: `walk` from anchor to anchor, `ties` are the records from the anchor on until `before`, most
#: often those of the anchor's very time, `all` are those from the anchor on, in whatever order.
Way = Literal["walk", "ties", "all"]


class ListPosition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="paging", tag="list"
):
    """Where a walk stands; as JSON it is a page's cursor.

    Everything modified before `at` is delivered.
    """

    #: None before it is known whether the list keeps its order.
    way: Way | None = None
    at: datetime | None = None
    before: datetime | None = None
    page: int = 1
    round: int = 1
    #: How many records the list counted at the beginning, and how many came since.
    expected: int = 0
    delivered: int = 0
    #: How often there was no headway.
    circles: int = 0


class Walk:
    """Finds every record of a span at least once, from a cursor on."""

    def __init__(
        self, client: ServiceTitanClient, span: Span, page_size: int, cursor: JsonValue
    ) -> None:
        self._client = client
        self._span = span
        self._page_size = page_size
        try:
            self._place = (
                ListPosition(at=span.start)
                if cursor is None
                else msgspec.convert(cursor, ListPosition)
            )
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a walk through a list: {error}") from None
        #: The content of what was delivered. A walk lives no longer than a segment.
        self._seen: dict[int | str, int] = {}
        self._round = Round(from_its_start=self._place.page == 1)
        self._empty = self._returns = 0
        self._no_headway: str | None = None
        self._ended = False
        #: Whatever this walk meets was modified before.
        self._latest = span.modified_before or (utc_now() + _FAR).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        #: How many records could not be read.
        self.unreadable = 0

    @property
    def reached(self) -> datetime | None:
        """Everything modified before it is delivered; None where nothing is known of the times."""
        return self._place.at if self._place.way == "walk" else None

    def next(self) -> Found | None:
        """Return the next records, None at the end. Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be. What comes
                right before it may hold nothing but that cursor.
            SourceProtocolError: no headway from several cursors.
            ETLError: as `ServiceTitanSite.read`, where it is not a single record's fault.
        """
        asked = utc_now()
        while not self._ended:
            if self._no_headway is not None:
                raise SourceUnavailableError(self._no_headway)
            if self._place.way is None:
                self._learn()
            fresh = self._step()
            if fresh or self._no_headway is not None:
                cursor: JsonValue = msgspec.to_builtins(self._place)
                return Found(
                    records=[row.read for row in fresh if isinstance(row.read, Record)],
                    rejects=[row.read for row in fresh if isinstance(row.read, Reject)],
                    cursor=cursor,
                    asked=asked,
                )
        return None

    @property
    def _what(self) -> str:
        return f"servicetitan: the list of {self._client.resource.stream}"

    def _learn(self) -> None:
        """Find out whether the list keeps its order, and how many records it has.

        Not every list documents an order. One that keeps it gives a newer record when it is asked
        for the newest first than for the oldest first.
        """
        newest, count = self._end_of(descending=True)
        oldest, _ = self._end_of(descending=False)
        ordered = newest is not None and oldest is not None and newest > oldest
        self._place = msgspec.structs.replace(
            self._place, way="walk" if ordered else "all", expected=count
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
                return self._ask({**query, "page": page}, accept=(_BAD_REQUEST,))
            except FAILURES as error:
                # One that cannot be read; of the order its neighbour tells as much.
                if not (self._client.may_narrow(error) and self._client.lists_others()):
                    raise
        return self._ask({**query, "page": MOST_NEIGHBOURS + 1}, accept=(_BAD_REQUEST,))

    def _query(self) -> dict[str, Any]:
        place, order = self._place, self._client.resource.order
        query: dict[str, Any] = {"page": place.page, "pageSize": self._page_size}
        if place.way == "walk":
            return {**order("ModifiedOn"), **query}
        query["includeTotal"] = "true"
        if (before := _end_of_ties(place)) is not None:
            return {**order("Id"), **query, "modifiedBefore": as_text(before)}
        return query

    def _ask(
        self,
        query: Mapping[str, Any],
        *,
        accept: Sequence[int] = (),
        attempts: int | None = None,
    ) -> ListAnswer | None:
        """Ask; None for an answer that is accepted though it is a refusal."""
        params: dict[str, Any] = {"active": "Any", **query}
        if self._place.at is not None:
            params["modifiedOnOrAfter"] = as_text(self._place.at)
        if self._span.created_before is not None:
            params["createdBefore"] = as_text(self._span.created_before)
        if self._span.modified_before is not None:
            params.setdefault("modifiedBefore", as_text(self._span.modified_before))
        return self._client.read(
            self._client.resource.stream, params, ListAnswer, accept=accept, attempts=attempts
        )

    def _step(self) -> list[Row]:
        """Ask once, move on, and return what was not delivered before."""
        try:
            answer = self._ask(self._query())
        except FAILURES as error:
            narrowing = self._narrowing(error)
            if self._place.way == "walk":
                self._enclose(narrowing)
                return []
            place, size = self._place, self._page_size
            before = _end_of_ties(place) or self._latest
            read = narrowing.page((place.page - 1) * size, size, place.at, before)
        else:
            assert answer is not None  # noqa: S101 - a refusal was raised
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
        delivered = self._place.delivered + new
        self._place = msgspec.structs.replace(self._place, delivered=delivered)
        if fresh:
            self._returns = 0
        if self._place.way == "walk":
            self._walk_on(read.rows, has_more=read.has_more)
        else:
            self._round.add(read, new=new)
            self._page_on(has_more=read.has_more)
        return fresh

    def _is_behind(self, row: Row) -> bool:
        """Whether a record is one that was delivered, and was not asked for."""
        at = self._place.at
        if self._place.way == "all" or at is None or row.time is None:
            return False
        return row.time < at

    def _give_up(self, why: str) -> None:
        """Have the walk end with an error, behind a cursor that tells how often it did."""
        circles = self._place.circles + 1
        if circles > _MOST_CIRCLES:
            raise SourceProtocolError(f"{self._what} {why}; it was taken up {_MOST_CIRCLES} times")
        self._place = msgspec.structs.replace(self._place, circles=circles)
        self._no_headway = f"{self._what} {why}"

    def _narrowing(self, error: ETLError) -> Narrowing:
        query = self._query()

        def ask(page: int, size: int, attempts: int | None) -> ListAnswer:
            answer = self._ask({**query, "page": page, "pageSize": size}, attempts=attempts)
            assert answer is not None  # noqa: S101 - a refusal was raised
            return answer

        return Narrowing(self._client, ask, error)

    def _enclose(self, narrowing: Narrowing) -> None:
        """Turn to a span of time that has in it what could not be read, and what is next to it."""
        at, latest, passed, closed, has_more = self._place.at, None, False, False, True
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
            self._go("ties", at, before=latest + _TICK)

    def _walk_on(self, rows: Sequence[Row], *, has_more: bool) -> None:
        at = self._place.at
        # A record without a time tells nothing about the order.
        times = [row.time for row in rows if row.time is not None]
        if any(one > other for one, other in pairwise(times)) or (has_more and not times):
            self._go("all", self._span.start)
        elif not has_more:
            self._end_walk()
        elif at is None or times[-1] > at:
            self._returns = 0
            self._go("walk", times[-1])
        else:
            self._go("ties", at)

    def _page_on(self, *, has_more: bool) -> None:
        place = self._place
        if has_more:
            self._place = msgspec.structs.replace(place, page=place.page + 1)
            if self._round.stale > _MOST_STALE:
                self._give_up(
                    f"says that it has more, and {self._round.stale} pages in a row held only what "
                    "came before, as if page or sort were ignored"
                )
        elif not self._round.is_whole and place.round < _MOST_ROUNDS:
            self._turn_to(msgspec.structs.replace(place, page=1, round=place.round + 1))
        elif place.way == "all":
            self._ended = True
        elif self._round.is_empty or (until := _end_of_ties(place)) is None:
            # There were some: the list does not know times as exactly as it writes them.
            self._go("all", place.at)
        else:
            self._returns += 1
            self._go("walk", until)
            if self._returns > _MOST_RETURNS:
                self._give_up(
                    "gives again and again what was asked for before, as if modifiedOnOrAfter and "
                    "modifiedBefore were ignored"
                )

    def _end_walk(self) -> None:
        if self._place.delivered < self._place.expected:
            self._go("all", self._span.start)
        else:
            self._ended = True

    def _go(self, way: Way, at: datetime | None, *, before: datetime | None = None) -> None:
        place = msgspec.structs.replace(self._place, way=way, at=at, before=before, page=1, round=1)
        self._turn_to(place)

    def _turn_to(self, place: ListPosition) -> None:
        self._place = place
        self._round = Round(from_its_start=True)


def _end_of_ties(place: ListPosition) -> datetime | None:
    """Before when the records of the ties were modified; None where there is no such end."""
    if place.way != "ties":
        return None
    if place.before is not None or place.at is None:
        return place.before
    return place.at + _TICK
