"""Services: processes that wait for their servers, poll their queues and end cleanly."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from temporaletl import names
from temporaletl.bound_connection import bound
from temporaletl.checks.flow import CheckFlow
from temporaletl.checks.services import ServiceChecks
from temporaletl.connections.declarations import known_sources
from temporaletl.connections.providers import load_connections, names_of_connections, provided
from temporaletl.errors import ConfigurationError, ETLError, WarehouseUnavailableError
from temporaletl.service.collector import spare_collections
from temporaletl.service.process_group import MISCONFIGURED, Membership, ProcessGroup
from temporaletl.service.readiness import Standing
from temporaletl.setting_catalogue import unknown_variables
from temporaletl.settings.platform import Settings, TemporalSettings, WarehouseSettings
from temporaletl.strategies import budgets, import_sources
from temporaletl.telemetry.endpoint import MetricsEndpoint
from temporaletl.telemetry.exporting import observed_process
from temporaletl.telemetry.logs import configure_logs, get_logger
from temporaletl.telemetry.metrics import registry
from temporaletl.temporal.builds import build_of, workflow_runner
from temporaletl.temporal.connect import connect_patiently
from temporaletl.temporal.interceptor import RecoveryInterceptor
from temporaletl.temporal.telemetry import measured_runtime, tracing_interceptors
from temporaletl.terminal import fit_to_print
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.payload_keys import enter_keys
from temporaletl.warehouse.replica import require_primary
from temporaletl.warehouse.run_log import kept_run_log
from temporaletl.warehouse.source_connections import stored_connections

log = get_logger("temporaletl.service.process")

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0
# How soon it is known that a file of payload keys has another key first, and how often it is said.
_KEYS_LOOKED_AT_SECONDS = 5.0
_KEYS_ENTERED_EVERY = 60
# Threads that a segment uses at once: its load, and its source's blocking calls.
_THREADS_PER_ACTIVITY = 6
# Of one process: a slow source must not take all the memory and connections.
_SEGMENTS_OF_A_SOURCE = 4


@dataclass(frozen=True, slots=True)
class Service:
    """What distinguishes the queuer from the worker."""

    name: str
    sources: str  # the package whose modules register the strategies
    task_queue: Callable[[TemporalSettings], str]
    workflows: Sequence[type]
    activities: Callable[[Warehouse, TemporalSettings], Sequence[Callable[..., Any]]]
    graceful_shutdown: timedelta
    #: Names of the activities that sources with a budget have on a task queue of their own.
    on_source_queues: frozenset[str] = frozenset()
    #: What the process does beside its workers, until it is cancelled.
    beside: Callable[[Client, Warehouse, TemporalSettings], Coroutine[Any, Any, None]] | None = None


def main[S: Settings](
    name: str,
    settings: type[S],
    service_of: Callable[[S], Service],
    *,
    processes: Callable[[S], int] = lambda _settings: 1,
) -> None:
    """Serve until SIGTERM or SIGINT; exit 2 on what a person must change first."""
    configure_logs()
    with _refusing(name):
        loaded = settings.load()
        service, number = service_of(loaded), processes(loaded)
        if number == 1:
            asyncio.run(serve(service))
            return
        # All that is imported before is shared; and a wrong setting is told of once.
        import_sources(service.sources)
        TemporalSettings.load()
        WarehouseSettings.load()
        sys.exit(ProcessGroup(name, number, partial(_serve_in_group, service)).run())


def _serve_in_group(service: Service, group: Membership) -> int:
    try:
        with _refusing(service.name):
            asyncio.run(serve(service, group=group))
    except SystemExit:
        return MISCONFIGURED
    return 0


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except ETLError as error:
        print(fit_to_print(f"{name}: {error}"), file=sys.stderr)  # noqa: T201 - one line
        sys.exit(MISCONFIGURED)


async def serve(service: Service, *, group: Membership | None = None) -> None:
    """Wait for the warehouse and for Temporal, then poll until stopped.

    The first signal lets running segments end at their next page boundary, and so does the end of
    a `group`'s parent; a second SIGINT ends the process at once.

    Raises:
        PermanentError: a source cannot be imported, a setting or a credential is wrong.
    """
    import_sources(service.sources)
    load_connections()
    temporal = TemporalSettings.load()
    loop = asyncio.get_running_loop()
    stop = _stopping_on_signals(loop)
    if group is not None:
        loop.add_reader(group.lifeline, _hear_the_end, loop, group.lifeline, stop)
    threads = temporal.max_concurrent_activities * _THREADS_PER_ACTIVITY
    loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix=service.name))
    warehouse = Warehouse(
        WarehouseSettings.load(), max_connections=temporal.max_concurrent_activities + 2
    )
    standing = Standing(warehouse, stop)
    try:
        with registry.read_by(warehouse.measure):
            observed = observed_process(service.name, standing.fault, group=group)
            async with observed as endpoint:
                await _run(service, warehouse, temporal, standing, endpoint)
    finally:
        warehouse.close()


async def _run(
    service: Service,
    warehouse: Warehouse,
    temporal: TemporalSettings,
    standing: Standing,
    endpoint: MetricsEndpoint | None,
) -> None:
    stop = standing.stop
    ready = asyncio.create_task(_prepare(service, warehouse, temporal, endpoint))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if not ready.done():
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
            return
        async with contextlib.AsyncExitStack() as running:
            client, workers = await ready
            spare_collections()
            # Left last: what the workers log at their end is kept, too.
            running.enter_context(kept_run_log(warehouse))
            for worker in workers:
                await running.enter_async_context(worker)
                log.info("service_started", service=service.name, task_queue=worker.task_queue)
            standing.polls(client, workers)
            entering = asyncio.create_task(_keep_keys_entered(warehouse))
            running.push_async_callback(_call_off, entering)
            if service.beside is not None:
                beside = asyncio.create_task(service.beside(client, warehouse, temporal))
                running.push_async_callback(_call_off, beside)
            await stop.wait()
            log.info("service_stopping", service=service.name)
        log.info("service_stopped", service=service.name)
    finally:
        stopped.cancel()


def _stopping_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    stop = asyncio.Event()

    def interrupt() -> None:
        if stop.is_set():
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        stop.set()

    # What supervises a service may send SIGTERM to it, and to all of its group.
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return stop


def _hear_the_end(loop: asyncio.AbstractEventLoop, lifeline: int, stop: asyncio.Event) -> None:
    loop.remove_reader(lifeline)
    stop.set()


async def _prepare(
    service: Service,
    warehouse: Warehouse,
    temporal: TemporalSettings,
    endpoint: MetricsEndpoint | None = None,
) -> tuple[Client, list[Worker]]:
    await _open(warehouse)
    await asyncio.to_thread(enter_keys, warehouse)
    client = await connect_patiently(
        temporal,
        runtime=measured_runtime(service.name, endpoint),
        interceptors=tracing_interceptors(),
    )
    # For rates and the names of secrets: each run reads the warehouse's connections by itself.
    with provided(await asyncio.to_thread(stored_connections, warehouse)):
        for one in unknown_variables(known_sources()):
            log.warning("unknown_variable", variable=one.name, near=one.near)
        return client, make_workers(service, client, warehouse, temporal)


async def _keep_keys_entered(warehouse: Warehouse) -> None:
    """Enter the payload key that encrypts, when another one does, and now and then."""
    keys = warehouse.payload_keys
    entered, looks = keys.first, 0
    while entered is not None:
        await asyncio.sleep(_KEYS_LOOKED_AT_SECONDS)
        looks += 1
        is_entered = (first := keys.first) == entered and not keys.unentered
        if is_entered and looks % _KEYS_ENTERED_EVERY:
            continue
        try:
            await asyncio.to_thread(enter_keys, warehouse)
        except ETLError as error:
            # Whoever lacks a key fails what needs it, until it is back.
            log.warning("payload_keys_not_entered", reason=str(error))
        else:
            entered = first


async def _call_off(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def make_workers(
    service: Service, client: Client, warehouse: Warehouse, temporal: TemporalSettings
) -> list[Worker]:
    """Build the service's Temporal workers, errors mapped and heartbeats prompt; not started.

    The first polls the service's task queue, the others those of the sources with a budget.
    """
    check = ServiceChecks(service.name, warehouse).check_service
    activities = [*service.activities(warehouse, temporal), check]
    task_queue = service.task_queue(temporal)
    common: dict[str, Any] = {
        "interceptors": [RecoveryInterceptor()],
        **build_of(service.name, temporal),
        "graceful_shutdown_timeout": service.graceful_shutdown,
        # A cancelled segment learns of it in the answer to a heartbeat.
        "max_heartbeat_throttle_interval": timedelta(seconds=2),
        "default_heartbeat_throttle_interval": timedelta(seconds=2),
    }
    main = Worker(
        client,
        task_queue=task_queue,
        workflows=[*service.workflows, CheckFlow],
        activities=activities,
        workflow_runner=workflow_runner(temporal),
        max_concurrent_workflow_tasks=temporal.max_concurrent_workflows,
        max_concurrent_activities=temporal.max_concurrent_activities,
        **common,
    )
    moved = [method for method in activities if _name_of(method) in service.on_source_queues]
    on_source_queues = [*moved, check]
    return [main] + [
        Worker(
            client,
            task_queue=names.segment_queue(task_queue, source),
            activities=on_source_queues,
            max_concurrent_activities=min(
                _SEGMENTS_OF_A_SOURCE, temporal.max_concurrent_activities
            ),
            # A segment sends one request at least.
            max_task_queue_activities_per_second=_dispatch_rate(source),
            # What is started at once does not pass the queue, and so not its rate.
            disable_eager_activity_execution=True,
            **common,
        )
        for source in budgets
        if moved
    ]


def _name_of(function: Callable[..., Any]) -> str | None:
    definition = activity._Definition.from_callable(function)  # noqa: SLF001 - it has no other
    return definition.name if definition else None


def _dispatch_rate(source: str) -> float | None:
    """Segments a second, of all connections together; None where one of them has no limit.

    A connection whose settings are wrong raises when it is used.
    """
    rates: list[float | None] = []
    for connection in names_of_connections(source):
        with contextlib.suppress(ConfigurationError), bound(source, connection):
            rates.append(budgets.get(source)().requests_per_second)
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known and len(known) == len(rates) else None


async def _open(warehouse: Warehouse) -> None:
    delay = _FIRST_DELAY_SECONDS
    while True:
        try:
            await asyncio.to_thread(warehouse.check)
            warehouse.open()
            await asyncio.to_thread(require_primary, warehouse)
            await asyncio.to_thread(migrate, warehouse)
        except WarehouseUnavailableError as error:
            log.warning("warehouse_unavailable", reason=str(error), retry_in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
        else:
            return
