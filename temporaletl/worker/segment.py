"""Segment of a job: extract, transform and load pages for a bounded time.

It does not depend on Temporal: the activity, the engine and the tests run this very code.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Literal, Protocol, Self

from temporaletl.bound_connection import bound
from temporaletl.budget import Requests, rate_limited
from temporaletl.clock import use_clock, utc_now
from temporaletl.connections.providers import find_connection, provided
from temporaletl.errors import RetryableError, SourceUnavailableError
from temporaletl.extraction import Page, PageRequest, SegmentEnding
from temporaletl.messages import ENDED, ETLInput, JobProgress, SegmentResult
from temporaletl.query import Query
from temporaletl.rows import ScanItems
from temporaletl.secrets import redacted
from temporaletl.settings.fields import load_field_rules
from temporaletl.settings.platform import WorkerSettings
from temporaletl.strategies import Strategies
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.metrics import note_wait, pages_superseded
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.cursors import unescaped
from temporaletl.warehouse.identities import people_of_batch
from temporaletl.warehouse.ledger import Begun, begin_job, end_job
from temporaletl.warehouse.source_connections import connections_for
from temporaletl.warehouse.state import advance_loaded
from temporaletl.worker.job_strategies import strategies_of
from temporaletl.worker.loading import (
    JobEvents,
    Lineage,
    Loader,
    PageLoad,
    PageSupersededError,
)
from temporaletl.worker.loading.rejects import PAYLOAD_BYTES
from temporaletl.worker.measuring import note_stages
from temporaletl.worker.segment_time import SegmentTime
from temporaletl.worker.source_limiter import SourceLimiter
from temporaletl.worker.thresholds import Thresholds
from temporaletl.worker.transforming import Transformed, transform_record

log = get_logger("temporaletl.worker.segment")

#: Extracted pages that may wait for the loader: enough to keep it busy, few enough for memory.
_PAGES_AHEAD = 4


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """Limits of a segment: duration, page sizes, and the thresholds that fail its job."""

    duration: timedelta = timedelta(seconds=15)
    rows_per_page: int = 20_000
    reject_threshold: float = 0.1  # share of the job's records
    conflict_threshold: float = 0.01  # share of the job's rows
    reject_payload_bytes: int = PAYLOAD_BYTES  # kept of a rejected record
    scan_duration: timedelta = timedelta(minutes=10)  # of a deletion scan, in one run
    pages: int | None = None  # transactions of one segment; None: as many as its duration holds

    @classmethod
    def of(cls, settings: WorkerSettings) -> Self:
        """The limits that the settings of a worker, or of the local engine, give."""
        return cls(
            duration=timedelta(seconds=settings.segment_seconds),
            rows_per_page=settings.rows_per_page,
            reject_threshold=settings.reject_threshold,
            conflict_threshold=settings.conflict_threshold,
            reject_payload_bytes=settings.reject_payload_bytes,
            scan_duration=timedelta(minutes=settings.deletion_scan_minutes),
        )


class Progress(Protocol):
    """Port of a segment to its runner: progress reports, and the signal to stop."""

    def report(self, progress: JobProgress) -> None:
        """Receive the progress after each committed page."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the segment shall end at its next page boundary."""


@dataclass(frozen=True, slots=True)
class _ExtractedPage:
    """An extracted page and its cost; its rows are at least as new as `requested_at`."""

    page: Page
    requested_at: datetime
    seconds: float
    size: int  # of the answers that it consists of


async def run_segment(
    job: ETLInput,
    *,
    warehouse: Warehouse,
    workflow_id: str,
    run_id: str,
    limits: SegmentLimits,
    progress: Progress,
) -> SegmentResult:
    """Run a job from its ledger cursor for one segment; return its progress.

    Safe to repeat and to run twice at once: a page is committed with the cursor behind it, by
    whoever comes first. The next pages are extracted while the present one is loaded.

    Raises:
        RetryableError: nothing could be loaded; once something was, the segment ends instead,
            and says how long to stay away.
        PermanentError: a person must change something; pages loaded before stay.
    """
    # The segment's own: one that is replaced meanwhile takes effect with the next segment.
    stored = await asyncio.to_thread(connections_for, warehouse, job.connection)
    with provided(stored), bound(job.source, job.connection):
        find_connection(job.source, job.connection)
        return await _run_bound(
            job,
            warehouse=warehouse,
            workflow_id=workflow_id,
            run_id=run_id,
            limits=limits,
            progress=progress,
        )


