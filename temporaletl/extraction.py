"""Interface of extract strategies: the request for pages, the pages, and stored events."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pydantic import JsonValue

from temporaletl.clock import utc_now
from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rows import Json, Reject, Row


class StoredEvents(Protocol):
    """Stored events and rows of the job's source, which are loaded already.

    `properties` and `rows` block: call them in a thread. They see what is committed, which may lag
    behind the pages that were yielded; await `committed` where those matter. A test brings its own:

        class TwoOrders(NothingStored):
            def properties(self, event_id: str) -> Mapping[str, Json] | None:
                return {"branch": "north"} if event_id in ("order:1", "order:2") else None

        stored: StoredEvents = TwoOrders()
        assert stored.properties("order:3") is None

    Raises:
        WarehouseUnavailableError: the connection broke; a repetition is safe.
    """

    def properties(self, event_id: str) -> Mapping[str, Json] | None:
        """The properties of one of the source's events; None where there is no such event."""

    def rows[R: Row](
        self, wanted: type[R], *, equal: Mapping[str, str], behind: Sequence[str] | None, most: int
    ) -> Sequence[R]:
        """Rows of a class other than `Event`: at most so many, in the order of their keys.

        They have the values of `equal` in those columns, and keys behind `behind`, if that is
        given.
        """

    async def committed(self) -> None:
        """Wait until all pages that were yielded so far are committed."""


class NothingStored:
    """The stored events of a source before its first load; see `StoredEvents`.

    For tests of a source, and for what they make of it:

        assert NothingStored().properties("order:1") is None
    """

    def properties(self, event_id: str) -> Mapping[str, Json] | None:  # noqa: ARG002
        return None

    def rows[R: Row](
        self,
        wanted: type[R],  # noqa: ARG002
        *,
        equal: Mapping[str, str],  # noqa: ARG002
        behind: Sequence[str] | None,  # noqa: ARG002
        most: int,  # noqa: ARG002
    ) -> Sequence[R]:
        return ()

    async def committed(self) -> None:
        return


_NOTHING_STORED = NothingStored()


@dataclass(slots=True)
class SegmentEnding:
    """The end of a segment before that of its job, between the segment and its extraction.

    A strategy is left behind the page that it is asked for. One that reads ahead heeds the ending
    instead: it requests nothing more, yields what is under way, and ends.
    """

    is_due: bool = False
    is_heeded: bool = False
    #: Whether extraction ended for it: there may be more pages.
    has_cut_short: bool = False

    def cuts_short(self) -> bool:
        """Whether to extract nothing more, though there may be more."""
        self.has_cut_short = self.has_cut_short or self.is_due
        return self.is_due


@dataclass(frozen=True, slots=True)
class PageRequest[Q: Query]:
    """Request of a job for its pages, from a cursor on.

    `query` is of the class that the source registered. `cursor` is None for the job's first page,
    else the `cursor` of the last page whose rows are committed. `stored` looks into what is loaded.
    `ending` is for strategies that read ahead.

        async def pages(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
            behind = int(str(request.cursor or 0))
            requested_at = request.now()
            orders = shop.orders(request.query.region, behind=behind)
            yield Page(orders, cursor=behind + len(orders), extracted_at=requested_at)
    """

    job: ETLInput
    query: Q
    cursor: JsonValue = None
    stored: StoredEvents = _NOTHING_STORED
    ending: SegmentEnding = field(default_factory=SegmentEnding, compare=False)

    def now(self) -> datetime:
        """The time by the warehouse's clock, in UTC: for `Page.extracted_at`."""
        return utc_now()


@dataclass(frozen=True, slots=True)
class Page:
    """Page of records, and the cursor behind them.

    `cursor` is committed in the transaction that holds the records' rows; extraction goes on
    there after any interruption. `rejects` are records that could not even be decoded.
    `extracted_at` is for strategies that read ahead: when the page was requested, by the
    request's `now`. Others leave it to the platform. `note` is what a person should know of the
    job though nothing failed; the last one stands in its summary.

        page = Page(
            records=[{"id": 7, "branch": "north"}],
            cursor={"after": 7},
            rejects=[Reject(stage="extract", reason="no JSON", key="8", payload=b"{")],
        )
    """

    records: Sequence[Any]
    cursor: JsonValue
    rejects: Sequence[Reject] = ()
    extracted_at: datetime | None = None
    note: str | None = None


class ExtractMethod[Q: Query](Protocol):
    """Async generator of pages in order, from the request's cursor to the end of the job's window.

    Safe to repeat: what is extracted twice has the effect of once.

    Raises: RetryableError or PermanentError; the pages yielded before stay loaded.
    """

    def __call__(self, request: PageRequest[Q], /) -> AsyncGenerator[Page]: ...
