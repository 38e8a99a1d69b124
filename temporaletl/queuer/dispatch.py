"""DispatchFlow: runs a range of a batch's jobs, a bounded number at a time."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority, VersioningBehavior
from temporalio.exceptions import (
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.messages import (
        DispatchInput,
        ETLInput,
        ETLResult,
        JobOutcome,
        JobsPage,
        JobsRequest,
        OutcomesRequest,
    )
    from temporaletl.queuer.child_control import ChildControl
    from temporaletl.temporal.failures import first_message, retry_policy

#: Jobs that one run starts before it continues as new. Each costs about nine events, and five
#: more when it is paused or cancelled: far below the 10,000 that we allow a history.
JOBS_PER_RUN = 400
_OUTCOMES_AT_ONCE = 100
#: What is loaded again waits behind what is new. 3 is what the server gives the others.
_PRIORITY_KEYS = {"backfill": 4, "replay": 4}
_LONGEST_FAIRNESS_KEY = 64


@workflow.defn(name=names.DISPATCH_FLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class DispatchFlow:
    """Workflow of a dispatcher: starts ETLFlow children for its share of the ledger's jobs.

    Waits for all of them. A job that fails is recorded and does not stop the others. `pause`,
    `resume` and `cancel` reach the children that run.
    """

    @workflow.init
    def __init__(self, share: DispatchInput) -> None:
        self._share = share
        self._control = ChildControl(paused=share.paused)
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by seq
        self._outcomes: list[JobOutcome] = []

    @workflow.signal(name=names.PAUSE)
    async def pause(self) -> None:
        await self._control.pause()

    @workflow.signal(name=names.RESUME)
    async def resume(self) -> None:
        await self._control.resume()

    @workflow.signal(name=names.CANCEL)
    async def cancel(self) -> None:
        await self._control.cancel()

    @workflow.run
    async def run(self, share: DispatchInput) -> None:
        try:
            position = await self._dispatch()
            await self._drain()
            await self._record()
        except (asyncio.CancelledError, FailureError) as error:
            if is_cancelled_exception(error):
                # From outside: the children end as if by our own signal.
                await self._control.cancel()
            await self._drain()
            await self._record()
            raise
        await workflow.wait_condition(workflow.all_handlers_finished)
        if position < share.end and not self._control.cancelling:
            workflow.continue_as_new(
                share.model_copy(
                    update={"first": position, "paused": self._control.paused, "jobs": None}
                )
            )

    async def _dispatch(self) -> int:
        """Start jobs until the share or this run's limit ends; return the next job's number."""
        position, started = self._share.first, 0
        while position < self._share.end:
            page = await self._list_jobs(position)
            for job in page.jobs:
                await workflow.wait_condition(self._may_start)
                if self._control.cancelling:
                    return position
                if started >= JOBS_PER_RUN or workflow.info().is_continue_as_new_suggested():
                    return job.seq
                if len(self._outcomes) >= _OUTCOMES_AT_ONCE:
                    await self._record()
                self._tasks[job.seq] = asyncio.create_task(self._run_job(job))
                started += 1
                position = job.seq + 1
            position = page.next
        return position

    async def _list_jobs(self, position: int) -> JobsPage:
        if self._share.jobs is not None:
            return JobsPage(jobs=self._share.jobs, next=self._share.end)
        page: JobsPage = await workflow.execute_activity(
            names.LIST_JOBS,
            JobsRequest(
                batch_id=self._share.metadata.batch_id,
                first=position,
                end=self._share.end,
                policy=self._share.metadata.policy,
            ),
            result_type=JobsPage,
            start_to_close_timeout=timedelta(minutes=1),
            heartbeat_timeout=self._share.metadata.policy.heartbeat_timeout,
            retry_policy=retry_policy(self._share.metadata.policy),
        )
        return page

    def _may_start(self) -> bool:
        return self._control.cancelling or (
            not self._control.paused and len(self._tasks) < self._share.max_in_flight
        )

    async def _run_job(self, job: ETLInput) -> None:
        try:
            child = await workflow.start_child_workflow(
                names.ETL_FLOW,
                job,
                id=names.job_workflow_id(job.job_id),
                task_queue=self._share.metadata.worker_queue,
                result_type=ETLResult,
                execution_timeout=job.policy.job_timeout,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                priority=_priority_of(job),
                static_summary=f"{job.source} {job.stream} {job.mode}, job {job.seq}",
            )
            await self._control.run(child)
        except WorkflowAlreadyStartedError:
            self._outcomes.append(
                JobOutcome(seq=job.seq, state="skipped", error="already running elsewhere")
            )
        except ChildWorkflowError as error:
            state = "cancelled" if is_cancelled_exception(error) else "failed"
            self._outcomes.append(JobOutcome(seq=job.seq, state=state, error=first_message(error)))
        finally:
            del self._tasks[job.seq]

    async def _drain(self) -> None:
        """Wait for all children: continuing as new, or ending, would cut them off."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values())

    async def _record(self) -> None:
        while self._outcomes:
            outcomes = tuple(self._outcomes[:_OUTCOMES_AT_ONCE])
            await workflow.execute_activity(
                names.RECORD_OUTCOMES,
                OutcomesRequest(
                    batch_id=self._share.metadata.batch_id,
                    outcomes=outcomes,
                    policy=self._share.metadata.policy,
                ),
                start_to_close_timeout=timedelta(minutes=1),
                heartbeat_timeout=self._share.metadata.policy.heartbeat_timeout,
                retry_policy=retry_policy(self._share.metadata.policy),
            )
            # Only now: were we cancelled while they were recorded, they would be lost.
            del self._outcomes[: len(outcomes)]


def _priority_of(job: ETLInput) -> Priority:
    """The priority of a job's workflow, which its activities inherit.

    All connections of a source share its task queue: by their key the server gives each its turn,
    so that the jobs of a slow one do not hold up the others'.
    """
    return Priority(
        priority_key=_PRIORITY_KEYS.get(job.mode),
        fairness_key=names.label(job.source, job.connection)[:_LONGEST_FAIRNESS_KEY],
    )
