"""A segment: extract, transform and load pages for a bounded time.

Knows nothing of Temporal: the activity, the preview and the tests run this very code.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Literal, Protocol

import structlog

from temporaletl.budget import Requests, spending
from temporaletl.clock import told_by, utc_now
from temporaletl.connections import bound
from temporaletl.errors import (
    RetryableError,
    SourceUnavailableError,
    TooManyConflictsError,
    TooManyRejectsError,
)
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import ENDED, ETLInput, JobProgress, SegmentResult
from temporaletl.query import Query
from temporaletl.rows import Event, ScanItems
from temporaletl.secrets import redacted
from temporaletl.strategies import Strategies, resolve
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.clock import read_clock
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.cursors import unescaped
from temporaletl.warehouse.identities import people_of_batch
from temporaletl.warehouse.ledger import begin_job, end_job
from temporaletl.warehouse.state import advance_loaded
from temporaletl.worker.asking import Asking
from temporaletl.worker.loading import (
    JobEvents,
    JobScan,
    Lineage,
    Loader,
    PageLoad,
    PageSupersededError,
)
from temporaletl.worker.loading.rejects import PAYLOAD_BYTES
from temporaletl.worker.replay import replaying
from temporaletl.worker.scanning import scanning
from temporaletl.worker.transforming import Transformed, transform_record

log = structlog.get_logger("temporaletl.worker.segment")

#: Extracted pages that may wait for the loader: enough to keep it busy, few enough for memory.
_PAGES_AHEAD = 4
#: The share of a segment's time in which its first page must come: what is left is for saying so.
_FOR_FIRST_PAGE = 0.95
#: Below so many rejects a share says little, unless nothing else came out of the job at all.
_FEW_REJECTS = 10
_FEW_CONFLICTS = 10
#: More than that share of a job's events does not change while the job runs.
_MOST_CHANGING = 0.25


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When a segment ends by itself, and how much it loads at once."""

    duration: timedelta = timedelta(seconds=15)
    rows_per_page: int = 20_000
    reject_threshold: float = 0.1  # share of the job's records
    conflict_threshold: float = 0.01  # share of the job's rows
    reject_payload_bytes: int = PAYLOAD_BYTES  # what is kept of each
    scan_duration: timedelta = timedelta(minutes=10)  # of a deletion scan, in one run
    pages: int | None = None  # transactions of one segment; None: as many as its duration holds


