"""Driver of the local engine: adopts runs that nobody drives, and drives them to their end.

Any number of drivers may use one warehouse. Each run has one owner at a time; that of a process
that dies is adopted by another, or by the next that starts.
"""

import asyncio
import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from time import monotonic

from temporaletl.engine.driven import LOOK_EVERY, DrivenRun
from temporaletl.engine.limits import EngineLimits
from temporaletl.engine.runner import import_all_sources
from temporaletl.engine.threads import in_thread
from temporaletl.errors import WarehouseUnavailableError
from temporaletl.messages import BatchSummary
from temporaletl.queuer.finishing import end_lapsed
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ownership import (
    RunEpoch,
    adopt_run,
    read_ownership,
    renew_ownership,
)
from temporaletl.warehouse.runs import Wanted, find_run

log = get_logger("temporaletl.engine")

LEASE = timedelta(seconds=20)
#: So often within a lease: one beat may be late, or fail.
_BEATS = 4
#: The share of a lease after which, without a beat, its run is given up for lost here.
_LOST_AFTER = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """What a driver drives, and for how long."""

    limits: EngineLimits = field(default_factory=EngineLimits)
    lease: timedelta = LEASE
    #: Runs driven side by side; those that are paused do not count.
    runs_at_once: int = 4
    #: The only run to drive: the driver ends with it.
    only: str | None = None
    #: The driver ends when it has had nothing to drive for so long; None: never.
    idle: timedelta | None = None


class Driver:
    """Drives runs of the local engine until `stop` is set.

    `heard_at` is when the warehouse answered last, by the monotonic clock.

    notifier = Notifier(warehouse, NotificationSettings.load())
    await Driver(warehouse, notify=notifier.announce_end).run(stop)
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        notify: Callable[[BatchSummary], None] = lambda _: None,
        options: DriverOptions | None = None,
    ) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._warehouse = warehouse
        self._notify = notify
        self._options = options or DriverOptions()
        self._runs: dict[RunEpoch, tuple[DrivenRun, asyncio.Task[None]]] = {}
        self._renewed_at = self.heard_at = monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Drive until stopped, idle, or done with the only run; then leave what is not ended.

        Raises:
            PermanentError: the warehouse refuses this process, or a source cannot be imported.
        """
        await asyncio.to_thread(import_all_sources)
        over = threading.Event()
        loop = asyncio.get_running_loop()
        beating = threading.Thread(target=self._beat, args=(over, loop), name="leases", daemon=True)
        beating.start()
        try:
            await self._look_until(stop)
        finally:
            for run, _ in self._runs.values():
                run.leave()
            tasks = [task for _, task in self._runs.values()]
            await asyncio.gather(*tasks, return_exceptions=True)
            over.set()

    async def _look_until(self, stop: asyncio.Event) -> None:
        idle_since = monotonic()
        close_at = idle_since
        while not stop.is_set():
            self._forget_ended()
            self._lose_unrenewed()
            try:
                if monotonic() >= close_at:
                    await self._close_lapsed()
                    close_at = monotonic() + self._options.lease.total_seconds()
                await self._adopt()
                ended = not self._runs and await self._is_done()
            except WarehouseUnavailableError as error:
                log.warning("warehouse_unavailable", reason=str(error))
                ended = False
            if self._runs:
                idle_since = monotonic()
            idle = self._options.idle
            if ended or (idle and monotonic() - idle_since > idle.total_seconds()):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY.total_seconds()):
                    await stop.wait()

    async def _close_lapsed(self) -> None:
        """Close what programs that died have left open: no driver adopts that."""
        for summary in await in_thread(partial(end_lapsed, self._warehouse)):
            await in_thread(partial(self._notify, summary))

    async def _adopt(self) -> None:
        options = self._options
        if any(run.is_lost for run, _ in self._runs.values()):
            return
        while sum(not run.is_paused for run, _ in self._runs.values()) < options.runs_at_once:
            began = monotonic()
            # In a thread that is waited for: what it adopts must be driven.
            owned = await in_thread(
                partial(
                    adopt_run,
                    self._warehouse,
                    self.owner,
                    options.lease,
                    workflow_id=options.only,
                )
            )
            if owned is None:
                return
            if not self._runs:
                self._renewed_at = max(began, self._renewed_at)
            run = DrivenRun(self._warehouse, owned, options.limits, self._notify)
            key = (run.ownership.workflow_id, run.ownership.epoch)
            self._runs[key] = (run, asyncio.create_task(run.run()))

    async def _is_done(self) -> bool:
        if self._options.only is None:
            return False
        found = await asyncio.to_thread(find_run, self._warehouse, self._options.only)
        return found is None or found.ended_at is not None

    def _forget_ended(self) -> None:
        self._runs = {key: entry for key, entry in self._runs.items() if not entry[1].done()}

    def _lose_unrenewed(self) -> None:
        """Give up for lost what may be another's by now, by this machine's clock."""
        if monotonic() - self._renewed_at > self._options.lease.total_seconds() * _LOST_AFTER:
            for run, _ in self._runs.values():
                run.lose()

    def _driven(self) -> frozenset[RunEpoch]:
        """The runs whose leases are renewed: not those that were lost, or that have broken off."""
        runs = list(self._runs.items())  # the loop changes them meanwhile
        return frozenset(key for key, (run, task) in runs if not (run.is_lost or task.done()))

    def _hear(self, driven: frozenset[RunEpoch], wanted: dict[RunEpoch, Wanted]) -> None:
        for key, (run, task) in self._runs.items():
            if key in wanted:
                run.want(wanted[key])
            elif key in driven and not task.done():
                run.lose()

    def _beat(self, over: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        """Renew leases, and hear what is wanted; beside the loop, which a source may block."""
        lease = self._options.lease
        every = lease.total_seconds() / _BEATS
        look_every = min(LOOK_EVERY.total_seconds(), every)
        due = monotonic() + every
        self._renewed_at = monotonic()
        while not over.wait(look_every):
            began, driven = monotonic(), self._driven()
            try:
                if began >= due or began - self._renewed_at > every:
                    wanted = renew_ownership(self._warehouse, self.owner, lease, driven)
                    self._renewed_at, due = began, began + every
                else:
                    wanted = read_ownership(self._warehouse, self.owner)
            except Exception as error:  # noqa: BLE001 - the next time may be better
                log.warning("leases_not_renewed", reason=str(error))
                continue
            self.heard_at = monotonic()
            with contextlib.suppress(RuntimeError):  # the loop is closed: all has ended
                loop.call_soon_threadsafe(self._hear, driven, wanted)