async def _run_bound(
    job: ETLInput,
    *,
    warehouse: Warehouse,
    workflow_id: str,
    run_id: str,
    limits: SegmentLimits,
    progress: Progress,
) -> SegmentResult:
    def begin() -> tuple[Strategies, Query, Begun]:
        strategies = strategies_of(warehouse, job, scan_duration=limits.scan_duration)
        query = strategies.query.from_dict(job.params)
        return (
            strategies,
            query,
            begin_job(warehouse, job, workflow_id=workflow_id, run_id=run_id),
        )

    strategies, query, (begun, clock, cool_down) = await asyncio.to_thread(begin)
    if begun.state in ENDED:
        return SegmentResult(progress=begun, done=True)
    limiter = SourceLimiter(warehouse, job)
    if (delay := limiter.needed_wait(cool_down)) is not None:
        note_wait("timer", delay.total_seconds())
        waiting = begun.model_copy(update={"error": f"{job.source} is rate-limited for now"})
        return SegmentResult(progress=waiting, done=False, wait=delay)
    lineage = Lineage(
        job=job,
        workflow_id=workflow_id,
        run_id=run_id,
        version=strategies.query.version(),
        specific_version=strategies.query.specific_version(),
    )
    loader = Loader(
        warehouse, strategies.rows, lineage, reject_payload_bytes=limits.reject_payload_bytes
    )

    def prepare() -> Mapping[str, str]:
        loader.prepare_for_batch()
        return people_of_batch(warehouse, job.source, job.connection, job.batch_id)

    people = await asyncio.to_thread(prepare)
    rules = load_field_rules(job.source, strategies.rows)
    context = TransformContext(job=job, query=query, identities=people, field_rules=rules)
    stored = JobEvents(warehouse, job.source, job.connection)
    try:
        with use_clock(clock), rate_limited(limiter.rate_limiter()) as requests:
            segment = _Segment(
                loader, strategies, context, begun, limits, progress, stored, requests
            )
            try:
                done = await segment.run()
            finally:
                log.info(
                    "source_asked",
                    job_id=job.job_id,
                    requests=requests.count,
                    request_seconds=round(requests.seconds, 4),
                )
    except PageSupersededError:
        # Another attempt of this segment is ahead of us: leave the job to it.
        pages_superseded.add(1, source=job.source, connection=job.connection)
        log.info("segment_superseded", job_id=job.job_id, pages=segment.progress.pages)
        return SegmentResult(progress=segment.progress, done=False)
    except RetryableError as error:
        await asyncio.to_thread(limiter.block_after, error)
        if segment.progress.pages == begun.pages:
            raise
        log.info("segment_interrupted", job_id=job.job_id, error=str(error))
        interrupted = segment.progress.model_copy(update={"error": redacted(str(error))})
        wait = error.delay or timedelta(seconds=1)
        note_wait("timer", wait.total_seconds())
        return SegmentResult(progress=interrupted, done=False, wait=wait)
    if not done:
        return SegmentResult(progress=segment.progress, done=False)
    ended = await asyncio.to_thread(_complete, warehouse, job)
    return SegmentResult(progress=ended, done=True)


def _complete(warehouse: Warehouse, job: ETLInput) -> JobProgress:
    ended = end_job(warehouse, job, "completed")
    log.info("job_ended", job_id=job.job_id, state=ended.state, **ended.rows.model_dump())
    if not job.windowless:
        advance_loaded(warehouse, job.batch_id, job.stream)
    return ended


