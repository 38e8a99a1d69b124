"""What makes a process a service: it waits for its servers, polls its queue, ends cleanly."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from temporaletl.connect import connect_patiently
from temporaletl.errors import ETLError, WarehouseUnavailableError
from temporaletl.interceptor import RecoveryInterceptor
from temporaletl.logs import configure_logs
from temporaletl.settings import Settings, TemporalSettings, WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate

log = structlog.get_logger("temporaletl.service")

_PASSED_THROUGH = ("temporaletl", "queuer", "worker")
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0
# Threads that a segment uses at once: its load, and its source's blocking calls.
_THREADS_PER_ACTIVITY = 6


@dataclass(frozen=True, slots=True)
class Service:
    """What distinguishes the queuer from the worker."""

    name: str
    sources: str  # the package whose modules register the strategies
    task_queue: Callable[[TemporalSettings], str]
    workflows: Sequence[type]
    activities: Callable[[Warehouse, TemporalSettings], Sequence[Callable[..., Any]]]
    graceful_shutdown: timedelta


def main[S: Settings](name: str, settings: type[S], service_of: Callable[[S], Service]) -> None:
    """Serve until SIGTERM or SIGINT; exit 2 on what a person must change first."""
    configure_logs()
    try:
        asyncio.run(serve(service_of(settings.load())))
    except ETLError as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - the operator's one line
        sys.exit(2)


async def serve(service: Service) -> None:
    """Wait for the warehouse and for Temporal, then poll until told to stop.

    The first signal lets running segments end at their next page boundary.

    Raises:
        PermanentError: a source cannot be imported, a setting or a credential is wrong.
    """
    import_sources(service.sources)
    temporal = TemporalSettings.load()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    threads = temporal.max_concurrent_activities * _THREADS_PER_ACTIVITY
    loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix=service.name))
    warehouse = Warehouse(
        WarehouseSettings.load(), max_connections=temporal.max_concurrent_activities + 2
    )
    ready = asyncio.create_task(_prepare(service, warehouse, temporal))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not ready.done():
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
            return
        worker = await ready
        async with worker:
            log.info("service_started", service=service.name, task_queue=worker.task_queue)
            await stop.wait()
            log.info("service_stopping", service=service.name)
        log.info("service_stopped", service=service.name)
    finally:
        stopped.cancel()
        warehouse.close()


async def _prepare(service: Service, warehouse: Warehouse, temporal: TemporalSettings) -> Worker:
    await _open(warehouse)
    return make_worker(service, await connect_patiently(temporal), warehouse, temporal)


def make_worker(
    service: Service, client: Client, warehouse: Warehouse, temporal: TemporalSettings
) -> Worker:
    """Build the service's Temporal worker, errors mapped and heartbeats prompt; not started."""
    return Worker(
        client,
        task_queue=service.task_queue(temporal),
        workflows=service.workflows,
        activities=service.activities(warehouse, temporal),
        interceptors=[RecoveryInterceptor()],
        workflow_runner=workflow_runner(),
        # Left to itself, the SDK reads every imported module to hash them: two seconds a start.
        build_id=f"temporaletl-{version('temporaletl')}",
        max_concurrent_workflow_tasks=temporal.max_concurrent_workflows,
        max_concurrent_activities=temporal.max_concurrent_activities,
        graceful_shutdown_timeout=service.graceful_shutdown,
        # A cancelled segment learns of it in the answer to a heartbeat.
        max_heartbeat_throttle_interval=timedelta(seconds=2),
        default_heartbeat_throttle_interval=timedelta(seconds=2),
    )


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox that workflows run in, and are replayed in."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
    )


async def _open(warehouse: Warehouse) -> None:
    delay = _FIRST_DELAY_SECONDS
    while True:
        try:
            await asyncio.to_thread(warehouse.check)
            warehouse.open()
            await asyncio.to_thread(migrate, warehouse)
        except WarehouseUnavailableError as error:
            log.warning("warehouse_unavailable", reason=str(error), retry_in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
        else:
            return
