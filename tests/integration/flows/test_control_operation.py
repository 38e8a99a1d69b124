"""Pausing, resuming and cancelling from outside, with and without services that answer."""

import uuid
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporaletl import names
from temporaletl.control.cli.views.control import described
from temporaletl.control.operations.control import Controlled, control_run
from temporaletl.control.operations.history import recent_runs
from temporaletl.control.operations.platform import OPEN_WORKFLOWS, Platform
from temporaletl.errors import ConflictError, NotFoundError
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

_LONG: dict[str, Any] = {"jobs": 2, "pages": 10_000, "page_seconds": 0.05, "size": 1}


def _platform(postgres_url: str, warehouse: Warehouse, **temporal: str) -> Platform:
    return Platform(
        TemporalSettings.model_validate(temporal),
        WarehouseSettings.model_validate(
            {"database_url": postgres_url, "schema_name": warehouse.schema}
        ),
    )


@pytest_asyncio.fixture
async def platform(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str
) -> AsyncGenerator[Platform]:
    async with _platform(postgres_url, warehouse, **temporal_server.settings) as opened:
        yield opened


async def _start(services: Services, **params: Any) -> WorkflowHandle[Any, BatchSummary]:
    return await services.start(QueuerInput(source="numbers", mode="full", params=params))


def _loads(services: Services) -> bool:
    return services.rows("SELECT 1 FROM etl_pages LIMIT 1") != []


async def _state(platform: Platform, workflow_id: str) -> str:
    found = await recent_runs(platform, limit=20)
    return next(run.state for run in found.runs if run.workflow_id == workflow_id)


async def test_what_is_accepted_is_said_with_the_jobs_that_still_run(
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    platform: Platform,
    postgres_url: str,
) -> None:
    async with running(temporal_server.client, warehouse, segment_seconds=1) as services:
        batch = await _start(services, jobs=2, pages=1_000, page_seconds=1.0)
        both = "SELECT 1 FROM etl_jobs WHERE state = 'running'"
        await until(lambda: len(services.rows(both)) == 2)
        done = await control_run(platform, batch.id, "pause", request_id="once")
        assert (done.kind, done.state, done.jobs_running) == ("run", "pausing", 2)
        assert described(done).startswith(
            f"pausing {batch.id}: running jobs stop at their next page, no others start "
            "(2 jobs still run)"
        )

        async def paused() -> bool:
            return await _state(platform, batch.id) == "paused"

        await until(paused)
        again = await control_run(platform, batch.id, "pause")
        assert (again.state, again.jobs_running) == ("paused", 0)
        assert described(again).startswith(f"paused {batch.id}: no job runs")
        # The ledger alone says it, also where no Temporal answers.
        async with _platform(postgres_url, warehouse, address="127.0.0.1:1") as alone:
            assert await _state(alone, batch.id) == "paused"

        assert (await control_run(platform, batch.id, "resume")).state == "running"
        assert (await control_run(platform, batch.id, "cancel")).state == "cancelling"
        await batch.result()
        with pytest.raises(ConflictError, match="has ended: there is nothing to pause"):
            await control_run(platform, batch.id, "pause")
        # The request of before is answered as it was; a new one is too late.
        first = await control_run(platform, batch.id, "pause", request_id="once")
        assert first.state == "pausing"
        with pytest.raises(ConflictError, match="has ended: there is nothing to pause"):
            await control_run(platform, batch.id, "pause", request_id="another")
        with pytest.raises(NotFoundError):
            await control_run(platform, "nobody", "pause")


async def test_without_a_service_a_request_is_stored_and_heeded_by_the_next(
    temporal_server: TemporalServer, warehouse: Warehouse, platform: Platform
) -> None:
    queue = f"test-{uuid.uuid4().hex}"
    services = Services(temporal_server.client, warehouse, queue)
    batch = await _start(services, **_LONG)
    done = await control_run(platform, batch.id, "cancel")
    assert done == Controlled("run", batch.id, "cancel", stored=True, queue=queue)
    assert described(done).startswith(f"stored: no service polls task queue {queue}; {batch.id} ")
    async with running(temporal_server.client, warehouse, queue=queue):
        assert (await batch.result()).state == "cancelled"


async def test_a_request_stored_behind_a_dead_service_does_not_come_back_after_the_next_one(
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server still takes the queue for polled, so that the update is what is tried first."""
    queue = f"test-{uuid.uuid4().hex}"
    async with running(
        temporal_server.client, warehouse, queue=queue, segment_seconds=1, rows_per_page=50
    ) as first:
        batch = await _start(first, jobs=1, pages=60, page_seconds=0.05, size=1)
        await until(lambda: _loads(first))
    monkeypatch.setattr("temporaletl.control.operations.control.PATIENCE", timedelta(seconds=1))
    done = await control_run(platform, batch.id, "pause")
    assert (done.stored, done.queue, done.state) == (True, queue, None)
    await batch.signal(names.RESUME)
    async with running(
        temporal_server.client, warehouse, queue=queue, segment_seconds=1, rows_per_page=50
    ):
        assert (await batch.result()).rows.inserted == 60


@workflow.defn(name=names.QUEUER_FLOW)
class _OlderQueuerFlow:
    """A queuer of before there were updates."""

    def __init__(self) -> None:
        self._cancelled = False

    @workflow.signal(name=names.CANCEL)
    def cancel(self) -> None:
        self._cancelled = True

    @workflow.run
    async def run(self, _request: QueuerInput) -> str:
        await workflow.wait_condition(lambda: self._cancelled)
        return "cancelled"


async def test_an_older_service_gets_the_signal(
    temporal_server: TemporalServer, warehouse: Warehouse, platform: Platform
) -> None:
    queue = f"test-{uuid.uuid4().hex}"
    async with Worker(
        temporal_server.client,
        task_queue=queue,
        workflows=[_OlderQueuerFlow],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        batch = await _start(Services(temporal_server.client, warehouse, queue))
        done = await control_run(platform, batch.id, "cancel")
        assert (done.state, done.stored) == (None, False)
        assert described(done).startswith(f"cancelling {batch.id}: running jobs stop")
        # Its result is no summary: only that it ended counts.
        assert await temporal_server.client.get_workflow_handle(batch.id).result() == "cancelled"


async def test_a_workflow_that_is_no_run_is_refused(
    temporal_server: TemporalServer, platform: Platform
) -> None:
    handle = await temporal_server.client.start_workflow(
        "AnotherFlow", id=uuid.uuid4().hex, task_queue="nobody"
    )
    with pytest.raises(ConflictError, match="neither a run nor a job"):
        await control_run(platform, handle.id, "pause")
    await handle.terminate()


async def test_the_filter_for_open_workflows_is_one_that_the_server_takes(
    temporal_server: TemporalServer,
) -> None:
    client = temporal_server.client
    queue = f"test-{uuid.uuid4().hex}"
    ids = [f"{queue}-{number}" for number in range(2)]
    for workflow_id in ids:
        await client.start_workflow("AnotherFlow", id=workflow_id, task_queue=queue)
    await client.get_workflow_handle(ids[0]).terminate()
    query = f"TaskQueue = '{queue}' AND {OPEN_WORKFLOWS}"

    async def listed() -> bool:
        return [found.id async for found in client.list_workflows(query)] == ids[1:]

    await until(listed)
    await client.get_workflow_handle(ids[1]).terminate()
