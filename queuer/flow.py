"""QueuerFlow: from a schedule's parameters to a finished batch."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from queuer.dispatch import deepest_message, retry_policy
    from temporaletl import names
    from temporaletl.messages import (
        BatchMetadata,
        BatchStatus,
        BatchSummary,
        DispatchInput,
        ExpandedBatch,
        FinishRequest,
        MetadataRequest,
        QueuerInput,
        RunPolicy,
    )

_SCHEDULED_START = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
#: A dispatcher starts some tens of jobs a second; beyond these numbers they share the work.
_JOBS_PER_DISPATCHER = 1_000
_MAX_DISPATCHERS = 8


@workflow.defn(name=names.QUEUER_FLOW)
class QueuerFlow:
    """Plans a batch into the ledger, has it dispatched, and closes it.

    Returns the batch's summary, also when jobs failed or the batch was cancelled. Fails when the
    batch could not be planned, with the planning's error.
    """

    @workflow.init
    def __init__(self, request: QueuerInput) -> None:
        self._request = request
        self._metadata: BatchMetadata | None = None
        self._jobs: int | None = None
        self._paused = False
        self._cancelling = False
        self._finishing = False
        self._dispatchers: list[workflow.ChildWorkflowHandle[Any, None]] = []

    @workflow.signal(name=names.PAUSE)
    async def pause(self) -> None:
        self._paused = True
        await self._tell(names.PAUSE)

    @workflow.signal(name=names.RESUME)
    async def resume(self) -> None:
        self._paused = False
        await self._tell(names.RESUME)

    @workflow.signal(name=names.CANCEL)
    async def cancel(self) -> None:
        self._cancelling = True
        await self._tell(names.CANCEL)

    @workflow.query(name=names.STATUS)
    def status(self) -> BatchStatus:
        return BatchStatus(
            state=(
                "finishing"
                if self._finishing
                else "cancelling"
                if self._cancelling
                else "paused"
                if self._paused
                else "planning"
                if self._jobs is None
                else "running"
            ),
            batch_id=self._metadata.batch_id if self._metadata else None,
            jobs=self._jobs,
        )

    @workflow.run
    async def run(self, request: QueuerInput) -> BatchSummary:
        info = workflow.info()
        nominal = info.typed_search_attributes.get(_SCHEDULED_START) or info.start_time
        metadata = self._metadata = await self._call(
            names.GET_METADATA,
            MetadataRequest(
                input=request,
                nominal=nominal,
                workflow_id=info.workflow_id,
                run_id=info.first_execution_run_id,
            ),
            BatchMetadata,
        )
        failure: BaseException | None = None
        try:
            expanded = await self._call(
                names.EXPAND_JOBS,
                metadata,
                ExpandedBatch,
                at_most=timedelta(hours=6),
                heartbeat=metadata.policy.heartbeat_timeout,
            )
            self._jobs = expanded.jobs
            await workflow.wait_condition(lambda: self._cancelling or not self._paused)
            if not self._cancelling:
                await self._dispatch(metadata, expanded.jobs)
        except (asyncio.CancelledError, FailureError) as error:
            failure = error
        # Failed or cancelled from outside: close the books first, then say so.
        cancelled = failure is not None and is_cancelled_exception(failure)
        self._finishing = True
        summary = await self._finish(
            metadata,
            cancelled=self._cancelling or cancelled,
            error=deepest_message(failure) if failure is not None and not cancelled else None,
        )
        if failure is not None:
            raise failure
        return summary

    async def _dispatch(self, metadata: BatchMetadata, jobs: int) -> None:
        shards = min(_MAX_DISPATCHERS, -(-jobs // _JOBS_PER_DISPATCHER))
        for shard in range(shards):
            handle = await workflow.start_child_workflow(
                names.DISPATCH_FLOW,
                DispatchInput(
                    metadata=metadata,
                    first=jobs * shard // shards,
                    end=jobs * (shard + 1) // shards,
                    max_in_flight=max(1, metadata.max_in_flight // shards),
                    paused=self._paused,
                    cancelling=self._cancelling,
                ),
                id=names.dispatch_workflow_id(metadata.batch_id, shard),
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            )
            self._dispatchers.append(handle)
        await asyncio.gather(*self._dispatchers)

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
        try:
            await workflow.execute_activity(
                names.NOTIFY,
                summary,
                start_to_close_timeout=timedelta(minutes=1),
                retry_policy=retry_policy(metadata.policy.model_copy(update={"max_attempts": 3})),
            )
        except ActivityError as failure:
            # The batch is loaded and closed: a deaf webhook must not make it a failure.
            workflow.logger.warning("nobody was notified: %s", deepest_message(failure))
        return summary

    async def _call[R](
        self,
        name: str,
        argument: object,
        result: type[R],
        *,
        at_most: timedelta = timedelta(minutes=5),
        heartbeat: timedelta | None = None,
    ) -> R:
        policy = self._metadata.policy if self._metadata else RunPolicy()
        answer: R = await workflow.execute_activity(
            name,
            argument,
            result_type=result,
            start_to_close_timeout=at_most,
            heartbeat_timeout=heartbeat,
            retry_policy=retry_policy(policy),
        )
        return answer

    async def _tell(self, signal: str) -> None:
        for handle in self._dispatchers:
            try:
                await handle.signal(signal)
            except FailureError:
                workflow.logger.debug("%s ended before %s reached it", handle.id, signal)
