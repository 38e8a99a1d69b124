"""Readiness of a service: whether it polls, and what it works with answers."""

import asyncio
from collections.abc import Sequence

from temporalio.client import Client
from temporalio.worker import Worker

from temporaletl.temporal.pollers import pollers
from temporaletl.warehouse.connection import Warehouse


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
            ETLError: as `Warehouse.check`, and `pollers`.
        """
        if self.stop.is_set():
            return "it ends"
        if self._client is None:
            return "it waits for the warehouse, or for Temporal"
        for worker in self._workers:
            if not worker.is_running:
                return f"it does not poll task queue {worker.task_queue}"
        queue = self._workers[0].task_queue
        known, _ = await asyncio.gather(
            pollers(self._client, queue), asyncio.to_thread(self._warehouse.check)
        )
        if self._client.identity in known:
            return None
        return f"Temporal knows of no poll of task queue {queue} by this process"
