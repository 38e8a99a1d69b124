"""Ledger, loader and source of a segment, in memory."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from temporaletl import strategies
from temporaletl.errors import RetryableError
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import (
    ENDED,
    ETLInput,
    JobProgress,
    JobState,
    RowCounts,
    RunPolicy,
    SegmentResult,
)
from temporaletl.query import Query
from temporaletl.rows import Event, Row
from temporaletl.strategies import Transformer
from temporaletl.transformation import TransformContext
from temporaletl.worker import segment
from temporaletl.worker.loading import Lineage, PageLoad, PageSupersededError
from temporaletl.worker.segment import SegmentLimits, run_segment
from tests.registries import forget_sources

NOW = datetime(2024, 5, 1, tzinfo=UTC)

type Extract = Callable[[PageRequest[ShopQuery]], AsyncGenerator[Page]]


class ShopQuery(Query):
    region: str = "north"


def order(record: Any, _context: TransformContext[ShopQuery]) -> list[Row]:
    if isinstance(record, Exception):
        raise record
    return [Event(event_id=str(record), event_type="order_made", event_time_utc=NOW)]


class Listener:
    """Hears of pages; `stop_after` so many it asks the segment to stop."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stopping = asyncio.Event()
        self.reports: list[JobProgress] = []
        self._stop_after = stop_after

    def report(self, progress: JobProgress) -> None:
        self.reports.append(progress)
        if progress.pages == self._stop_after:
            self.stopping.set()


@dataclass
class Shop:
    """One job of the source `shop`: what it extracts, and the ledger that has its pages."""

    extract: Extract | None = None
    transform: Callable[[Any, TransformContext[ShopQuery]], list[Row]] = order
    progress: JobProgress = field(
        default_factory=lambda: JobProgress(state="planned", stream="orders")
    )
    loads: list[PageLoad] = field(default_factory=list)
    #: Called with each page before it is loaded, in the loader's thread; may block or raise.
    before_load: Callable[[PageLoad], None] | None = None
    closed: int = 0  # generators that were closed
    #: Remaining cool-down of the source; None where it has none.
    cool_down: timedelta | None = None
    #: Errors after which the source was blocked for all workers.
    blocked_after: list[RetryableError] = field(default_factory=list)
    people: dict[str, str] = field(default_factory=dict)
    policy: RunPolicy = field(default_factory=RunPolicy)
    #: The warehouse's.
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def loaded(self) -> list[str]:
        """The ids of all rows, in the order of loading."""
        return [row.event_id for load in self.loads for row in load.rows if isinstance(row, Event)]

    def job(self, **params: Any) -> ETLInput:
        return ETLInput(
            batch_id="b", seq=0, job_id="j", source="shop", stream="orders", mode="full",
            params=params, policy=self.policy,
        )  # fmt: skip

    async def run(
        self,
        *,
        listener: Listener | None = None,
        seconds: float = 60,
        rows_per_page: int = 1,
        params: dict[str, Any] | None = None,
    ) -> SegmentResult:
        async with asyncio.timeout(120):
            return await run_segment(
                self.job(**(params or {})),
                warehouse=None,  # type: ignore[arg-type] # the doubles need none
                workflow_id="w",
                run_id="r",
                limits=SegmentLimits(timedelta(seconds=seconds), rows_per_page),
                progress=listener or Listener(),
            )

    async def _extract(self, request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        assert self.extract is not None
        try:
            async with contextlib.aclosing(self.extract(request)) as pages:
                async for page in pages:
                    yield page
        finally:
            self.closed += 1

    def begin_job(self, _warehouse: object, _job: ETLInput, **_ids: str) -> tuple[Any, ...]:
        if self.progress.state not in ENDED:
            self.progress = self.progress.model_copy(update={"state": "running"})
        return self.progress, self.clock, self.cool_down

    def end_job(self, _warehouse: object, _job: ETLInput, state: JobState) -> JobProgress:
        self.progress = self.progress.model_copy(update={"state": state})
        return self.progress

    def load(self, page: PageLoad) -> JobProgress:
        if self.before_load is not None:
            self.before_load(page)
        before = self.progress
        if page.number != before.pages:
            raise PageSupersededError(f"page {page.number} was loaded by another attempt")
        assert page.cursor_before == before.cursor
        self.loads.append(page)
        self.progress = before.model_copy(
            update={
                "pages": before.pages + 1,
                "records": before.records + page.records,
                "rejected_records": before.rejected_records + page.rejected_records,
                "cursor": page.cursor,
                "rows": RowCounts(
                    inserted=before.rows.inserted + len(page.rows),
                    rejected=before.rows.rejected + len(page.rejects),
                ),
            }
        )
        return self.progress


class SourceLimiter:
    """Rate limiter of the shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def needed_wait(self, delay: timedelta | None) -> timedelta | None:
        return delay

    def rate_limiter(self) -> None: ...

    def block_after(self, error: RetryableError) -> None:
        self.shop.blocked_after.append(error)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A registered source whose pages are loaded into memory."""
    made = Shop()

    class Loader:
        def __init__(
            self,
            _warehouse: object,
            rows: object,
            lineage: Lineage,
            *,
            reject_payload_bytes: int,  # noqa: ARG002 - nothing is kept
        ) -> None:
            assert (rows, lineage.workflow_id, lineage.run_id) == ((Event,), "w", "r")

        def prepare_for_batch(self) -> None: ...

        def load(self, page: PageLoad) -> JobProgress:
            return made.load(page)

    def transform(record: Any, context: TransformContext[ShopQuery]) -> list[Row]:
        return made.transform(record, context)

    forget_sources(monkeypatch)
    strategies.queries.register("shop", ShopQuery, place="here")
    strategies.extractors.register("shop-orders", made._extract, place="here")
    strategies.transformers.register("shop", Transformer(transform, (Event,)), place="here")

    def people_of_batch(
        _warehouse: object, source: str, connection: str, batch_id: str
    ) -> dict[str, str]:
        assert (source, connection, batch_id) == ("shop", "default", "b")
        return made.people

    monkeypatch.setattr(segment, "SourceLimiter", lambda _warehouse, _job: SourceLimiter(made))
    monkeypatch.setattr(segment, "people_of_batch", people_of_batch)
    monkeypatch.setattr(segment, "Loader", Loader)
    monkeypatch.setattr(segment, "begin_job", made.begin_job)
    monkeypatch.setattr(segment, "end_job", made.end_job)
    monkeypatch.setattr(segment, "advance_loaded", lambda *_: None)
    return made


def counting(pages: int, size: int = 1, *, then: Extract | None = None) -> Extract:
    """Pages of consecutive numbers; the cursor is the next page. Goes on with `then`."""

    async def extract(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        for page in range(int(str(request.cursor or 0)), pages):
            yield Page(records=range(page * size, (page + 1) * size), cursor=page + 1)
        if then is not None:
            async for page_ in then(request):
                yield page_

    return extract


def failing(error: Exception) -> Extract:
    """Raises at once."""

    async def extract(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
        raise error
        yield

    return extract


async def never(_request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
    """Waits for a page that does not come."""
    await asyncio.Event().wait()
    yield Page(records=[], cursor=None)


def gate(event: threading.Event) -> Callable[[PageLoad], None]:
    """Holds each load until the event is set."""

    def wait(_page: PageLoad) -> None:
        assert event.wait(timeout=120)

    return wait
