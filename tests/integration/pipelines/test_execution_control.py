"""Executions that are paused, cancelled, timed out, killed, or continue as new."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle

from temporaletl import names
from temporaletl.warehouse.pipeline_executions import (
    read_execution,
)
from temporaletl.worker.pipelines import interpreter
from temporaletl.worker.pipelines.messages import ExecutionStatus, ExecutionSummary
from temporaletl.worker.pipelines.retention import end_lost_executions, remove_old_executions
from temporaletl.worker.pipelines.settings import PipelineSettings
from tests.integration.pipelines.conftest import Pipelines, definition, mapping
from tests.integration.pipelines.test_waiting import waiting

Handle = WorkflowHandle[Any, ExecutionSummary]


async def status(handle: Handle) -> ExecutionStatus:
    found: ExecutionStatus = await handle.query(names.GET_STATUS, result_type=ExecutionStatus)
    return found


async def until(handle: Handle, state: str, node: str, became: str) -> ExecutionStatus:
    """Wait until the execution is in a state, and a node in one of its own."""
    async with asyncio.timeout(120):
        while True:
            found = await status(handle)
            if found.state == state and found.nodes.get(node, "waiting") == became:
                return found
            await asyncio.sleep(0.02)


def chain(seconds: float = 60) -> dict[str, Any]:
    return definition(
        {
            "first": mapping(n="1"),
            "pause": ("delay", {"seconds": seconds}),
            "last": mapping(n="inputs.n + 1"),
        },
        "first -> pause",
        "pause -> last",
    )


async def test_a_delay_passes_on_what_it_got(pipelines: Pipelines) -> None:
    summary = await pipelines.run(chain(seconds=1))

    assert summary.state == "completed"
    assert pipelines.result(summary, "last") == {"n": 2}


async def test_a_paused_execution_starts_nothing_until_it_resumes(pipelines: Pipelines) -> None:
    handle = await pipelines.start(chain(seconds=1))
    await until(handle, "running", "pause", "running")

    paused = await handle.execute_update(names.PAUSE, result_type=ExecutionStatus)
    assert paused.state in ("pausing", "paused")
    rested = await until(handle, "paused", "pause", "completed")

    assert "last" not in rested.nodes
    await handle.signal(names.RESUME)
    assert (await handle.result()).state == "completed"


@pytest.mark.parametrize("way", ["signal", "update"])
async def test_a_cancelled_execution_ends_with_its_books_closed(
    pipelines: Pipelines, way: str
) -> None:
    handle = await pipelines.start(chain())
    await until(handle, "running", "pause", "running")

    if way == "signal":
        await handle.signal(names.CANCEL_WORKFLOW)
    else:
        await handle.execute_update(names.CANCEL_WORKFLOW)
    summary = await handle.result()

    assert summary.state == "cancelled"
    assert pipelines.states(summary) == {
        "first": "completed",
        "pause": "cancelled",
        "last": "skipped",
    }


async def test_what_temporal_cancels_closes_its_books_too(pipelines: Pipelines) -> None:
    handle = await pipelines.start(chain(seconds=600))
    found = await until(handle, "running", "pause", "running")
    await waiting(pipelines.services.warehouse, handle, "pause")

    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED
    ended = read_execution(pipelines.services.warehouse, found.execution_id or "")
    assert ended.state == "cancelled"
    assert ended.ended_at is not None


async def test_an_execution_that_takes_too_long_is_timed_out(pipelines: Pipelines) -> None:
    summary = await pipelines.run({**chain(), "timeout_seconds": 1})

    assert summary.state == "timed_out"
    assert pipelines.states(summary)["pause"] == "timed_out"


async def test_a_node_that_takes_too_long_is_timed_out(pipelines: Pipelines) -> None:
    kind, data = mapping(n="[i for i in range(10 ** 9) if False]")
    limits = {"timeout_seconds": 0.5, "retry": {"max_attempts": 1}}
    document = definition(
        {"slow": (kind, {**data, **limits}), "told": mapping(why="inputs.message")},
        "slow -error-> told",
    )

    summary = await pipelines.run(document)

    assert pipelines.states(summary) == {"slow": "timed_out", "told": "completed"}
    assert "timeout_seconds = 0.5" in pipelines.result(summary, "told")["why"]


async def test_it_continues_as_new_between_nodes_and_while_it_waits(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "NODES_PER_RUN", 1)
    nodes = {f"n{i}": mapping(n=f"(inputs.n if inputs else 0) + {i}") for i in range(10)}
    nodes["n4"] = ("delay", {"seconds": 2})
    edges = [f"n{i} -> n{i + 1}" for i in range(9)]
    handle = await pipelines.start(definition(nodes, *edges))

    summary = await handle.result()

    assert summary.state == "completed"
    assert pipelines.result(summary, "n9") == {"n": sum(range(10)) - 4}
    runs = [
        run async for run in pipelines.services.client.list_workflows(f"WorkflowId = '{handle.id}'")
    ]
    assert len(runs) >= 3
    assert all(record.attempts == 1 for record in pipelines.nodes(summary).values())


async def test_a_pause_and_a_cancellation_outlive_a_continuation(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "NODES_PER_RUN", 1)
    handle = await pipelines.start({**chain(seconds=30), "timeout_seconds": 600})
    await until(handle, "running", "pause", "running")

    await handle.signal(names.PAUSE)
    await until(handle, "paused", "pause", "running")
    await handle.signal(names.CANCEL_WORKFLOW)

    assert (await handle.result()).state == "cancelled"


async def test_fifty_nodes_at_most_run_at_once(pipelines: Pipelines) -> None:
    document = definition({f"w{i}": ("delay", {"seconds": 2}) for i in range(60)})
    handle = await pipelines.start(document)
    await until(handle, "running", "w49", "running")

    running = (await status(handle)).nodes
    assert len([one for one in running.values() if one == "running"]) <= 50

    assert (await handle.result()).nodes == {"completed": 60}


async def test_a_time_that_is_over_is_not_waited_for(pipelines: Pipelines) -> None:
    until_then = "'2020-01-01T00:00:00Z'"
    document = definition({"past": ("delay", {"until": until_then})})

    async with asyncio.timeout(timedelta(seconds=20).total_seconds()):
        assert (await pipelines.run(document)).state == "completed"


@pytest.mark.parametrize("until", ["9999-12-31T23:59-12:00", "0001-01-01T00:00+12:00", "soon", 7])
async def test_a_time_that_is_none_fails_its_node_at_once(pipelines: Pipelines, until: Any) -> None:
    summary = await pipelines.run(definition({"wait": ("delay", {"until": "inputs"})}), until)

    assert summary.error is not None
    assert summary.error.type == "EvaluationError"
    assert pipelines.nodes(summary)["wait"].attempts == 1


async def test_an_execution_whose_workflow_is_terminated_is_ended_by_the_workers(
    pipelines: Pipelines,
) -> None:
    handle = await pipelines.start(chain())
    found = await until(handle, "running", "pause", "running")
    services = pipelines.services
    await handle.terminate()

    lost = await end_lost_executions(services.client, services.warehouse, older_than=timedelta(0))

    assert lost == [found.execution_id]
    ended = read_execution(services.warehouse, found.execution_id or "")
    assert (ended.state, ended.error) == (
        "failed",
        "its workflow was terminated before it could close its books",
    )


async def test_old_executions_go_with_all_that_their_nodes_gave(pipelines: Pipelines) -> None:
    summary = await pipelines.run(definition({"a": mapping(n="1")}))
    services = pipelines.services
    services.rows_changed("UPDATE pipeline_executions SET ended_at = now() - interval '31 days'")

    assert await remove_old_executions(services.warehouse, PipelineSettings.load()) == 1

    for table in ("executions", "nodes", "results"):
        assert services.rows(f"SELECT count(*) FROM pipeline_{table}") == [(0,)]
    assert summary.state == "completed"