class _Segment:
    def __init__(
        self,
        loader: Loader,
        strategies: Strategies,
        context: TransformContext[Query],
        begun: JobProgress,
        limits: SegmentLimits,
        listener: Progress,
        stored: JobEvents,
        requests: Requests,
    ) -> None:
        self.progress = begun
        self._cursor = unescaped(begun.cursor)
        self._stored = stored
        self._loader = loader
        self._strategies = strategies
        self._context = context
        self._limits = limits
        most = strategies.reject_threshold
        self._thresholds = Thresholds(
            context.job,
            strategies.rows,
            limits.reject_threshold if most is None else most,
            limits.conflict_threshold,
        )
        self._listener = listener
        self._requests = requests
        self._waiting: asyncio.Queue[_ExtractedPage] = asyncio.Queue(_PAGES_AHEAD)
        self._rows_per_record = 1.0  # as met so far
        self._ending = SegmentEnding()
        self._time = SegmentTime(limits.duration, context.job.segment_timeout, self._ending)

    async def run(self) -> bool:
        """Load pages until the job's end (True) or the segment's (False)."""
        first = self.progress.pages
        stopping = asyncio.create_task(self._listener.stopping.wait())
        extracting = asyncio.create_task(self._extract())
        try:
            while not self._listener.stopping.is_set():
                begun = self.progress.pages > first
                patience = self._time.patience(extracting, begun=begun)
                pages = await self._take(extracting, stopping, patience)
                if pages:
                    await asyncio.to_thread(self._load, pages)
                    self._requests.hold(-sum(extracted.size for extracted in pages))
                    self._stored.note_committed(len(pages))
                    self._listener.report(self.progress)
                    if self.progress.pages - first == self._limits.pages:
                        return False
                elif extracting.done() and not self._listener.stopping.is_set():
                    if self._time.called_off:
                        # Also where the source took the cancellation for its end, or failed at
                        # it: the next segment meets the true end, or the failure, by itself.
                        return False
                    extracting.result()
                    if self._ending.has_cut_short:
                        return False
                    self._thresholds.check(self.progress, final=True)
                    return True
                elif not begun and self._time.is_over_for_first:
                    raise self._no_page_error()
            return False
        finally:
            stopping.cancel()
            extracting.cancel()
            await asyncio.gather(stopping, extracting, return_exceptions=True)

    def _no_page_error(self) -> SourceUnavailableError:
        job, waited = self._context.job, self._time.for_first
        return SourceUnavailableError(
            f"{job.source} {job.stream}: no page came in {waited}, which is what a segment has for "
            "its first one (by TEMPORAL_ACTIVITY_TIMEOUT_MINUTES)"
        )

    async def _extract(self) -> None:
        job = self._context.job
        request = PageRequest(
            job=job,
            query=self._context.query,
            cursor=self._cursor,
            stored=self._stored,
            ending=self._ending,
        )
        counted = 0
        async with contextlib.aclosing(self._strategies.extract(request)) as pages:
            while not self._time.called_off:
                requested_at, began = utc_now(), perf_counter()
                page = await anext(pages, None)
                if page is None:
                    return
                seconds = perf_counter() - began
                self._stored.expect_page()
                size = self._requests.received_bytes - counted
                counted += size
                self._requests.hold(size)
                await self._waiting.put(
                    _ExtractedPage(page, page.extracted_at or requested_at, seconds, size)
                )
                if not self._ending.is_heeded and self._ending.cuts_short():
                    return

    async def _take(
        self,
        extracting: asyncio.Task[None],
        stopping: asyncio.Task[Literal[True]],
        patience: float | None,
    ) -> list[_ExtractedPage]:
        """Wait for pages; take as many as one transaction holds well.

        Empty when none came within `patience` seconds, will come, or shall be loaded any more.
        """
        if self._waiting.empty():
            first = asyncio.create_task(self._waiting.get())
            try:
                await asyncio.wait(
                    {first, extracting, stopping},
                    timeout=patience,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                first.cancel()  # nothing, once it is done
            await asyncio.gather(first, return_exceptions=True)
            pages = [] if first.cancelled() else [first.result()]
        else:
            pages = [self._waiting.get_nowait()]
        records = sum(len(extracted.page.records) for extracted in pages)
        while not self._waiting.empty() and (
            records * self._rows_per_record < self._limits.rows_per_page
        ):
            pages.append(self._waiting.get_nowait())
            records += len(pages[-1].page.records)
        return [] if self._listener.stopping.is_set() else pages

    def _load(self, pages: Sequence[_ExtractedPage]) -> None:
        began = perf_counter()
        output = Transformed()
        records = 0
        for extracted in pages:
            page = extracted.page
            if extracted is not pages[0]:
                output.begin_page()
            output.add_extracted(page.rejects, self._context)
            records += len(page.rejects)
            for record in page.records:
                records += not isinstance(record, ScanItems)
                transform_record(self._strategies, self._context, record, output)
        transformed = perf_counter()
        if records:
            self._rows_per_record = max(0.1, len(output.rows) / records)
        self.progress = self._loader.load(
            PageLoad(
                number=self.progress.pages,
                rows=output.rows,
                rejects=output.rejects,
                records=records,
                rejected_records=output.rejected_records,
                page_starts=output.page_starts,
                complete_sets=output.complete_sets,
                scanned=output.scanned,
                note=next((one.page.note for one in reversed(pages) if one.page.note), None),
                reprocessed=output.reprocessed,
                cursor_before=self._cursor,
                cursor=pages[-1].page.cursor,
                extracted_at=min(extracted.requested_at for extracted in pages),
            )
        )
        self._cursor = pages[-1].page.cursor
        note_stages(
            self._context.job,
            page=self.progress.pages,
            rows=len(output.rows),
            rejects=len(output.rejects),
            extract=sum(extracted.seconds for extracted in pages),
            transform=transformed - began,
            load=perf_counter() - transformed,
        )
        self._thresholds.check(self.progress, final=False)
