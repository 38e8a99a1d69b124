"""Batches that the engine runs, with everything that they report."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporaletl.engine import EngineLimits, Listener, run_batch
from temporaletl.messages import (
    BatchMetadata,
    BatchSummary,
    ETLInput,
    JobProgress,
    QueuerInput,
    RowCounts,
    RunPolicy,
    SegmentResult,
)
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.segment import SegmentLimits

#: The longest `Retry-After` that is waited out; no test takes longer.
_LONGEST_WAIT = timedelta(seconds=3)
#: How many retries in a row a job has.
MOST_FAILURES = 40
_BATCH_WITHIN = timedelta(minutes=3)
_MOST_JOBS = 10_000


@dataclass
class Batch(Listener):
    """A listener that records one batch: its jobs, segments, retries, failure and summary."""

    warehouse: Warehouse
    most_failures: int = MOST_FAILURES
    #: Whether it is cancelled once it is planned.
    planned_only: bool = False
    jobs: list[ETLInput] = field(default_factory=list)
    segments: list[SegmentResult] = field(default_factory=list)
    #: Errors that were followed by a retry.
    retried: list[Exception] = field(default_factory=list)
    #: The error of the first failed job.
    failure: Exception | None = None
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    _metadata: BatchMetadata | None = None
    _summary: BatchSummary | None = None

    async def run(
        self, request: QueuerInput, *, scheduled: datetime, pages_per_segment: int | None = None
    ) -> None:
        """Run the batch to its end or first failure; each extracted page is a page of the ledger.

        Raises: what a job or the planning failed with.
        """
        limits = EngineLimits(
            jobs_at_once=1,
            policy=RunPolicy(
                max_attempts=self.most_failures + 1,
                initial_interval=timedelta(0),
            ),
            segment=SegmentLimits(
                duration=timedelta(seconds=30), rows_per_page=1, pages=pages_per_segment
            ),
            longest_wait=_LONGEST_WAIT,
        )
        async with asyncio.timeout(_BATCH_WITHIN.total_seconds()):
            self._summary = await run_batch(
                self.warehouse,
                request.source,
                mode=request.mode,
                streams=request.streams,
                date_start=request.date_start,
                date_end=request.date_end,
                connection=request.connection,
                params=request.params,
                accept_view=request.accept_view,
                scheduled=scheduled,
                limits=limits,
                cancel=self.cancel,
                listener=self,
            )
        if self.failure is not None:
            raise self.failure

    def planned(self, metadata: BatchMetadata, jobs: int) -> None:
        self._metadata = metadata
        first = 0
        while first < min(jobs, _MOST_JOBS):
            found, first = ledger.open_jobs(
                self.warehouse, metadata.batch_id, first=first, end=jobs
            )
            self.jobs += found
        if self.planned_only:
            self.cancel.set()

    def segment_ended(self, job: ETLInput, result: SegmentResult) -> None:  # noqa: ARG002
        self.segments.append(result)

    def attempt_failed(
        self,
        job: ETLInput | None,  # noqa: ARG002
        error: Exception,
        pause: timedelta,  # noqa: ARG002
    ) -> None:
        self.retried.append(error)

    def job_ended(
        self,
        job: ETLInput,  # noqa: ARG002
        progress: JobProgress,  # noqa: ARG002
        error: Exception | None,
    ) -> None:
        if error is not None:
            self.failure = self.failure or error
            self.cancel.set()

    @property
    def summary(self) -> BatchSummary:
        assert self._summary is not None, "the batch has not ended"  # noqa: S101
        return self._summary

    @property
    def rows(self) -> RowCounts:
        return self.summary.rows

    @property
    def history(self) -> str:
        """Everything that a workflow history would hold, as text."""
        parts = [self._metadata, *self.jobs, *self.segments, self._summary]
        return "\n".join(
            [*(part.model_dump_json() for part in parts if part), *map(str, self.retried)]
        )
