"""The walk through a list, oldest change first, that survives rows moving under its feet.

Each request starts anew at the time of the last record (the anchor), inclusive: what changes goes
to the end, where it is met again, and what shifts behind the anchor cannot make the walk skip.

Page numbers are needed where one time has more records than a page: there the API gives no order,
so that they are read by id, apart. And where a list does not keep the order it is asked for, or
gave fewer records than it had counted, all of it is read by page numbers. Such a run is read again
until one round has found as many as the list counts all the while, because rows slip over the
edges of pages when one before them goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import msgspec
import xxhash
from pydantic import JsonValue

from temporaletl import ConfigurationError, RecordError, Reject, SourceUnavailableError
from temporaletl.clock import utc_now
from worker.sources.servicetitan.extract.client import Found, ServiceTitanClient, Span, as_text
from worker.sources.servicetitan.record import Record, bare_of, moment

_BAD_REQUEST = 400
_MOST_ROUNDS = 6
_MOST_EMPTY = 4
_MOST_REPEATS = 4
#: Records have times to 100 ns, and are known here by those to a microsecond.
_TICK = timedelta(microseconds=1)

#: `walk` from anchor to anchor, `ties` are the records of the anchor's very time, `all` are those
#: from the anchor on, in whatever order.
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
    page: int = 1
    round: int = 1
    #: How many records the list counted at the beginning, and how many came since.
    expected: int = 0
    delivered: int = 0


class _Answer(msgspec.Struct, rename="camel"):
    data: list[msgspec.Raw]
    has_more: bool
    total_count: int | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    id: int | str
    time: datetime | None
    #: Tells one version of the record from another.
    content: int
    read: Record[Any] | Reject


class _Round:
    """One reading of all pages of a run."""

    def __init__(self, *, from_its_start: bool) -> None:
        self._from_its_start = from_its_start
        self._ids: set[int | str] = set()
        self._counts: set[int | None] = set()
        self.found_new = not from_its_start

    def add(self, rows: Sequence[_Row], count: int | None, *, new: int) -> None:
        self._ids.update(row.id for row in rows)
        self._counts.add(count)
        self.found_new |= new > 0

    @property
    def is_empty(self) -> bool:
        return not self._ids

    @property
    def is_whole(self) -> bool:
        """Whether it cannot have missed anything; without counts, whether it found nothing new."""
        count = next(iter(self._counts)) if len(self._counts) == 1 else None
        if count is None:
            return self._counts == {None} and not self.found_new
        return self._from_its_start and len(self._ids) >= count


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
        #: What was delivered at or after the anchor: its time, and its content.
        self._seen: dict[int | str, tuple[datetime | None, int]] = {}
        self._round = _Round(from_its_start=self._place.page == 1)
        self._before: list[int | str] = []
        self._empty = self._repeats = 0
        self._ended = False

    def next(self) -> Found | None:
        """Return the next records, None at the end. Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be.
        """
        asked = utc_now()
        while not self._ended:
            if self._place.way is None:
                self._learn()
            fresh = self._step()
            if fresh:
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
        order = self._client.resource.order("ModifiedOn", descending=descending)
        answer = self._ask(
            {**order, "page": 1, "pageSize": 1, "includeTotal": "true"}, accept=(_BAD_REQUEST,)
        )
        if answer is None:
            return None, 0
        time = self._row(answer.data[0]).time if answer.data else None
        return time, answer.total_count or 0

    def _query(self) -> dict[str, Any]:
        place, order = self._place, self._client.resource.order
        query: dict[str, Any] = {"page": place.page, "pageSize": self._page_size}
        if place.way == "walk":
            return {**order("ModifiedOn"), **query}
        query["includeTotal"] = "true"
        if place.way == "ties" and place.at is not None:
            return {**order("Id"), **query, "modifiedBefore": as_text(place.at + _TICK)}
        return query

    def _ask(self, query: Mapping[str, Any], *, accept: Sequence[int] = ()) -> _Answer | None:
        """Ask; None for an answer that is accepted though it is a refusal."""
        params: dict[str, Any] = {"active": "Any", **query}
        if self._place.at is not None:
            params["modifiedOnOrAfter"] = as_text(self._place.at)
        if self._span.created_before is not None:
            params["createdBefore"] = as_text(self._span.created_before)
        return self._client.read(self._client.resource.stream, params, _Answer, accept=accept)

    def _step(self) -> list[_Row]:
        """Ask once, move on, and return what was not delivered before."""
        answer = self._ask(self._query())
        assert answer is not None  # noqa: S101 - a refusal was raised
        if answer.has_more and not answer.data:
            self._empty += 1
            if self._empty > _MOST_EMPTY:
                raise SourceUnavailableError(f"{self._what} says it has more, and gives nothing")
            return []
        self._empty = 0
        rows = [self._row(raw) for raw in answer.data]
        fresh: list[_Row] = []
        new = 0
        for row in rows:
            known = self._seen.get(row.id)
            if known is None or known[1] != row.content:
                self._seen[row.id] = (row.time, row.content)
                fresh.append(row)
            new += known is None
        delivered = self._place.delivered + new
        self._place = msgspec.structs.replace(self._place, delivered=delivered)
        if self._place.way == "walk":
            self._walk_on(rows, has_more=answer.has_more)
        else:
            self._round.add(rows, answer.total_count, new=new)
            self._page_on(rows, has_more=answer.has_more)
        return fresh

    def _walk_on(self, rows: Sequence[_Row], *, has_more: bool) -> None:
        at = self._place.at
        # A record without a time tells nothing about the order.
        times = [row.time for row in rows if row.time is not None]
        if any(one > other for one, other in pairwise(times)) or (has_more and not times):
            self._go("all", self._span.start)
        elif not has_more:
            self._end_walk()
        elif at is None or times[-1] > at:
            self._go("walk", times[-1])
        else:
            self._go("ties", at)

    def _page_on(self, rows: Sequence[_Row], *, has_more: bool) -> None:
        place = self._place
        if has_more:
            ids = [row.id for row in rows]
            self._repeats = self._repeats + 1 if ids == self._before else 0
            if self._repeats > _MOST_REPEATS:
                raise SourceUnavailableError(f"{self._what} gives one page again and again")
            self._before = ids
            self._place = msgspec.structs.replace(place, page=place.page + 1)
        elif not self._round.is_whole and place.round < _MOST_ROUNDS:
            self._turn_to(msgspec.structs.replace(place, page=1, round=place.round + 1))
        elif place.way == "all":
            self._ended = True
        elif self._round.is_empty or place.at is None:
            # There were some: the list does not know times as exactly as it writes them.
            self._go("all", place.at)
        else:
            self._go("walk", place.at + _TICK)

    def _end_walk(self) -> None:
        if self._place.delivered < self._place.expected:
            self._go("all", self._span.start)
        else:
            self._ended = True

    def _go(self, way: Way, at: datetime | None) -> None:
        self._turn_to(msgspec.structs.replace(self._place, way=way, at=at, page=1, round=1))
        if way == "walk" and at is not None:
            for id_ in [i for i, (time, _) in self._seen.items() if time and time < at]:
                del self._seen[id_]

    def _turn_to(self, place: ListPosition) -> None:
        self._place = place
        self._round = _Round(from_its_start=True)
        self._before = []
        self._repeats = 0

    def _row(self, found: msgspec.Raw) -> _Row:
        read = self._client.record(found)
        content = xxhash.xxh3_64_intdigest(bytes(found))
        if isinstance(read, Record):
            id_, text = read.body.id, read.body.modified_on
        else:
            bare = bare_of(found)
            id_ = bare.id if isinstance(bare.id, int | str) else f"content {content}"
            text = bare.modified_on if isinstance(bare.modified_on, str) else None
        try:
            time = moment(text, "modifiedOn")
        except RecordError:
            time = None
        return _Row(id_, time, content, read)
