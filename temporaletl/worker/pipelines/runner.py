"""Runner of nodes: one attempt from its beginning to its record, without Temporal.

A node's result and its state are written in one transaction, by the attempt that is the latest:
an attempt that is repeated finds what was recorded, and does nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from temporaletl.errors import ConfigurationError, ETLError, RetryableError
from temporaletl.telemetry import metrics
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.attempts import message_of
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.model_tokens import model_use_of
from temporaletl.warehouse.pipeline_executions import (
    StoredExecution,
    read_execution,
)
from temporaletl.warehouse.pipeline_nodes import (
    Measure,
    SupersededNodeError,
    begin_node,
    enter_node,
    note_wait,
    read_nodes,
    settle_node,
)
from temporaletl.warehouse.pipeline_results import TRIGGER, copy_result, write_result
from temporaletl.worker.pipelines.graph import Progress
from temporaletl.worker.pipelines.messages import (
    QUICK_TYPES,
    CloseRequest,
    FailRequest,
    FollowedNode,
    NodeOutcome,
    NodeRequest,
)
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.outcomes import outcome, outcome_of, value_of_failure
from temporaletl.worker.pipelines.steps.context import (
    NodeContext,
    Produced,
    RunningExecution,
    Services,
    Waiting,
)
from temporaletl.worker.pipelines.steps.steps import step_of
from temporaletl.worker.pipelines.validation import Pipeline, validate

log = get_logger("temporaletl.worker.pipelines")

#: What is kept in memory: definitions by their content, and executions without them.
_MOST_DEFINITIONS = 64
_MOST_EXECUTIONS = 256
#: Of the nodes behind a quick one, what runs with it: far less than a local activity may take.
_MOST_FOLLOWED = 20
_FOLLOWED_WITHIN = timedelta(milliseconds=500)


class NodeTimeoutError(RetryableError):
    """An attempt of a node, or of an item of it, took longer than its `timeout_seconds`."""


class _Entry(NamedTuple):
    """A node that is entered when it is settled: its type, and when it began, monotonic."""

    type: str
    began: float


class NodeRunner:
    """Runs nodes of executions; safe to share by threads and tasks."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._definitions: OrderedDict[str, Pipeline] = OrderedDict()
        self._executions: OrderedDict[str, StoredExecution] = OrderedDict()

    async def run(self, request: NodeRequest) -> NodeOutcome:
        """Run a node; of one that is settled, or waits, only say so.

        Raises:
            ETLError: what its type's step raises.
            SupersededNodeError: another attempt was quicker; the next finds its record.
        """
        execution, pipeline = await self.load(request.execution_id)
        step = pipeline.steps[request.node]
        begun = await asyncio.to_thread(
            begin_node, self._warehouse, request.execution_id, request.node, step.type
        )
        if begun.is_settled or begun.wait is not None:
            return outcome_of(begun)
        context = self.context(execution, pipeline, request, attempt=begun.attempts)
        with _measured(step.type) as attempt:
            produced = await step_of(step.type).run(context)
            if isinstance(produced, Waiting):
                attempt.outcome = "waiting"
                return await asyncio.to_thread(self._record_wait, context, produced)
            settled = await self._settle(context, produced)
        if step.type not in QUICK_TYPES:
            return settled
        _keep_at_hand(context, produced)
        followed = await self._follow(context, pipeline, settled.handles)
        return settled.model_copy(update={"followed": followed})

    async def close(self, request: CloseRequest) -> NodeOutcome:
        """Settle a node that waited; of one that is settled, only say so.

        Raises:
            ETLError: what its type's step raises.
        """
        execution, pipeline = await self.load(request.execution_id)
        step = pipeline.steps[request.node]
        begun = await asyncio.to_thread(
            begin_node, self._warehouse, request.execution_id, request.node, step.type
        )
        if begun.is_settled:
            return outcome_of(begun)
        close = step_of(step.type).close
        if close is None:
            raise ConfigurationError(f"nodes of type {step.type} wait for nothing")
        context = self.context(execution, pipeline, request, attempt=begun.attempts)
        with _measured(step.type):
            return await self._settle(context, await close(context, request))

    async def fail(self, request: FailRequest) -> NodeOutcome:
        """Record that a node failed: its result is the error, or its default, for those behind."""
        _, pipeline = await self.load(request.execution_id)
        step = pipeline.steps[request.node]
        await asyncio.to_thread(
            begin_node,
            self._warehouse,
            request.execution_id,
            request.node,
            step.type,
            counted=False,
        )
        value, handles = value_of_failure(
            request.error, step.data.default, catches=request.catches, goes_on=request.goes_on
        )
        try:
            return await asyncio.to_thread(self._record_failure, request, step.data, value, handles)
        except SupersededNodeError:
            recorded = await asyncio.to_thread(read_nodes, self._warehouse, request.execution_id)
            return next(outcome_of(one) for one in recorded if one.node == request.node)

    async def _follow(
        self, first: NodeContext[Any], pipeline: Pipeline, handles: Sequence[str | None]
    ) -> tuple[FollowedNode, ...]:
        """Run the quick nodes behind a quick one at once, as far as nothing else decides them.

        Each is recorded by itself. Where one fails, or the time is over, it is left to the
        workflow, and so is what is behind it.
        """
        deadline = monotonic() + _FOLLOWED_WITHIN.total_seconds()
        progress = Progress.of(pipeline.graph.led_by(first.node, _MOST_FOLLOWED))
        progress.settle(first.node, "completed", handles)
        followed: list[FollowedNode] = []
        while ready := progress.ready():
            for node in ready:
                progress.start(node)
                step = pipeline.steps[node]
                began = monotonic()
                if step.type not in QUICK_TYPES or began >= deadline:
                    continue
                context = replace(
                    first,
                    node=node,
                    data=step.data,
                    before=pipeline.before[node],
                    sources=tuple(progress.sources(node)),
                    attempt=1,
                    input_bytes=0,
                    read=set(),
                )
                try:
                    async with asyncio.timeout(deadline - began):
                        produced = await step_of(step.type).run(context)
                        if isinstance(produced, Waiting):
                            continue
                        await self._settle(context, produced, _Entry(step.type, began))
                except (ETLError, TimeoutError) as error:
                    log.info("node_left_to_the_workflow", node=node, reason=message_of(error))
                    continue
                metrics.note_node(step.type, "completed", monotonic() - began)
                _keep_at_hand(context, produced)
                progress.settle(node, "completed", produced.handles)
                followed.append(FollowedNode(node=node, handles=produced.handles))
        return tuple(followed)

    async def load(self, execution_id: str) -> tuple[StoredExecution, Pipeline]:
        """An execution as it was entered, and its definition; both are kept for its other nodes.

        Raises:
            NotFoundError: there is no such execution.
            DefinitionError: this version does not take its definition.
        """
        execution = self._executions.get(execution_id)
        pipeline = self._definitions.get(execution.sha256) if execution else None
        if execution is None or pipeline is None:
            execution = await asyncio.to_thread(read_execution, self._warehouse, execution_id)
            pipeline = await asyncio.to_thread(validate, execution.document)
            _keep(self._definitions, execution.sha256, pipeline, _MOST_DEFINITIONS)
            # Documents may be large; they are kept once, as what they mean.
            execution = execution.model_copy(update={"document": {}})
            _keep(self._executions, execution_id, execution, _MOST_EXECUTIONS)
        return execution, pipeline

    def context(
        self,
        execution: StoredExecution,
        pipeline: Pipeline,
        request: Any,
        *,
        attempt: int,
    ) -> NodeContext[Any]:
        """The context in which a node of a request runs."""
        return NodeContext(
            execution=RunningExecution(
                execution.execution_id,
                execution.pipeline,
                execution.sha256,
                execution.started_at or execution.created_at,
            ),
            node=request.node,
            data=pipeline.steps[request.node].data,
            before=pipeline.before[request.node],
            sources=request.sources,
            attempt=attempt,
            services=self.services,
        )

    @property
    def _warehouse(self) -> Warehouse:
        return self.services.warehouse

    async def _settle(
        self, context: NodeContext[Any], produced: Produced, entry: _Entry | None = None
    ) -> NodeOutcome:
        """Record what a node gave; with an `entry`, also that it began."""
        if produced.passes_input and len(context.sources) > 1:
            # One result is copied as it stands; of several, an object is made.
            produced = replace(produced, value=await context.inputs(), passes_input=False)
        return await asyncio.to_thread(self._record, context, produced, entry)

    def _record(
        self, context: NodeContext[Any], produced: Produced, entry: _Entry | None
    ) -> NodeOutcome:
        with self._warehouse.connection() as connection:
            if entry is not None:
                took = timedelta(seconds=monotonic() - entry.began)
                execution_id = context.execution.execution_id
                enter_node(connection, execution_id, context.node, entry.type, took)
            measure = self._write(connection, context, produced)
            settle_node(
                connection,
                context.execution.execution_id,
                context.node,
                "completed",
                attempt=context.attempt,
                handles=produced.handles,
                measure=measure,
                input_bytes=context.input_bytes,
                details=_details(
                    connection,
                    context.data,
                    context.execution.execution_id,
                    context.node,
                    produced.details,
                ),
            )
        return outcome("completed", produced.handles, measure)

    def _write(
        self, connection: Connection, context: NodeContext[Any], produced: Produced
    ) -> Measure:
        execution_id, node = context.execution.execution_id, context.node
        if produced.passes_input:
            return copy_result(connection, execution_id, next(iter(context.sources), ""), node)
        if produced.copied_from is not None:
            other, source = produced.copied_from
            return copy_result(connection, other, source, node, into=execution_id)
        if produced.parts is not None:
            given = produced.parts
            parts = given(connection) if callable(given) else given or [[]]
            return write_result(connection, execution_id, node, parts)
        return write_result(connection, execution_id, node, [produced.value])

    def _record_wait(self, context: NodeContext[Any], waiting: Waiting) -> NodeOutcome:
        execution_id, node = context.execution.execution_id, context.node
        with self._warehouse.connection() as connection:
            if waiting.parts is not None:
                write_result(connection, execution_id, node, waiting.parts(connection))
            note_wait(
                connection,
                execution_id,
                node,
                context.attempt,
                waiting.wait.model_dump(mode="json"),
                input_bytes=context.input_bytes,
                details=waiting.details,
            )
        return NodeOutcome(state="running", wait=waiting.wait)

    def _record_failure(
        self,
        request: FailRequest,
        data: NodeData,
        value: JsonValue,
        handles: tuple[str | None, ...],
    ) -> NodeOutcome:
        with self._warehouse.connection() as connection:
            measure = write_result(connection, request.execution_id, request.node, [value])
            settle_node(
                connection,
                request.execution_id,
                request.node,
                request.state,
                handles=handles,
                measure=measure,
                error=request.error.model_dump(mode="json"),
                details=_details(connection, data, request.execution_id, request.node),
            )
        return outcome(request.state, handles, measure, request.error)


