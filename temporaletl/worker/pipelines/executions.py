"""Entering of executions into the warehouse, and their plans for the workflow."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from pydantic import JsonValue

from temporaletl.errors import ConfigurationError
from temporaletl.messages import RunPolicy
from temporaletl.names import PIPELINE, ScheduleKey
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.pipeline_executions import (
    ENDED,
    NewExecution,
    StoredExecution,
    begin_execution,
    end_execution,
    enter_execution,
    enter_refused,
    find_event,
    read_execution,
)
from temporaletl.warehouse.pipeline_items import copy_items, nodes_with_failed_items
from temporaletl.warehouse.pipeline_nodes import copy_nodes, read_nodes
from temporaletl.warehouse.pipeline_results import TRIGGER, write_result
from temporaletl.warehouse.pipelines import StoredVersion, find_version
from temporaletl.worker.pipelines.declared import find_surroundings
from temporaletl.worker.pipelines.faults import DefinitionError
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionPlan, PlannedNode
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.outcomes import outcome_of
from temporaletl.worker.pipelines.validation import Pipeline, validate


def new_execution_id(pipeline: str | None) -> str:
    """An id of an execution that nothing else has; it begins with the pipeline's name."""
    name = pipeline or "definition"
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def definition_of(
    warehouse: Warehouse, request: ExecutionInput
) -> tuple[dict[str, JsonValue], StoredVersion | None]:
    """The definition of a request, and the stored version that it is, where it is one.

    Raises:
        NotFoundError: there is no such pipeline, or version of it.
        ConfigurationError: it names none, or two.
    """
    if (request.definition is None) == (request.pipeline is None):
        raise ConfigurationError("a request has a definition, or the name of a stored pipeline")
    if request.definition is not None:
        return request.definition, None
    found = find_version(warehouse, request.pipeline or "", request.version)
    return found.document, found


def enter(
    warehouse: Warehouse,
    request: ExecutionInput,
    *,
    execution_id: str,
    started_how: str,
    started_by: str | None = None,
    event_key: str | None = None,
    parent: tuple[str, str] | None = None,
    resumed_from: StoredExecution | None = None,
    resumed_node: str | None = None,
    failed_items_only: bool = False,
    workflow_id: str | None = None,
    author: Author | None = None,
    elsewhere: bool = False,
) -> Pipeline:
    """Enter an execution with its input, and what it takes over from the one it resumes.

    With an `author`, the start is audited. Where it is entered `elsewhere` than it runs, secrets
    and databases are checked by the worker that begins it.

    With `failed_items_only`, a `map` of which items failed runs again, and all nodes behind it; of
    each that runs again, the items that completed are taken over. Safe to repeat: an id, or an
    event, that is known changes nothing.

    Raises:
        DefinitionError: the definition cannot run here.
        NotFoundError, ConfigurationError: as `definition_of`.
    """
    document, version = definition_of(warehouse, request)
    name = request.pipeline or _name_of(document)
    surroundings = find_surroundings(warehouse, pipeline=name, secrets=not elsewhere)
    pipeline = validate(document, surroundings)
    timeout = pipeline.definition.timeout_seconds
    new = NewExecution(
        execution_id=execution_id,
        document=document,
        sha256=version.sha256 if version else pipeline.definition.content_hash(),
        pipeline=name,
        started_how=started_how,
        started_by=started_by,
        event_key=event_key,
        parent=parent[0] if parent else None,
        parent_node=parent[1] if parent else None,
        resumed_from=resumed_from.execution_id if resumed_from else None,
        resumed_node=resumed_node,
        timeout=timedelta(seconds=timeout) if timeout is not None else None,
        workflow_id=workflow_id,
    )
    with warehouse.connection() as connection:
        if enter_execution(connection, new):
            write_result(connection, execution_id, TRIGGER, [request.input])
            if resumed_from is not None:
                kept = nodes_before(pipeline, resumed_node)
                source = resumed_from.execution_id
                if failed_items_only:
                    failed = nodes_with_failed_items(connection, source)
                    kept = [
                        one
                        for one in kept
                        if one not in failed and not failed & pipeline.before[one]
                    ]
                copy_nodes(connection, source, execution_id, kept)
                if failed_items_only:
                    copy_items(connection, source, execution_id)
            if author is not None:
                _audit(connection, author, new)
    return pipeline


def _audit(connection: Connection, author: Author, new: NewExecution) -> None:
    details: dict[str, JsonValue] = {"pipeline": new.pipeline, "version": new.sha256}
    action = "execution.start"
    if new.resumed_from is not None:
        action = "execution.rerun"
        details |= {"from": new.resumed_from, "node": new.resumed_node}
    if new.event_key is not None:
        details |= {"event": new.event_key}
    record(connection, author, action, new.execution_id, details=details)


