"""Readiness of a service: whether it polls, and what it works with answers."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from temporaletl.warehouse.connection import Warehouse

_ANSWERS_WITHIN = timedelta(seconds=3)
#: A poll lasts a minute at most; a worker that has polled before that does not poll any more.
_POLLED_WITHIN = timedelta(seconds=70)


class Standing:
    """How a service stands; `stop` is set once it ends."""

    def __init__(self, warehouse: Warehouse, stop: asyncio.Event) -> None:
        self.stop = stop
        self._warehouse = warehouse
        self._client: Client | None = None
        self._workers: Sequence[Worker] = ()

    def polls(self, client: Client, workers: Sequence[Worker]) -> None:
        """Say that the workers have been started; the first polls the service's task queue."""
        self._client, self._workers = client, workers

    async def fault(self) -> str | None:
        """Why the service cannot take up work; None where it can.

        Raises:
            ETLError: as `Warehouse.check`.
        """
        if self.stop.is_set():
            return "it ends"
        if self._client is None:
            return "it waits for the warehouse, or for Temporal"
        for worker in self._workers:
            if not worker.is_running:
                return f"it does not poll task queue {worker.task_queue}"
        unpolled, _ = await asyncio.gather(
            _unpolled(self._client, self._workers[0].task_queue),
            asyncio.to_thread(self._warehouse.check),
        )
        return unpolled


async def _unpolled(client: Client, queue: str) -> str | None:
    """Why this process is none that polls a queue, by what Temporal knows; None where it is."""
    try:
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            ),
            timeout=_ANSWERS_WITHIN,
        )
    except RPCError as error:
        return f"Temporal does not answer: {error.status.name.replace('_', ' ').lower()}"
    since = datetime.now(UTC) - _POLLED_WITHIN
    for poller in answer.pollers:
        seen = poller.last_access_time.ToDatetime(UTC)
        if poller.identity == client.identity and seen >= since:
            return None
    return f"Temporal knows of no poll of task queue {queue} by this process"
