"""ETLFlow: one job, from its first page to its last row."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    RetryState,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.control_messages import Accepted, ControlUpdate
    from temporaletl.messages import (
        EndJobRequest,
        ETLInput,
        ETLResult,
        JobProgress,
        JobState,
        OpenState,
        SegmentResult,
    )
    from temporaletl.temporal.failures import (
        first_cause,
        first_message,
        refusal,
        refuse_late,
        retry_policy,
    )

#: Segments that one run goes through before it continues as new; each is some six events.
SEGMENTS_PER_RUN = 400
#: A pause of before there was its recording stays unrecorded.
PATCH = "pause-in-ledger"
_UNANSWERED_GOES_ON = "unanswered-when-called-off"
_NOW = ControlUpdate()


@workflow.defn(name=names.ETL_FLOW, versioning_behavior=VersioningBehavior.PINNED)
class ETLFlow:
    """Workflow of a job: runs its segments until it is done.

    `pause` and `cancel` end the present segment at its next page boundary. The updates of these
    names and `resume` answer as QueuerFlow's do; the signals do the same. Returns the progress
    of a job that completed or was cancelled by signal; fails with the job's error; is cancelled
    when cancelled from outside. In each case the ledger says so first.
    """

    @workflow.init
    def __init__(self, job: ETLInput) -> None:
        self._job = job
        self._paused = job.paused
        self._cancelling = False
        self._running_segment = False
        self._ending = False
        self._pauses = 0
        self._is_older = False
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

    @workflow.update(name=names.PAUSE)
    def accept_pause(self, _update: ControlUpdate = _NOW) -> Accepted:
        changed, self._paused = not self._paused, True
        return self._accepted(changed=changed)

    @accept_pause.validator
    def may_pause(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        self._refuse_at_the_end(names.PAUSE)

    @workflow.update(name=names.RESUME)
    def accept_resume(self, _update: ControlUpdate = _NOW) -> Accepted:
        changed, self._paused = self._paused, False
        return self._accepted(changed=changed)

    @accept_resume.validator
    def may_resume(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        self._refuse_at_the_end(names.RESUME)

    @workflow.update(name=names.CANCEL)
    def accept_cancel(self, _update: ControlUpdate = _NOW) -> Accepted:
        changed, self._cancelling = not self._cancelling, True
        return self._accepted(changed=changed)

    @accept_cancel.validator
    def may_cancel(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        if not self._cancelling:
            self._refuse_at_the_end(names.CANCEL)

    def _accepted(self, *, changed: bool) -> Accepted:
        running = int(self._running_segment)
        return Accepted(state=self._state, jobs_running=running, changed=changed)

    def _refuse_at_the_end(self, signal: str) -> None:
        if self._ending or self._cancelling:
            raise refusal(f"the job is {self._state}: there is nothing to {signal}")

    @property
    def _state(self) -> OpenState:
        if self._ending:
            return "finishing"
        if self._cancelling:
            return "cancelling"
        if self._paused:
            return "pausing" if self._running_segment else "paused"
        return "running"

    @workflow.query(name=names.STATUS)
    def status(self) -> JobProgress:
        if self._progress.state not in ("planned", "running") or self._ending:
            return self._progress
        if self._paused or self._cancelling:
            return self._progress.model_copy(update={"state": self._state})
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
            await self._rest()
            if self._cancelling:
                return
            self._running_segment = True
            try:
                segment = await self._run_segment()
            finally:
                self._running_segment = False
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
            workflow.continue_as_new(
                self._job.model_copy(update={"paused": self._paused}),
                # Servers before 1.32 leave it on its build.
                initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
            )

    async def _rest(self) -> None:
        """Wait while paused, and have the ledger say so."""
        while self._paused and not self._cancelling:
            self._pauses += 1
            # A patch once found missing counts as missing for good: later pauses have their own.
            patch = f"{PATCH}-{self._pauses}" if self._is_older else PATCH
            if not workflow.patched(patch):
                self._is_older = True
            elif not await self._record_pause():
                continue
            await workflow.wait_condition(lambda: self._cancelling or not self._paused)

    async def _record_pause(self) -> bool:
        """Record in the ledger that the job is at rest; False where a request came between."""
        recording = workflow.start_activity(
            names.PAUSE_JOB,
            self._job,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=self._job.policy.heartbeat_timeout,
            retry_policy=retry_policy(self._job.policy),
            # Its effect must not come behind the beginning of the next segment.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        try:
            await workflow.wait_condition(
                lambda: recording.done() or self._cancelling or not self._paused
            )
        finally:
            recording.cancel()  # nothing, once it is done
            await asyncio.wait([recording])
        try:
            await recording
        except ActivityError as error:
            if is_cancelled_exception(error):
                return False
            # Only what the ledger says of it is wrong; the job is at rest all the same.
            workflow.logger.warning("not recorded: %s", first_message(error))
        return True

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
        self._ending = True
        ending = workflow.start_activity(
            names.END_JOB,
            EndJobRequest(job=self._job, state=state, error=error),
            result_type=JobProgress,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=self._job.policy.heartbeat_timeout,
            retry_policy=retry_policy(self._job.policy),
        )
        try:
            self._progress = await asyncio.shield(ending)
        except asyncio.CancelledError:
            self._progress = await ending
            raise


def _would_have_gone_on(error: ActivityError) -> bool:
    """Whether a cancelled segment would have had another attempt.

    The server grants none after a cancellation, whatever the attempt had failed with, or where it
    never answered, as its worker died.
    """
    if is_cancelled_exception(error):
        return True
    if error.retry_state != RetryState.CANCEL_REQUESTED:
        return False
    if isinstance(error.cause, ApplicationError):
        return not error.cause.non_retryable
    return workflow.patched(_UNANSWERED_GOES_ON)


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