class _Scheduled(TypedDict):
    """What an execution that a schedule starts is entered with."""

    execution_id: str
    started_how: str
    started_by: str
    event_key: str
    workflow_id: str


def enter_workflow(
    warehouse: Warehouse, request: ExecutionInput, *, workflow_id: str, run_id: str
) -> str:
    """Enter the execution of a workflow that a schedule started, or a client; returns its id.

    The workflow's id tells the time at which the schedule had it due: each time is one execution,
    also where it starts again. One whose definition cannot run here is entered as failed.

    Raises: as `enter`.
    """
    if request.schedule is None or request.pipeline is None:
        enter(
            warehouse,
            request,
            execution_id=run_id,
            started_how="workflow",
            workflow_id=workflow_id,
        )
        return run_id
    known = find_event(warehouse, request.pipeline, workflow_id)
    if known is not None:
        return known
    new = _Scheduled(
        execution_id=new_execution_id(request.pipeline),
        started_how="schedule",
        started_by=ScheduleKey(PIPELINE, request.pipeline, request.schedule).label,
        event_key=workflow_id,
        workflow_id=workflow_id,
    )
    try:
        enter(warehouse, request, **new)
    except DefinitionError as error:
        document, version = definition_of(warehouse, request)
        sha256 = version.sha256 if version else ""
        refused = NewExecution(document=document, sha256=sha256, pipeline=request.pipeline, **new)
        enter_refused(warehouse, refused, str(error))
        raise
    return find_event(warehouse, request.pipeline, workflow_id) or new["execution_id"]


def refuse_unfit(warehouse: Warehouse, execution_id: str) -> None:
    """End an execution that was entered elsewhere, and cannot run here, as failed.

    It may name secrets or databases that only the workers know. Safe to repeat.
    """
    execution = read_execution(warehouse, execution_id)
    if execution.state != "pending":
        return
    try:
        validate(execution.document, find_surroundings(warehouse, pipeline=execution.pipeline))
    except DefinitionError as error:
        end_execution(
            warehouse,
            execution_id,
            "failed",
            skipped={},
            error=str(error),
            error_node=None,
        )


def _name_of(document: dict[str, JsonValue]) -> str | None:
    name = document.get("name")
    return name if isinstance(name, str) else None


def nodes_before(pipeline: Pipeline, node: str | None) -> list[str]:
    """The nodes whose recorded results stand where an execution runs anew from `node`.

    Raises:
        ConfigurationError: there is no such node.
    """
    if node is None:
        return list(pipeline.steps)
    if node not in pipeline.steps:
        listed = ", ".join(pipeline.steps)
        raise ConfigurationError(f"no node is called {node}; there are {listed}")
    return [one for one in pipeline.steps if one != node and node not in pipeline.before[one]]


def plan_of(
    warehouse: Warehouse,
    execution: StoredExecution,
    pipeline: Pipeline,
    *,
    queuer_queue: str,
    timeout: timedelta | None,
    heartbeat_timeout: timedelta,
    deadline: datetime | None = None,
) -> ExecutionPlan:
    """The plan of an execution, as far as it has come; it counts as begun from then on.

    `timeout` is how long it may take where its definition does not say; `deadline` until when.
    A worker that sends no heartbeat for `heartbeat_timeout` counts as dead: its node runs again.
    """
    began = begin_execution(warehouse, execution.execution_id)
    longest = execution.timeout or timeout
    recorded = {
        one.node: outcome_of(one)
        for one in read_nodes(warehouse, execution.execution_id)
        if one.is_settled or one.wait is not None
    }
    return ExecutionPlan(
        execution_id=execution.execution_id,
        nodes=tuple(_planned(pipeline, node, heartbeat_timeout) for node in pipeline.steps),
        links=tuple((link.source, link.target, link.handle) for link in pipeline.graph.links),
        recorded=recorded,
        deadline=deadline or (None if longest is None else began + longest),
        queuer_queue=queuer_queue,
        ended=execution.state if execution.state in ENDED else None,
    )


def _planned(pipeline: Pipeline, node: str, heartbeat_timeout: timedelta) -> PlannedNode:
    step = pipeline.steps[node]
    data: NodeData = step.data
    return PlannedNode(
        id=node,
        type=step.type,
        join=data.join,
        goes_on=pipeline.goes_on(node),
        catches=pipeline.catches(node),
        timeout=timedelta(seconds=data.timeout_seconds),
        policy=RunPolicy(
            max_attempts=data.retry.max_attempts,
            initial_interval=timedelta(seconds=data.retry.initial_seconds),
            backoff_coefficient=data.retry.backoff,
            maximum_interval=timedelta(seconds=data.retry.max_seconds),
            heartbeat_timeout=heartbeat_timeout,
        ),
    )