class Progress(Protocol):
    """What a segment needs of whoever runs it."""

    def report(self, progress: JobProgress) -> None:
        """Hear of each committed page."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the segment shall end at its next page boundary."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """An extracted page; when it was asked for: its rows are at least that new; what it cost."""

    page: Page
    at: datetime
    seconds: float
    size: int  # of the answers that it was made of


async def run_segment(
    job: ETLInput,
    *,
    warehouse: Warehouse,
    workflow_id: str,
    run_id: str,
    limits: SegmentLimits,
    progress: Progress,
) -> SegmentResult:
    """Carry a job on from its ledger cursor, and say how far it got.

    Safe to repeat and to run twice at once: a page is committed with the cursor behind it, by
    whoever comes first. The next pages are extracted while the present one is loaded.

    Raises:
        RetryableError: nothing could be loaded; once something was, the segment ends instead,
            and says how long to stay away.
        PermanentError: a person must change something; pages loaded before stay.
    """
    with bound(job.source, job.connection):
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
    strategies = resolve(job.source, job.stream)
    if job.mode == "replay" or job.reread:
        strategies = replaying(warehouse, job, strategies)
    elif job.scan:
        store = JobScan(warehouse, job, most=limits.scan_duration)
        strategies = scanning(strategies, job, store)
    query = strategies.query.from_dict(job.params)
    begun = await asyncio.to_thread(
        begin_job, warehouse, job, workflow_id=workflow_id, run_id=run_id
    )
    if begun.state in ENDED:
        return SegmentResult(progress=begun, done=True)
    asking = Asking(warehouse, job)
    if (delay := await asyncio.to_thread(asking.time_to_opening)) is not None:
        waiting = begun.model_copy(update={"error": f"{job.source} is left alone for now"})
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
    await asyncio.to_thread(loader.prepare)
    people = await asyncio.to_thread(
        people_of_batch, warehouse, job.source, job.connection, job.batch_id
    )
    context = TransformContext(job=job, query=query, identities=people)
    clock = await asyncio.to_thread(read_clock, warehouse)
    stored = JobEvents(warehouse, job.source, job.connection)
    try:
        with told_by(clock), spending(asking.permits()) as requests:
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
        log.info("segment_superseded", job_id=job.job_id, pages=segment.progress.pages)
        return SegmentResult(progress=segment.progress, done=False)
    except RetryableError as error:
        await asyncio.to_thread(asking.note, error)
        if segment.progress.pages == begun.pages:
            raise
        log.info("segment_interrupted", job_id=job.job_id, error=str(error))
        interrupted = segment.progress.model_copy(update={"error": redacted(str(error))})
        return SegmentResult(
            progress=interrupted, done=False, wait=error.delay or timedelta(seconds=1)
        )
    if not done:
        return SegmentResult(progress=segment.progress, done=False)
    ended = await asyncio.to_thread(_complete, warehouse, job)
    return SegmentResult(progress=ended, done=True)


def _complete(warehouse: Warehouse, job: ETLInput) -> JobProgress:
    ended = end_job(warehouse, job, "completed")
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
        self._listener = listener
        self._requests = requests
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue(_PAGES_AHEAD)
        self._rows_per_record = 1.0  # as met so far
        self._called_off = False  # extraction, because the segment's time is over

    async def run(self) -> bool:
        """Load pages until the job's end (True) or the segment's (False)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.duration.total_seconds()
        for_first = self._context.job.segment_timeout * _FOR_FIRST_PAGE
        latest_first = loop.time() + for_first.total_seconds()
        first = self.progress.pages
        stopping = asyncio.create_task(self._listener.stopping.wait())
        extracting = asyncio.create_task(self._extract())
        try:
            while not self._listener.stopping.is_set():
                begun, patience = self.progress.pages > first, None
                if not self._called_off:
                    patience = max(0.0, (deadline if begun else latest_first) - loop.time())
                    if begun and patience == 0:
                        # What is extracted already is still loaded; no more is asked for.
                        self._called_off = extracting.cancel()
                pages = await self._take(extracting, stopping, patience)
                if pages:
                    await asyncio.to_thread(self._load, pages)
                    self._requests.hold(-sum(asked.size for asked in pages))
                    self._stored.note_committed(len(pages))
                    self._listener.report(self.progress)
                    if self.progress.pages - first == self._limits.pages:
                        return False
                elif extracting.done() and not self._listener.stopping.is_set():
                    if self._called_off:
                        # Also where the source took the cancellation for its end, or failed at
                        # it: the next segment meets the true end, or the failure, by itself.
                        return False
                    extracting.result()
                    self._judge_rejects(final=True)
                    self._judge_conflicts(final=True)
                    return True
                elif patience == 0 and not begun:
                    raise self._without_page(for_first)
            return False
        finally:
            stopping.cancel()
            extracting.cancel()
            await asyncio.gather(stopping, extracting, return_exceptions=True)

    def _without_page(self, waited: timedelta) -> SourceUnavailableError:
        job = self._context.job
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
        )
        counted = 0
        async with contextlib.aclosing(self._strategies.extract(request)) as pages:
            while not self._called_off:
                asked, began = utc_now(), perf_counter()
                page = await anext(pages, None)
                if page is None:
                    return
                seconds = perf_counter() - began
                self._stored.expect_page()
                size = self._requests.received_bytes - counted
                counted += size
                self._requests.hold(size)
                await self._waiting.put(_Asked(page, page.extracted_at or asked, seconds, size))

    async def _take(
        self,
        extracting: asyncio.Task[None],
        stopping: asyncio.Task[Literal[True]],
        patience: float | None,
    ) -> list[_Asked]:
        """Wait for pages; take together what one transaction holds well.

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
        records = sum(len(asked.page.records) for asked in pages)
        while not self._waiting.empty() and (
            records * self._rows_per_record < self._limits.rows_per_page
        ):
            pages.append(self._waiting.get_nowait())
            records += len(pages[-1].page.records)
        return [] if self._listener.stopping.is_set() else pages

    def _load(self, pages: Sequence[_Asked]) -> None:
        began = perf_counter()
        made = Transformed()
        records = 0
        for asked in pages:
            if asked is not pages[0]:
                made.begin_page()
            made.rejects.extend(asked.page.rejects)
            made.rejected_records += len(asked.page.rejects)
            records += len(asked.page.rejects)
            for record in asked.page.records:
                records += not isinstance(record, ScanItems)
                transform_record(self._strategies, self._context, record, made)
        transformed = perf_counter()
        if records:
            self._rows_per_record = max(0.1, len(made.rows) / records)
        self.progress = self._loader.load(
            PageLoad(
                number=self.progress.pages,
                rows=made.rows,
                rejects=made.rejects,
                records=records,
                rejected_records=made.rejected_records,
                page_starts=made.page_starts,
                wholes=made.wholes,
                scanned=made.scanned,
                note=next((a.page.note for a in reversed(pages) if a.page.note), None),
                replayed=made.replayed,
                cursor_before=self._cursor,
                cursor=pages[-1].page.cursor,
                extracted_at=min(asked.at for asked in pages),
            )
        )
        self._cursor = pages[-1].page.cursor
        log.info(
            "page_loaded",
            job_id=self._context.job.job_id,
            page=self.progress.pages,
            rows=len(made.rows),
            rejects=len(made.rejects),
            extract_seconds=round(sum(asked.seconds for asked in pages), 4),
            transform_seconds=round(transformed - began, 4),
            load_seconds=round(perf_counter() - transformed, 4),
        )
        self._judge_rejects(final=False)
        self._judge_conflicts(final=False)

    def _judge_conflicts(self, *, final: bool) -> None:
        """Fail a job whose rows share keys; a few that changed while it ran are no reason to.

        One page that holds two rows of one key which differ has no key. Rows of different pages
        may have changed in between: only many of them tell, and only of events, whose ids are to
        stand for one fact each.
        """
        job, progress = self._context.job, self.progress
        total = sum(progress.rows.model_dump().values())
        threshold = self._limits.conflict_threshold
        at_once, count = progress.conflicting_at_once, progress.conflicting
        many = at_once > _FEW_CONFLICTS and at_once > threshold * total
        if final and all(issubclass(row, Event) for row in self._strategies.rows):
            changing = max(threshold, _MOST_CHANGING)
            many = many or (count > 10 * _FEW_CONFLICTS and count > changing * total)
        if many:
            raise TooManyConflictsError(
                f"of {total:,} rows of {job.source} {job.stream} {count:,} had the key of another "
                f"row of the same job, and another content, so that one replaced the other: "
                f"{progress.conflict}. Is the key unique? The threshold is {threshold:.1%} "
                "(ETL_CONFLICT_THRESHOLD)"
            )

    def _judge_rejects(self, *, final: bool) -> None:
        """Fail a job most of which cannot be used; a few bad records are no reason to."""
        job, rows, records = self._context.job, self.progress.rows, self.progress.records
        rejected = self.progress.rejected_records
        replayed = job.mode == "replay" or job.reread
        if replayed or rejected <= self._limits.reject_threshold * records:
            return
        nothing_else = final and not (rows.inserted or rows.updated or rows.unchanged)
        if rejected >= _FEW_REJECTS or nothing_else:
            threshold = f"{self._limits.reject_threshold:.0%}"
            raise TooManyRejectsError(
                f"of {records} records of {job.source} {job.stream} {rejected} were rejected, "
                f"whole or in part, more than the threshold of {threshold}: "
                f"their reasons are in etl_rejects (etl rejects list {job.source})"
            )