@dataclass(slots=True)
class _Attempt:
    outcome: Literal["completed", "waiting"] = "completed"


@contextmanager
def _measured(kind: str) -> Iterator[_Attempt]:
    """Count an attempt of a node of that type, with how it ended and how long it took."""
    attempt, began = _Attempt(), monotonic()
    try:
        yield attempt
    except BaseException as error:
        stopped = isinstance(error, asyncio.CancelledError)
        metrics.note_node(kind, "stopped" if stopped else "failed", monotonic() - began)
        if not stopped:
            metrics.node_failures.add(1, type=kind, error=type(error).__name__)
        raise
    metrics.note_node(kind, attempt.outcome, monotonic() - began)


def _details(
    connection: Connection,
    data: NodeData,
    execution_id: str,
    node: str,
    told: Mapping[str, JsonValue] | None = None,
) -> Mapping[str, JsonValue] | None:
    """The details of a node: what its step told, and what it took of a language model."""
    taken = model_use_of(connection, execution_id, node) if data.asks_model else None
    return told if taken is None else {**(told or {}), **taken._asdict()}


def _keep_at_hand(context: NodeContext[Any], produced: Produced) -> None:
    """Keep a node's result for those behind it that run with it."""
    at_hand, source = context.at_hand, next(iter(context.sources), TRIGGER)
    if not produced.passes_input:
        at_hand[context.node] = produced.whole
    elif len(context.sources) <= 1 and source in at_hand:
        at_hand[context.node] = at_hand[source]


def _keep[Kept](kept: OrderedDict[str, Kept], key: str, one: Kept, most: int) -> None:
    kept[key] = one
    while len(kept) > most:
        kept.popitem(last=False)
