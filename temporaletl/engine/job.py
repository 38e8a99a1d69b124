"""A job in the engine, segment by segment, to its end in the ledger: as ETLFlow."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

import structlog

from temporaletl import names
from temporaletl.engine.listener import Audience
from temporaletl.engine.retries import Retries, StoppedError
from temporaletl.engine.threads import in_thread
from temporaletl.errors import SourceUnavailableError
from temporaletl.messages import ETLInput, JobProgress, JobState, SegmentResult
from temporaletl.telemetry.run_log import run_of
from temporaletl.telemetry.tracing import span
from temporaletl.temporal.attempts import message_of
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.control import pause_job
from temporaletl.worker.segment import SegmentLimits, run_segment


class _Progress:
    """A segment's progress reports, to the batch's listener."""

    def __init__(self, job: ETLInput, audience: Audience, stopping: asyncio.Event) -> None:
        self.stopping = stopping
        self._job = job
        self._audience = audience

    def report(self, progress: JobProgress) -> None:
        self._audience.notify(self._audience.listener.page_loaded, self._job, progress)


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Runner of one batch's jobs, as ETLFlow; `run_id` is the run that their rows name."""

    warehouse: Warehouse
    limits: SegmentLimits
    retries: Retries
    audience: Audience
    run_id: str
    #: What the ledger shall say of a job that was stopped; None: nothing, another goes on with it.
    when_stopped: Callable[[], Literal["cancelled", "paused"] | None] = lambda: "cancelled"
    hold: ledger.Hold | None = None

    async def run(self, job: ETLInput) -> None:
        """Run a job from its cursor until it is done, has failed, or was stopped.

        In each case the ledger says so before this returns. Raises no error of the job itself; that
        of `hold`, where the job is another's to end.
        """
        workflow_id = names.job_workflow_id(job.job_id)
        with (
            structlog.contextvars.bound_contextvars(
                workflow_id=workflow_id, run_id=self.run_id, **run_of(job)
            ),
            span("job", **run_of(job)),
        ):
            cause: Exception | None = None
            try:
                progress = await self._run_segments(job, workflow_id)
            except StoppedError:
                state = self.when_stopped()
                if state == "paused":
                    await self._pause(job)
                if state != "cancelled":
                    return
                progress = await self._end(job, state)
            except Exception as error:  # noqa: BLE001 - it costs this job, and no other
                cause = error
                progress = await self._end(job, "failed", message_of(error))
            self.audience.notify(self.audience.listener.job_ended, job, progress, cause)

    async def _run_segments(self, job: ETLInput, workflow_id: str) -> JobProgress:
        limit = job.policy.job_timeout
        deadline = asyncio.timeout(None if limit is None else limit.total_seconds())
        try:
            async with deadline:
                while True:
                    segment = await self.retries.run(
                        lambda: self._run_segment(job, workflow_id),
                        partial(self._report_failure, job),
                    )
                    self.audience.notify(self.audience.listener.segment_ended, job, segment)
                    if segment.done:
                        return segment.progress
                    await self.retries.wait_out(
                        segment.wait or timedelta(0), segment.progress.error
                    )
        except TimeoutError:
            if not deadline.expired():
                raise
            raise TimeoutError(f"the job did not end within {limit}") from None

    async def _run_segment(self, job: ETLInput, workflow_id: str) -> SegmentResult:
        deadline = asyncio.timeout(job.segment_timeout.total_seconds())
        try:
            async with deadline:
                return await run_segment(
                    job,
                    warehouse=self.warehouse,
                    workflow_id=workflow_id,
                    run_id=self.run_id,
                    limits=self.limits,
                    progress=_Progress(job, self.audience, self.retries.stopping),
                )
        except TimeoutError:
            if not deadline.expired():
                raise
            raise SourceUnavailableError(
                f"{job.source} {job.stream}: a segment did not end within {job.segment_timeout}"
            ) from None

    async def _end(self, job: ETLInput, state: JobState, error: str | None = None) -> JobProgress:
        return await self.retries.ending().run(
            lambda: in_thread(
                partial(ledger.end_job, self.warehouse, job, state, error, hold=self.hold)
            ),
            partial(self._report_failure, job),
        )

    async def _pause(self, job: ETLInput) -> None:
        await self.retries.ending().run(
            lambda: in_thread(partial(pause_job, self.warehouse, job, hold=self.hold)),
            partial(self._report_failure, job),
        )

    def _report_failure(self, job: ETLInput, error: Exception, pause: timedelta) -> None:
        self.audience.notify(self.audience.listener.attempt_failed, job, error, pause)
