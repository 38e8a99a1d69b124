"""Interpreter of a pipeline's graph, in the workflow: which nodes run, wait, and follow.

Deterministic: it evaluates nothing and sees no result. Each node is an activity, or two with a wait
between them.
"""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import (
    ApplicationError,
    FailureError,
    is_cancelled_exception,
)

from temporaletl import names
from temporaletl.messages import BatchSummary, Message
from temporaletl.temporal.failures import first_cause, first_message, retry_policy
from temporaletl.worker.pipelines.calls import UNTIL_CANCELLED, call, together
from temporaletl.worker.pipelines.control import Control
from temporaletl.worker.pipelines.graph import NodeState, Progress
from temporaletl.worker.pipelines.messages import (
    QUICK_TYPES,
    ChunkRequest,
    ChunkResult,
    CloseRequest,
    Decision,
    ExecutionInput,
    ExecutionPlan,
    ExecutionSummary,
    FailRequest,
    NodeError,
    NodeOutcome,
    NodeRequest,
    PlannedNode,
    Wait,
)

#: Nodes of one execution that run at once.
MOST_AT_ONCE = 50
#: Nodes that one run starts before the execution continues as new; each is some six events.
NODES_PER_RUN = 600
#: An activity is given up this long after it should have given up by itself.
_GRACE = timedelta(seconds=30)
#: What is waited for ends with an execution that Temporal cancels.
PATCH = "cancelled-waits-end"
#: What a wait led to comes to its end before an execution continues as new.
CLOSING_PATCH = "closings-end-first"
#: Class of the error of an attempt that took longer than its node allows.
TIMED_OUT = "NodeTimeoutError"


