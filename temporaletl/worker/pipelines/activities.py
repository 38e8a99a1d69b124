"""Activities of pipelines: thin shells over the runner of nodes and the store of executions."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import activity

from temporaletl import names
from temporaletl.errors import NotFoundError, RetryableError
from temporaletl.settings.platform import TemporalSettings
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.attempts import Attempts, message_of
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_executions import (
    end_execution,
    read_execution,
)
from temporaletl.warehouse.pipeline_nodes import (
    count_nodes,
    note_failure,
)
from temporaletl.worker.pipelines.chunks import run_chunk
from temporaletl.worker.pipelines.declared import find_surroundings
from temporaletl.worker.pipelines.egress.settings import EgressSettings
from temporaletl.worker.pipelines.executions import (
    definition_of,
    enter_workflow,
    plan_of,
    refuse_unfit,
)
from temporaletl.worker.pipelines.faults import DefinitionError, DefinitionFault
from temporaletl.worker.pipelines.messages import (
    ChunkRequest,
    ChunkResult,
    CloseRequest,
    EndExecutionRequest,
    ExecutionInput,
    ExecutionPlan,
    ExecutionSummary,
    FailRequest,
    FoundFault,
    NodeError,
    NodeOutcome,
    NodeRequest,
    ValidationResult,
)
from temporaletl.worker.pipelines.model.settings import ModelSettings
from temporaletl.worker.pipelines.runner import NodeRunner, NodeTimeoutError
from temporaletl.worker.pipelines.secrets import SecretStore
from temporaletl.worker.pipelines.settings import PipelineSettings
from temporaletl.worker.pipelines.steps.context import Services
from temporaletl.worker.pipelines.validation import validate

log = get_logger("temporaletl.worker.pipelines.activities")


def services_of(warehouse: Warehouse) -> Services:
    """What steps use, as the settings of this process have it."""
    return Services(
        warehouse,
        secrets=SecretStore(),
        settings=PipelineSettings.load(),
        egress=EgressSettings.load(),
        model=ModelSettings.load(),
    )


class PipelineActivities:
    """The activities of pipelines and their shared state; `all` lists them."""

    def __init__(self, warehouse: Warehouse, temporal: TemporalSettings) -> None:
        self._warehouse = warehouse
        self._temporal = temporal
        self._runner = NodeRunner(services_of(warehouse))

    @property
    def all(self) -> Sequence[Callable[..., Any]]:
        return [
            self.begin_execution,
            self.run_node,
            self.close_node,
            self.fail_node,
            self.run_chunk,
            self.end_execution,
            self.validate_pipeline,
        ]

    @activity.defn(name=names.BEGIN_EXECUTION)
    async def begin_execution(self, request: ExecutionInput) -> ExecutionPlan:
        execution_id = request.execution_id
        if execution_id is None:
            info = activity.info()
            execution_id = await asyncio.to_thread(
                partial(
                    enter_workflow,
                    workflow_id=info.workflow_id or "",
                    run_id=info.workflow_run_id or "",
                ),
                self._warehouse,
                request,
            )
        elif request.carried is None:
            await asyncio.to_thread(refuse_unfit, self._warehouse, execution_id)
        _, pipeline = await self._runner.load(execution_id)
        # As it is now: it may have ended since it was read.
        execution = await asyncio.to_thread(read_execution, self._warehouse, execution_id)
        policy = self._temporal.policy()
        return await asyncio.to_thread(
            plan_of,
            self._warehouse,
            execution,
            pipeline,
            queuer_queue=self._temporal.queuer_queue,
            timeout=policy.job_timeout,
            heartbeat_timeout=policy.heartbeat_timeout,
            deadline=request.carried.deadline if request.carried else None,
        )

    @activity.defn(name=names.RUN_NODE)
    async def run_node(self, request: NodeRequest) -> NodeOutcome:
        return await self._attempt(request, request.timeout, self._runner.run(request))

    @activity.defn(name=names.CLOSE_NODE)
    async def close_node(self, request: CloseRequest) -> NodeOutcome:
        return await self._attempt(request, request.timeout, self._runner.close(request))

    @activity.defn(name=names.FAIL_NODE)
    async def fail_node(self, request: FailRequest) -> NodeOutcome:
        return await self._runner.fail(request)

    @activity.defn(name=names.RUN_CHUNK)
    async def run_chunk(self, request: ChunkRequest) -> ChunkResult:
        info = activity.info()
        attempts = Attempts(info.attempt, info.heartbeat_details, request.policy.max_attempts)
        done: list[int] = []

        def report(settled: int) -> int:
            done[:] = [settled]
            activity.heartbeat(settled)
            attempts.note_heartbeat(done)
            return attempts.unanswered

        beating = asyncio.create_task(_beat(request.policy.heartbeat_timeout, done))
        try:
            return await run_chunk(self._runner, request, report)
        finally:
            beating.cancel()

    @activity.defn(name=names.END_EXECUTION)
    async def end_execution(self, request: EndExecutionRequest) -> ExecutionSummary:
        execution, pipeline = await self._runner.load(request.execution_id)
        error = request.error
        await asyncio.to_thread(
            end_execution,
            self._warehouse,
            request.execution_id,
            request.state,
            skipped={node: pipeline.steps[node].type for node in request.skipped},
            error=error.message if error else None,
            error_node=error.node if error else None,
        )
        counts = await asyncio.to_thread(count_nodes, self._warehouse, request.execution_id)
        log.info(
            "execution_ended",
            execution_id=request.execution_id,
            pipeline=execution.pipeline,
            state=request.state,
        )
        return ExecutionSummary.model_validate(
            {
                "execution_id": request.execution_id,
                "state": request.state,
                "nodes": counts,
                "error": error,
            }
        )

    @activity.defn(name=names.VALIDATE_PIPELINE)
    async def validate_pipeline(self, request: ExecutionInput) -> ValidationResult:
        document, _ = await asyncio.to_thread(definition_of, self._warehouse, request)
        surroundings = await asyncio.to_thread(
            find_surroundings, self._warehouse, pipeline=request.pipeline
        )
        try:
            pipeline = await asyncio.to_thread(validate, document, surroundings)
        except DefinitionError as error:
            faults = tuple(_found(one) for one in error.faults)
            return ValidationResult(valid=False, faults=faults)
        warnings = tuple(_found(one) for one in pipeline.warnings)
        digest = pipeline.definition.content_hash()
        return ValidationResult(valid=True, sha256=digest, faults=warnings)

    async def _attempt(
        self,
        request: NodeRequest | CloseRequest,
        within: timedelta,
        attempt: Awaitable[NodeOutcome],
    ) -> NodeOutcome:
        """One attempt of a node within its time; heartbeats meanwhile, and tells why it failed."""
        beating = asyncio.create_task(_beat(request.policy.heartbeat_timeout))
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await attempt
        except TimeoutError:
            error: Exception = NodeTimeoutError(
                f"it took longer than timeout_seconds = {within.total_seconds():g}"
            )
            await self._note(request, error)
            raise error from None
        except Exception as error:
            await self._note(request, error)
            raise
        finally:
            beating.cancel()

    async def _note(self, request: NodeRequest | CloseRequest, error: Exception) -> None:
        told = NodeError(
            type=type(error).__name__,
            message=message_of(error),
            node=request.node,
            attempts=activity.info().attempt,
        )
        try:
            await asyncio.to_thread(
                note_failure,
                self._warehouse,
                request.execution_id,
                request.node,
                told.model_dump(mode="json"),
            )
        except (RetryableError, NotFoundError) as failure:
            log.warning("node_failure_not_noted", node=request.node, reason=str(failure))


async def _beat(noticed_within: timedelta, details: Sequence[int] = ()) -> None:
    while not activity.info().is_local:
        activity.heartbeat(*details)
        await asyncio.sleep(noticed_within.total_seconds() / 5)


def _found(fault: DefinitionFault) -> FoundFault:
    return FoundFault.model_validate(asdict(fault))
