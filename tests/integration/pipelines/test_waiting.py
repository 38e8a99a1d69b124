"""approval and wait_for_webhook: decided once, by a person, a request, or the end of the time."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from temporaletl import names
from temporaletl.errors import ConflictError, NotFoundError
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_decisions import read_decision, record_decision
from temporaletl.warehouse.pipeline_nodes import (
    read_nodes,
)
from temporaletl.worker.pipelines.messages import Decision, ExecutionSummary
from tests.integration.flows.services import running
from tests.integration.pipelines.conftest import Pipelines, definition, mapping
from tests.integration.temporal_server import TemporalServer


def asking(kind: str = "approval", seconds: float = 60, **data: Any) -> dict[str, Any]:
    if kind == "approval":
        data = {"title": "Pay {{ trigger.n }}?", "details": {"n": "{{ trigger.n }}"}, **data}
    outcomes = {"approval": ("approved", "rejected"), "wait_for_webhook": ("received",)}[kind]
    nodes: dict[str, Any] = {"ask": (kind, {"timeout_seconds": seconds, **data})}
    edges = []
    for outcome in (*outcomes, "timeout"):
        nodes[outcome] = mapping(got="inputs")
        edges.append(f"ask -{outcome}-> {outcome}")
    return definition(nodes, *edges)


async def waiting(
    warehouse: Warehouse, handle: WorkflowHandle[Any, ExecutionSummary], node: str = "ask"
) -> str:
    """The id of an execution whose node waits, as the warehouse has it."""
    execution_id = handle.result_run_id or ""
    async with asyncio.timeout(120):
        while True:
            found = await asyncio.to_thread(read_nodes, warehouse, execution_id)
            if any(one.node == node and one.wait is not None for one in found):
                return execution_id
            await asyncio.sleep(0.02)


async def test_what_no_database_stores_is_replaced_where_it_is_told(pipelines: Pipelines) -> None:
    warehouse = pipelines.services.warehouse
    handle = await pipelines.start(asking(), {"n": "7\0"})
    execution = await waiting(warehouse, handle)
    record_decision(warehouse, execution, "ask", "approved", by="ann", comment="\0\ud800")
    await tell(handle, "approved")
    summary = await handle.result()
    details = read_nodes(warehouse, execution)[0].details or {}
    assert details["title"] == "Pay 7\ufffd?"
    assert details["decision"]["comment"] == "\ufffd\ufffd"
    assert pipelines.result(summary, "approved")["got"]["comment"] == "\ufffd\ufffd"


async def tell(handle: WorkflowHandle[Any, Any], outcome: str) -> None:
    await handle.signal(names.DECIDE, Decision(node="ask", outcome=outcome))


@pytest.mark.parametrize("outcome", ["approved", "rejected"])
async def test_the_first_decision_stands(pipelines: Pipelines, outcome: str) -> None:
    warehouse = pipelines.services.warehouse
    handle = await pipelines.start(asking(), {"n": 7})
    execution = await waiting(warehouse, handle)
    asked = read_nodes(warehouse, execution)[0].details

    first = record_decision(warehouse, execution, "ask", outcome, by="ann", comment="as agreed")
    second = record_decision(warehouse, execution, "ask", "rejected", by="bob")
    # Whoever was told second tells the workflow, too.
    await tell(handle, "rejected")
    summary = await handle.result()

    assert (first, second) == (True, False)
    assert asked == {"title": "Pay 7?", "details": {"n": 7}}
    result = pipelines.result(summary, outcome)["got"]
    assert result | {"at": ""} == {
        "outcome": outcome,
        "by": "ann",
        "comment": "as agreed",
        "at": "",
    }
    assert pipelines.states(summary)[outcome] == "completed"
    assert pipelines.states(summary)["timeout"] == "skipped"


async def test_without_a_decision_the_edge_of_the_timeout_is_taken(pipelines: Pipelines) -> None:
    handle = await pipelines.start(asking(seconds=1), {"n": 7})
    summary = await handle.result()

    warehouse = pipelines.services.warehouse
    assert pipelines.result(summary, "timeout")["got"]["outcome"] == "timeout"
    assert not record_decision(warehouse, summary.execution_id, "ask", "approved", by="late")
    found = read_decision(warehouse, summary.execution_id, "ask")
    assert found is not None
    assert found.outcome == "timeout"


async def test_a_decision_that_nobody_told_the_workflow_of_stands(pipelines: Pipelines) -> None:
    warehouse = pipelines.services.warehouse
    handle = await pipelines.start(asking(seconds=2), {"n": 7})
    execution = await waiting(warehouse, handle)

    assert record_decision(warehouse, execution, "ask", "approved", by="ann")
    summary = await handle.result()

    assert pipelines.states(summary)["approved"] == "completed"
    assert pipelines.states(summary)["timeout"] == "skipped"


async def test_what_a_request_brings_is_the_result(pipelines: Pipelines) -> None:
    warehouse = pipelines.services.warehouse
    handle = await pipelines.start(asking("wait_for_webhook"))
    execution = await waiting(warehouse, handle)

    assert record_decision(warehouse, execution, "ask", "received", body={"paid": [1]})
    assert not record_decision(warehouse, execution, "ask", "received", body={"paid": [2]})
    await tell(handle, "received")
    summary = await handle.result()

    assert pipelines.result(summary, "received") == {"got": {"paid": [1]}}


async def test_what_does_not_wait_takes_no_decision(pipelines: Pipelines) -> None:
    warehouse = pipelines.services.warehouse
    summary = await pipelines.run(definition({"ask": mapping(n="1")}))

    with pytest.raises(ConflictError, match="does not wait"):
        record_decision(warehouse, summary.execution_id, "ask", "approved")
    with pytest.raises(NotFoundError):
        record_decision(warehouse, summary.execution_id, "other", "approved")


async def test_a_decision_while_no_worker_runs_is_taken_by_the_next(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    async with running(temporal_server.client, warehouse) as services:
        queue = services.queue
        handle = await Pipelines(services).start(asking(), {"n": 7})
        execution = await waiting(warehouse, handle)

    record_decision(warehouse, execution, "ask", "approved", by="ann")
    await tell(handle, "approved")

    async with running(temporal_server.client, warehouse, queue=queue):
        summary = await handle.result()
    assert summary.nodes == {"completed": 2, "skipped": 2}
