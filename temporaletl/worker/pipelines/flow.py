"""WorkflowExecution: one execution of a pipeline, from its first node to its last."""

import asyncio
import contextlib
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from temporaletl import names
    from temporaletl.control_messages import ControlUpdate
    from temporaletl.messages import RunPolicy
    from temporaletl.temporal.failures import refusal, refuse_late, retry_policy
    from temporaletl.worker.pipelines.calls import call
    from temporaletl.worker.pipelines.control import Control
    from temporaletl.worker.pipelines.interpreter import Interpreter
    from temporaletl.worker.pipelines.messages import (
        Carried,
        Decision,
        EndExecutionRequest,
        ExecutionInput,
        ExecutionPlan,
        ExecutionStatus,
        ExecutionSummary,
        OpenExecutionState,
        ValidationResult,
    )

_NOW = ControlUpdate()
_POLICY = RunPolicy()
#: How long an attempt to begin or to end an execution may take.
_BOOKS_WITHIN = timedelta(minutes=1)


@workflow.defn(name=names.PIPELINE_FLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class WorkflowExecution:
    """Workflow of an execution: runs the nodes of a definition in the order of its graph.

    `pause` starts no more nodes, and `resume` goes on; `cancel_workflow` ends what runs. Each is a
    signal and an update, which answers with the state that holds from then on. `decide` settles a
    node that waits for a person or a request. Returns a summary, also where nodes failed, or it was
    cancelled by signal or ran out of its time: `state` tells. Results are in the warehouse.
    """

    @workflow.init
    def __init__(self, request: ExecutionInput) -> None:
        carried = request.carried or Carried()
        self._control = Control(
            paused=carried.paused,
            stop="cancelled" if carried.cancelling else None,
            decisions=dict(carried.decisions),
        )
        self._deadline: datetime | None = None
        self._plan: ExecutionPlan | None = None
        self._interpreter: Interpreter | None = None
        self._finishing = False
        self._ended: ExecutionSummary | None = None

    # Control

    @workflow.signal(name=names.PAUSE)
    async def pause(self) -> None:
        await self._set_paused(paused=True)

    @workflow.signal(name=names.RESUME)
    async def resume(self) -> None:
        await self._set_paused(paused=False)

    @workflow.signal(name=names.CANCEL_WORKFLOW)
    def cancel_workflow(self) -> None:
        self._cancel()

    @workflow.signal(name=names.CANCEL)
    def cancel(self) -> None:
        self._cancel()

    @workflow.signal(name=names.DECIDE)
    def decide(self, decision: Decision) -> None:
        self._control.decisions.setdefault(decision.node, decision.outcome)
        self._control.note()

    @workflow.update(name=names.PAUSE)
    async def accept_pause(self, _update: ControlUpdate = _NOW) -> ExecutionStatus:
        await self._set_paused(paused=True)
        return self.get_status()

    @accept_pause.validator
    def may_pause(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        self._refuse_at_the_end(names.PAUSE)

    @workflow.update(name=names.RESUME)
    async def accept_resume(self, _update: ControlUpdate = _NOW) -> ExecutionStatus:
        await self._set_paused(paused=False)
        return self.get_status()

    @accept_resume.validator
    def may_resume(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        self._refuse_at_the_end(names.RESUME)

    @workflow.update(name=names.CANCEL_WORKFLOW)
    def accept_cancel(self, _update: ControlUpdate = _NOW) -> ExecutionStatus:
        self._cancel()
        return self.get_status()

    @accept_cancel.validator
    def may_cancel(self, _update: ControlUpdate = _NOW) -> None:
        refuse_late(_update, workflow.now())
        if self._control.stop != "cancelled":
            self._refuse_at_the_end("cancel")

    @workflow.update(name=names.DECIDE)
    def accept_decision(self, decision: Decision) -> ExecutionStatus:
        self.decide(decision)
        return self.get_status()

    @accept_decision.validator
    def may_decide(self, decision: Decision) -> None:
        if self._interpreter is None or not self._interpreter.decides(decision):
            raise refusal(f"node {decision.node} does not wait for a decision")

    @workflow.query(name=names.GET_STATUS)
    def get_status(self) -> ExecutionStatus:
        interpreter = self._interpreter
        states = interpreter.progress.states if interpreter else {}
        return ExecutionStatus(
            execution_id=self._plan.execution_id if self._plan else None,
            state=self._ended.state if self._ended else self._state,
            nodes={node: one for node, one in states.items() if one != "waiting"},
            chunks_done=dict(interpreter.chunks_done) if interpreter else {},
        )

    @property
    def _state(self) -> OpenExecutionState:
        if self._finishing:
            return "finishing"
        if self._control.stop == "cancelled":
            return "cancelling"
        if self._control.paused:
            at_rest = self._interpreter is not None and self._interpreter.at_rest
            return "paused" if at_rest else "pausing"
        return "running"

    def _refuse_at_the_end(self, signal: str) -> None:
        if self._finishing or self._control.stop is not None:
            raise refusal(f"the execution is {self._state}: there is nothing to {signal}")

    async def _set_paused(self, *, paused: bool) -> None:
        if self._control.paused == paused:
            return
        self._control.paused = paused
        self._control.note()
        if self._interpreter is not None:
            await self._interpreter.tell_children(names.PAUSE if paused else names.RESUME)

    def _cancel(self) -> None:
        self._control.stop = self._control.stop or "cancelled"
        self._control.note()

    # Run

    @workflow.run
    async def run(self, request: ExecutionInput) -> ExecutionSummary:
        plan = self._plan = await self._begin(request)
        if plan.ended is not None:
            return ExecutionSummary(execution_id=plan.execution_id, state=plan.ended)
        interpreter = self._interpreter = Interpreter(plan, self._control)
        clock = asyncio.create_task(self._watch_deadline(plan))
        outside: BaseException | None = None
        done = True
        try:
            done = await interpreter.run()
        except asyncio.CancelledError as error:
            outside, self._control.stop = error, "cancelled"
            await self._stop_from_outside(interpreter)
        finally:
            clock.cancel()
        if not done:
            await workflow.wait_condition(workflow.all_handlers_finished)
            self._continue_as_new(plan)
        self._ended = await self._end(plan, interpreter)
        if outside is not None:
            raise outside
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._ended

    async def _begin(self, request: ExecutionInput) -> ExecutionPlan:
        return await call(
            names.BEGIN_EXECUTION,
            request,
            ExecutionPlan,
            policy=_POLICY,
            within=_BOOKS_WITHIN,
            quick=True,
        )

    async def _watch_deadline(self, plan: ExecutionPlan) -> None:
        """Stop the execution when its time is over; what it was paused for is not counted."""
        if plan.deadline is None:
            return
        self._deadline = plan.deadline
        while (left := self._deadline - workflow.now()) > timedelta(0):
            if not self._control.paused:
                with contextlib.suppress(TimeoutError):
                    await workflow.wait_condition(
                        lambda: self._control.paused, timeout=left, timeout_summary="time-out"
                    )
                continue
            rested = workflow.now()
            await workflow.wait_condition(lambda: not self._control.paused)
            self._deadline += workflow.now() - rested
        self._control.stop = self._control.stop or "timed_out"
        self._control.note()

    @staticmethod
    async def _stop_from_outside(interpreter: Interpreter) -> None:
        """Let what runs come to its end, though the workflow is cancelled."""
        ending = asyncio.ensure_future(interpreter.run())
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                continue

    def _continue_as_new(self, plan: ExecutionPlan) -> None:
        carried = Carried(
            paused=self._control.paused,
            cancelling=self._control.stop == "cancelled",
            deadline=self._deadline,
            decisions=self._control.decisions,
        )
        workflow.continue_as_new(ExecutionInput(execution_id=plan.execution_id, carried=carried))

    async def _end(self, plan: ExecutionPlan, interpreter: Interpreter) -> ExecutionSummary:
        """Close the books. Shielded: a cancellation must not keep them open."""
        self._finishing = True
        request = EndExecutionRequest(
            execution_id=plan.execution_id,
            state=self._control.stop or "completed",
            skipped=interpreter.skipped(),
            error=self._control.error,
        )
        ending = asyncio.create_task(
            call(
                names.END_EXECUTION,
                request,
                ExecutionSummary,
                policy=_POLICY,
                within=_BOOKS_WITHIN,
                quick=True,
            )
        )
        while True:
            try:
                summary: ExecutionSummary = await asyncio.shield(ending)
            except asyncio.CancelledError:
                continue
            return summary.model_copy(update={"last": interpreter.last})


@workflow.defn(name=names.VALIDATION_FLOW, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class WorkflowValidation:
    """Workflow that validates a definition, or a stored one, as the workers see it.

    Takes what WorkflowExecution takes, and returns every fault with its place.
    """

    @workflow.run
    async def run(self, request: ExecutionInput) -> ValidationResult:
        try:
            result: ValidationResult = await workflow.execute_activity(
                names.VALIDATE_PIPELINE,
                request,
                result_type=ValidationResult,
                start_to_close_timeout=timedelta(minutes=1),
                retry_policy=retry_policy(RunPolicy(max_attempts=3)),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise (error.cause if isinstance(error.cause, FailureError) else error) from None
        return result
