"""Both services in this process, on queues of their own."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowHandle

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl import names
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.queuer.__main__ import service_of as queuer_of
from temporaletl.service.process import make_workers
from temporaletl.settings.platform import TemporalSettings, WorkerSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.run_log import kept_run_log
from temporaletl.worker.__main__ import service_of as worker_of


@dataclass(frozen=True)
class Services:
    """Both services run; `start` asks the queuer for a batch."""

    client: Client
    warehouse: Warehouse
    queue: str

    async def start(self, request: QueuerInput) -> WorkflowHandle[Any, BatchSummary]:
        return await self.client.start_workflow(
            names.QUEUER_FLOW,
            request,
            id=f"etl-{request.source}-{uuid.uuid4().hex}",
            task_queue=self.queue,
            result_type=BatchSummary,
        )

    async def run(self, mode: Any = "full", /, **params: Any) -> BatchSummary:
        handle = await self.start(QueuerInput(source="numbers", mode=mode, params=params))
        return await handle.result()

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.warehouse.connection() as connection:
            return list(connection.execute(statement.encode(), parameters).fetchall())

    def rows_changed(self, statement: str) -> None:
        with self.warehouse.connection() as connection:
            connection.execute(statement.encode())


async def planning(batch: WorkflowHandle[Any, Any]) -> bool:
    """Whether the batch's jobs are being planned now."""
    return any(
        pending.activity_type.name == names.EXPAND_JOBS
        for pending in (await batch.describe()).raw_description.pending_activities
    )


@asynccontextmanager
async def running(
    client: Client,
    warehouse: Warehouse,
    *,
    attempts: int = 5,
    queue: str | None = None,
    worker: bool = True,
    build: str | None = None,
    **settings: object,
) -> AsyncGenerator[Services]:
    """Run the queuer and the `worker` until the block ends; `settings` are the worker's.

    With a `build`, they are of deployments that begin with the queue's name.
    """
    queue = queue or f"test-{uuid.uuid4().hex}"
    temporal = TemporalSettings.model_validate(
        {
            "queuer_queue": queue,
            "worker_queue": f"{queue}-etl",
            "initial_interval_seconds": 0.05,
            "heartbeat_timeout_seconds": 5,
            "activity_max_retries": attempts,
            "build_id": build,
        }
    )
    services = [queuer_of(NotificationSettings.load())]
    if worker:
        services.append(worker_of(WorkerSettings.model_validate(settings)))
    async with AsyncExitStack() as running_workers:
        running_workers.enter_context(kept_run_log(warehouse))
        for service in services:
            name = {"deployment_name": f"{queue}-{service.name}"}
            of_service = temporal.model_copy(update=name)
            for polling in make_workers(service, client, warehouse, of_service):
                await running_workers.enter_async_context(polling)
        yield Services(client, warehouse, queue)
