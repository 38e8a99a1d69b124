"""Workers that are killed while a node loads rows: each row comes once, all the same."""

import asyncio
import uuid
from typing import Any

import pytest

from temporaletl import names
from temporaletl.messages import QueuerInput
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.pipelines.executions import enter
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionSummary
from tests.integration.command_line import CommandLine
from tests.integration.pipelines.conftest import Pipelines, definition
from tests.integration.pipelines.worker_process import (
    WITHIN_SECONDS,
    Workers,
    holding,
    worker,
    workers,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)

COLUMNS = {"id": "integer", "name": "text"}
LOAD = {"table": "loaded", "key": ["id"], "columns": COLUMNS, "rows": "inputs"}
DEFINITION = definition({"rows": ("load", LOAD)})


async def execute(commands: CommandLine, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of rows; they do not pass through a history."""
    services = commands.services
    execution_id = uuid.uuid4().hex
    request = ExecutionInput(definition=DEFINITION, input=rows)
    enter(services.warehouse, request, execution_id=execution_id, started_how="command")
    summary: ExecutionSummary = await services.client.execute_workflow(
        names.PIPELINE_FLOW,
        ExecutionInput(execution_id=execution_id),
        id=names.execution_workflow_id(execution_id),
        task_queue=f"{services.queue}-etl",
        result_type=ExecutionSummary,
    )
    assert summary.state == "completed", summary.error
    result: dict[str, Any] = Pipelines(services).result(summary, "rows")
    return {name: count for name, count in result.items() if name != "run" and count}


async def test_a_load_goes_on_behind_its_last_committed_page(
    commands: CommandLine, warehouse: Warehouse, postgres_url: str
) -> None:
    rows = [{"id": number, "name": "x"} for number in range(12_000)]
    with holding(postgres_url, warehouse) as held:
        async with worker(commands):
            assert await execute(commands, [{"id": 7_000}]) == {"inserted": 1}
            held.lock("loaded", 7_000)  # of the second page
            loading = asyncio.create_task(execute(commands, rows))
            await until(held.is_waited_for, within_seconds=WITHIN_SECONDS)
    pages = "SELECT pages FROM etl_jobs WHERE state = 'running'"
    assert commands.services.rows(pages) == [(1,)]
    async with worker(commands), asyncio.timeout(2 * WITHIN_SECONDS):
        assert await loading == {"inserted": 11_999, "updated": 1}


@pytest.mark.slow
async def test_200_000_rows_come_once_and_bad_ones_are_rejects_whatever_is_killed(
    commands: CommandLine,
) -> None:
    services = commands.services
    rows = [{"id": n, "name": n if n % 1_000 == 0 else f"row {n}"} for n in range(200_000)]

    async def kill_at_pages(following: Workers, *pages: int) -> None:
        for page in pages:

            def reached(page: int = page) -> bool:
                [(most,)] = services.rows("SELECT max(pages) FROM etl_jobs WHERE state = 'running'")
                return most is not None and most >= page

            await until(reached, within_seconds=5 * WITHIN_SECONDS)
            following.kill()

    async with workers(commands) as following, asyncio.timeout(800):
        killing = asyncio.create_task(kill_at_pages(following, 1, 6, 7, 15))
        assert await execute(commands, rows) == {"inserted": 199_800, "rejected": 200}
        await killing
        assert following.killed == 4
        assert await execute(commands, rows) == {"unchanged": 199_800, "rejected": 200}
        services.rows_changed(
            "UPDATE etl_rejects SET payload = jsonb_set(payload, '{name}', '\"mended\"')"
        )
        replay = await services.start(QueuerInput(source="pipeline", mode="replay"))
        replayed = await replay.result()

    assert (replayed.state, replayed.rows.inserted) == ("completed", 200)
    counted = "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE name = 'mended')"
    assert services.rows(f"{counted} FROM loaded") == [(200_000, 200_000, 200)]
    assert services.rows("SELECT count(*) FROM etl_rejects") == [(0,)]
