"""QueuerFlow: from a schedule's parameters to a finished batch."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.common import SearchAttributeKey, VersioningBehavior
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.control_messages import Accepted, ControlUpdate
    from temporaletl.messages import (
        BatchMetadata,
        BatchStatus,
        BatchSummary,
        DispatchInput,
        ExpandedBatch,
        FinishRequest,
        MetadataRequest,
        OpenState,
        QueuerInput,
        RunPolicy,
    )
    from temporaletl.queuer.child_control import ChildControl
    from temporaletl.queuer.control_recorder import ControlRecorder
    from temporaletl.temporal.failures import (
        first_cause,
        first_message,
        refusal,
        refuse_late,
        retry_policy,
    )

_SCHEDULED_START = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
#: A dispatcher starts some tens of jobs a second; beyond these numbers they share the work.
_JOBS_PER_DISPATCHER = 1_000
_MAX_DISPATCHERS = 8
_NOW = ControlUpdate()


@workflow.defn(name=names.QUEUER_FLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class QueuerFlow:
    """Workflow of a batch: plans its jobs into the ledger, dispatches them, and closes it.

    The updates `pause`, `resume` and `cancel` answer with the state that holds from then on; the
    signals of those names do the same and answer nothing. A repeat changes nothing, and neither
    does `resume` of what is not paused. What makes no sense any more is refused, as a
    `ConflictError` that leaves no trace.

    Returns the batch's summary, also when jobs failed or the batch was cancelled. Fails when the
    batch could not be planned, with the planning's error.
    """

    @workflow.init
    def __init__(self, _request: QueuerInput) -> None:
        self._metadata: BatchMetadata | None = None
        self._jobs: int | None = None
        self._control = ChildControl()
        self._recorder = ControlRecorder(self._control)
        self._dispatching = False
        self._finishing = False

    @workflow.signal(name=names.PAUSE)
    async def pause(self) -> None:
        await self._control.pause()

    @workflow.signal(name=names.RESUME)
    async def resume(self) -> None:
        await self._control.resume()

    @workflow.signal(name=names.CANCEL)
    async def cancel(self) -> None:
        await self._control.cancel()

    @workflow.update(name=names.PAUSE)
    def accept_pause(self, _update: ControlUpdate = _NOW) -> Accepted:
        return self._accept(names.PAUSE)

    @accept_pause.validator
    def may_pause(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        self._refuse_at_the_end(names.PAUSE)

    @workflow.update(name=names.RESUME)
    def accept_resume(self, _update: ControlUpdate = _NOW) -> Accepted:
        return self._accept(names.RESUME)

    @accept_resume.validator
    def may_resume(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        self._refuse_at_the_end(names.RESUME)

    @workflow.update(name=names.CANCEL)
    def accept_cancel(self, _update: ControlUpdate = _NOW) -> Accepted:
        return self._accept(names.CANCEL)

    @accept_cancel.validator
    def may_cancel(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        if not self._control.cancelling:
            self._refuse_at_the_end(names.CANCEL)

    def _accept(self, signal: str) -> Accepted:
        # Without a wait: accepted and completed in one task, no end of the run comes between.
        before = self._control.changes
        self._control.accept(signal)
        return Accepted(
            state=self._state,
            jobs_running=self._jobs_running,
            changed=self._control.changes != before,
        )

    def _refuse_at_the_end(self, signal: str) -> None:
        if self._finishing or self._control.cancelling:
            raise refusal(f"the run is {self._state}: there is nothing to {signal}")

    @workflow.query(name=names.STATUS)
    def status(self) -> BatchStatus:
        return BatchStatus(
            state=self._state,
            batch_id=self._metadata.batch_id if self._metadata else None,
            jobs=self._jobs,
            jobs_running=self._jobs_running if self._state in ("pausing", "paused") else None,
        )

    @property
    def _state(self) -> OpenState:
        if self._finishing:
            return "finishing"
        if self._control.cancelling:
            return "cancelling"
        if self._control.paused:
            return "paused" if self._is_at_rest else "pausing"
        return "planning" if self._jobs is None else "running"

    @property
    def _is_at_rest(self) -> bool:
        if self._dispatching:
            return self._recorder.at_rest
        return self._jobs is not None  # a planning that has begun goes on to its end

    @property
    def _jobs_running(self) -> int | None:
        return self._recorder.jobs_running if self._dispatching else 0

    @workflow.run
    async def run(self, request: QueuerInput) -> BatchSummary:
        info = workflow.info()
        scheduled = info.typed_search_attributes.get(_SCHEDULED_START) or info.start_time
        try:
            metadata = self._metadata = await self._call(
                names.GET_METADATA,
                MetadataRequest(
                    input=request,
                    nominal=scheduled,
                    workflow_id=info.workflow_id,
                    run_id=info.first_execution_run_id,
                ),
                BatchMetadata,
            )
        except ActivityError as error:
            cause = first_cause(error)
            needless = (names.SUPERSEDED, names.SKIPPED)
            if isinstance(cause, ApplicationError) and cause.type in needless:
                return _needless(request, info.workflow_id, cause.message)
            raise
        recording = asyncio.create_task(self._recorder.run(metadata))
        try:
            return await self._run(metadata)
        finally:
            recording.cancel()

    async def _run(self, metadata: BatchMetadata) -> BatchSummary:
        failure: BaseException | None = None
        try:
            if workflow.cancellation_reason() is not None:
                raise asyncio.CancelledError  # noqa: TRY301 - the batch is in the books already
            expanded = await self._expand(metadata)
            self._jobs = None if expanded is None else expanded.jobs
            await workflow.wait_condition(
                lambda: self._control.cancelling or not self._control.paused
            )
            if expanded is not None and not self._control.cancelling:
                await self._dispatch(metadata, expanded)
        except (asyncio.CancelledError, FailureError) as error:
            failure = error
        # Failed or cancelled from outside: close the books first, then say so.
        cancelled = failure is not None and is_cancelled_exception(failure)
        self._finishing = True
        finishing = asyncio.create_task(
            self._finish(
                metadata,
                cancelled=self._control.cancelling or cancelled,
                error=first_message(failure) if failure is not None and not cancelled else None,
            )
        )
        try:
            summary = await asyncio.shield(finishing)
        except asyncio.CancelledError as error:
            failure, summary = error, await finishing
        await workflow.wait_condition(workflow.all_handlers_finished)
        if failure is not None:
            raise failure
        return summary

    async def _expand(self, metadata: BatchMetadata) -> ExpandedBatch | None:
        """Plan the jobs; None when a `cancel` stopped that."""
        expanding = workflow.start_activity(
            names.EXPAND_JOBS,
            metadata,
            result_type=ExpandedBatch,
            start_to_close_timeout=timedelta(hours=6),
            heartbeat_timeout=metadata.policy.heartbeat_timeout,
            retry_policy=retry_policy(metadata.policy),
        )
        try:
            await workflow.wait_condition(lambda: expanding.done() or self._control.cancelling)
        finally:
            expanding.cancel()  # nothing, once it is done
        try:
            expanded: ExpandedBatch = await expanding
        except ActivityError as error:
            if self._control.cancelling and is_cancelled_exception(error):
                return None
            raise
        return expanded

    async def _dispatch(self, metadata: BatchMetadata, expanded: ExpandedBatch) -> None:
        self._dispatching = True
        shards = min(_MAX_DISPATCHERS, -(-expanded.jobs // _JOBS_PER_DISPATCHER))
        ends = await asyncio.gather(
            *(self._run_dispatcher(metadata, expanded, shard, shards) for shard in range(shards)),
            return_exceptions=True,
        )
        # Where one failed, the others have still run their jobs to the end.
        for end in ends:
            if end is not None:
                raise end

    async def _run_dispatcher(
        self, metadata: BatchMetadata, expanded: ExpandedBatch, shard: int, shards: int
    ) -> None:
        jobs = expanded.jobs
        child = await workflow.start_child_workflow(
            names.DISPATCH_FLOW,
            DispatchInput(
                metadata=metadata,
                first=jobs * shard // shards,
                end=jobs * (shard + 1) // shards,
                max_in_flight=max(1, metadata.max_in_flight // shards),
                jobs=expanded.few if shards == 1 else None,
            ),
            id=names.dispatch_workflow_id(metadata.batch_id, shard),
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
        )
        await self._control.run(child)

    async def _finish(
        self, metadata: BatchMetadata, *, cancelled: bool, error: str | None
    ) -> BatchSummary:
        summary = await self._call(
            names.FINISH_BATCH,
            FinishRequest(
                metadata=metadata,
                workflow_id=workflow.info().workflow_id,
                cancelled=cancelled,
                error=error,
            ),
            BatchSummary,
        )
        if not metadata.notify:
            return summary
        try:
            await workflow.execute_activity(
                names.NOTIFY,
                summary,
                start_to_close_timeout=timedelta(minutes=1),
                retry_policy=replace(retry_policy(metadata.policy), maximum_attempts=3),
            )
        except ActivityError as failure:
            # The batch is loaded and closed: a deaf webhook must not make it a failure.
            workflow.logger.warning("nobody was notified: %s", first_message(failure))
        return summary

    async def _call[R](
        self,
        name: str,
        argument: object,
        result: type[R],
    ) -> R:
        policy = self._metadata.policy if self._metadata else RunPolicy()
        answer: R = await workflow.execute_activity(
            name,
            argument,
            result_type=result,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=policy.heartbeat_timeout,
            retry_policy=retry_policy(policy),
            # It writes to the ledger: whether it did must be known before the next step.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        return answer


def _needless(request: QueuerInput, workflow_id: str, error: str) -> BatchSummary:
    """The summary of a run that another engine or another run does: this one loads nothing."""
    return BatchSummary(
        batch_id="",
        workflow_id=workflow_id,
        source=request.source,
        connection=request.connection,
        mode=request.mode,
        state="cancelled",
        seconds=0,
        error=error,
    )
