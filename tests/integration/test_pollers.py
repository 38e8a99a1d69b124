"""Who polls a task queue, as its services, the commands and the stack look at it."""

import asyncio
import os
import uuid

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from temporaletl.checks.flow import CheckFlow
from temporaletl.control.operations.platform import is_polled
from temporaletl.embedded.temporal_server import polling
from temporaletl.errors import TemporalUnavailableError
from temporaletl.service.readiness import Standing
from temporaletl.temporal.builds import workflow_runner
from temporaletl.temporal.endpoint import Endpoint
from temporaletl.temporal.pollers import pollers
from temporaletl.warehouse.connection import Warehouse
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until


async def test_a_queue_is_polled_by_those_who_take_its_tasks_and_where_temporal_is_silent_by_any(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    queue, other = (f"test-{uuid.uuid4().hex}" for _ in range(2))
    client = temporal_server.client
    endpoint = Endpoint(temporal_server.address, client.namespace)
    worker = Worker(
        client, task_queue=queue, workflows=[CheckFlow], workflow_runner=workflow_runner()
    )
    async with worker:

        async def is_known() -> bool:
            return await pollers(client, queue) == {client.identity}

        await until(is_known)
        assert await polling(endpoint, queue) == {os.getpid()}
        assert [await is_polled(client, one) for one in (queue, other)] == [True, False]
        assert not await is_polled(client, queue, for_segments=True)
        silent = Client(client.service_client, namespace="nowhere")
        standing = Standing(warehouse, asyncio.Event())
        standing.polls(silent, [worker])
        for look in (pollers(silent, queue), standing.fault()):
            with pytest.raises(TemporalUnavailableError, match=f"who polls .* {queue}: not found$"):
                await look
        assert await is_polled(silent, other)
        assert await polling(Endpoint(temporal_server.address, "nowhere"), queue) == set()
