"""`python -m temporaletl.engine`: the local engine as a process, which gives way to all others."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from time import monotonic

from temporaletl.connections.providers import load_connections
from temporaletl.embedded.priority import lower_priority
from temporaletl.engine.driver import Driver, DriverOptions
from temporaletl.engine.limits import EngineLimits
from temporaletl.errors import ETLError, WarehouseClosedError
from temporaletl.notifications.delivery import Notifier
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.queuer.retention import keep_pruning
from temporaletl.service.collector import spare_collections
from temporaletl.settings.platform import (
    EngineSettings,
    LedgerSettings,
    TemporalSettings,
    WarehouseSettings,
    WorkerSettings,
)
from temporaletl.telemetry.exporting import observed_process
from temporaletl.telemetry.logs import configure_logs, get_logger
from temporaletl.telemetry.metrics import registry
from temporaletl.terminal import fit_to_print
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.run_log import kept_run_log
from temporaletl.worker.segment import SegmentLimits

log = get_logger("temporaletl.engine")

#: How long a warehouse may say nothing once the engine shall end.
_SILENCE = timedelta(seconds=1.5)
_LOOK_SECONDS = 0.1
# Threads that a segment uses at once, and connections: its load, and what it asks beside.
_THREADS_PER_JOB = 6
_CONNECTIONS_PER_JOB = 2


def options_of(*, only: str | None = None, idle: timedelta | None = None) -> DriverOptions:
    """The driver's options that the settings give.

    Raises:
        ConfigurationError: a setting is wrong; names it.
    """
    settings = EngineSettings.load()
    return DriverOptions(
        limits=EngineLimits(
            jobs_at_once=settings.jobs_at_once,
            policy=TemporalSettings.load().policy(),
            segment=SegmentLimits.of(WorkerSettings.load()),
        ),
        lease=timedelta(seconds=settings.lease_seconds),
        only=only,
        idle=idle,
    )


async def serve(options: DriverOptions, *, attached: bool) -> None:
    """Drive runs until SIGTERM, SIGINT, or what the options say.

    `attached`: also until standard input ends, which is the end of the process that started this.

    Raises:
        ETLError: as `Driver.run` and `migrate`, and for wrong settings.
    """
    load_connections()
    spare_collections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if attached:
        _at_end_of_input(partial(loop.call_soon_threadsafe, stop.set))
    jobs = options.limits.jobs_at_once * options.runs_at_once
    loop.set_default_executor(
        ThreadPoolExecutor(jobs * _THREADS_PER_JOB, thread_name_prefix="engine")
    )
    notification, ledger = NotificationSettings.load(), LedgerSettings.load()
    with Warehouse(
        WarehouseSettings.load(), max_connections=jobs * _CONNECTIONS_PER_JOB + 2
    ) as warehouse:
        notifier = Notifier(warehouse, notification)
        driver = Driver(warehouse, notify=notifier.announce_end, options=options)
        with registry.read_by(warehouse.measure):
            async with observed_process("engine", partial(_fault, warehouse)):
                driving = asyncio.create_task(_drive(driver, warehouse, ledger, stop))
                await _until_ended(driving, driver, warehouse, stop)


async def _fault(warehouse: Warehouse) -> None:
    await asyncio.to_thread(warehouse.check)


async def _drive(
    driver: Driver, warehouse: Warehouse, ledger: LedgerSettings, stop: asyncio.Event
) -> None:
    await asyncio.to_thread(migrate, warehouse)
    log.info("engine_started", owner=driver.owner)
    pruning = asyncio.create_task(keep_pruning(warehouse, ledger))
    try:
        with kept_run_log(warehouse):
            await driver.run(stop)
    finally:
        pruning.cancel()
        await asyncio.gather(pruning, return_exceptions=True)
    log.info("engine_stopped", owner=driver.owner)


async def _until_ended(
    driving: asyncio.Task[None], driver: Driver, warehouse: Warehouse, stop: asyncio.Event
) -> None:
    """Wait until the driver has ended; once it shall, no longer than the warehouse answers.

    Where it does not, the leases run out, and another process takes the runs up.
    """
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({driving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    told_at = monotonic()
    while not driving.done():
        await asyncio.wait({driving}, timeout=_LOOK_SECONDS)
        if monotonic() - max(told_at, driver.heard_at) > _SILENCE.total_seconds():
            log.warning("engine_stopped", owner=driver.owner, reason="the warehouse is away")
            warehouse.close()
            with contextlib.suppress(WarehouseClosedError):  # whichever statement comes next
                await driving
            return
    stopped.cancel()
    driving.result()


def _at_end_of_input(call: Callable[[], object]) -> None:
    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 1024):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed
            call()

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main() -> int:
    """Run the engine; exit 2 on what a person must change first, 1 where it cannot begin."""
    parser = argparse.ArgumentParser(prog="python -m temporaletl.engine", description=__doc__)
    parser.add_argument("--only", metavar="WORKFLOW_ID", help="drive this run alone, to its end")
    parser.add_argument("--idle", metavar="SECONDS", type=float, help="end when idle for so long")
    parser.add_argument("--attached", action="store_true", help="end when standard input does")
    parser.add_argument("--quiet", action="store_true", help="log errors alone")
    arguments = parser.parse_args()
    lower_priority(os.getpid())
    if arguments.quiet:
        configure_logs(level=logging.ERROR)
    else:
        configure_logs()
    idle = None if arguments.idle is None else timedelta(seconds=arguments.idle)
    # Never closed: that would wait for threads that wait for the warehouse, see below.
    runner = asyncio.Runner()
    try:
        runner.run(serve(options_of(only=arguments.only, idle=idle), attached=arguments.attached))
    except ETLError as error:
        print(fit_to_print(f"engine: {error}"), file=sys.stderr)  # noqa: T201 - one line
        return 2
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Nothing is left to do; and the interpreter takes its time to end, that of one whom all others
    # go before, while somebody waits for this process.
    os._exit(status)