class Interpreter:
    """Runs the nodes of an execution until none is left, it is stopped, or continues as new."""

    def __init__(self, plan: ExecutionPlan, control: Control) -> None:
        self.progress = Progress.of(plan.graph())
        self.chunks_done: dict[str, int] = {}
        self.last: str | None = None
        self._plan = plan
        self._control = control
        self._nodes = {node.id: node for node in plan.nodes}
        self._waits: dict[str, Wait] = {}
        self._closing: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._children: dict[str, workflow.ChildWorkflowHandle[Any, Any]] = {}
        self._started = 0
        self._draining = False
        self._stopped = False
        for node in self.progress.graph.order:
            self._restore(node)

    @property
    def at_rest(self) -> bool:
        """Whether nothing runs but what waits for a time or a decision."""
        return not any(self._is_busy(node) for node in self._tasks)

    def decides(self, decision: Decision) -> bool:
        """Whether a node waits for this decision."""
        wait = self._waits.get(decision.node)
        return wait is not None and wait.decision and decision.node not in self._control.decisions

    async def run(self) -> bool:
        """Run to the end (True), or until the execution shall continue as new (False).

        One that was cancelled goes on when it is called again.
        """
        control = self._control
        begun = any(node in self._tasks for node in self._waits)
        if begun and not workflow.patched(PATCH):
            for node in list(self._waits):  # as it was
                self._start(node)
        elif not begun:
            for node in self._waits:
                self._start(node)
            # A task that is cancelled before it begins tells nobody of its end.
            await asyncio.sleep(0)
        while True:
            control.changed = False
            if control.stop is not None:
                self._stop()
            else:
                self._start_ready()
            if not self._tasks and (control.stop is not None or self.progress.is_over):
                return True
            # One that is stopped ends in this run: the next would not know that it was.
            if self._draining and control.stop is None and self.at_rest and not self._closes():
                await self._abandon_waits()
                if control.stop is None:
                    return False
                continue
            await workflow.wait_condition(lambda: control.changed)

    async def tell_children(self, signal: str) -> None:
        """Pass a signal on to the runs and executions that nodes wait for."""
        for child in list(self._children.values()):
            try:
                await child.signal(signal)
            except FailureError as error:
                workflow.logger.info("a child has ended meanwhile: %s", first_message(error))

    def skipped(self) -> tuple[str, ...]:
        """The nodes that never ran."""
        states = self.progress.states
        return tuple(node for node in self._nodes if states[node] in ("waiting", "skipped"))

    # From one look to the next

    def _restore(self, node: str) -> None:
        recorded = self._plan.recorded.get(node)
        if recorded is None:
            return
        if recorded.wait is not None:
            self._waits[node] = recorded.wait
        elif recorded.state != "running":
            self.progress.settle(node, recorded.state, recorded.handles)
            self.last = node

    def _is_busy(self, node: str) -> bool:
        wait = self._waits.get(node)
        return wait is None or not wait.is_carried

    def _start_ready(self) -> None:
        suggested = workflow.info().is_continue_as_new_suggested()
        if self._started >= NODES_PER_RUN or suggested:
            self._draining = True
        if self._control.paused or self._draining:
            return
        for node in self.progress.ready():
            if len(self._tasks) >= MOST_AT_ONCE or self._started >= NODES_PER_RUN:
                break
            self._started += 1
            self._start(node)

    def _start(self, node: str) -> None:
        self.progress.start(node)
        self._tasks[node] = asyncio.create_task(self._run(self._nodes[node]))

    def _stop(self) -> None:
        """End what runs, once; a node that fails lets the others come to their end."""
        if self._stopped or self._control.stop == "failed":
            return
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()

    def _closes(self) -> bool:
        """Whether a node whose wait is over has not come to its end: it may fail the execution."""
        return bool(self._closing) and workflow.patched(CLOSING_PATCH)

    async def _abandon_waits(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # A node

    async def _run(self, node: PlannedNode) -> None:
        state: NodeState = "cancelled"
        try:
            outcome = await self._outcome(node)
            state = outcome.state
            self.progress.settle(node.id, state, outcome.handles)
            if state in ("failed", "timed_out") and not (node.catches or node.goes_on):
                self._control.error = self._control.error or outcome.error
                self._control.stop = self._control.stop or "failed"
            self.last = node.id
            for followed in outcome.followed:
                self._started += 1
                self.progress.settle(followed.node, "completed", followed.handles)
                self.last = followed.node
        except asyncio.CancelledError:
            self.progress.settle(node.id, "cancelled")
        except FailureError as error:
            # Not even its end could be recorded: without a warehouse there is no way on.
            workflow.logger.error(
                "the end of %s is not recorded: %s", node.id, first_message(error)
            )
            self.progress.settle(node.id, "failed")
            self._control.error = self._error_of(node, error)
            self._control.stop = self._control.stop or "failed"
        finally:
            del self._tasks[node.id]
            self._waits.pop(node.id, None)
            self._closing.discard(node.id)
            self._control.note()

    async def _outcome(self, node: PlannedNode) -> NodeOutcome:
        sources = tuple(self.progress.sources(node.id))
        try:
            wait = self._waits.get(node.id)
            if wait is None:
                outcome = await self._call(
                    names.RUN_NODE,
                    NodeRequest(
                        execution_id=self._plan.execution_id,
                        node=node.id,
                        sources=sources,
                        timeout=node.timeout,
                        policy=node.policy,
                    ),
                    node,
                )
                wait = outcome.wait
            if wait is None:
                return outcome
            self._check_going_on()
            self._waits[node.id] = wait
            return await self._wait(node, wait, sources)
        except (FailureError, TimeoutError) as error:
            if isinstance(error, FailureError) and is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            return await self._fail(node, self._error_of(node, error))

    def _check_going_on(self) -> None:
        """End the task of a node whose activity came to its end though it was cancelled."""
        if self._stopped:
            raise asyncio.CancelledError

    async def _fail(self, node: PlannedNode, error: NodeError) -> NodeOutcome:
        return await self._call(
            names.FAIL_NODE,
            FailRequest(
                execution_id=self._plan.execution_id,
                node=node.id,
                state="timed_out" if error.type == TIMED_OUT else "failed",
                error=error,
                goes_on=node.goes_on,
                catches=node.catches,
            ),
            node,
        )

    def _error_of(self, node: PlannedNode, error: BaseException) -> NodeError:
        cause = first_cause(error)
        kind, attempts = type(cause).__name__, 1
        if isinstance(cause, ApplicationError):
            kind = cause.type or kind
            attempts = next((one for one in cause.details if isinstance(one, int)), 1)
        if isinstance(cause, TimeoutError) and not isinstance(cause, FailureError):
            kind, message = TIMED_OUT, f"it took longer than {node.timeout}"
        else:
            message = first_message(error)
        return NodeError(type=kind, message=message, node=node.id, attempts=attempts)

    # What nodes wait for

    async def _wait(self, node: PlannedNode, wait: Wait, sources: tuple[str, ...]) -> NodeOutcome:
        end = CloseRequest(
            execution_id=self._plan.execution_id,
            node=node.id,
            sources=sources,
            timeout=node.timeout,
            policy=node.policy,
        )
        self._control.note()
        if wait.run is not None:
            run: BatchSummary = await self._child(
                node,
                names.QUEUER_FLOW,
                wait.run,
                workflow_id=f"{names.execution_workflow_id(self._plan.execution_id)}/{node.id}",
                task_queue=self._plan.queuer_queue,
                result_type=BatchSummary,
            )
            end = end.model_copy(update={"run": run})
        elif wait.execution_id is not None:
            execution: ExecutionSummary = await self._child(
                node,
                names.PIPELINE_FLOW,
                ExecutionInput(execution_id=wait.execution_id),
                workflow_id=names.execution_workflow_id(wait.execution_id),
                result_type=ExecutionSummary,
            )
            end = end.model_copy(update={"execution": execution})
        elif wait.chunks is not None:
            await self._run_chunks(node, wait, sources)
        elif wait.decision:
            end = end.model_copy(update={"outcome": await self._decided(node.id, wait)})
        else:
            await self._sleep(wait)
        self._closing.add(node.id)
        return await self._call(names.CLOSE_NODE, end, node)

    async def _decided(self, node: str, wait: Wait) -> str:
        decisions = self._control.decisions
        try:
            await workflow.wait_condition(
                lambda: node in decisions, timeout=_until(wait), timeout_summary=f"{node} waits"
            )
        except TimeoutError:
            return "timeout"
        return decisions[node]

    async def _sleep(self, wait: Wait) -> None:
        span = _until(wait)
        if span is not None and span > timedelta(0):
            await workflow.sleep(span)

    async def _child(
        self,
        node: PlannedNode,
        kind: str,
        request: Message,
        *,
        workflow_id: str,
        **options: Any,
    ) -> Any:
        child = await workflow.start_child_workflow(
            kind,
            request,
            id=workflow_id,
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            **options,
        )
        self._children[node.id] = child
        try:
            async with asyncio.timeout(node.timeout.total_seconds()):
                return await child
        finally:
            del self._children[node.id]

    async def _run_chunks(self, node: PlannedNode, wait: Wait, sources: tuple[str, ...]) -> None:
        """Run the chunks of a `map`, some at once, in their order; a pause lets them end."""
        control, left = self._control, iter(range(wait.chunks or 0))
        self.chunks_done[node.id] = 0

        async def run() -> None:
            for chunk in left:
                await workflow.wait_condition(lambda: not control.paused)
                request = ChunkRequest(
                    execution_id=self._plan.execution_id,
                    node=node.id,
                    chunk=chunk,
                    sources=sources,
                    timeout=node.timeout,
                    policy=node.policy,
                )
                await workflow.execute_activity(
                    names.RUN_CHUNK,
                    request,
                    result_type=ChunkResult,
                    start_to_close_timeout=timedelta(days=7),
                    heartbeat_timeout=node.policy.heartbeat_timeout,
                    retry_policy=retry_policy(node.policy),
                    cancellation_type=UNTIL_CANCELLED,
                    summary=f"{node.id} {chunk}",
                )
                self.chunks_done[node.id] += 1
                self._check_going_on()

        await together([run() for _ in range(wait.concurrency)])

    async def _call(self, name: str, request: Message, node: PlannedNode) -> NodeOutcome:
        timeout: timedelta = getattr(request, "timeout", timedelta(minutes=1))
        return await call(
            name,
            request,
            NodeOutcome,
            policy=node.policy,
            within=timeout + _GRACE,
            quick=node.type in QUICK_TYPES or name == names.FAIL_NODE,
            beats=name != names.FAIL_NODE,
            summary=node.id,
        )


def _until(wait: Wait) -> timedelta | None:
    """How long is left of a wait; None without an end."""
    return None if wait.until is None else max(wait.until - workflow.now(), timedelta(0))
