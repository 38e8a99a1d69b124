"""ETLFlow: one job, from its first page to its last row."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    RetryState,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.failures import first_cause, retry_policy
    from temporaletl.messages import (
        EndJobRequest,
        ETLInput,
        ETLResult,
        JobProgress,
        JobState,
        SegmentResult,
    )

#: Segments that one run goes through before it continues as new; each is some six events.
SEGMENTS_PER_RUN = 400


@workflow.defn(name=names.ETL_FLOW)
class ETLFlow:
    """Workflow of a job: runs its segments until it is done.

    `pause` and `cancel` end the present segment at its next page boundary. Returns the progress
    of a job that completed or was cancelled by signal; fails with the job's error; is cancelled
    when cancelled from outside. In each case the ledger says so first.
    """

    @workflow.init
    def __init__(self, job: ETLInput) -> None:
        self._job = job
        self._paused = job.paused
        self._cancelling = False
        self._progress = JobProgress(state="planned", stream=job.stream)

    @workflow.signal(name=names.PAUSE)
    def pause(self) -> None:
        self._paused = True

    @workflow.signal(name=names.RESUME)
    def resume(self) -> None:
        self._paused = False

    @workflow.signal(name=names.CANCEL)
    def cancel(self) -> None:
        self._cancelling = True

    @workflow.query(name=names.STATUS)
    def status(self) -> JobProgress:
        if self._paused and self._progress.state in ("planned", "running"):
            return self._progress.model_copy(update={"state": "paused"})
        return self._progress

    @workflow.run
    async def run(self, job: ETLInput) -> ETLResult:
        try:
            await self._run_segments()
        except asyncio.CancelledError:
            await self._end("cancelled", "cancelled from outside")
            raise
        except FailureError as error:
            if is_cancelled_exception(error):
                await self._end("cancelled", "cancelled from outside")
                raise
            failure = _failure_of(error)
            await self._end("failed", failure.message)
            raise failure from None
        if self._progress.state not in ("completed", "failed"):
            await self._end("cancelled")
        if self._progress.state == "failed":
            raise ApplicationError(
                self._progress.error or "failed before", type="JobFailed", non_retryable=True
            )
        return ETLResult(job_id=job.job_id, progress=self._progress)

    async def _run_segments(self) -> None:
        """Run segments until the job is done or cancelled; continue as new before history grows."""
        for _ in range(SEGMENTS_PER_RUN):
            await workflow.wait_condition(lambda: self._cancelling or not self._paused)
            if self._cancelling:
                return
            segment = await self._run_segment()
            if segment is None:
                continue
            self._progress = segment.progress
            if segment.done:
                return
            if segment.wait:
                await self._wait_out(segment.wait)
            if workflow.info().is_continue_as_new_suggested():
                break
        await workflow.wait_condition(workflow.all_handlers_finished)
        if not self._cancelling:
            workflow.continue_as_new(self._job.model_copy(update={"paused": self._paused}))

    async def _run_segment(self) -> SegmentResult | None:
        """Run one segment; None when it was cancelled before it could answer."""
        policy = self._job.policy
        segment = workflow.start_activity(
            names.RUN_SEGMENT,
            self._job,
            task_queue=self._job.segment_queue,
            result_type=SegmentResult,
            start_to_close_timeout=self._job.segment_timeout,
            heartbeat_timeout=policy.heartbeat_timeout,
            retry_policy=retry_policy(policy),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"after page {self._progress.pages}",
        )
        called_off = False
        try:
            await workflow.wait_condition(
                lambda: segment.done() or self._paused or self._cancelling
            )
            if not segment.done():
                # Cancelling asks it to stop; it still answers with what it has loaded.
                called_off = segment.cancel()
                await asyncio.wait([segment])
        except asyncio.CancelledError:
            if not called_off:
                segment.cancel()
            await asyncio.wait([segment])
            raise
        try:
            result: SegmentResult = await segment
        except ActivityError as error:
            if called_off and _would_have_gone_on(error):
                return None
            raise
        return result

    async def _wait_out(self, delay: timedelta) -> None:
        """Wait out the source's cool-down; `pause` and `cancel` end the wait."""
        try:
            await workflow.wait_condition(
                lambda: self._paused or self._cancelling,
                timeout=delay,
                timeout_summary="cool-down of the source",
            )
        except TimeoutError:
            return

    async def _end(self, state: JobState, error: str | None = None) -> None:
        """Record the end in the ledger. Shielded: a cancellation must not keep it open."""
        ending = workflow.start_activity(
            names.END_JOB,
            EndJobRequest(job=self._job, state=state, error=error),
            result_type=JobProgress,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=retry_policy(self._job.policy),
        )
        try:
            self._progress = await asyncio.shield(ending)
        except asyncio.CancelledError:
            self._progress = await ending
            raise


def _would_have_gone_on(error: ActivityError) -> bool:
    """Whether a cancelled segment would have had another attempt.

    The server grants none after a cancellation, whatever the attempt had failed with.
    """
    if isinstance(error.cause, ApplicationError):
        return error.retry_state == RetryState.CANCEL_REQUESTED and not error.cause.non_retryable
    return is_cancelled_exception(error)


def _failure_of(error: BaseException) -> ApplicationError:
    """The first cause of a failed segment, to be the workflow's own failure."""
    cause = first_cause(error)
    if isinstance(cause, ApplicationError):
        return ApplicationError(cause.message, type=cause.type, non_retryable=True)
    return ApplicationError(
        f"the segment did not answer in time: {cause}",
        type=type(cause).__name__,
        non_retryable=True,
    )
